# amaranth: UnusedElaboratable=no
"""Both cores that keep plain activations, against integer products: every step, back to back."""

from typing import NamedTuple

import numpy as np
import pytest
from amaranth.back import verilog

from lutra.formats import Numerics
from lutra.hdl.mac_core import MacCore
from lutra.hdl.term_core import TermCore

INT8 = Numerics(activation="int8", act_width=8)
# A family of every kind; values of few bits, for multipliers of gates take long to simulate.
EVERY = (
    *("int3", "int8_asym", "ternary", "bcq4_asym", "bitmod4", "float5_e2m2", "int4_affine"),
    "free3",
)
KINDS = {
    "term": (TermCore, {"engine": "term"}),
    "logic": (MacCore, {"engine": "mac", "product": "logic"}),
    "dsp": (MacCore, {"engine": "mac", "product": "dsp"}),
}


class Work(NamedTuple):
    """One slice: what goes in, and the sum of each scale for each token."""

    member: int
    codes: np.ndarray
    zero: int
    slice: int
    expected: np.ndarray


def _parameters(hdl, kind, fold, formats, numerics=INT8, **changes):
    changes.setdefault("group_sizes", ())
    return hdl.parameters(formats, numerics, fold=fold, **KINDS[kind][1], **changes)


def _activations(parameters, rng, count):
    """Slices of each token (count, tokens, width): random, and all-extreme of each sign."""
    numerics = parameters.numerics
    peak, low = numerics.peak, -numerics.peak
    high = peak if numerics.is_float else peak - 1
    shape = (count, parameters.tokens, parameters.layout.width)
    x = rng.integers(low, high + 1, shape, dtype=np.int64)
    for index, own in enumerate(x):
        if index % 4 == 1:
            own[:] = rng.choice([low, high], shape[1:])
        elif index % 4 == 2:
            own[:] = rng.choice([low, high], (shape[1], 1))
    return x


def _word(parameters, x):
    """One token's part as the write bus has it; the sum only where there is one."""
    word = {"elements": x.tolist()}
    if any(item.has_zero_point for item in parameters.layout.members):
        word["sum"] = int(x.sum())
    return word


def _work(parameters, rng, x, address):
    """Random codes of a random format; one slice in three has the extreme codes only."""
    layout = parameters.layout
    number = int(rng.integers(len(layout.members)))
    item = layout.members[number]
    codes = rng.integers(1 << item.code_width, size=layout.width)
    tables = item.weight_table(np.eye(item.scale_count, dtype=np.int64))
    if rng.random() < 1 / 3:
        codes = rng.choice([int(tables[0].argmin()), int(tables[0].argmax())], layout.width)
        if rng.random() < 0.5:
            codes[:] = codes[0]
    zero = int(rng.integers(1 << layout.zero_width))
    if item.has_zero_point:
        zero &= (1 << item.code_width) - 1
        tables = tables - tables[:, zero : zero + 1]
    return Work(number, codes, zero, address, tables[:, codes] @ x.T)


class Plan:
    """What happens in each cycle: a slice's steps in a row, and writes as early as they may be.

    ``steps`` has the slice and step of a cycle, ``writes`` the address, part and activations (of
    each token), ``done`` the slices with the cycle of their first step.
    """

    def __init__(self, parameters, hold_cycles, rng, slices):
        fold, width = parameters.core.fold, parameters.part_width
        addresses = range(1 << parameters.slice_address_width)
        self.steps, self.writes, self.done = {}, {}, []

        def write(cycle, address, own):
            for part in range(fold):
                values = own[:, part * width : (part + 1) * width]
                self.writes[cycle + part] = (address, part, values)
            return cycle + fold

        held = dict(enumerate(_activations(parameters, rng, len(addresses))))
        since = {address: write(address * fold, address, held[address]) for address in addresses}
        cycle = len(addresses) * fold
        for _ in range(slices):
            cycle += max(0, int(rng.integers(-20, 4)))
            cycle = max(cycle, min(since[address] for address in addresses))
            address = int(rng.choice([a for a in addresses if since[a] <= cycle]))
            work = _work(parameters, rng, held[address], address)
            self.done.append((cycle, work))
            for step in range(parameters.member_cycles[work.member]):
                self.steps[cycle] = (work, step)
                cycle += 1
            free = cycle - 1 + hold_cycles
            if rng.random() < 0.4 and not any(free + part in self.writes for part in range(fold)):
                held[address] = _activations(parameters, rng, 4)[int(rng.integers(4))]
                since[address] = write(free, address, held[address])
        self.cycles = cycle


