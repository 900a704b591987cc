import itertools
from dataclasses import replace

import numpy as np
import pytest

from lutra.formats import CATALOG, FLOATS, CodebookFormat
from lutra.gen import PRESETS, make_backend
from lutra.gen.differences import differing
from lutra.gen.locate import locate
from lutra.gen.probes import sign_token
from lutra.sim import (
    DTYPES,
    GoldenModel,
    adversarial_tokens,
    align,
    convert_output,
    nonfinite_tokens,
    random_matrix,
    trace_output,
)

from .faulty import Faulty

COLUMNS, GROUP = 60, 16
FORMATS = [name for name in CATALOG if not name.startswith("codebook")]
SOME = ["int4", "int3_asym", "ternary", "bitmod4", "float4_e2m1", "bcq1", "bcq2_asym"]
# In the order in which they are looked for.
KINDS = ["aligned activation", "plane sum", "group sum", "row sum", "output"]


def config_of(formats="bitmod4", **settings):
    return PRESETS["tiny"].replace({
        "stream.formats": formats,
        "stream.group_sizes": "16",
        "stream.max_rows": "64",
        "stream.max_columns": "64",
        **{name.replace("__", "."): value for name, value in settings.items()},
    })


def layer_of(config, formats, seed=1):
    width = config.parameters.layout.scale_width
    return random_matrix(formats, 7, COLUMNS, GROUP, seed=seed, scale_width=width)


def tokens_of(config, seed=1):
    numerics = config.parameters.numerics
    rng = np.random.default_rng(seed)
    if not numerics.is_float:
        return rng.integers(-128, 128, (6, COLUMNS), dtype=np.int8)
    return rng.standard_normal((6, COLUMNS)).astype(DTYPES[numerics.activation])


def found_by(config, matrix, x, **faults):
    """Plant a fault; return what is found for the first output that shows it, and which that is."""
    faulty = Faulty(config, **faults)
    backends = {"numpy": make_backend("numpy", config), "faulty": faulty}
    good, bad = (item.run(matrix, x).outputs for item in backends.values())
    shown = np.argwhere(differing(good, bad))
    assert len(shown), "the fault does not show"
    token, row = shown[0].tolist()
    return locate(config, backends, matrix, x[token], row), token, row


