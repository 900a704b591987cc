# amaranth: UnusedElaboratable=no
"""Decoders against the tables of values: every code of formats of every kind at once."""

import numpy as np
import pytest
from amaranth import Array, Cat, Const, Mux, Signal, Value, signed

from lutra.formats import CATALOG
from lutra.hdl import term_decoder, value_decoder
from lutra.hdl.plane_decoder import PlaneDecoder, decode_cycles, plane_coefficients
from lutra.hdl.term_decoder import TermDecoder
from lutra.hdl.value_decoder import ValueDecoder

# Of those that differ in nothing but how far their values go, one is enough.
FORMATS = (
    *(name for name in CATALOG if name.startswith(("int", "bcq")) and "affine" not in name),
    *("ternary", "float4_e3m0", "float4_e2m1", "bitmod3", "bitmod4", "nf4", "int4_affine", "free2"),
)
VALUE = signed(20)
CODE_WIDTH = 8


def _tables(formal, item):
    """Values of the stream's codes for each scale: weights where that scale is 1, others 0."""
    tables = item.weight_table(np.eye(item.scale_count, dtype=np.int64))
    return formal.streamed(item, tables).tolist()


def _wanted(formal, bench, parameters, number, code, scale, *, name):
    """Look a code's value up in its format's own table."""
    members = parameters.layout.members
    wanted = Signal(VALUE, name=name)
    with bench.m.Switch(number):
        for index, item in enumerate(members):
            with bench.m.Case(index), bench.m.Switch(scale):
                for which, table in enumerate(_tables(formal, item)):
                    with bench.m.Case(which):
                        entries = Array(Const(value, VALUE) for value in table)
                        bench.m.d.comb += wanted.eq(entries[code[: item.code_width]])
    return wanted


def _inputs(formal, **changes):
    """Return a bench and what is to be decoded: format, scale, code of a weight, zero-point."""
    parameters = formal.parameters(FORMATS, width=8, **changes)
    layout = parameters.layout
    bench = formal.Bench()
    number = bench.free(range(len(layout.members)), name="format")
    scale = bench.free(range(layout.scale_count), name="scale")
    code = bench.free(CODE_WIDTH, name="code")
    zero = bench.free(CODE_WIDTH, name="zero")
    bench.assume(number < len(layout.members))
    counts = Array(item.scale_count for item in layout.members)
    bench.assume(scale < counts[number])
    has_zero = bench.wire(
        Array(int(item.has_zero_point) for item in layout.members)[number], name="has_zero"
    )
    return parameters, bench, number, scale, code, zero, has_zero


def _claim_value(
    formal, bench, parameters, number, scale, code, zero, has_zero, decoded, decoded_zero
):
    value = _wanted(formal, bench, parameters, number, code, scale, name="value")
    offset = _wanted(formal, bench, parameters, number, zero, scale, name="offset")
    bench.claim("weight less zero", decoded - decoded_zero == value - Mux(has_zero, offset, 0))
    bench.claim("no zero", decoded_zero == 0, when=~has_zero)


def planes(formal, decoder=PlaneDecoder):
    """One copy of the decoder a plane, so that all of a code are seen at once, cycles later."""
    parameters, bench, *inputs = _inputs(formal)
    number, _, code, zero, _ = inputs
    late_number, late_scale, late_code, late_zero, late_has = (
        bench.past(value, decode_cycles(parameters)) for value in inputs
    )
    layout = parameters.layout
    coefficients = Array(Const(c, VALUE) for c in plane_coefficients(parameters))
    columns = Cat(Cat(bit, Const(0, layout.width - 1)) for bit in code)
    total, total_zero = Const(0, VALUE), Const(0, VALUE)
    for step in range(parameters.max_cycles):
        dut = bench.add(
            decoder(parameters=parameters),
            name=f"dut_{step}",
            codes=columns,
            format=number,
            zero=zero,
            step=Const(step, range(parameters.max_cycles)),
        )
        own = Signal(name=f"own_{step}")
        with bench.m.Switch(late_number):
            for index, item in enumerate(layout.members):
                if step < len(item.planes):
                    with bench.m.Case(index):
                        bench.m.d.comb += own.eq(late_scale == item.planes[step].scale_index)
        coefficient = bench.wire(coefficients[dut.plane.coefficient], name=f"coefficient_{step}")
        for_weight = Mux(dut.key[0], coefficient, Mux(dut.plane.bipolar, -coefficient, 0))
        total += Mux(own, for_weight, 0)
        total_zero += Mux(own & dut.plane.zero, coefficient, 0)
    late = (late_number, late_scale, late_code, late_zero, late_has)
    _claim_value(formal, bench, parameters, *late, total, total_zero)
    return bench


