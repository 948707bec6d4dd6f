# Sourced by the scripts beside it: goes to the repository's root and sets the peers up in a virtual
# environment under target/. It downloads a gigabyte of Python packages the first time.
cd "$(dirname "$0")/../.."
if [ ! -x target/peers/bin/python ]; then
    python3 -m venv target/peers
    target/peers/bin/pip install --quiet --requirement tests/peers/requirements.txt
fi
