import re
from pathlib import Path

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from lutra.formats import ValueFormat, member
from lutra.quant.imports.gguf_blocks import BLOCK_TYPES
from lutra.quant.imports.gguf_types import GGUF_TYPES

NUMBERS = {item.name: number for number, item in GGUF_TYPES.items()}


def weights_of(name, blocks):
    """Multiply codes and scales out, without rounding."""
    kind = BLOCK_TYPES[name]
    codes, scales = kind.decode(blocks)
    assert codes.dtype == np.uint8
    assert scales.dtype == np.float32
    wide = np.repeat(scales.astype(np.float64), kind.group_size, axis=1)
    form = member(kind.format)
    assert wide.shape == (*codes.shape, form.scale_count)
    assert not (codes >> form.code_width).any()
    if form.scale_count == 2:
        return wide[:, :, 0] * codes + wide[:, :, 1]
    assert isinstance(form, ValueFormat)
    return wide[:, :, 0] * np.ldexp(np.array(form.values)[codes].astype(float), form.grid_exponent)


def test_sizes_of_types():
    sizes = {item.name: (item.value, *GGML_QUANT_SIZES[item]) for item in GGML_QUANT_SIZES}
    for number, item in GGUF_TYPES.items():
        assert sizes.pop(item.name) == (number, item.block_length, item.block_bytes)
    assert set(sizes) == {"Q8_1", "Q8_K"}  # of intermediate results only
    assert BLOCK_TYPES.keys() <= NUMBERS.keys()


@pytest.mark.parametrize("name", BLOCK_TYPES)
def test_any_bytes_mean_what_ggml_says(name):
    rng = np.random.default_rng(NUMBERS[name])
    item = GGUF_TYPES[NUMBERS[name]]
    blocks = rng.integers(0, 256, (2000, item.block_bytes), dtype=np.uint8)
    if name == "TQ2_0":  # of four codes three are weights
        pairs = rng.integers(0, 3, (2000, 64, 4)) << np.arange(0, 8, 2)
        blocks[:, :64] = pairs.sum(axis=2)
    if name == "MXFP4":  # not beyond float32, nor 255, which is NaN but not in that program
        blocks[:, 0] = rng.integers(0, 250, 2000)
    with np.errstate(all="ignore"):
        expected = dequantize(blocks, GGMLQuantizationType[name])
        found = weights_of(name, blocks).astype(np.float32)
    finite = np.isfinite(expected).all(axis=1)
    assert finite.sum() > 1500
    assert np.array_equal(found[finite], expected[finite])
    # What is infinite or NaN there must not look like a number here.
    _, scales = BLOCK_TYPES[name].decode(blocks)
    assert not np.isfinite(scales[~finite]).all(axis=(1, 2)).any()


def test_the_table_of_the_documentation():
    page = (Path(__file__).parents[3] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| `(\w+)` \| (\d+) \|$", page, re.MULTILINE)
    assert rows == [(name, kind.format, str(kind.group_size)) for name, kind in BLOCK_TYPES.items()]


def test_mxfp4_knows_the_exponent_of_nan():
    blocks = np.zeros((2, 17), dtype=np.uint8)
    blocks[:, 0] = 254, 255
    _, scales = BLOCK_TYPES["MXFP4"].decode(blocks)
    assert np.ldexp(scales[0, 0, 0], -127) == 1
    assert np.isnan(scales[1])
