import ml_dtypes
import numpy as np
import pytest

from lutra.formats import Numerics, StreamLayout, pack
from lutra.quant import quantize
from lutra.sim import DTYPES, EngineInterface


def make_interface(activation="float16", output="float32", **changes):
    width = 8 if activation == "int8" else 16
    fields = {
        "act_lanes": 4,
        "output_lanes": 2,
        "beat_width": 32,
        "sum_width": 37,
        "exponent_width": 9,
    }
    numerics = Numerics(activation=activation, act_width=width, output=output)
    return EngineInterface(numerics=numerics, **(fields | changes))


def words(raw):
    return [int.from_bytes(row.tobytes(), "little") for row in raw]


def raw_of(payloads, size):
    data = b"".join(payload.to_bytes(size, "little") for payload in payloads)
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, size)


@pytest.mark.parametrize("activation", ["int8", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("columns", [1, 3, 4, 9])
def test_activations(activation, columns):
    interface = make_interface(activation)
    dtype = DTYPES[activation]
    size = dtype.itemsize
    x = np.random.default_rng(1).integers(0, 256, (3, columns * size), dtype=np.uint8).view(dtype)
    wanted = []
    for token in x.view(f"u{size}").astype(object):
        padded = [*token, *[0] * (-columns % 4)]
        beats = [padded[start : start + 4] for start in range(0, len(padded), 4)]
        payloads = [sum(int(e) << 8 * size * i for i, e in enumerate(beat)) for beat in beats]
        payloads[-1] |= 1 << 4 * 8 * size
        wanted += payloads
    got = interface.activations(x)
    assert got.shape == (len(wanted), interface.x_width // 8 + 1)
    assert words(got) == wanted


def test_weights_end_with_last():
    layout = StreamLayout(lanes=4, width=8, tile_slices=2, formats=("int4",), group_sizes=(16,))
    matrix = quantize(
        np.random.default_rng(1).standard_normal((5, 30)), format="int4", group_size=16
    )
    packed = pack(matrix, layout)
    payloads = words(make_interface().weights(packed))
    assert [word & (1 << 32) - 1 for word in payloads] == words(packed.beats)
    assert [word >> 32 for word in payloads] == [0] * (len(payloads) - 1) + [1]


@pytest.mark.parametrize("output", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_outputs(output, rows):
    interface = make_interface(output=output)
    size = DTYPES[output].itemsize
    rng = np.random.default_rng(2)
    y = rng.integers(0, 256, (3, rows * size), dtype=np.uint8).view(f"u{size}")
    payloads = []
    for token in y:
        for start in range(0, rows, 2):
            pair = [int(value) for value in token[start : start + 2]]
            payloads.append(sum(value << 8 * size * i for i, value in enumerate(pair)))
        payloads[-1] |= 1 << 2 * 8 * size
    got = interface.outputs(raw_of(payloads, interface.o_bytes), rows)
    assert got.dtype == DTYPES[output]
    assert got.shape == (3, rows)
    assert np.array_equal(got.view(f"u{size}"), y)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_int_outputs(rows):
    interface = make_interface(output="int")
    rng = np.random.default_rng(3)
    sums = rng.integers(-(1 << 36), 1 << 36, (3, rows), dtype=np.int64)
    exponents = rng.integers(-256, 256, 3)
    payloads = []
    for token, exponent in zip(sums, exponents, strict=True):
        for start in range(0, rows, 2):
            word = (int(exponent) & 0x1FF) << 2 * 37
            for index, value in enumerate(token[start : start + 2]):
                word |= (int(value) & (1 << 37) - 1) << 37 * index
            payloads.append(word)
        payloads[-1] |= 1 << 2 * 37 + 9
    got_sums, got_exponents = interface.outputs(raw_of(payloads, interface.o_bytes), rows)
    assert got_sums.dtype == np.int64
    assert np.array_equal(got_sums, sums)
    assert np.array_equal(got_exponents, exponents)


@pytest.mark.parametrize("marked", [[], [0], [0, 1], [0, 1, 2, 3], [1, 2, 3]])
def test_last_must_stand_where_it_belongs(marked):
    interface = make_interface()
    payloads = [(1 << 64) * (index in marked) for index in range(4)]
    raw = raw_of(payloads, interface.o_bytes)
    with pytest.raises(ValueError, match=r"^The output stream must mark every 2th beat as the la"):
        interface.outputs(raw, 4)
    right = raw_of([0, 1 << 64, 0, 1 << 64], interface.o_bytes)
    assert interface.outputs(right, 4).shape == (2, 4)


def test_widths():
    interface = make_interface("bfloat16", "int", output_lanes=3)
    assert interface.x_width == 64
    assert interface.value_width == 37
    assert interface.o_width == 3 * 37 + 9
    assert interface.o_bytes == 16  # 120 bits and `last`
    assert [interface.output_beats(rows) for rows in (1, 3, 4, 6)] == [1, 1, 2, 2]
    assert make_interface(output="bfloat16").value_width == 16


def test_bytes_of_a_token_stay_as_they_are():
    x = np.array([[1.5, -2.0]], dtype=ml_dtypes.bfloat16)
    payloads = make_interface("bfloat16").activations(x)
    assert payloads.tolist() == [[0xC0, 0x3F, 0x00, 0xC0, 0, 0, 0, 0, 1]]
