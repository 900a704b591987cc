# amaranth: UnusedElaboratable=no
"""Programmable codebooks: registers, what cores decode, and layers one after the other."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from lutra.formats import CodebookFormat, NumberFormat, Numerics, pack
from lutra.hdl import Error
from lutra.hdl.codebooks import Codebooks, codebooks_layout
from lutra.hdl.lane import Lane
from lutra.hdl.plane_decoder import PlaneDecoder, decode_cycles, plane_coefficients
from lutra.hdl.term_decoder import TermDecoder
from lutra.hdl.value_decoder import ValueDecoder, value_width
from lutra.sim import adversarial_tokens, random_matrix

MIXTURES = [
    ("codebook4", "codebook3", "int4", "bitmod4"),
    ("int3_asym", "codebook3"),
    ("codebook4",),
    ("int8", "codebook3", "bcq2_asym", "codebook4"),
]
ENGINES = ("lut", "term", "mac")


def _parameters(hdl, formats=MIXTURES[0], engine="lut", **changes):
    changes.setdefault("codebook_terms", 2)
    if engine != "lut":
        changes.setdefault("act_lanes", 2)
    return hdl.parameters(formats, engine=engine, **changes)


def _codebooks(parameters, seed):
    members = random_matrix(parameters.layout.members, 1, 8, 8, seed=seed).members
    return [item for item in members if isinstance(item, CodebookFormat)]


def _told(parameters, codebooks):
    """Return what lanes are told of some codebooks."""
    told = {slot.name: [] for slot in parameters.layout.codebooks}
    for item in codebooks:
        if parameters.core.engine != "term":
            told[item.name] = list(item.values)
            continue
        for terms in item.terms:
            entry = [{"size": t.exponent + 1, "negative": t.sign < 0} for t in terms]
            empty = [{"size": 0, "negative": 0}] * (parameters.layout.codebook_terms - len(terms))
            told[item.name].append(entry + empty)
    return told


def _bits(parameters, codebooks):
    """Return the section of the stream, as the packer makes it."""
    layout = parameters.layout
    packed = pack(random_matrix(codebooks, 1, 8, 8, seed=1), layout)
    first = layout.layer_header_beats
    return [
        int.from_bytes(beat.tobytes(), "little")
        for beat in packed.beats[first : first + layout.codebook_beats]
    ]


# -- registers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("changes", [{}, {"codebook_width": 5, "codebook_terms": 1}])
def test_registers(hdl, engine, changes):
    """What the packer writes is what lanes are told, and stays until the next layer's."""
    parameters = _parameters(hdl, engine=engine, **changes)
    dut = Codebooks(parameters=parameters)
    shape = codebooks_layout(parameters)

    async def bench(ctx):
        for seed in (1, 2):
            codebooks = _codebooks(parameters, seed)
            for part, beat in enumerate(_bits(parameters, codebooks)):
                ctx.set(dut.enable, 1)
                ctx.set(dut.part, part)
                ctx.set(dut.beat, beat)
                await ctx.tick()
                ctx.set(dut.enable, 0)
                ctx.set(dut.beat, 0)
                await ctx.tick().repeat(1 + part % 3)
            expected = shape.const(_told(parameters, codebooks)).as_bits()
            assert ctx.get(dut.codebooks.as_value()) == expected

    hdl.simulate(dut, bench)


# -- decoders -------------------------------------------------------------------------------------


def _every_code(ctx, dut, layout):
    """Give weight ``i`` the code ``i``, so that bits above a format's width take all values."""
    for bit in range(layout.max_code_width):
        ctx.set(dut.codes[bit], sum((code >> bit & 1) << code for code in range(256)))


def _column(ctx, bits, index):
    """Return the number whose bit ``b`` is bit ``index`` of element ``b``."""
    return sum((ctx.get(bits[bit]) >> index & 1) << bit for bit in range(bits.shape().length))


def _expected(hdl, parameters, codebooks):
    """Yield the number of each format, the format, and the values of the stream's codes."""
    own = {item.name: item for item in codebooks}
    for number, known in enumerate(parameters.layout.members):
        item: NumberFormat = own.get(known.name, known)
        if item.scale_count == 1:
            yield number, item, hdl.streamed(item, item.weight_table([1])).tolist()


