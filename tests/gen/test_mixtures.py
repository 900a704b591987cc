"""Every kind of engine on random mixtures: bits as the golden model's, cycles as predicted."""

import random

import numpy as np
import pytest

from lutra.formats import CATALOG, Numerics, StreamLayout
from lutra.formats.layout import FRAME_BEATS
from lutra.gen import (
    EngineConfig,
    compare_layer,
    generate_verilog,
    make_backend,
    random_tokens,
)
from lutra.hdl import (
    CORE_OPTIONS,
    EngineParameters,
    LutOptions,
    MacOptions,
    TermOptions,
)
from lutra.sim import (
    Emulator,
    GoldenModel,
    adversarial_tokens,
    predict_cycles,
    random_matrix,
)

WIDTHS = tuple(f"int{width}" for width in range(2, 9))
LAYERS = 60  # of each configuration; the configurations together make over 500 cases


def random_config(seed):
    """Return some configuration of any kind; repeat one with ``random_config(seed)``."""
    draw = random.Random(seed)
    width = draw.choice([8, 16, 24])
    lanes = draw.choice([n for n in (2, 3, 4) if n * width >= 32])
    tile_slices = draw.choice([1, 2, 4])
    sizes = [n for n in (1, 2, 4, 8) if tile_slices % n == 0 or n % tile_slices == 0]
    layout = StreamLayout(
        lanes=lanes,
        width=width,
        tile_slices=tile_slices,
        formats=tuple(draw.sample(list(CATALOG), draw.randint(1, 5))),
        group_sizes=tuple(n * width for n in sizes),
        scale_width=draw.choice([3, 8]),
        output_lanes=draw.choice([n for n in range(1, lanes + 1) if lanes % n == 0]),
        ahead=draw.choice([2, 3, 16]),
        codebook_width=draw.choice([5, 8]),
        codebook_terms=2,
        max_rows=40,
        max_columns=150,
    )
    activation = draw.choice(["int8", "float16"])
    numerics = Numerics(
        activation=activation,
        act_width=8 if activation == "int8" else draw.choice([8, 13]),
        output=draw.choice(["float32", "float16", "int"]),
    )
    folds = [n for n in (1, 2, 3, 4) if width % n == 0]
    core = (
        LutOptions(mu=draw.randint(2, 4), table=draw.choice(["full", "half", "block"])),
        TermOptions(fold=draw.choice(folds)),
        MacOptions(fold=draw.choice(folds), product=draw.choice(["logic", "dsp"])),
    )[seed % 3]
    parameters = EngineParameters(
        layout=layout,
        numerics=numerics,
        core=core,
        tokens=draw.choice([1, 2, 4, 8]),
        multiply=draw.choice(["serial", "dsp"]),
        act_lanes=draw.choice([1, 2]),
        slices_ahead=draw.choice([1, 2, 4]),
        adder_levels=draw.randint(1, 3),
    )
    return EngineConfig(name="mixture", parameters=parameters)


# One engine of each kind, and in `make test-all` two more.
QUICK = (2, 6, 7)
SEEDS = [seed if seed in QUICK else pytest.param(seed, marks=pytest.mark.slow) for seed in range(9)]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_cases(seed):
    config = random_config(seed)
    parameters, layout = config.parameters, config.parameters.layout
    backend = make_backend("verilator", config)
    draw = random.Random(seed)
    for case in range(LAYERS):
        rows, columns = draw.randint(1, layout.max_rows), draw.randint(1, layout.max_columns)
        group_size = min(draw.choice([*layout.group_sizes, columns]), columns)
        if group_size not in layout.group_sizes:
            group_size = columns
        matrix = random_matrix(
            layout.members,
            rows,
            columns,
            group_size,
            seed=1000 * seed + case,
            scale_width=layout.scale_width,
        )
        tokens = adversarial_tokens(parameters.numerics, columns, seed=case)
        names = draw.sample(sorted(tokens), draw.randint(1, min(5, len(tokens))))
        x = np.stack([tokens[name] for name in names])
        seen = compare_layer("layer", matrix, x, config=config, backend=backend)
        where = f"random_config({seed}), case {case}: {rows} x {columns}, group {group_size}"
        assert seen.mismatches == 0, where
        assert seen.cycles == seen.predicted_cycles, where


