import numpy as np
import pytest

from lutra.quant.packing import pack_codes, packed_bytes, unpack_codes


@pytest.mark.parametrize("code_width", range(1, 9))
def test_round_trip_and_length(code_width):
    rng = np.random.default_rng(code_width)
    for rows, columns in ((1, 1), (3, 5), (130, 8), (2, 129)):
        codes = rng.integers(0, 1 << code_width, (rows, columns), dtype=np.uint8)
        packed = pack_codes(codes, code_width)
        assert packed.shape == (rows, packed_bytes(columns, code_width))
        assert packed.shape[1] == -(-columns * code_width // 8)
        assert np.array_equal(unpack_codes(packed, columns, code_width), codes)


def test_lowest_bits_come_first_and_codes_straddle_bytes():
    # 5, 6, 7 in three bits: 101 110 111 from the low end, 1 1110 1 01 | 1 in bytes.
    codes = np.array([[5, 6, 7]], dtype=np.uint8)
    assert pack_codes(codes, 3).tolist() == [[0b11_110_101, 0b1]]
    assert pack_codes(np.array([[1, 2]], dtype=np.uint8), 4).tolist() == [[0x21]]


@pytest.mark.parametrize("code_width", [1, 3, 5, 8])
def test_every_bit_is_where_it_is_said_to_be(code_width):
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 1 << code_width, (2, 19), dtype=np.uint8)
    packed = pack_codes(codes, code_width)
    for n, k in np.ndindex(codes.shape):
        for j in range(code_width):
            i = k * code_width + j
            assert packed[n, i // 8] >> (i % 8) & 1 == codes[n, k] >> j & 1
