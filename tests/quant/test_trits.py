import numpy as np
import pytest

from lutra.quant.trits import pack_trits, unpack_trits


@pytest.mark.parametrize("columns", [1, 4, 5, 6, 23, 640])
def test_round_trip(columns):
    codes = np.random.default_rng(columns).choice([0, 1, 3], (7, columns)).astype(np.uint8)
    packed = pack_trits(codes)
    assert packed.shape == (7, -(-columns // 5))
    assert np.array_equal(unpack_trits(packed, columns), codes)


def test_bytes_are_numbers_of_base_three():
    codes = np.array([[1, 0, 3, 0, 1, 3]], dtype=np.uint8)
    assert pack_trits(codes).tolist() == [[1 + 2 * 9 + 81, 2]]


def test_a_byte_that_no_digits_make():
    with pytest.raises(ValueError, match="below 243"):
        unpack_trits(np.array([[243]], dtype=np.uint8), 5)
