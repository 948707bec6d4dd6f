#!/bin/sh
# Sets PyTorch up, then measures training steps beside ours. Not part of the tests.
# usage: tests/peers/run_training.sh [ARGS], see bench_training_peer.py
set -e
. "$(dirname "$0")/environment.sh"
cargo build --quiet --workspace --bin bench-training
exec target/peers/bin/python tests/peers/bench_training_peer.py "$@"