@pytest.mark.parametrize("mixture", MIXTURES, ids="+".join)
@pytest.mark.parametrize("width", [8, 6])
def test_planes(hdl, mixture, width):
    parameters = _parameters(
        hdl,
        mixture,
        lanes=1,
        width=256,
        group_sizes=(),
        tile_slices=1,
        act_lanes=8,
        codebook_width=width,
        codebook_terms=0,
    )
    layout = parameters.layout
    dut = PlaneDecoder(parameters=parameters)
    coefficients = plane_coefficients(parameters)

    async def bench(ctx):
        _every_code(ctx, dut, layout)
        for seed in range(3):
            codebooks = _codebooks(parameters, seed)
            ctx.set(dut.codebooks, _told(parameters, codebooks))
            for number, item, values in _expected(hdl, parameters, codebooks):
                ctx.set(dut.format, number)
                sums = np.zeros(256, dtype=np.int64)
                for step in range(len(layout.members[number].planes)):
                    ctx.set(dut.step, step)
                    await ctx.tick().repeat(decode_cycles(parameters))
                    key = ctx.get(dut.key)
                    coefficient = coefficients[ctx.get(dut.plane.coefficient)]
                    sums += [coefficient * (key >> code & 1) for code in range(256)]
                    assert ctx.get(dut.plane.bipolar) == 0
                assert sums.tolist() == values * (256 >> item.code_width), item.name

    hdl.simulate(dut, bench)


@pytest.mark.parametrize("mixture", MIXTURES, ids="+".join)
@pytest.mark.parametrize("terms", [1, 2, 4])
def test_terms(hdl, mixture, terms):
    parameters = _parameters(
        hdl,
        mixture,
        "term",
        fold=2,
        lanes=1,
        width=512,
        group_sizes=(),
        tile_slices=1,
        act_lanes=8,
        codebook_terms=terms,
    )
    layout = parameters.layout
    dut = TermDecoder(parameters=parameters)

    async def bench(ctx):
        _every_code(ctx, dut, layout)
        for seed in range(2):
            codebooks = _codebooks(parameters, seed)
            ctx.set(dut.codebooks, _told(parameters, codebooks))
            for number, item, values in _expected(hdl, parameters, codebooks):
                ctx.set(dut.format, number)
                sums = np.zeros(257, dtype=np.int64)
                for step in range(layout.members[number].step_count):
                    ctx.set(dut.step, step)
                    base, negative = ctx.get(dut.terms.base), ctx.get(dut.terms.negative)
                    for index in range(257):
                        size = _column(ctx, dut.terms.size, index)
                        term = 1 << base + size - 1 if size else 0
                        sums[index] += -term if negative >> index & 1 else term
                if not item.has_zero_point:
                    assert sums[-1] == 0, "a zero-point's term without a zero-point"
                    assert sums[:-1].tolist() == values * (256 >> item.code_width), item.name

    hdl.simulate(dut, bench, clocked=False)


@pytest.mark.parametrize("mixture", MIXTURES, ids="+".join)
@pytest.mark.parametrize("width", [8, 3])
def test_values(hdl, mixture, width):
    parameters = _parameters(
        hdl,
        mixture,
        "mac",
        fold=2,
        lanes=1,
        width=512,
        group_sizes=(),
        tile_slices=1,
        act_lanes=8,
        codebook_width=width,
        codebook_terms=0,
    )
    layout = parameters.layout
    dut = ValueDecoder(parameters=parameters)
    bits = value_width(layout)
    assert bits >= width

    async def bench(ctx):
        _every_code(ctx, dut, layout)
        for seed in range(3):
            codebooks = _codebooks(parameters, seed)
            ctx.set(dut.codebooks, _told(parameters, codebooks))
            for number, item, values in _expected(hdl, parameters, codebooks):
                ctx.set(dut.format, number)
                if item.has_zero_point:
                    continue
                read = [_column(ctx, dut.values, index) for index in range(257)]
                read = [value - (value >> bits - 1 << bits) for value in read]
                assert read[-1] == 0, "a zero-point's value without a zero-point"
                assert read[:-1] == values * (256 >> item.code_width), item.name

    hdl.simulate(dut, bench, clocked=False)


# -- engines --------------------------------------------------------------------------------------

EXACT = Numerics(activation="int8", act_width=8, output="int")