EVERY_KIND = (
    "int2",
    "int5_asym",
    "int8",
    "ternary",
    "bcq1",
    "bcq3_asym",
    "bitmod3",
    "bitmod4",
    "float4_e2m1",
    "codebook4",
)


KINDS = ["lut", *(pytest.param(k, marks=pytest.mark.slow) for k in CORE_OPTIONS if k != "lut")]


@pytest.mark.parametrize("engine", KINDS)
def test_eight_tokens_and_stalls(engine):
    """Every kind of format in one layer, eight tokens a pass, all three streams held back."""
    layout = StreamLayout(
        lanes=2,
        width=16,
        tile_slices=2,
        formats=EVERY_KIND,
        group_sizes=(16, 32),
        codebook_terms=2,
        max_rows=16,
        max_columns=120,
    )
    parameters = EngineParameters(
        layout=layout, numerics=Numerics(), core=CORE_OPTIONS[engine](), tokens=8, act_lanes=2
    )
    config = EngineConfig(name="stalls", parameters=parameters)
    emulator = Emulator(generate_verilog(config), top=config.name)
    interface = config.interface
    for case, (rows, columns, group_size) in enumerate((
        (16, 120, 32),
        (7, 33, 16),
        (1, 1, 1),
        (3, 100, 100),
        (16, 16, 16),
    )):
        matrix = random_matrix(layout.members, rows, columns, group_size, seed=case)
        tokens = adversarial_tokens(parameters.numerics, columns, seed=case)
        x = np.stack(list(tokens.values()))
        golden = GoldenModel(matrix, parameters.numerics).run(x)
        passes = interface.passes(len(x))
        for stalls in ((0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.0, 0.5, 0.3), (0.3, 0.2, 0.6)):
            run = emulator.run(
                interface.activations(x),
                interface.weights(parameters.pack(matrix)),
                expected=8 * passes * interface.output_beats(rows),
                output_bytes=interface.o_bytes,
                w_repeats=passes,
                stalls=stalls,
                seed=case,
            )
            where = f"{engine}, case {case}, stalls {stalls}"
            assert run.status & 7 == 0, where
            assert run.broken_handshakes == 0, where
            outputs = interface.outputs(run.outputs, rows)[: len(x)]
            assert np.array_equal(outputs.view(np.uint32), golden.view(np.uint32)), where


@pytest.mark.parametrize(
    "core",
    [
        LutOptions(mu=3),
        LutOptions(mu=3, table="half"),
        LutOptions(mu=9, table="block"),
        TermOptions(fold=4),
        MacOptions(fold=8),
    ],
    ids=str,
)
def test_a_single_slice_waits(core):
    """In any engine, of one format and of many, of fewer cycles than code bits and of more."""
    layout = StreamLayout(
        lanes=2,
        width=16,
        tile_slices=2,
        formats=("int2", "int5_asym", "int8", "bcq3_asym", "bitmod3", "bitmod4"),
        group_sizes=(16, 32),
        max_rows=24,
        max_columns=120,
    )
    parameters = EngineParameters(
        layout=layout, numerics=Numerics(), core=core, slices_ahead=1, act_lanes=2
    )
    config = EngineConfig(name="single", parameters=parameters)
    backend = make_backend("verilator", config)
    families = [*layout.formats, None, None, None]
    for case, name in enumerate(families):
        members = CATALOG[name].members if name else layout.members
        rows, columns, group_size = ((24, 120, 16), (7, 33, 32), (9, 100, 100))[case % 3]
        matrix = random_matrix(members, rows, columns, group_size, seed=case)
        x = random_tokens(parameters.numerics, 1 + case % 3, columns, seed=case)
        seen = compare_layer("layer", matrix, x, config=config, backend=backend)
        assert seen.mismatches == 0, f"{name}, case {case}"
        assert seen.cycles == seen.predicted_cycles, f"{name}, case {case}"


