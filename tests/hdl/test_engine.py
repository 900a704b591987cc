# amaranth: UnusedElaboratable=no
"""Whole engines against the golden model, bit for bit, in Amaranth's simulator."""

import dataclasses
import random

import numpy as np
import pytest
from amaranth import Value

from lutra.formats import CATALOG, FLOATS, Numerics, pack
from lutra.sim import (
    adversarial_matrices,
    adversarial_tokens,
    nonfinite_tokens,
    random_matrix,
)

INT8 = Numerics(activation="int8", act_width=8)
NUMERICS = [
    Numerics(activation="int8", act_width=8, output="int"),
    Numerics(activation="float16", act_width=16, output="float32"),
    Numerics(activation="bfloat16", act_width=8, output="bfloat16"),
    Numerics(activation="float32", act_width=24, output="float16"),
    Numerics(activation="float16", act_width="exact", output="float32"),
    Numerics(activation="int8", act_width=8, output="float16"),
    Numerics(activation="float32", act_width=16, output="int"),
    Numerics(activation="float16", act_width=8, output="float16"),
    Numerics(activation="bfloat16", act_width=24, output="float32"),
    Numerics(activation="float16", act_width="exact", output="int"),
    Numerics(activation="int8", act_width=8, output="bfloat16"),
    Numerics(activation="float32", act_width=11, output="bfloat16"),
]


def _numerics_name(numerics):
    return f"{numerics.activation}-{numerics.act_width}-{numerics.output}"


def _tokens(numerics, columns, count, *, seed):
    """Return some of the adversarial tokens, chosen by the seed."""
    tokens = adversarial_tokens(numerics, columns, seed=seed)
    names = random.Random(seed).sample(sorted(tokens), count)
    return np.stack([tokens[name] for name in names])


def _sum_bits(name, numerics, columns, scale_width):
    """Bits of an exact sum, sign included."""
    peak = max(item.peak for item in CATALOG[name].members)
    return 1 + (peak * columns * numerics.peak << scale_width).bit_length()


