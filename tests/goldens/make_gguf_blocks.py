"""Writes gguf-blocks.json: blocks of every stored type that is read, and their values by gguf-py.

    pip install gguf==0.19.0 numpy==2.4.6
    python make_gguf_blocks.py

Blocks are random bytes, so that every bit of a block has a say in some value; their half-precision
scales and minima are replaced by finite ones: ordinary, negative, zero, the largest, and the
smallest subnormal. gguf-py cannot quantise to the K types, and need not: any bytes are a block.
"""

import importlib.metadata
import json
import pathlib

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants

# Type, bytes of a block, where its half-precision numbers lie.
TYPES = [
    (Type.BF16, 2, []),
    (Type.Q4_0, 18, [0]),
    (Type.Q4_1, 20, [0, 2]),
    (Type.Q5_0, 22, [0]),
    (Type.Q5_1, 24, [0, 2]),
    (Type.Q8_0, 34, [0]),
    (Type.Q4_K, 144, [0, 2]),
    (Type.Q5_K, 176, [0, 2]),
    (Type.Q6_K, 210, [208]),
]
SCALES = [0.01171875, -0.3, 0.0, 65504.0, 6e-8]


def blocks(rng, stored, size, places):
    small = size < 100
    count = len(SCALES) if small and places else 2
    raw = rng.integers(0, 256, (count, size), dtype=np.uint8)
    if stored == Type.BF16:
        return np.array([[0x80, 0x3F], [0x01, 0x80], [0x55, 0xC2]], dtype=np.uint8)
    for block in range(count):
        for number, place in enumerate(places):
            scale = SCALES[(block + 3 * number) % len(SCALES)]
            raw[block, place : place + 2] = np.array([scale], dtype=np.float16).view(np.uint8)
    return raw


def main():
    rng = np.random.default_rng(20260)
    cases = []
    for stored, size, places in TYPES:
        raw = blocks(rng, stored, size, places)
        values = quants.dequantize(raw.reshape(-1), stored).astype("<f4")
        assert np.isfinite(values).all(), stored
        cases.append({"type": stored.name, "blocks": raw.tobytes().hex(), "values": values.tobytes().hex()})
    versions = {name: importlib.metadata.version(name) for name in ["gguf", "numpy"]}
    out = pathlib.Path(__file__).with_name("gguf-blocks.json")
    out.write_text(json.dumps({"versions": versions, "cases": cases}, indent=1) + "\n")


main()
