import numpy as np
import pytest

from lutra.formats import Numerics
from lutra.gen import EngineError, make_backend
from lutra.gen.compare import compare_backends, first_difference
from lutra.gen.differences import differing, output_bits
from lutra.gen.tokens import mixed_tokens
from lutra.sim import GoldenModel, adversarial_tokens, nonfinite_tokens

from .faulty import Faulty

TOKENS = ["normal", "one", "two"]


@pytest.fixture
def x(layer):
    return np.random.default_rng(4).standard_normal((3, layer.columns)).astype(np.float16)


def flip(*places):
    """Invert the lowest bit of some outputs of the layer, not of a probe."""

    def fault(outputs):
        outputs = outputs.copy()
        for token, row in places:
            if outputs.shape[1] == 7:
                outputs.view("u4")[token, row] ^= 1
        return outputs

    return fault


def run(config, layer, x, **backends):
    made = {"numpy": make_backend("numpy", config), **backends}
    results = compare_backends("l", layer, x, config=config, backends=made, tokens=TOKENS)
    return results, first_difference(results, layer, x, config=config, backends=made)


def test_equal_results(mini, layer, x):
    results, first = run(mini, layer, x, one=Faulty(mini), other=Faulty(mini))
    assert first is None
    assert [pair.backends for pair in results.pairs] == [
        ("numpy", "one"),
        ("numpy", "other"),
        ("one", "other"),
    ]
    assert all((pair.outputs, pair.differences) == (21, 0) for pair in results.pairs)
    assert all(pair.first is None and pair.bits == {} for pair in results.pairs)
    data = results.to_dict()
    assert (data["outputs"], data["differences"]) == (21, 0)
    assert data["format"] == "bitmod3"
    assert data["tokens"] == TOKENS
    assert set(data["seconds"]) == set(data["cycles"]) == {"numpy", "one", "other"}
    assert data["pairs"][0] == {
        "backends": ["numpy", "one"],
        "outputs": 21,
        "differences": 0,
        "first": None,
    }


def test_every_pair_is_counted(mini, layer, x):
    one = Faulty(mini, outputs=flip((1, 3), (2, 0)))
    other = Faulty(mini, outputs=flip((2, 0), (2, 6), (1, 5)))
    results, first = run(mini, layer, x, one=one, other=other)
    assert [(pair.differences, pair.first) for pair in results.pairs] == [
        (2, (1, 3)),
        (3, (1, 5)),
        (3, (1, 3)),
    ]
    assert results.differences == 8
    golden = GoldenModel(layer, mini.parameters.numerics).run(x)
    bits = int(golden.view("u4")[1, 3])
    assert results.pairs[0].bits == {"numpy": f"0x{bits:08x}", "one": f"0x{bits ^ 1:08x}"}
    assert first is not None
    assert (first.token, first.row, first.token_name) == (1, 3, "one")
    assert first.bits == results.pairs[0].bits
    assert first.golden == f"0x{bits:08x}"
    assert first.to_dict()["layer"] == "l"


def test_an_engine_that_stops_is_named(mini, layer, x):
    class Stopped(Faulty):
        def run(self, *arguments, **options):
            raise EngineError("It stopped")

    with pytest.raises(EngineError, match=r"^Layer 'l' on one: It stopped$"):
        run(mini, layer, x, one=Stopped(mini))


def test_an_engine_that_stops_while_the_intermediate_is_looked_for(mini, layer, x):
    class Once(Faulty):
        def run(self, *arguments, **options):
            if self.runs:
                raise EngineError("It stopped")
            return super().run(*arguments, **options)

    _, first = run(mini, layer, x, one=Once(mini, outputs=flip((0, 0))))
    assert first is not None
    assert first.intermediate is None
    assert first.problem == "It stopped"
    assert first.to_dict()["intermediate"] is None


def test_kinds_of_nan_differ(mini, layer):
    token = nonfinite_tokens(mini.parameters.numerics, layer.columns)["quiet_nan"]

    def other_nan(outputs):
        return (outputs.view("u4") | 1 << 31).view("f4")

    results, first = run(mini, layer, token[None], one=Faulty(mini, outputs=other_nan))
    assert results.differences == 7
    assert first is not None
    assert first.bits == {"numpy": "0x7fc00000", "one": "0xffc00000"}


def test_outputs_that_are_integers(mini, layer, x):
    config = mini.replace({"numerics.output": "int"})
    sums, exponents = GoldenModel(layer, config.parameters.numerics).run(x)
    fault = Faulty(config, outputs=lambda pair: (pair[0] + (pair[0] == sums[2, 1]), pair[1]))
    results, first = run(config, layer, x, one=fault)
    assert results.pairs[0].first == (2, 1)
    assert first is not None
    assert first.golden == f"{int(sums[2, 1]):#x}p{int(exponents[2]):+d}"
    assert first.bits["one"] == f"{int(sums[2, 1]) + 1:#x}p{int(exponents[2]):+d}"


# -- outputs as bits ------------------------------------------------------------------------------


def test_output_bits():
    y = np.array([[1.0, -2.0]], np.float16)
    assert output_bits(y, 0, 1) == "0xc000"
    assert output_bits((np.array([[-498]]), np.array([-14])), 0, 0) == "-0x1f2p-14"


def test_differing_says_where():
    y = np.zeros((3, 5), np.float32)
    other = y.copy()
    other[2, 4] = -0.0
    assert np.argwhere(differing(other, y)).tolist() == [[2, 4]]
    sums, exponents = np.zeros((2, 3), np.int64), np.zeros(2, np.int32)
    assert differing((sums, exponents + np.arange(2)), (sums, exponents)).tolist() == [
        [False] * 3,
        [True] * 3,
    ]


# -- tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["float32", "int"])
def test_layers_get_through_the_adversarial_set(output):
    numerics = Numerics(output=output)
    every = set(adversarial_tokens(numerics, 9))
    if output != "int":
        every |= set(nonfinite_tokens(numerics, 9))
    seen = []
    for index in range(-(-len(every) // 3)):
        names, x = mixed_tokens(numerics, 4, 9, seed=5, layer=index)
        assert names[0] == "normal"
        assert x.shape == (4, 9)
        assert x.dtype == np.float16
        seen += names[1:]
    assert set(seen) == every
    assert len(set(seen[: len(every)])) == len(every)


def test_names_are_those_of_the_tokens():
    names, x = mixed_tokens(Numerics(), 30, 9, seed=2)
    assert (x[names.index("all_zero")] == 0).all()
    assert np.isnan(x[names.index("all_nan")].astype(np.float32)).all()
    again, same = mixed_tokens(Numerics(), 30, 9, seed=2)
    assert names == again
    assert x.tobytes() == same.tobytes()
    assert mixed_tokens(Numerics(), 30, 9, seed=3)[0] != names


def test_a_single_token_is_a_normal_one():
    names, x = mixed_tokens(Numerics(), 1, 9, seed=2, layer=7)
    assert names == ["normal"]
    assert x.shape == (1, 9)