@pytest.mark.parametrize("index", range(len(CATALOG)), ids=list(CATALOG))
def test_every_family(hdl, index):
    """Each family with tails of N and K; numerics, tables and multipliers take turns."""
    name = list(CATALOG)[index]
    numerics = NUMERICS[index % len(NUMERICS)]
    if _sum_bits(name, numerics, 80, 8) > 63:
        numerics = NUMERICS[2]  # of few bits
    parameters = hdl.parameters(
        (name,),
        numerics,
        table=("full", "half")[index % 2],
        multiply=("serial", "dsp")[index // 2 % 2],
        output_lanes=(1, 2, 4)[index % 3],
        mu=2 + index % 4,
    )
    matrices = adversarial_matrices(name, 6, 27, 16, seed=index)
    chosen = [list(matrices)[(index + i) % len(matrices)] for i in (0, 5)]
    work = [
        (random_matrix(name, 7, 29, 8, seed=index), _tokens(numerics, 29, 2, seed=index)),
        *((matrices[case], _tokens(numerics, 27, 1, seed=index + 1)) for case in chosen),
    ]
    hdl.EngineBench(parameters).run(work, stalls=(0.2, 0.2, 0.2), seed=index)


@pytest.mark.parametrize("numerics", NUMERICS, ids=_numerics_name)
def test_adversarial_tokens(hdl, numerics):
    tokens = adversarial_tokens(numerics, 11, seed=1)
    parameters = hdl.parameters(("int4_asym",), numerics, max_columns=11)
    matrix = random_matrix("int4_asym", 3, 11, 8, seed=2)
    hdl.EngineBench(parameters).run([(matrix, np.stack(list(tokens.values())))])


@pytest.mark.parametrize(
    ("name", "numerics"),
    [
        ("bitmod4", Numerics(activation="float32", output="float32")),
        ("int8_asym", Numerics(activation="float16", act_width=12, output="float16")),
        ("bcq2_asym", Numerics(activation="bfloat16", output="bfloat16")),
        ("bitmod3", Numerics(activation="int8", act_width=8, output="int")),
    ],
    ids=["bitmod4", "int8_asym", "bcq2_asym", "bitmod3"],
)
def test_adversarial_matrices(hdl, name, numerics):
    """Extreme codes, scales and row scales, with tokens that are extreme too."""
    tokens = adversarial_tokens(numerics, 13, seed=3)
    batch = np.stack([tokens["all_largest"], tokens["cancelling"]])
    matrices = adversarial_matrices(name, 4, 13, 8, seed=4)
    bench = hdl.EngineBench(hdl.parameters((name,), numerics, table="half", output_lanes=2))
    bench.run([(matrix, batch) for matrix in matrices.values()])


@pytest.mark.parametrize("multiply", ["serial", "dsp"])
@pytest.mark.parametrize("group_size", [16, 32, 64, 128, 1000])
def test_group_sizes(hdl, group_size, multiply):
    """A slice, several, a tile, several tiles, the whole row; K at and beside tiles."""
    parameters = hdl.parameters(
        ("int3_asym",),
        width=16,
        tile_slices=4,
        lanes=2,
        group_sizes=(16, 32, 64, 128),
        max_columns=150,
        multiply=multiply,
        act_lanes=8,
    )
    columns = (64, 65, 150) if group_size >= 64 else (33, 80)
    work = [
        (
            random_matrix("int3_asym", 3, count, group_size, seed=count),
            _tokens(parameters.numerics, count, 1, seed=count),
        )
        for count in columns
    ]
    hdl.EngineBench(parameters).run(work)


@pytest.mark.parametrize("act_lanes", [1, 2, 8])
@pytest.mark.parametrize("output_lanes", [1, 2, 4])
def test_tails(hdl, act_lanes, output_lanes):
    """Every N about a block and every K about a beat, a slice and a tile."""
    parameters = hdl.parameters(("ternary",), INT8, act_lanes=act_lanes, output_lanes=output_lanes)
    shapes = [(1, 1), (2, 7), (3, 8), (4, 9), (5, 15), (6, 16), (7, 17), (8, 24), (9, 31), (12, 33)]
    work = [
        (
            random_matrix("ternary", rows, columns, 8, seed=columns),
            _tokens(INT8, columns, 1, seed=columns),
        )
        for rows, columns in shapes
    ]
    hdl.EngineBench(parameters).run(work, stalls=(0.0, 0.1, 0.1), seed=act_lanes)


@pytest.mark.parametrize("multiply", ["serial", "dsp"])
def test_records_shorter_than_a_group(hdl, multiply):
    """A tile that ends early has records shorter than the serial multiplier takes for one."""
    parameters = hdl.parameters(("int2",), INT8, group_sizes=(16,), multiply=multiply)
    assert (parameters.multiply_interval > 2) == (multiply == "serial")
    work = [
        (random_matrix("int2", 12, columns, 16, seed=columns), _tokens(INT8, columns, 1, seed=1))
        for columns in (20, 4, 36)
    ]
    hdl.EngineBench(parameters).run(work)


def test_streams_of_engines_with_other_limits(hdl):
    """What the fingerprint leaves out need not agree, as far as the layer fits."""
    small = hdl.parameters(("int2", "bitmod3"), group_sizes=(8, 16))
    large = hdl.parameters(
        ("int2", "bitmod3"), group_sizes=(8, 16, 64), max_rows=999, max_columns=9999
    ).layout
    assert large.fingerprint == small.layout.fingerprint
    bench = hdl.EngineBench(small)

    async def script(host):
        for group_size in (8, 16):
            matrix = random_matrix(large.members, 6, 44, group_size, seed=group_size)
            tokens = _tokens(small.numerics, 44, 1, seed=1)
            host.offer(bench.x(tokens), bench.w(pack(matrix, large)))
            await host.until(lambda: len(host.o.received) == 6)
            bench.check(host.o.received, matrix, tokens)
            host.open()

    bench.script(script)


MIXTURES = {
    "widths": ("int2", "int8", "bitmod3"),
    "scales": ("bcq3_asym", "int4_asym", "ternary"),
    "signs": ("bcq1", "bcq4", "bitmod4"),
}


@pytest.mark.parametrize("table", ["full", "half"])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_mixtures(hdl, mixture, table):
    """Every group of every row names its own format; whole rows too."""
    numerics = Numerics(output="float32")
    parameters = hdl.parameters(MIXTURES[mixture], numerics, table=table)
    members = parameters.layout.members
    work = [
        (random_matrix(members, 6, 30, 8, seed=1), _tokens(numerics, 30, 1, seed=1)),
        (random_matrix(members, 5, 30, 16, seed=2), _tokens(numerics, 30, 1, seed=2)),
        (random_matrix(members, 7, 33, 40, seed=3), _tokens(numerics, 33, 1, seed=3)),
    ]
    hdl.EngineBench(parameters).run(work, stalls=(0.1, 0.3, 0.3), seed=5)


@pytest.mark.parametrize(
    ("mu", "width", "mixture"),
    [(9, 24, ("int3_asym", "bitmod4", "bcq2")), (10, 16, ("int2", "bitmod3"))],
)
def test_tables_in_block_ram(hdl, mu, width, mixture):
    """More activations a table than distributed RAM has room for, the last one's fewer."""
    numerics = Numerics(activation="int8", act_width=8, output="int")
    parameters = hdl.parameters(
        mixture,
        numerics,
        table="block",
        mu=mu,
        lanes=2,
        width=width,
        tile_slices=1,
        group_sizes=(width,),
        max_columns=2 * width,
    )
    assert parameters.core.tables(width) * mu > width
    tokens = adversarial_tokens(numerics, 2 * width - 3, seed=1)
    work = [
        (
            random_matrix(parameters.layout.members, 4, 2 * width - 3, width, seed=seed),
            tokens[name][None],
        )
        for seed, name in enumerate(("all_lowest", "random"))
    ]
    hdl.EngineBench(parameters).run(work)


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize(
    ("table", "mu"), [("full", 2), ("half", 3), ("block", 2), ("block", 3), ("block", 5)]
)
def test_tables_of_one_tile(hdl, table, mu, tokens):
    """Lanes wait while tables are written; in block RAM two share a memory, but for the last."""
    numerics = Numerics(output="float32")
    formats = ("bitmod4", "int4", "float4_e2m1")
    parameters = hdl.parameters(
        formats, numerics, table=table, mu=mu, banks=1, tokens=tokens, output_lanes=2
    )
    members = parameters.layout.members
    work = [
        (
            random_matrix(members, rows, columns, 8, seed=rows),
            _tokens(numerics, columns, tokens, seed=rows),
        )
        for rows, columns in ((6, 30), (1, 33), (7, 8))
    ]
    hdl.EngineBench(parameters).run(work)
    hdl.EngineBench(parameters).run(work, stalls=(0.1, 0.3, 0.2), seed=mu)


@pytest.mark.parametrize("mixture", [("bitmod3", "int2"), ("bitmod4", "int4_asym", "bcq2_asym")])
@pytest.mark.parametrize("mu", [2, 5])
def test_half_tables_and_coefficients(hdl, mu, mixture):
    """Signs of look-ups and of coefficients, of whichever kind the digits are."""
    parameters = hdl.parameters(mixture, INT8, table="half", mu=mu, output_lanes=2)
    members = parameters.layout.members
    work = [
        (random_matrix(members, 6, 30, 8, seed=seed), _tokens(INT8, 30, 1, seed=seed))
        for seed in range(2)
    ]
    hdl.EngineBench(parameters).run(work, stalls=(0.1, 0.2, 0.0), seed=mu)


@pytest.mark.parametrize("chances", [(0.0, 0.0, 0.0), (0.2, 0.4, 0.2)])
@pytest.mark.parametrize("tokens", [1, 2, 4])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_tokens_of_a_pass(hdl, mixture, tokens, chances):
    """Any number of vectors, each with outputs of its own; the last pass is filled up."""
    numerics = Numerics(output="float32")
    parameters = hdl.parameters(
        MIXTURES[mixture], numerics, tokens=tokens, output_lanes=(1, 2, 4)[tokens // 2]
    )
    members = parameters.layout.members
    work = [
        (
            random_matrix(members, rows, columns, group_size, seed=rows),
            _tokens(numerics, columns, count, seed=rows),
        )
        for rows, columns, group_size, count in (
            (6, 30, 8, tokens),
            (1, 33, 16, 1),
            (9, 17, 32, tokens + 1),
        )
    ]
    hdl.EngineBench(parameters).run(work, stalls=chances, seed=tokens)


@pytest.mark.parametrize("tokens", [2, 4])
def test_tokens_do_not_mix(hdl, tokens):
    """One that is not finite makes its own outputs NaN and no other's; so do zeros."""
    numerics = Numerics(output="float32")
    bench = hdl.EngineBench(hdl.parameters(("int2", "bitmod3"), numerics, tokens=tokens))
    matrix = random_matrix(bench.parameters.layout.members, 5, 20, 8, seed=1)
    finite = _tokens(numerics, 20, 3, seed=1)
    bad = next(iter(nonfinite_tokens(numerics, 20, seed=2).values()))
    zeros = np.zeros_like(bad)
    assert not bench.run([(matrix, np.stack([finite[0], zeros, finite[1], finite[2]]))]).nonfinite
    assert bench.run([(matrix, np.stack([finite[0], bad, finite[1], zeros]))]).nonfinite
    assert bench.run([(matrix, np.stack([bad, finite[0], bad, finite[1]]))]).nonfinite


@pytest.mark.parametrize("ahead", [2, 3, 16])
@pytest.mark.parametrize("tile_slices", [1, 2])
def test_lanes_drift_apart(hdl, ahead, tile_slices):
    """Wide and narrow tiles, as unlike from lane to lane as can be: no lane waits for ever."""
    parameters = hdl.parameters(
        ("int2", "int8"),
        INT8,
        ahead=ahead,
        tile_slices=tile_slices,
        group_sizes=(8, 16),
        max_columns=160,
        output_lanes=4,
    )
    bench = hdl.EngineBench(parameters)
    layout = parameters.layout
    work, spans = [], []
    for seed, wide in enumerate((
        lambda row, tile, tiles: (row == 0) == (tile < tiles // 2),
        lambda row, tile, tiles: (row + tile) % 2,
        lambda row, tile, tiles: tile % 4 == row % 4,
    )):
        size = layout.tile_columns
        matrix = random_matrix("int2", 8, 160, size, seed=seed)
        tiles = 160 // size
        ids = [[int(wide(row, tile, tiles)) for tile in range(tiles)] for row in range(8)]
        matrix = dataclasses.replace(
            matrix, members=layout.members, format_ids=np.array(ids, dtype=np.uint8)
        )
        spans.append(parameters.pack(matrix).span_tiles)
        work.append((matrix, _tokens(INT8, 160, 1, seed=seed)))
    assert min(spans) < 160 // layout.tile_columns, "no layer of several spans"
    bench.run(work)
    bench.run(work, stalls=(0.5, 0.2, 0.2), seed=ahead)


@pytest.mark.parametrize("chances", [(0.8, 0.0, 0.0), (0.0, 0.8, 0.0), (0.0, 0.0, 0.8), (0.5,) * 3])
def test_stalls(hdl, chances):
    """Any stream may hold any other up; layers of different shapes and formats follow."""
    parameters = hdl.parameters(("bitmod3", "int2_asym"), output_lanes=2)
    work = []
    for index, (rows, columns) in enumerate([(1, 5), (9, 40), (2, 80), (12, 8), (4, 16)]):
        name = ("bitmod3", "int2_asym")[index % 2]
        tokens = _tokens(parameters.numerics, columns, 2, seed=index)
        work.append((random_matrix(name, rows, columns, 8, seed=index), tokens))
    hdl.EngineBench(parameters).run(work, stalls=chances, seed=11)


def test_two_layers_wait_for_the_output(hdl):
    """A third is held up before it could overwrite the first; all come out whole."""
    parameters = hdl.parameters(("int2",), INT8, max_rows=30)
    bench = hdl.EngineBench(parameters)
    work = [
        (random_matrix("int2", rows, 10, 8, seed=rows), _tokens(INT8, 10, 1, seed=rows))
        for rows in (30, 5, 9, 7, 1)  # the first has more than the output's pipeline keeps
    ]
    taken = sum(len(bench.w(matrix)) for matrix, _ in work[:2])

    async def script(host):
        host.offer(
            [payload for _, tokens in work for payload in bench.x(tokens)],
            [payload for matrix, _ in work for payload in bench.w(matrix)],
        )
        for _ in range(700):
            await host.cycle(hold_output=True)
        assert host.w.sent == taken + parameters.layout.layer_header_beats
        for matrix, tokens in work:
            host.open()
            await host.until(lambda rows=matrix.rows: len(host.o.received) == rows)
            bench.check(host.o.received, matrix, tokens)

    bench.script(script)


@pytest.mark.parametrize(
    ("activation", "output"),
    [("float16", "float32"), ("bfloat16", "float16"), ("float32", "bfloat16")],
)
def test_nonfinite_tokens(hdl, activation, output):
    """Each gives quiet NaNs and sets the flag; finite tokens around them are not touched."""
    numerics = Numerics(activation=activation, output=output)
    bench = hdl.EngineBench(hdl.parameters(("int2",), numerics, output_lanes=2))
    matrix = random_matrix("int2", 3, 9, 8, seed=1)
    finite = _tokens(numerics, 9, 1, seed=1)
    assert not bench.run([(matrix, finite)]).nonfinite
    bad = nonfinite_tokens(numerics, 9, seed=2)
    tokens = [row for token in bad.values() for row in (token, finite[0])]
    assert bench.run([(matrix, np.stack(tokens))]).nonfinite


@pytest.mark.parametrize("name", ["int8_asym", "bcq4_asym", "bitmod4"])
@pytest.mark.parametrize("act_width", [8, 24])
def test_largest_layer(hdl, name, act_width):
    """All-extreme inputs at the largest K fill the accumulator and do not overflow it."""
    numerics = Numerics(activation="bfloat16", act_width=act_width, output="int")
    parameters = hdl.parameters((name,), numerics, max_columns=80, scale_width=5)
    tokens = adversarial_tokens(numerics, 80)
    batch = np.stack([tokens["all_largest"], tokens["all_lowest"]])
    matrices = adversarial_matrices(name, 2, 80, 80, seed=1, scale_width=5)
    hdl.EngineBench(parameters).run([
        (matrices[case], batch) for case in ("all_largest", "all_lowest")
    ])
    peak = 80 * 31 * max(m.peak for m in parameters.layout.members) * numerics.peak
    assert parameters.sum_width == peak.bit_length() + 1


EXTREME_SHAPES = {
    "one lane": {"lanes": 1, "width": 32, "tile_slices": 1, "act_lanes": 32, "group_sizes": (32,)},
    "one block": {"max_rows": 3, "output_lanes": 4},
    "one slice a tile": {"tile_slices": 1},
    "odd lanes": {"lanes": 5, "output_lanes": 5, "max_rows": 11},
    "three slices a tile": {"tile_slices": 3, "group_sizes": (8, 24)},
    "odd width": {"width": 24, "lanes": 2, "group_sizes": (24,), "act_lanes": 3, "mu": 5},
    "one activation a beat": {"act_lanes": 1, "mu": 1},
    "one table": {"mu": 8, "table": "half"},
    "wide beats": {"lanes": 4, "width": 64, "tile_slices": 2, "group_sizes": (64,)},
    "narrow scales": {"scale_width": 1},
    "wide scales": {"scale_width": 16},
}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *(("int4_asym", shape) for shape in EXTREME_SHAPES),
        *(("bcq1", shape) for shape in ("one lane", "one block", "one slice a tile")),
    ],
)
def test_extreme_shapes(hdl, name, shape):
    """Counters of no bits, headers in one beat and in six, batches of one header and of many."""
    parameters = hdl.parameters((name,), **EXTREME_SHAPES[shape])
    layout = parameters.layout
    rows, width = min(layout.max_rows, 7), layout.scale_width
    work = []
    for columns, group_size in ((layout.width - 1, layout.width), (67, layout.width), (80, 80)):
        matrix = random_matrix(name, rows, columns, group_size, seed=columns, scale_width=width)
        work.append((matrix, _tokens(parameters.numerics, columns, 1, seed=columns)))
    hdl.EngineBench(parameters).run(work, stalls=(0.1, 0.1, 0.1), seed=3)


def _random_case(hdl, seed):
    """Draw an engine and three layers for it."""
    rng = random.Random(seed)
    width = rng.choice([8, 16, 24, 32])
    tile_slices = rng.randrange(1, 5)
    lanes = rng.choice([n for n in range(1, 7) if n * width >= 32])
    sizes = [n * width for n in (1, 2, 3, 4, 8) if tile_slices % n == 0 or n % tile_slices == 0]
    group_sizes = tuple(sorted(rng.sample(sizes, rng.randrange(len(sizes) + 1))))
    activation = rng.choice(["int8", *FLOATS])
    act_width = 8 if activation == "int8" else rng.randrange(8, 25)
    if activation == "float16" and rng.random() < 0.2:
        act_width = "exact"
    numerics = Numerics(
        activation=activation,
        act_width=act_width,
        output=rng.choice(["int", "float32", "float16", "bfloat16"]),
    )
    fitting = [name for name in sorted(CATALOG) if _sum_bits(name, numerics, 96, 12) <= 63]
    names = rng.sample(fitting, rng.choice([1, 1, 2, 3]))
    engine, fold = rng.choice(["lut", "lut", "term", "mac"]), rng.choice([1, 2, 4])
    mu = rng.randrange(1, 7)
    core: dict[str, object] = {"engine": engine, "fold": fold}
    if engine == "lut":
        table = rng.choice(["full", "half"]) if mu > 1 else "full"
        core, fold = {"mu": mu, "table": table}, 1
    parameters = hdl.parameters(
        names,
        numerics,
        lanes=lanes,
        width=width,
        tile_slices=tile_slices,
        group_sizes=group_sizes,
        scale_width=rng.choice([1, 4, 8] if act_width == "exact" else [2, 8, 12]),
        max_rows=rng.randrange(4, 14),
        max_columns=rng.randrange(40, 97),
        tokens=rng.choice([1, 1, 2, 4]),
        ahead=rng.choice([2, 5, 16, 64]),
        **core,
        multiply=rng.choice(["serial", "dsp"]),
        act_lanes=rng.choice([n for n in range(1, width + 1) if width // fold % n == 0]),
        output_lanes=rng.choice([n for n in range(1, lanes + 1) if lanes % n == 0]),
    )
    layout = parameters.layout
    work = []
    for index in range(3):
        rows, columns = rng.randint(1, layout.max_rows), rng.randint(1, layout.max_columns)
        matrix = random_matrix(
            rng.choice([layout.members, rng.choice(names)]),
            rows,
            columns,
            rng.choice([*group_sizes, columns]),
            seed=seed + index,
            scale_width=layout.scale_width,
        )
        work.append((matrix, _tokens(numerics, columns, rng.choice([1, 2]), seed=seed + index)))
    return parameters, work, tuple(rng.choice([0, 0, 0.3]) for _ in range(3))


def _run_random_case(hdl, seed):
    parameters, work, stalls = _random_case(hdl, seed)
    try:
        hdl.EngineBench(parameters).run(work, stalls=stalls, seed=seed)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {parameters}: {error}") from error


@pytest.mark.parametrize("seed", range(12))
def test_random_engine(hdl, seed):
    _run_random_case(hdl, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1200))
def test_more_random_engines(hdl, seed):
    _run_random_case(hdl, seed)


PORTS = {
    "small": {
        "i_x__payload": ("in", 4 * 16 + 1),
        "i_x__valid": ("in", 1),
        "i_x__ready": ("out", 1),
        "i_w__payload": ("in", 4 * 8 + 1),
        "i_w__valid": ("in", 1),
        "i_w__ready": ("out", 1),
        "o__payload": ("out", 32 + 1),
        "o__valid": ("out", 1),
        "o__ready": ("in", 1),
        "clear": ("in", 1),
        "status": ("out", 5),
    },
    "int": {
        "i_x__payload": ("in", 8 * 8 + 1),
        "i_x__valid": ("in", 1),
        "i_x__ready": ("out", 1),
        "i_w__payload": ("in", 2 * 32 + 1),
        "i_w__valid": ("in", 1),
        "i_w__ready": ("out", 1),
        # Sums of 80 columns of int8 by int4 by 255: 26 bits; the exponent has 2.
        "o__payload": ("out", 2 * 26 + 2 + 1),
        "o__valid": ("out", 1),
        "o__ready": ("in", 1),
        "clear": ("in", 1),
        "status": ("out", 5),
    },
}


@pytest.mark.parametrize("name", PORTS)
def test_ports_are_frozen(hdl, name):
    """A change here is a change for everyone who has instantiated an engine."""
    if name == "small":
        parameters = hdl.parameters()
    else:
        numerics = Numerics(activation="int8", act_width=8, output="int")
        parameters = hdl.parameters(
            numerics=numerics, lanes=2, width=32, group_sizes=(32,), act_lanes=8, output_lanes=2
        )
    assert hdl.ports(hdl.EngineBench(parameters).engine) == PORTS[name]


def test_no_output_depends_on_an_input_of_the_same_cycle(hdl):
    """Toggling every input before each edge moves no output; so engines chain without loops."""
    parameters = hdl.parameters(("bitmod3",), output_lanes=2)
    bench = hdl.EngineBench(parameters)
    engine = bench.engine
    matrix = random_matrix("bitmod3", 6, 20, 8, seed=1)
    tokens = _tokens(parameters.numerics, 20, 2, seed=1)
    inputs = [engine.i_x.valid, engine.i_w.valid, engine.o.ready]
    inputs += [Value.cast(engine.i_x.payload), Value.cast(engine.i_w.payload)]
    outputs = [engine.i_x.ready, engine.i_w.ready, engine.o.valid]
    outputs += [Value.cast(engine.o.payload), Value.cast(engine.status)]

    async def script(host):
        host.offer(bench.x(tokens), bench.w(matrix) * 2)
        while len(host.o.received) < 2 * bench.beats(matrix):
            before = [host.get(signal) for signal in outputs]
            for value in (0, -1):
                for signal in inputs:
                    host.set(signal, value & (1 << len(signal)) - 1)
                assert [host.get(signal) for signal in outputs] == before
            await host.cycle()

    bench.script(script, stalls=(0.2, 0.2, 0.4), seed=1)


def test_vectors_run_ahead(hdl):
    """Two are taken before the first beat of weights, and layers without vectors wait."""
    parameters = hdl.parameters(("int4",), INT8)
    bench = hdl.EngineBench(parameters)
    matrix = random_matrix("int4", 5, 40, 8, seed=1)
    tokens = _tokens(INT8, 40, 4, seed=1)

    async def script(host):
        x = bench.x(tokens)
        host.offer(x)
        for _ in range(400):
            await host.cycle()
        assert host.x.sent >= len(x) // 2
        assert host.busy
        host.offer(w=bench.w(matrix) * 4)
        await host.until(lambda: len(host.o.received) == 20)
        bench.check(host.o.received, matrix, tokens)

    bench.script(script)


def _spent(bench, matrix, tokens):
    """Cycles from a layer's first beat of weights to when the last word is taken."""
    x, w = bench.x(tokens), bench.w(matrix)
    spent = []

    async def script(host):
        host.offer(x)
        for _ in range(400):  # so that the tables are there
            await host.cycle()
        host.offer(w=w)
        await host.until(lambda: host.w.sent == len(w) - 1)
        spent.append(host.cycles - 400)
        await host.until(lambda: len(host.o.received) == bench.beats(matrix, len(tokens)))
        bench.check(host.o.received, matrix, tokens)

    bench.script(script)
    return spent[0]


def _overhead(layout, blocks):
    """Beats of a layer of one frame beside its words."""
    places = -(-blocks // layout.places_of_beat) if layout.places_of_beat else 0
    rows = places + blocks * layout.row_scale_beats
    return layout.layer_header_beats + rows + 1 + layout.span_header_beats


@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize(("name", "planes"), [("int4", 4), ("bitmod4", 5), ("int8", 8)])
def test_a_plane_of_a_slice_every_cycle(hdl, name, planes, tokens):
    """Between the first code and the last, nothing but planes and headers takes time."""
    parameters = hdl.parameters(
        (name,), INT8, act_lanes=8, tile_slices=4, max_rows=48, tokens=tokens
    )
    bench = hdl.EngineBench(parameters)
    matrix = random_matrix(name, 48, 32, 32, seed=1)
    layout = parameters.layout
    spent = _spent(bench, matrix, _tokens(INT8, 32, tokens, seed=1))
    batch_beats, batch_records = layout.batch_shape
    slices, batches = 12 * 4, -(-12 // batch_records)
    # A format of fewer code bits than planes takes its headers while planes pass.
    words = slices * layout.max_code_width + batches * batch_beats
    most = max(slices * planes, words) + planes + batch_beats + 6
    assert spent <= _overhead(layout, 12) + most


@pytest.mark.parametrize("output_lanes", [1, 2])
def test_a_mixture_takes_its_mean(hdl, output_lanes):
    """Rows of two and of eight bits take what five bits would: no lane waits for a wider one."""
    parameters = hdl.parameters(
        ("int2", "int8"),
        INT8,
        act_lanes=8,
        tile_slices=4,
        max_rows=48,
        output_lanes=output_lanes,
    )
    bench, layout = hdl.EngineBench(parameters), parameters.layout
    matrix = random_matrix("int2", 48, 32, 32, seed=1)
    ids = np.arange(48) // output_lanes % 2
    matrix = dataclasses.replace(
        matrix, members=layout.members, format_ids=ids[:, None].astype(np.uint8)
    )
    spent = _spent(bench, matrix, _tokens(INT8, 32, 1, seed=1))
    batch_beats, batch_records = layout.batch_shape
    words = 12 * 4 * 5 + -(-12 // batch_records) * batch_beats
    assert parameters.pack(matrix).useful_cycles == 12 * 4 * 5
    # Lanes take wide and narrow rows in another order; some words are taken ahead.
    assert spent <= _overhead(layout, 12) + words + 4 * 8 + batch_beats + 6
