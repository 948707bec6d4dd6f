#!/bin/sh
# Sets the peers up, then measures decode steps beside ours. Not part of the tests.
# usage: tests/peers/run.sh [ROUNDS]
set -e
. "$(dirname "$0")/environment.sh"
cargo build --quiet --workspace --bin bench-generate
exec target/peers/bin/python tests/peers/bench_peers.py "$@"