def mixture_config(engine, lanes, **changes):
    """Return an engine for integers of 2 to 8 bits."""
    layout = StreamLayout(
        lanes=lanes,
        width=32,
        tile_slices=4,
        formats=WIDTHS,
        group_sizes=(128,),
        output_lanes=4,
        **changes,
    )
    parameters = EngineParameters(
        layout=layout, numerics=Numerics(), core=CORE_OPTIONS[engine](), slices_ahead=4
    )
    return EngineConfig(name="mixture", parameters=parameters)


@pytest.mark.parametrize("engine", CORE_OPTIONS)
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("rows", [1024, 4096])
@pytest.mark.parametrize("formats", [("int4",), ("int8",), WIDTHS], ids=len)
def test_utilisation(engine, lanes, rows, formats):
    """By the cycle model, which equals the hardware; ``bench/mixture.py`` runs the hardware."""
    config = mixture_config(engine, lanes)
    layout = config.parameters.layout
    members = [item for item in layout.members if item.name in formats]
    matrix = random_matrix(members, rows, 1024, 128, seed=5)
    packed = config.parameters.pack(matrix)
    cycles = predict_cycles(packed, layout, config.timing, passes=4)
    assert 4 * packed.useful_cycles / cycles >= 0.95


def columns_of(widths, rows, seed):
    """Return a layer whose groups of columns have these formats, in all rows."""
    members = [item for name in WIDTHS for item in CATALOG[name].members]
    matrix = random_matrix(members, rows, 128 * len(widths), 128, seed=seed)
    ids = np.array([WIDTHS.index(f"int{width}") for width in widths], dtype=np.uint8)
    matrix.format_ids[:] = ids
    matrix.codes[:] &= ((1 << np.repeat(widths, 128)) - 1).astype(np.uint8)
    return matrix


@pytest.mark.parametrize("mean", [3, 4, 5, 6])
def test_a_mean_of_n_bits_costs_the_cycles_of_n_bits(mean):
    """SliM-LLM's promise: as many groups with a bit less as with a bit more."""
    config = mixture_config("lut", 4, max_rows=256, max_columns=1024)
    backend = make_backend("verilator", config)
    x = random_tokens(config.parameters.numerics, 2, 1024, seed=2)
    mixed = [mean, mean + 1, mean - 1, mean, mean - 1, mean + 1, mean, mean]
    seen = [
        compare_layer("l", columns_of(widths, 256, seed), x, config=config, backend=backend)
        for seed, widths in enumerate(([mean] * 8, mixed))
    ]
    assert [item.mismatches for item in seen] == [0, 0]
    assert seen[0].cycles == seen[1].cycles == seen[1].predicted_cycles
    assert (
        seen[0].stream_bits
        == seen[1].stream_bits
        > FRAME_BEATS * config.parameters.layout.beat_width
    )


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize(("rows", "columns"), [(1024, 1024), (4096, 1024), (4096, 4096)])
@pytest.mark.parametrize("formats", [("int2",), ("int4",), ("int8",), WIDTHS], ids=len)
def test_overhead_of_the_stream(lanes, rows, columns, formats):
    parameters = mixture_config("lut", lanes).parameters
    members = [item for item in parameters.layout.members if item.name in formats]
    matrix = random_matrix(members, rows, columns, 128, seed=5)
    packed = parameters.pack(matrix)
    assert (packed.bits - matrix.code_bits) / matrix.codes.size <= 0.15


@pytest.mark.parametrize("engine", CORE_OPTIONS)
@pytest.mark.parametrize("lanes", [8, 16])
def test_rows_whose_halves_are_opposite(engine, lanes):
    """Wide then narrow beside narrow then wide, in turn: no lane drifts away from the others."""
    config = mixture_config(engine, lanes)
    members = [item for item in config.parameters.layout.members if item.name in ("int2", "int8")]
    matrix = random_matrix(members, 1024, 1024, 128, seed=5)
    matrix.codes[:] &= 3
    matrix.format_ids[:] = (np.arange(1024)[:, None] % 2) ^ (np.arange(8) < 4)
    packed = config.parameters.pack(matrix)
    assert packed.span_tiles == 8
    cycles = predict_cycles(packed, config.parameters.layout, config.timing, passes=4)
    assert 4 * packed.useful_cycles / cycles >= 0.95