@pytest.mark.parametrize("output", ["float32", "int"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_double_is_right_without_a_fault(name, output):
    config = config_of(name, numerics__output=output)
    matrix, x = layer_of(config, name), tokens_of(config)
    golden = GoldenModel(matrix, config.parameters.numerics).run(x)
    assert not differing(Faulty(config).run(matrix, x).outputs, golden).any()


# -- one kind of intermediate after the other -----------------------------------------------------


def truncate_column(column):
    """Round one activation towards 0 instead of to nearest."""

    def fault(aligned, x):
        aligned = aligned.copy()
        values = np.abs(x[:, column].astype(np.float64))
        tops = np.frexp(np.abs(x.astype(np.float64)).max(axis=1))[1] - 1
        floors = np.floor(np.ldexp(values, 8 - 2 - tops)).astype(np.int64)
        aligned[:, column] = np.sign(aligned[:, column]) * np.minimum(floors, 127)
        return aligned

    return fault


@pytest.mark.parametrize("output", ["float32", "bfloat16", "float16", "int"])
@pytest.mark.parametrize("name", SOME)
def test_the_rounding_of_one_activation(name, output):
    # An engine of plain bcq1 alone has no weight of 0; see below.
    formats = "bcq1,int4" if name == "bcq1" else name
    config = config_of(formats, numerics__output=output, numerics__act_width="8")
    matrix, x = layer_of(config, name), tokens_of(config)
    found, token, row = found_by(config, matrix, x, activations=truncate_column(37))
    assert found.kind == "aligned activation"
    assert found.place == {"column": 37}
    right = trace_output(matrix, config.parameters.numerics, x[token], row).activations[37]
    assert found.expected == found.observed["numpy"] == right
    assert found.observed["faulty"] == right - np.sign(right)


@pytest.mark.parametrize("activation", ["int8", "bfloat16", "float32"])
def test_one_activation_of_another_type(activation):
    width = "8" if activation == "int8" else "20"
    config = config_of("int4", numerics__activation=activation, numerics__act_width=width)

    def fault(aligned, x):
        aligned = aligned.copy()
        aligned[:, 3] = -aligned[:, 3]
        return aligned

    found, *_ = found_by(config, layer_of(config, "int4"), tokens_of(config), activations=fault)
    assert (found.kind, found.place) == ("aligned activation", {"column": 3})
    assert found.observed["numpy"] == -found.observed["faulty"]


def lost_plane(plane):
    return lambda digits, number, codes: digits * (number != plane)


def plane_cases():
    for name in SOME:
        for plane in range(max(len(item.planes) for item in CATALOG[name].members)):
            yield name, plane


@pytest.mark.parametrize("output", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "plane"), list(plane_cases()))
def test_one_plane(name, plane, output):
    config = config_of(name, numerics__output=output)
    matrix, x = layer_of(config, name), tokens_of(config)
    found, token, row = found_by(config, matrix, x, digits=lost_plane(plane))
    assert found.kind == "plane sum"
    assert found.place["plane"] == plane
    token_seen = sign_token(x[token]) if found.signs else x[token]
    trace = trace_output(matrix, config.parameters.numerics, token_seen, row)
    assert found.expected == trace.groups[found.place["group"]].planes[plane]
    assert found.rounded or found.observed["numpy"] == found.expected
    item = matrix.members[matrix.format_ids[row, found.place["group"]]]
    if stands_alone(item, plane):
        assert found.observed["faulty"] == 0
    else:  # other planes are seen with it
        assert found.observed["faulty"] != found.observed["numpy"]


def stands_alone(item, plane):
    """Tell whether two codes differ in this plane and no other."""
    codes = range(1 << item.code_width)
    digits = [tuple(p.truth >> code & 1 for p in item.planes) for code in codes]
    flipped = {(*own[:plane], 1 - own[plane], *own[plane + 1 :]) for own in digits}
    return not flipped.isdisjoint(digits)


def test_one_column_of_one_plane():
    """The activation is right, and its digit is lost in one plane and one group."""
    config = config_of("int4")

    def fault(digits, number, codes):
        digits = digits.copy()
        if number == 2 and len(codes) == COLUMNS % GROUP:  # the last group
            digits[5] = 0
        return digits

    matrix, x = layer_of(config, "int4"), tokens_of(config)
    found, token, row = found_by(config, matrix, x, digits=fault)
    assert found.kind == "plane sum"
    assert (found.place["group"], found.place["plane"]) == (3, 2)
    assert not found.signs
    aligned = trace_output(matrix, config.parameters.numerics, x[token], row).activations
    right = found.observed["numpy"]
    assert right == found.expected
    assert found.observed["faulty"] == right - aligned[3 * GROUP + 5]


@pytest.mark.parametrize("name", ["int4", "bitmod4", "int3_asym", "float4_e2m1"])
def test_one_code_that_is_decoded_wrongly(name):
    config = config_of(name)
    matrix, x = layer_of(config, name), tokens_of(config)
    # No probe of a plane or an activation takes this code.
    code = 7 if name != "float4_e2m1" else 13

    def fault(digits, number, codes):
        return np.where((codes == code) & (number == 1), 1 - digits, digits)

    found, *_ = found_by(config, matrix, x, digits=fault)
    assert found.kind == "plane sum"
    assert found.place.get("code") == code or found.place.get("plane") == 1
    assert found.observed["numpy"] == found.expected != found.observed["faulty"]


@pytest.mark.parametrize("output", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize(
    "fault",
    [
        lambda scales, group, row: np.where(group == 2, scales + 4, scales),
        lambda scales, group, row: np.where(np.abs(scales) > 3, scales & ~1, scales),
        lambda scales, group, row: scales | (scales > 2),
        lambda scales, group, row: row[(group + 1) % len(row)],
        lambda scales, group, row: np.clip(scales, -200, 200),
    ],
    ids=["one group", "lost bit", "stuck bit", "neighbour", "limit"],
)
def test_scales(name, fault, output):
    config = config_of(name, numerics__output=output)
    matrix, x = layer_of(config, name), tokens_of(config)
    found, token, row = found_by(config, matrix, x, scale=fault)
    if name.startswith("bcq") and found.kind == "plane sum":
        return  # in binary coding a plane has the scale
    if output == "bfloat16" and found.kind != "group sum":
        assert KINDS.index(found.kind) > KINDS.index("group sum")  # never too early
        return
    assert found.kind == "group sum"
    token_seen = sign_token(x[token]) if found.signs else x[token]
    trace = trace_output(matrix, config.parameters.numerics, token_seen, row)
    assert found.expected == trace.groups[found.place["group"]].total
    assert found.observed["faulty"] != found.expected


def lost_carry(total, part, group):
    """Lose what goes from one half of the sum to the other."""
    low = (total & 0xFFFF) + (part & 0xFFFF)
    return ((total >> 16) + (part >> 16) << 16) + (low & 0xFFFF)


def lost_group(total, part, group):
    return np.where(total != 0, total + part * (group != 2), total + part)


@pytest.mark.parametrize("output", ["float32", "bfloat16", "float16", "int"])
@pytest.mark.parametrize("name", ["int4", "bitmod4", "int3_asym", "bcq2_asym", "bcq1"])
@pytest.mark.parametrize("fault", [lost_carry, lost_group])
def test_accumulation(name, fault, output):
    config = config_of(name, numerics__output=output)
    matrix, x = layer_of(config, name), tokens_of(config)
    found, *_ = found_by(config, matrix, x, add=fault)
    if output in ("bfloat16", "float16") and found.kind == "output":
        return  # too small to be seen in so few bits
    assert found.kind == "row sum"
    assert found.rounded or found.observed["numpy"] == found.expected
    assert found.expected != found.observed["faulty"]
    if fault is lost_group and not found.rounded:
        assert found.place["group"] == 2


def test_an_accumulator_that_is_too_narrow():
    """No group is too much for it, only their sum."""
    config = config_of("int4")
    base = layer_of(config, "int4")
    matrix = replace(base, codes=np.full_like(base.codes, 7), scales=np.full_like(base.scales, 100))
    x = np.full((1, COLUMNS), 1.5, np.float16)
    trace = trace_output(matrix, config.parameters.numerics, x[0], 0)
    limit = 5 * trace.groups[0].total // 2
    assert trace.total > limit

    def wrap(total, part, group):
        return np.where(np.abs(total + part) >= limit, total + part - 2 * limit, total + part)

    found, *_ = found_by(config, matrix, x, add=wrap)
    assert (found.kind, found.place["group"]) == ("row sum", 2)
    assert found.observed["faulty"] == found.observed["numpy"] - 2 * limit


def towards_zero(sums, exponent, row_scales, output, flagged):
    """Cut off what does not fit instead of rounding."""
    kept = FLOATS[output].fraction_width + 1
    lengths = np.frexp(np.abs(sums).astype(np.float64))[1]
    cut = np.maximum(lengths - kept, 0)
    sums = np.sign(sums) * (np.abs(sums) >> cut << cut)
    return convert_output(sums, exponent, row_scales, output, flagged)


def ties_away(sums, exponent, row_scales, output, flagged):
    return convert_output(sums + np.sign(sums), exponent, row_scales, output, flagged)


def fused(sums, exponent, row_scales, output, flagged):
    """Round once where the contract rounds twice."""
    exact = sums.astype(np.float64) * row_scales.astype(np.float64)
    return np.ldexp(exact, exponent[:, None]).astype(DTYPES[output])


@pytest.mark.parametrize("output", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["int4", "int3_asym", "int8", "bitmod4", "bcq3"])
def test_rounding_of_outputs(name, output):
    config = config_of(name, numerics__output=output)
    matrix, x = layer_of(config, name), tokens_of(config)
    found, token, row = found_by(config, matrix, x, convert=towards_zero)
    assert found.kind == "output"
    trace = trace_output(matrix, config.parameters.numerics, x[token], row)
    assert str(trace.total) in found.where
    assert found.observed["numpy"] == found.expected != found.observed["faulty"]
    assert str(found.expected).startswith("0x")


def test_one_rounding_instead_of_two():
    config = config_of("int8")
    matrix, x = layer_of(config, "int8"), tokens_of(config)
    found, *_ = found_by(config, matrix, x, convert=fused)
    assert found.kind == "output"


def test_a_zero_with_a_sign():
    config = config_of("int4")
    matrix, x = layer_of(config, "int4"), np.zeros((1, COLUMNS), np.float16)

    def fault(sums, exponent, row_scales, output, flagged):
        y = convert_output(sums, exponent, row_scales, output, flagged)
        return np.where(sums == 0, np.float32(-0.0), y)

    found, *_ = found_by(config, matrix, x, convert=fault)
    assert found.kind == "output"
    assert found.observed == {"numpy": "0x00000000", "faulty": "0x80000000"}


# -- what is not a step of one output -------------------------------------------------------------


def test_an_exponent():
    config = config_of("int4", numerics__output="int")
    matrix, x = layer_of(config, "int4"), tokens_of(config)
    found, *_ = found_by(config, matrix, x, outputs=lambda pair: (pair[0], pair[1] + 1))
    assert found.kind == "exponent"
    assert found.observed["faulty"] == found.observed["numpy"] + 1


def test_rows_in_another_order():
    config = config_of("int4")
    matrix, x = layer_of(config, "int4"), tokens_of(config)
    found, *_ = found_by(config, matrix, x, outputs=lambda y: np.roll(y, 1, axis=1))
    assert found.kind == "context"
    assert found.expected is None
    assert found.observed == {}


def test_tokens_that_depend_on_those_before():
    config = config_of("int4")
    matrix, x = layer_of(config, "int4"), tokens_of(config)

    def fault(aligned, x):
        return np.where(np.arange(len(aligned))[:, None] > 1, aligned + 1, aligned)

    found, token, _ = found_by(config, matrix, x, activations=fault)
    assert token == 2
    assert found.kind == "context"


@pytest.mark.parametrize("name", sorted(nonfinite_tokens(PRESETS["tiny"].parameters.numerics, 9)))
def test_a_token_that_is_not_finite(name):
    config = config_of("int4")
    matrix = layer_of(config, "int4")
    x = nonfinite_tokens(config.parameters.numerics, COLUMNS)[name][None]

    def fault(sums, exponent, row_scales, output, flagged):
        return convert_output(sums, exponent, row_scales, output, flagged & False)

    found, *_ = found_by(config, matrix, x, convert=fault)
    assert found.kind == "non-finite flag"
    assert not np.isfinite(x[0, found.place["column"]].astype(np.float64))
    assert found.expected == found.observed["numpy"] == "0x7fc00000"
    assert found.observed["faulty"] == "0x00000000"


@pytest.mark.parametrize("output", ["float32", "bfloat16", "float16"])
def test_another_nan(output):
    config = config_of("int4", numerics__output=output)
    matrix = layer_of(config, "int4")
    x = nonfinite_tokens(config.parameters.numerics, COLUMNS)["infinity"][None]
    found, *_ = found_by(config, matrix, x, outputs=lambda y: -y)
    assert found.kind == "output"
    assert found.expected == found.observed["numpy"] == hex(FLOATS[output].quiet_nan)


def test_a_nan_beside_other_rows_only():
    config = config_of("int4")
    matrix = layer_of(config, "int4")
    x = nonfinite_tokens(config.parameters.numerics, COLUMNS)["infinity"][None]
    found, *_ = found_by(config, matrix, x, outputs=lambda y: y if y.shape[1] == 1 else -y)
    assert found.kind == "context"


def test_one_lane():
    """Every fourth row is wrong: not the activations, which all lanes share."""
    config = config_of("int4")
    matrix, x = layer_of(config, "int4"), tokens_of(config)

    class Lane(Faulty):
        def row(self, matrix, n, aligned):
            if n % 4 == 2:
                aligned = np.where(np.arange(COLUMNS) == 20, 0, aligned)
            return super().row(matrix, n, aligned)

    backends = {"numpy": make_backend("numpy", config), "faulty": Lane(config)}
    found = locate(config, backends, matrix, x[0], 2)
    assert found.kind == "plane sum"
    assert found.place["group"] == 1


# -- formats that are hard to probe ---------------------------------------------------------------


def test_an_engine_without_a_weight_of_zero():
    """An activation shows as far on as it can be seen."""
    config = config_of("bcq1", numerics__act_width="8")
    matrix, x = layer_of(config, "bcq1"), tokens_of(config)
    found, *_ = found_by(config, matrix, x, activations=truncate_column(37))
    assert found.kind in ("plane sum", "group sum")
    assert found.place["group"] == 37 // GROUP


@pytest.mark.parametrize("values", [range(-4, 4), [1, 3, 5, 7, -90, -7, -5, 127]])
def test_codebooks(values):
    config = config_of("codebook3,int4")
    book = CodebookFormat.of(list(values))
    matrix, x = layer_of(config, (book,)), tokens_of(config)
    for fault, kinds in (
        ({"digits": lost_plane(1)}, {"plane sum"}),
        ({"add": lost_group}, {"row sum"}),
        ({"convert": towards_zero}, {"output"}),
    ):
        found, *_ = found_by(config, matrix, x, **fault)
        assert found.kind in kinds


def test_mixtures():
    config = config_of("int4,bcq2_asym,bitmod3,int6_asym")
    items = [item for name in config.parameters.layout.formats for item in CATALOG[name].members]
    matrix, x = layer_of(config, items), tokens_of(config)
    for fault, kind in (
        ({"digits": lost_plane(2)}, "plane sum"),
        ({"add": lost_group}, "row sum"),
        ({"convert": towards_zero}, "output"),
    ):
        found, *_ = found_by(config, matrix, x, **fault)
        assert found.kind == kind


# -- in hardware ----------------------------------------------------------------------------------


class Altered:
    """Hardware that is given another layer than it should be."""

    def __init__(self, inner, change):
        self.inner, self.change = inner, change

    def run(self, matrix, x, *, packed=None):
        """Change the layer, then compute it."""
        return self.inner.run(self.change(matrix), x)


def hardware_cases():
    def codes(matrix):
        return replace(matrix, codes=np.where(matrix.codes == 5, np.uint8(4), matrix.codes))

    def scales(matrix):
        return replace(matrix, scales=np.clip(matrix.scales, -9, 9))

    def row_scales(matrix):
        short = matrix.row_scales.view(np.uint32) & 0xFFFFF000
        return replace(matrix, row_scales=short.view(np.float32))

    return [(codes, "plane sum"), (scales, "group sum"), (row_scales, "output")]


@pytest.mark.parametrize(("change", "kind"), hardware_cases())
def test_a_layer_that_arrives_changed(mini, backend, change, kind):
    matrix = random_matrix("int4", 7, 40, 16, seed=3)
    x = np.random.default_rng(3).standard_normal((1, 40)).astype(np.float16)
    backends = {"numpy": backend("numpy"), "hardware": Altered(backend("verilator"), change)}
    found = locate(mini, backends, matrix, x[0], 0)
    assert found.kind == kind
    assert found.observed["numpy"] == found.expected != found.observed["hardware"]


@pytest.mark.parametrize("width", ["15", "17"])
def test_an_engine_of_another_width(mini, width):
    """Real hardware with a bit less or more of each activation."""
    other = make_backend("amaranth", mini.replace({"numerics.act_width": width}))
    matrix = random_matrix("int4", 7, 40, 16, seed=3)
    x = np.random.default_rng(3).standard_normal(40).astype(np.float16)
    backends = {"numpy": make_backend("numpy", mini), "hardware": other}
    found = locate(mini, backends, matrix, x, 2)
    assert found.kind == "aligned activation"
    trace = trace_output(matrix, mini.parameters.numerics, x, 2)
    assert found.observed["numpy"] == trace.activations[found.place["column"]]
    assert found.observed["numpy"] == found.expected
    assert abs(found.observed["hardware"] - found.observed["numpy"]) in (0.5, 1)


# -- between two that are both wrong --------------------------------------------------------------


def test_two_back_ends_neither_of_which_is_golden():
    config = config_of("int4")
    matrix, x = layer_of(config, "int4"), tokens_of(config)
    backends = {
        "one": Faulty(config, digits=lost_plane(1)),
        "other": Faulty(config, digits=lost_plane(2)),
    }
    outputs = [item.run(matrix, x).outputs for item in backends.values()]
    token, row = np.argwhere(differing(*outputs))[0].tolist()
    found = locate(config, backends, matrix, x[token], row)
    assert found.kind == "plane sum"
    assert found.place["plane"] == 1
    assert found.observed["other"] == found.expected != found.observed["one"]


# -- the signs of a token -------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["int8", "float16", "bfloat16", "float32"])
def test_signs_have_the_exponent_of_their_token(activation):
    width = "8" if activation == "int8" else "16"
    config = config_of("int4", numerics__activation=activation, numerics__act_width=width)
    numerics = config.parameters.numerics
    for x in adversarial_tokens(numerics, 33).values():
        signs = sign_token(x)
        assert signs.dtype == x.dtype
        both = align(np.stack([x, signs]), numerics)
        assert both.exponent[0] == both.exponent[1]
        magnitudes = np.abs(both.X[1])
        assert len(np.unique(magnitudes[magnitudes > 0])) <= 1
        values = x.astype(np.float64)
        assert np.array_equal(np.sign(both.X[1]), np.sign(values))


def test_to_dict_is_plain():
    config = config_of("int4")
    matrix, x = layer_of(config, "int4"), tokens_of(config)
    found, *_ = found_by(config, matrix, x, add=lost_group)
    data = found.to_dict()
    assert data["kind"] == "row sum"
    assert data["group"] == 2
    assert (data["first_column"], data["last_column"]) == (32, 47)
    kinds = {type(value) for value in itertools.chain(data.values(), data["observed"].values())}
    assert kinds <= {int, float, str, bool, dict}