def terms(formal, decoder=TermDecoder):
    """One copy of the decoder a step."""
    parameters, bench, number, scale, code, zero, has_zero = _inputs(formal, engine="term", fold=2)
    layout, top = parameters.layout, parameters.part_width
    columns = Cat(Cat(bit, Const(0, top - 1), zero[index]) for index, bit in enumerate(code))
    sums: list[Value] = [Const(0, VALUE), Const(0, VALUE)]
    steps = max(item.step_count for item in layout.members)
    for step in range(steps):
        dut = bench.add(
            decoder(parameters=parameters),
            name=f"dut_{step}",
            codes=columns,
            format=number,
            step=Const(step, range(steps)),
        )
        own = Signal(name=f"own_{step}")
        with bench.m.Switch(number):
            for index, item in enumerate(layout.members):
                if step < item.step_count:
                    with bench.m.Case(index):
                        bench.m.d.comb += own.eq(scale == item.term_steps[step].scale_index)
        for index, place in enumerate((0, top)):
            size = Cat(bits[place] for bits in dut.terms.size)
            power = bench.wire(Const(1, VALUE) << dut.terms.base, name=f"power_{step}_{place}")
            power = bench.wire((power << size) >> 1, name=f"term_{step}_{place}")
            term = Mux(size == 0, 0, Mux(dut.terms.negative[place], -power, power))
            sums[index] += Mux(own, term, 0)
    # Beside a zero-point the terms are those of values less some constant.
    value = _wanted(formal, bench, parameters, number, code, scale, name="value")
    offset = _wanted(formal, bench, parameters, number, zero, scale, name="offset")
    bench.claim("weight less zero", sums[0] - sums[1] == value - Mux(has_zero, offset, 0))
    bench.claim("no zero", sums[1] == 0, when=~has_zero)
    return bench


def values(formal, decoder=ValueDecoder):
    parameters, bench, number, scale, code, zero, has_zero = _inputs(formal, engine="mac", fold=2)
    top = parameters.part_width
    columns = Cat(Cat(bit, Const(0, top - 1), zero[index]) for index, bit in enumerate(code))
    dut = bench.add(decoder(parameters=parameters), codes=columns, format=number, scale=scale)
    value, offset = (
        bench.wire(Cat(bits[place] for bits in dut.values).as_signed(), name=f"decoded_{place}")
        for place in (0, top)
    )
    _claim_value(formal, bench, parameters, number, scale, code, zero, has_zero, value, offset)
    return bench


class WrongPlanes(PlaneDecoder):
    """The first plane of the first format has the other kind of digits."""

    def _steps(self, shares):
        first, *rows = super()._steps(shares)
        return [{**first, "bipolar": not first["bipolar"]}, *rows]


@pytest.mark.parametrize("make", [planes, terms, values])
def test_every_code(formal, make):
    # Of so many formats no plane is the only one: digits take two cycles.
    first = 2 if make is planes else 0
    formal.prove(make(formal), depth=1 + first, first=first)


def test_wrong_planes_are_found(formal):
    formal.refute(planes(formal, WrongPlanes), "weight less zero", depth=3, first=2)


@pytest.mark.parametrize(("make", "module"), [(terms, term_decoder), (values, value_decoder)])
def test_wrong_functions_are_found(formal, monkeypatch, make, module):
    """One bit of what formats of three bits stand for differs, for one code."""
    right = module.reduce_truth

    def wrong(truth, code_width):
        return right(truth ^ (1 << 3) if code_width == 3 else truth, code_width)

    monkeypatch.setattr(module, "reduce_truth", wrong)
    formal.refute(make(formal), "weight less zero", depth=1)
