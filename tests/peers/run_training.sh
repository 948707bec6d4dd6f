#!/bin/sh
# Sets PyTorch up in a virtual environment under target/, then measures training steps beside ours.
# Not part of the tests: it downloads a gigabyte of Python packages.
# usage: tests/peers/run_training.sh [ARGS], see bench_training_peer.py
set -e
cd "$(dirname "$0")/../.."
if [ ! -x target/peers/bin/python ]; then
    python3 -m venv target/peers
    target/peers/bin/pip install --quiet --requirement tests/peers/requirements.txt
fi
cargo build --quiet --workspace --bin bench-training
exec target/peers/bin/python tests/peers/bench_training_peer.py "$@"
