#!/bin/sh
# Sets PyTorch up, then measures training steps on MNNS beside ours. Not part of the tests.
# usage: tests/peers/run_mnns.sh [ARGS], see bench_mnns_peer.py
set -e
. "$(dirname "$0")/environment.sh"
cargo build --quiet --workspace --bin soft
exec target/peers/bin/python tests/peers/bench_mnns_peer.py "$@"