def _tokens(parameters, columns, count, seed):
    tokens = adversarial_tokens(parameters.numerics, columns, seed=seed)
    names = sorted(tokens)
    return np.stack([tokens[names[(seed + index) % len(names)]] for index in range(count)])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("mixture", "changes"),
    [
        # Many formats and multipliers take a minute in Amaranth's simulator.
        pytest.param(MIXTURES[0], {}, marks=pytest.mark.slow),
        (MIXTURES[1], {"codebook_width": 5, "output_lanes": 2, "lanes": 2, "width": 16}),
        pytest.param(MIXTURES[3], {"codebook_terms": 3, "tokens": 2}, marks=pytest.mark.slow),
    ],
)
def test_layers_one_after_the_other(hdl, engine, mixture, changes):
    """Every layer has codebooks of its own, one has none at all; beats come as fast as they can."""
    changes = {"group_sizes": (16,), **changes}
    parameters = _parameters(hdl, mixture, engine, **changes)
    members = parameters.layout.members
    plain = [item for item in members if item not in parameters.layout.codebooks] or members
    work = [
        (
            random_matrix(plain if index == 1 else members, 8 + index, 40 - index, 16, seed=index),
            _tokens(parameters, 40 - index, 1, index),
        )
        for index in range(3)
    ]
    values = [
        tuple(item.values for item in matrix.members if isinstance(item, CodebookFormat))
        for matrix, _ in work
    ]
    assert len(set(values)) == 3
    hdl.EngineBench(parameters).run(work, limit=40_000)
    hdl.EngineBench(parameters).run(work, stalls=(0.3, 0.2, 0.4), seed=5, limit=90_000)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("width", [8, 2])
def test_sums_are_wide_enough(hdl, engine, width):
    """The lowest entry everywhere, the largest scale, the largest tokens of either sign."""
    parameters = _parameters(
        hdl,
        ("codebook3",),
        engine,
        numerics=EXACT,
        codebook_width=width,
        codebook_terms=1,
        max_columns=48,
        group_sizes=(16,),
    )
    lowest = CodebookFormat.of([-1 << width - 1] * 8)
    matrix = random_matrix([lowest], 4, 48, 16, seed=1)
    for scale in (255, -255):
        extreme = replace(matrix, scales=np.full_like(matrix.scales, scale))
        tokens = np.stack([np.full(48, value, np.int8) for value in (-127, 127, -128)])
        hdl.EngineBench(parameters).run([(extreme, tokens)])


@pytest.mark.parametrize("bit", [0, 100, 191])
def test_damaged_codebooks_are_found(hdl, bit):
    """The layer's checksum covers them."""
    parameters = _parameters(hdl, codebook_terms=0)
    layout = parameters.layout
    bench = hdl.EngineBench(parameters)
    matrix = random_matrix(layout.members, 4, 20, 8, seed=1)
    assert layout.codebook_bits == 192
    w = bench.w(matrix)
    w[layout.layer_header_beats + bit // layout.beat_width] ^= 1 << bit % layout.beat_width

    async def script(host):
        host.offer(bench.x(_tokens(parameters, 20, 1, 1)), w)
        await host.until(lambda: host.error != Error.NONE)
        assert host.error == Error.CRC

    bench.script(script)


def test_a_stream_of_another_codebook_width_is_refused(hdl):
    one, other = (_parameters(hdl, codebook_width=width) for width in (8, 7))
    bench = hdl.EngineBench(one)
    w = hdl.EngineBench(other).w(random_matrix(other.layout.members, 4, 20, 8, seed=1))

    async def script(host):
        host.offer(bench.x(_tokens(one, 20, 1, 1)), w)
        await host.until(lambda: host.error != Error.NONE)
        assert host.error == Error.FORMAT

    bench.script(script)


def test_a_term_engine_needs_terms(hdl):
    layout = replace(_parameters(hdl).layout, codebook_terms=0)
    parameters = hdl.parameters(engine="term", act_lanes=2)
    sentence = "codebook_terms must be at least 1 for a term engine that decodes codebooks, not 0"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        replace(parameters, layout=layout)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_ports_without_codebooks(hdl, engine):
    """Other engines have no trace of them, whatever the two settings say."""
    parameters = hdl.parameters(("int4", "bitmod3"), engine=engine, act_lanes=2)
    for width, terms in itertools.product((8, 4), (0, 2)):
        layout = replace(parameters.layout, codebook_width=width, codebook_terms=terms)
        lane = Lane(parameters=replace(parameters, layout=layout))
        assert not any("codebooks" in name for name in hdl.ports(lane))
    with_some = Lane(parameters=_parameters(hdl, MIXTURES[1], engine))
    names = [name for name in hdl.ports(with_some) if "codebooks" in name]
    assert names == ["codebooks"]
