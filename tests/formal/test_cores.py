# amaranth: UnusedElaboratable=no
"""Every step of a slice of one lane against the sums of section 2 of the arithmetic contract.

What the steps of a format add up to, the proofs of the decoders show.
"""

from typing import Any

import pytest
from amaranth import Array, Cat, Const, Mux, Signal, signed

from lutra.hdl.cores import core_for
from lutra.hdl.lookup import entry_offset
from lutra.hdl.value_decoder import value_tables

FORMATS = ("bitmod3", "int3_asym", "bcq2")
ONE_WIDTH = ("bitmod3", "int3")  # as one bank needs them
KINDS = {
    "lut": {"engine": "lut", "mu": 4},
    "lut half": {"engine": "lut", "mu": 4, "table": "half"},
    "lut pairs": {"engine": "lut", "mu": 2},
    "lut block": {"engine": "lut", "mu": 4, "table": "block"},
    "lut block once": {"engine": "lut", "mu": 4, "table": "block", "banks": 1},
    "term": {"engine": "term", "fold": 2},
    "mac": {"engine": "mac", "fold": 2},
    "mac dsp": {"engine": "mac", "fold": 2, "product": "dsp"},
}
WIDTH = 8


def _steps(formal, parameters, item):
    """Value that a step takes of each of the stream's codes, of each step."""
    core = parameters.core
    if core.engine == "lut":
        tables = [p.coefficient * p.digits(item.code_width) for p in item.planes]
    elif core.engine == "term":
        tables = [step.values for step in item.term_steps]
    else:
        tables = value_tables(item)
    return [formal.streamed(item, table).tolist() for table in tables]


def _write(bench, parameters, dut, x, cycle):
    """Return what a builder writes in a cycle, and how many cycles it takes."""
    core = parameters.core
    shape = dut.write["values"].shape().elem_shape
    if core.engine == "lut":
        entries = []
        for first in range(0, WIDTH, core.mu):
            own = x[first : first + core.mu]
            bits = [cycle[bit] for bit in range(core.mu)]
            if core.is_half:
                bits[-1] = Const(0)
            values = [Mux(b, v, -v if core.is_half else 0) for b, v in zip(bits, own, strict=True)]
            entry = Signal(shape.elem_shape, name=f"entry_{first}")
            bench.m.d.comb += entry.eq(sum(values, Const(entry_offset(parameters))))
            entries.append(entry)
        return Cat(entries), core.entries
    words = []
    for first in range(0, WIDTH, parameters.part_width):
        fields = x[first : first + parameters.part_width]
        if "sum" in shape.members:
            total = Signal(shape.members["sum"], name=f"part_sum_{first}")
            bench.m.d.comb += total.eq(sum(fields, Const(0)))
            fields = [*fields, total]
        words.append(Cat(fields))
    return Array(words)[cycle[: (core.fold - 1).bit_length()]], core.fold


def core(formal, kind, places=range(WIDTH), formats=FORMATS):
    """Return a core that takes any step once its activations are written.

    Activations are free at some places and 0 at the others; codes, format and zero-point are free.
    """
    if KINDS[kind].get("banks") == 1:
        formats = ONE_WIDTH
    parameters = formal.parameters(formats, width=WIDTH, **KINDS[kind])
    layout = parameters.layout
    bench = formal.Bench()
    m = bench.m
    x = [
        bench.some(signed(8), name=f"x_{k}") if k in places else Const(0, signed(8))
        for k in range(WIDTH)
    ]
    codes = [bench.some(layout.max_code_width, name=f"code_{k}") for k in range(WIDTH)]
    number = bench.some(range(len(layout.members)), name="format")
    zero = bench.some(layout.zero_width, name="zero")
    step = bench.some(range(parameters.max_cycles), name="step")
    bench.assume(number < len(layout.members))
    bench.assume(step < Array(parameters.member_cycles)[number])

    time = Signal(8, name="time")
    m.d.sync += time.eq(time + 1)
    dut = core_for(parameters)
    values, writes = _write(bench, parameters, dut, x, time)
    write: Any = Signal(dut.write.shape(), name="write")
    m.d.comb += [
        write.enable.eq(time < writes),
        write.slice.eq(1),
        write.index.eq(time),
        write.values.eq(values),
    ]
    if parameters.core.needs_slice_sums(layout.members):
        m.d.comb += [write.enable_sum.eq(time == 0), write.sum.eq(sum(x, Const(0)))]
    columns = (Cat(code[bit] for code in codes) for bit in range(layout.max_code_width))
    bench.add(
        dut,
        write=write.as_value(),
        codes=Cat(columns),
        format=number,
        zero=zero,
        step=step,
        slice=Const(1),
    )
    done = time == writes + dut.latency
    _claim_sum(formal, bench, parameters, dut, x, codes, number, zero, step, done)
    return bench, writes + dut.latency + 1


def _claim_sum(formal, bench, parameters, dut, x, codes, number, zero, step, when):
    fold, part = parameters.core.fold, parameters.part_width
    wanted = Signal(signed(20), name="wanted")
    with bench.m.Switch(Cat(step, number)):
        for index, item in enumerate(parameters.layout.members):
            for cycle in range(parameters.member_cycles[index]):
                table = _steps(formal, parameters, item)[cycle // fold]
                entries = Array(Const(value, signed(8)) for value in table)
                first = cycle % fold * part
                own = range(first, first + part)
                weights = [entries[codes[k][: item.code_width]] for k in own]
                if item.has_zero_point:
                    offset = entries[zero[: item.code_width]]
                    weights = [weight - offset for weight in weights]
                total = sum((w * x[k] for w, k in zip(weights, own, strict=True)), Const(0))
                with bench.m.Case(index << len(step) | cycle):
                    bench.m.d.comb += wanted.eq(total)
    bench.claim("sum", dut.sums[0] == wanted, when=when)


PLACES = {**dict.fromkeys(KINDS, (5,)), "lut": (2, 5)}
# In full tables the slice's sum, which is taken off beside the sum that was found.
FULL = dict.fromkeys(("lut", "lut pairs", "lut block"), ("add", "sub", 2))
FAULTS = {**dict.fromkeys(KINDS, ("add", "sub", 0)), **FULL, "mac dsp": ("mul", "add", 0)}


def _prove(check, formal, kind, places, **options):
    bench, depth = core(formal, kind, places)
    check(bench, depth=depth, first=depth - 1, incremental=False, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_every_step(formal, kind):
    _prove(formal.prove, formal, kind, PLACES[kind])


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_are_found(formal, kind):
    _prove(formal.refute, formal, kind, (5,), fault=FAULTS[kind])
