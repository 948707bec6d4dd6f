#!/bin/sh
# Sets the peers up in a virtual environment under target/, then measures them beside ours.
# Not part of the tests: it downloads a gigabyte of Python packages. usage: tests/peers/run.sh [ROUNDS]
set -e
cd "$(dirname "$0")/../.."
if [ ! -x target/peers/bin/python ]; then
    python3 -m venv target/peers
    target/peers/bin/pip install --quiet --requirement tests/peers/requirements.txt
fi
cargo build --quiet --workspace --bin bench-generate
exec target/peers/bin/python tests/peers/bench_peers.py "$@"
