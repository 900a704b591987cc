import re

import numpy as np
import pytest

from lutra.formats import Numerics
from lutra.sim import DTYPES, adversarial_tokens, align, nonfinite_tokens

FLOAT_WIDTHS = [
    *((name, width) for name in ("float16", "bfloat16", "float32") for width in range(8, 25)),
    ("float16", "exact"),
]
ALL = [Numerics(activation="int8", act_width=8)] + [
    Numerics(activation=name, act_width=width) for name, width in FLOAT_WIDTHS
]


def _name(numerics):
    return f"{numerics.activation}-{numerics.act_width}"


def _check(tokens, numerics, contract):
    aligned = align(tokens, numerics, nonfinite="nan")
    assert aligned.X.dtype == np.int64
    assert aligned.exponent.dtype == np.int32
    assert aligned.nonfinite.dtype == np.bool_
    for index, token in enumerate(tokens):
        expected = contract.align(token, numerics)
        assert aligned.nonfinite[index] == (expected is None)
        if expected is None:
            assert not aligned.X[index].any()
            continue
        assert aligned.X[index].tolist() == expected[0]
        assert aligned.exponent[index] == expected[1]


@pytest.mark.parametrize("numerics", ALL, ids=_name)
def test_adversarial_tokens(numerics, contract):
    tokens = adversarial_tokens(numerics, 45, seed=1) | nonfinite_tokens(numerics, 45, seed=2)
    _check(np.stack(list(tokens.values())), numerics, contract)


@pytest.mark.parametrize("numerics", ALL, ids=_name)
@pytest.mark.parametrize("columns", [1, 2])
def test_short_tokens(numerics, columns, contract):
    tokens = adversarial_tokens(numerics, columns) | nonfinite_tokens(numerics, columns)
    _check(np.stack(list(tokens.values())), numerics, contract)


@pytest.mark.parametrize("act_width", [8, 13, "exact"])
def test_every_float16_beside_one(act_width, contract):
    numerics = Numerics(activation="float16", act_width=act_width)
    patterns = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    tokens = np.stack([np.ones_like(patterns), patterns], axis=1)
    _check(tokens, numerics, contract)


@pytest.mark.parametrize("act_width", [8, 9])
def test_every_bfloat16_alone(act_width, contract):
    numerics = Numerics(activation="bfloat16", act_width=act_width)
    patterns = np.arange(0, 1 << 16, 5, dtype=np.uint16).view(DTYPES["bfloat16"])
    _check(patterns[:, None], numerics, contract)


def test_rounding_up_is_limited():
    numerics = Numerics(activation="bfloat16", act_width=8)
    token = np.array([[0x3FFF, 0xBFFF, 0x3FFE, 0x3FFD]], dtype=np.uint16)
    aligned = align(token.view(DTYPES["bfloat16"]), numerics)
    # 127.5 goes to the even 128, beyond the peak; 126.5 goes to the even 126.
    assert aligned.X.tolist() == [[127, -127, 127, 126]]
    assert aligned.exponent.tolist() == [-6]


def test_zero_tokens():
    x = np.array([[0.0, -0.0]], dtype=np.float16)
    assert align(x, Numerics(act_width=12)).exponent.tolist() == [0]
    assert align(x, Numerics(act_width="exact")).exponent.tolist() == [-24]
    assert not align(x, Numerics(act_width=12)).X.any()


def test_no_tokens():
    aligned = align(np.zeros((0, 5), dtype=np.float16), Numerics())
    assert aligned.X.shape == (0, 5)
    assert aligned.exponent.shape == aligned.nonfinite.shape == (0,)


def test_any_memory_order(contract):
    tokens = np.stack(list(adversarial_tokens(Numerics(), 20).values()))
    _check(np.asfortranarray(tokens)[:, ::-2], Numerics(), contract)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (-np.inf, "-inf")])
def test_software_refuses(name, value, text):
    x = np.ones((4, 7), dtype=DTYPES[name])
    x[2, 5] = value
    sentence = f"Activations must be finite; element 5 of token 2 is {text}"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        align(x, Numerics(activation=name))


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_hardware_flags_the_token_alone(name):
    x = np.ones((3, 7), dtype=DTYPES[name])
    x[1, 5] = np.inf
    aligned = align(x, Numerics(activation=name, act_width=8), nonfinite="nan")
    assert aligned.nonfinite.tolist() == [False, True, False]
    assert aligned.X.tolist() == [[64] * 7, [0] * 7, [64] * 7]
    assert aligned.exponent.tolist() == [-6, 0, -6]
    assert np.isinf(x[1, 5])


def test_input_is_left_alone():
    x = adversarial_tokens(Numerics(), 9)["random"][None]
    before = x.copy()
    align(x, Numerics())
    assert np.array_equal(x.view(np.uint16), before.view(np.uint16))


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (
            np.zeros((2, 3), dtype=np.float32),
            "Activations must be a matrix of float16, not float32 of shape (2, 3)",
        ),
        (
            np.zeros(3, dtype=np.float16),
            "Activations must be a matrix of float16, not float16 of shape (3,)",
        ),
    ],
)
def test_wrong_arrays(x, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        align(x, Numerics())


@pytest.mark.parametrize("mode", ["zero"])
def test_wrong_mode(mode):
    with pytest.raises(ValueError, match=r"^nonfinite must be 'raise' or 'nan', not 'zero'$"):
        align(np.zeros((1, 1), dtype=np.float16), Numerics(), nonfinite=mode)