def _set(ctx, dut, parameters, write, work):
    """Drive a write, and the inputs that are a slice's."""
    ctx.set(dut.write.enable, write is not None)
    if write:
        address, part, own = write
        ctx.set(dut.write.slice, address)
        ctx.set(dut.write.index, part)
        for token in range(parameters.tokens):
            ctx.set(dut.write.values[token], _word(parameters, own[token]))
    if work:
        numbers = parameters.layout.members[work.member].stream_codes
        for bit in range(parameters.layout.max_code_width):
            column = sum((numbers[c] >> bit & 1) << place for place, c in enumerate(work.codes))
            ctx.set(dut.codes[bit], column)
        ctx.set(dut.format, work.member)
        ctx.set(dut.slice, work.slice)
        if len(dut.zero):
            ctx.set(dut.zero, work.zero)


def _run(hdl, kind, parameters, *, seed, slices=60):
    """Take slices as fast as may be; check every sum of every slice."""
    rng = np.random.default_rng(seed)
    fold = parameters.core.fold
    dut = KINDS[kind][0](parameters=parameters)
    plan = Plan(parameters, dut.hold_cycles, rng, slices)
    sums = {}

    async def bench(ctx):
        for now in range(plan.cycles + dut.latency):
            # Between slices the step is anything.
            work, step = plan.steps.get(now, (None, int(rng.integers(parameters.max_cycles))))
            _set(ctx, dut, parameters, plan.writes.get(now), work)
            ctx.set(dut.step, step)
            sums[now - dut.latency] = [ctx.get(dut.sums[t]) for t in range(parameters.tokens)]
            await ctx.tick()

    hdl.simulate(dut, bench)

    for start, work in plan.done:
        item = parameters.layout.members[work.member]
        got = np.zeros_like(work.expected)
        scales = {
            "term": [step.scale_index for step in item.term_steps],
            "mac": range(item.scale_count),
        }[parameters.core.engine]
        for step in range(parameters.member_cycles[work.member]):
            got[scales[step // fold]] += sums[start + step]
        wrong = (got - work.expected) % (1 << parameters.segment_width)
        assert not wrong.any(), f"{item.name} at cycle {start}: {got} and not {work.expected}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("fold", [1, 2, 4])
def test_every_format_mixed(hdl, kind, tokens, fold):
    parameters = _parameters(
        hdl, kind, fold, EVERY, tokens=tokens, width=16, act_lanes=4, tile_slices=2
    )
    _run(hdl, kind, parameters, seed=100 * tokens + fold, slices=100)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EVERY)
def test_each_format_alone(hdl, kind, name):
    parameters = _parameters(hdl, kind, 2, (name,), width=8, act_lanes=4, tile_slices=1)
    _run(hdl, kind, parameters, seed=7, slices=40)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "numerics", [Numerics(), Numerics(act_width=24), Numerics(act_width="exact")], ids=str
)
def test_wide_activations(hdl, kind, numerics):
    formats = ("int8_asym", "bitmod4", "bcq2_asym")
    parameters = _parameters(hdl, kind, 2, formats, numerics, tile_slices=4, scale_width=7)
    _run(hdl, kind, parameters, seed=8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("width", "fold", "act_lanes"), [(8, 8, 1), (24, 3, 8), (24, 6, 4), (40, 5, 8), (64, 1, 8)]
)
def test_folds(hdl, kind, width, fold, act_lanes):
    formats = ("int6", "int3_asym", "bitmod3", "bcq2")
    parameters = _parameters(
        hdl, kind, fold, formats, width=width, act_lanes=act_lanes, tile_slices=3
    )
    _run(hdl, kind, parameters, seed=width + fold)


@pytest.mark.parametrize("kind", KINDS)
def test_four_tokens_without_zero_point(hdl, kind):
    parameters = _parameters(hdl, kind, 2, ("bitmod3", "bitmod4", "int6"), tokens=4)
    _run(hdl, kind, parameters, seed=9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fold", [1, 2])
@pytest.mark.parametrize("formats", [("bcq1",), ("int2",), ("int4",), ("ternary", "int2"), EVERY])
def test_becomes_verilog(hdl, kind, fold, formats):
    """Nothing in it is of no bits where that is not allowed."""
    parameters = _parameters(hdl, kind, fold, formats)
    text = verilog.convert(KINDS[kind][0](parameters=parameters), emit_src=False)
    assert "sums" in text
