"""How far the contract is from float64, by act_width: a figure, not an equality."""

import numpy as np
import pytest

from lutra.formats import Numerics
from lutra.sim import GoldenModel, random_matrix

WIDTHS = (8, 10, 12, 14, 16, 18, 20, 24)


def _relative_error(activation, act_width):
    rng = np.random.default_rng(10)
    matrix = random_matrix("bitmod4", 256, 1024, 128, seed=10)
    numerics = Numerics(activation=activation, act_width=act_width)
    x = rng.standard_normal((16, 1024)).astype(np.float16).astype(numerics.activation)
    exact = x.astype(np.float64) @ matrix.dequantize().T
    y = GoldenModel(matrix, numerics).run(x).astype(np.float64)
    return float(np.linalg.norm(y - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("activation", ["float16", "float32"])
def test_error_halves_with_every_bit(activation):
    errors = {width: _relative_error(activation, width) for width in WIDTHS}
    print(f"\nrelative error against float64, {activation}:")
    for width, error in errors.items():
        print(f"  act_width {width:2}: {error:.1e}")
        # An outer limit: a step is 2**(2 - width) of the largest element's power of two.
        assert 2.0**-26 < error < max(2.0 ** (2 - width), 2.0**-23)


def test_exact_activations_leave_two_roundings():
    error = _relative_error("float16", "exact")
    print(f"\nrelative error against float64, float16 exact: {error:.1e}")
    assert error < 2.0**-23
