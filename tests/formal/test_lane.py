# amaranth: UnusedElaboratable=no
"""One lane of each engine, from activations to row sums, against section 2 of the arithmetic.

No solver finds by itself that two sums of products are equal whose terms are added up in different
orders. It is led there by claims in between: of the sums of pairs, of those of pairs of pairs, and
so on. Each has been shown before the next may use it.
"""

from itertools import zip_longest
from typing import Any

import numpy as np
import pytest
from amaranth import Array, Cat, Const, Module, Mux, Signal, Value, signed

from lutra.hdl import lane as lane_module
from lutra.hdl import lookup as lookup_module
from lutra.hdl.cores import builder_for, core_for
from lutra.hdl.lane import Lane, LaneSchedule
from lutra.hdl.lane_reader import LaneReader
from lutra.hdl.lookup import entry_offset
from lutra.hdl.plane_decoder import decode_cycles
from lutra.hdl.sequencer import Sequencer
from lutra.hdl.value_decoder import value_tables

WIDTH = 8
EXACT = signed(18)  # 8 products of int8 and differences of 4-bit values, and two slices of them


class GivenSlices(LaneReader):
    """Offers slices that are given, as soon as their tile is there, instead of reading them."""

    given: list[dict[str, Any]]

    def elaborate(self, platform):
        """Return the logic."""
        m = Module()
        number = Signal(range(len(self.given) + 1))
        m.d.comb += self.done.eq(number == len(self.given))
        for index, one in enumerate(self.given):
            with m.If(number == index):
                bank = one["slice"].slice[-1]
                m.d.comb += self.slice_valid.eq(self.filled.bit_select(bank, 1))
                m.d.comb += self.slice.eq(one["slice"])
                with m.If(self.slice_valid & self.slice_ready):
                    m.d.sync += self.codes.eq(one["codes"])
                    m.d.sync += self.header.eq(one["header"])
                    m.d.sync += number.eq(index + 1)
        return m


class Stages:
    """Claims of what no longer moves, one stage a cycle.

    What has been shown in earlier cycles the solver may use for later ones.
    """

    def __init__(self, bench, settled):
        self._bench = bench
        self._time, self.cycle = Signal(8, name="time"), settled
        bench.m.d.sync += self._time.eq(self._time + 1)

    def claim(self, *chains):
        """State chains of claims side by side; a chain is a list of stages, by name."""
        for stage in zip_longest(*chains, fillvalue={}):
            for claims in stage:
                for name, condition in claims.items():
                    self._bench.claim(name, condition, when=self._time == self.cycle)
            self.cycle += 1


class Sums:
    """Terms, one a column, their sums in pairs, the sums of these, up to that of all."""

    def __init__(self, bench, terms, name):
        self._bench, self._name = bench, name
        self.levels = [[self._exact(term, 0, index) for index, term in enumerate(terms)]]
        while len(below := self.levels[-1]) > 1:
            pairs = [below[i] + below[i + 1] for i in range(0, len(below), 2)]
            level = len(self.levels)
            self.levels.append([self._exact(pair, level, i) for i, pair in enumerate(pairs)])
        self.all = self.levels[-1][0]

    def of(self, count):
        """Return the sums of as many columns each."""
        return self.levels[count.bit_length() - 1]

    def _exact(self, value, level, index):
        signal = Signal(EXACT, name=f"{self._name}_{level}_{index}")
        self._bench.m.d.comb += signal.eq(value)
        return signal


def alike(name, one, other, *sums):
    """Return claims that two functions of the nodes of some sums are equal, level by level."""
    return [
        {
            f"{name} {level} {place}": one(*nodes) == other(*nodes)
            for place, nodes in enumerate(zip(*levels, strict=True))
        }
        for level, levels in enumerate(zip(*(s.levels for s in sums), strict=True))
    ]


def keep(bench, value, valid, count, name):
    """Return the last ``count`` of what there was while ``valid`` was set, in order."""
    kept = [Signal(value.shape(), name=f"{name}_{index}") for index in range(count)]
    with bench.m.If(valid):
        for one, after in zip(kept, [*kept[1:], value], strict=True):
            bench.m.d.sync += one.eq(after)
    return kept


def steps_of(formal, parameters, item):
    """Value of each of the stream's codes, columns, and number of the scale, of each step."""
    core, part = parameters.core, parameters.part_width
    if core.engine == "lut":
        turns = [(p.coefficient * p.digits(item.code_width), p.scale_index) for p in item.planes]
    elif core.engine == "term":
        turns = [(step.values, step.scale_index) for step in item.term_steps]
    else:
        turns = [(table, scale) for scale, table in enumerate(value_tables(item))]
    return [
        (formal.streamed(item, table).tolist(), range(first, first + part), scale)
        for table, scale in turns
        for first in range(0, WIDTH, part)
    ]


def look_up(table, code):
    return Array(Const(int(value), signed(8)) for value in table)[code]


class LaneBench:
    """A lane, what writes its activations, and one row of some slices.

    Activations are ``bits`` wide; they, codes, scales, zero-points and the row are free.
    """

    def __init__(self, formal, monkeypatch, formats, *, bits, slices=1, **changes):
        self.parameters = parameters = formal.parameters(
            formats, width=WIDTH, max_rows=4, max_columns=WIDTH * slices, scale_width=1, **changes
        )
        self.item, self.slices = parameters.layout.members[0], slices
        self.bench = bench = formal.Bench()
        self._streamed = formal.streamed
        self.steps = steps_of(formal, parameters, self.item)
        columns = range(WIDTH * slices)
        self.x = [bench.some(signed(bits), name=f"x_{k}") for k in columns]
        self.codes = [bench.some(self.item.code_width, name=f"code_{k}") for k in columns]
        self.row = bench.some(parameters.row_address_width, name="row")
        self.scales: list[list[Any]] = []
        self.zeros: list[Any] = []

        self._has_sums = parameters.core.needs_slice_sums(parameters.layout.members)
        self._core, sequencer = core_for(parameters), Sequencer(parameters=parameters)
        self._due = sequencer.due
        reader: Any = type("Given", (GivenSlices,), {"given": self._given()})
        monkeypatch.setattr(lane_module, "core_for", lambda _: self._core)
        monkeypatch.setattr(lane_module, "Sequencer", lambda **_: sequencer)
        monkeypatch.setattr(lane_module, "LaneReader", reader)
        self._connect()
        self.step_sums = self._of_steps(self._core.sums[0], self._core.latency, "step_sum")
        if parameters.core.engine == "lut":
            self._watch_tables(monkeypatch)

        cycles = 5 + parameters.beats_of_slice + parameters.core.write_cycles
        self.settled = slices * cycles + parameters.max_cycles + LaneSchedule(parameters).add + 5
        stages = Stages(bench, self.settled)
        self._claim(stages)
        self.depth = stages.cycle

    # -- what is under proof -----------------------------------------------------------------------

    def _given(self):
        """Return the slices of the row, in records of a tile each."""
        bench, layout = self.bench, self.parameters.layout
        probe: Any = LaneReader(parameters=self.parameters)
        given: list[dict[str, Any]] = []
        scales: list[Any] = []
        zero: Any = None
        for index in range(self.slices):
            tile, place = divmod(index, layout.tile_slices)
            last = place == layout.tile_slices - 1
            if place == 0:
                count, shape = self.item.scale_count, signed(layout.scale_width + 1)
                scales = [bench.some(shape, name=f"scale_{tile}_{which}") for which in range(count)]
                zero = bench.some(self.item.code_width, name=f"zero_{tile}")
            self.scales.append(scales)
            self.zeros.append(zero)
            names = ("codes", "header", "slice")
            one: Any = {n: Signal(getattr(probe, n).shape(), name=f"{n}_{index}") for n in names}
            values = {
                "slice": place | tile % 2 << len(one["slice"].slice) - 1,
                "row": self.row,
                "first": place == 0,
                "last": last,
                "clear": tile == 0,
                "tile_end": last,
                "last_step": self.parameters.member_cycles[0] - 1,
            }
            bench.m.d.comb += [one["slice"][name].eq(value) for name, value in values.items()]
            for which, scale in enumerate(scales):
                bench.assume(scale != -(1 << layout.scale_width))
                bench.m.d.comb += one["header"][f"scale_{which}"].eq(scale)
            if self.item.has_zero_point:
                bench.m.d.comb += one["header"].zero.eq(zero)
            own = self.codes[index * WIDTH : (index + 1) * WIDTH]
            for bit in range(self.item.code_width):
                bench.m.d.comb += one["codes"][bit].eq(Cat(code[bit] for code in own))
            given.append(one)
        return given

    def _connect(self):
        bench, parameters = self.bench, self.parameters
        m, beat = bench.m, parameters.act_lanes
        shape = signed(parameters.numerics.aligned_width)
        elements = [Signal(shape, name=f"element_{k}") for k in range(len(self.x))]
        m.d.comb += [element.eq(x) for element, x in zip(elements, self.x, strict=True)]
        beats = Array(Cat(elements[k : k + beat]) for k in range(0, len(elements), beat))
        builder, self._dut = builder_for(parameters), Lane(parameters=parameters)
        tokens: Any = Signal(builder.tokens.shape(), name="tokens")
        read = Signal(name="all_read")
        m.d.comb += tokens[0].beats.eq(len(beats))
        with m.If(builder.release):
            m.d.sync += read.eq(1)
        bench.add(
            builder,
            name="dut_builder",
            token_ready=~read,
            tokens=tokens.as_value(),
            aligned=bench.past(beats[builder.read_beat]),
            aligned_valid=bench.past(builder.read),
            finished=self._dut.finished,
        )
        bench.add(
            self._dut,
            clear=Const(0),
            write=builder.write.as_value(),
            filled=builder.filled,
            release=self._dut.finished,
            drain=Const(1),
            drain_row=self.row,
        )
        self._write: Any = builder.write

    def _of_steps(self, value, cycles, name):
        """Keep what there is some cycles after each step."""
        valid = self.bench.past(self._due.valid, cycles)
        return keep(self.bench, value, valid, len(self.steps) * self.slices, name)

    def _watch_tables(self, monkeypatch):
        """Keep what is written to the tables, what each step finds there, and the sum of that."""
        parameters, core = self.parameters, self.parameters.core
        offset = entry_offset(parameters)
        found = [Signal(EXACT, name=f"found_{table}") for table in range(WIDTH // core.mu)]
        total = Signal(EXACT, name="found_all")
        kind = "registered_signed_sum" if core.is_half else "registered_sum"
        right = getattr(lookup_module, kind)

        def watched(m, *operands, levels, name):
            result = right(m, *operands, levels=levels, name=name)
            *signs, terms = operands
            if signs:
                terms = [Mux(s, -term, term) for s, term in zip(*signs, terms, strict=True)]
            m.d.comb += [one.eq(term - offset) for one, term in zip(found, terms, strict=True)]
            m.d.comb += total.eq(result - len(found) * offset)
            return result

        monkeypatch.setattr(lookup_module, kind, watched)
        cycles = decode_cycles(parameters) + 1 + lookup_module.read_cycles(parameters)
        self.found = [
            self._of_steps(one, cycles, f"found_{table}") for table, one in enumerate(found)
        ]
        self.totals = self._of_steps(total, self._core.hold_cycles, "found_all")
        write, count = self._write, self.slices
        if self._has_sums:
            self.slice_sums = keep(self.bench, write.sum[0], write.enable_sum, count, "slice_sum")
        self.written = [
            keep(self.bench, entry, write.enable, core.entries * count, f"written_{table}")
            for table, entry in enumerate(write["values"][0])
        ]

    # -- claims ------------------------------------------------------------------------------------

    def _claim(self, stages):
        helps, steps, columns, by_steps, by_columns = [], [], [], [], []
        for index in range(self.slices):
            own = slice(index * WIDTH, (index + 1) * WIDTH)
            x, codes = self.x[own], self.codes[own]
            first = index * len(self.steps)
            terms = [
                self._products(f"step_{first + number}", index, table, x, codes, part)
                for number, (table, part, _) in enumerate(self.steps)
            ]
            sums = self.step_sums[first : first + len(terms)]
            for number, (kept, term) in enumerate(zip(sums, terms, strict=True)):
                steps.append({f"step {first + number}": kept == term.all})
            if self.parameters.core.engine == "lut":
                helps += self._tables(index, x)
                for number, term in enumerate(terms):
                    helps += self._digits(index, number, x, codes, term)
            elif self.item.has_zero_point:
                helps += self._zeros(index, x, codes, terms)

            tables = self.item.weight_table(np.eye(self.item.scale_count, dtype=np.int64))
            tables = self._streamed(self.item, tables)
            for which, scale in enumerate(self.scales[index]):
                name = f"{index}_{which}"
                wanted = self._products(f"wanted_{name}", index, tables[which], x, codes)
                mine = [number for number, step in enumerate(self.steps) if step[2] == which]
                group = Signal(EXACT, name=f"group_{name}")
                self.bench.m.d.comb += group.eq(sum((sums[number] for number in mine), Const(0)))
                by_steps.append(scale * group)
                by_columns.append(scale * wanted.all)
                chain = alike(
                    f"columns {name}",
                    lambda node, *_: node,
                    lambda _, *parts: sum(parts, Const(0)),
                    wanted,
                    *(terms[number] for number in mine),
                )
                columns.append([*chain, {f"group {name}": group == wanted.all}])
        drained = Value.cast(self._dut.drained.sums[0]).as_signed()
        stages.claim([{"done": ~self._dut.busy}])
        stages.claim(*helps)
        stages.claim(steps)
        stages.claim(*columns)
        stages.claim([{"row sum of steps": drained == sum(by_steps)}])
        stages.claim([{"row sum": drained == sum(by_columns)}])

    def _products(self, name, index, table, x, codes, part=range(WIDTH)):
        """Return the weights, less the zero-point, times activations; 0 outside a part."""
        has_zero = self.item.has_zero_point
        zero = look_up(table, self.zeros[index]) if has_zero else Const(0)
        products = [x[k] * (look_up(table, codes[k]) - zero) for k in part]
        before, after = [Const(0)] * part.start, [Const(0)] * (WIDTH - part.stop)
        return Sums(self.bench, [*before, *products, *after], name)

    def _zeros(self, index, x, codes, terms):
        """Lead from values less the zero-point's times the activations' sum to differences."""
        for number, (table, part, _) in enumerate(self.steps):
            name = f"{index}_{number}"
            has = [k in part for k in range(WIDTH)]
            values = [x[k] * look_up(table, codes[k]) if has[k] else Const(0) for k in range(WIDTH)]
            every = [x[k] if has[k] else Const(0) for k in range(WIDTH)]
            zero = look_up(table, self.zeros[index])
            yield alike(
                f"zero {name}",
                lambda value, v, _, zero=zero: value - v * zero,
                lambda _value, _v, term: term,
                Sums(self.bench, values, f"values_{name}"),
                Sums(self.bench, every, f"every_{name}"),
                terms[number],
            )

    def _tables(self, index, x):
        """Show what is kept of a slice: the sum of all, if it is, and those of every choice."""
        core, beat = self.parameters.core, self.parameters.act_lanes
        self._every = Sums(self.bench, x, f"x_{index}")
        parts = [sum(x[k + 1 : k + beat], x[k]) for k in range(0, WIDTH, beat)]
        nodes = zip(parts, self._every.of(beat), strict=True)
        if self._has_sums:
            yield [
                {f"beat {index} {place}": part == node for place, (part, node) in enumerate(nodes)},
                {f"slice sum {index}": self.slice_sums[index] == self._every.all},
            ]
        offset = entry_offset(self.parameters)
        for number in range(core.entries):
            bits = number ^ number >> 1
            choice = [v if bits >> k % core.mu & 1 else self._unset(v) for k, v in enumerate(x)]
            sums = Sums(self.bench, choice, f"entry_{index}_{number}").of(core.mu)
            place = index * core.entries + number
            yield [
                {
                    f"written {index} {number} {table}": self.written[table][place] - offset == one
                    for table, one in enumerate(sums)
                }
            ]

    def _unset(self, value):
        """Return what an activation adds to a look-up whose bit for it is 0."""
        return -value if self.parameters.core.is_half else Const(0)

    def _digits(self, index, number, x, codes, term):
        """Lead from look-ups to digits.

        With ``S`` the sum over 0/1, ``D`` that over ±1 and ``X`` that over all, half tables have
        ``D``, of which and ``X`` ``S`` is the half; others have ``S``, and ``D`` is ``2 S - X``.
        """
        plane, place = self.item.planes[number], index * len(self.steps) + number
        is_half = self.parameters.core.is_half
        bits = self._streamed(self.item, plane.digits(self.item.code_width) > 0)
        ones = [look_up(bits, code)[0] for code in codes]
        choice = [Mux(one, v, self._unset(v)) for one, v in zip(ones, x, strict=True)]
        source = total = Sums(self.bench, choice, f"choice_{place}")
        found = zip(self.found, total.of(self.parameters.core.mu), strict=True)
        yield [
            {},
            {f"found {place} {t}": kept[place] == node for t, (kept, node) in enumerate(found)},
            {f"found all {place}": self.totals[place] == total.all},
        ]
        if plane.bipolar != is_half or self.item.has_zero_point:
            zero = Const(0, 1)
            if self.item.has_zero_point:
                zero = look_up(bits, self.zeros[index])[0]
            less = 1 if plane.bipolar else zero
            units = [
                Mux(one, Mux(zero, 0, v), Mux(less, -v, 0)) for one, v in zip(ones, x, strict=True)
            ]
            source = Sums(self.bench, units, f"units_{place}")
            if is_half:
                name, digits = "halves", lambda node, every: node + Mux(zero, -every, every)
            elif plane.bipolar:
                name, digits = "doubles", lambda node, every: (node << 1) - every
            else:
                name, digits = "less zero", lambda node, every: node - Mux(zero, every, 0)
            yield alike(
                f"{name} {place}",
                lambda node, every, _: digits(node, every),
                lambda _node, _every, unit: unit << int(is_half),
                total,
                self._every,
                source,
            )
        yield alike(
            f"digits {place}",
            lambda node, _: node * plane.coefficient,
            lambda _, node: node,
            source,
            term,
        )


LUT = {"engine": "lut", "act_lanes": 4, "mu": 2}
TERM = {"engine": "term", "act_lanes": 2, "fold": 4}
MAC = {"engine": "mac", "act_lanes": 2, "fold": 4}
DSP = {**MAC, "product": "dsp"}
PROOFS: dict[str, dict[str, Any]] = {
    "lut": {**LUT, "formats": ("int2",), "bits": 8},
    "term": {**TERM, "formats": ("int2",), "bits": 8},
    "mac": {**MAC, "formats": ("int2",), "bits": 8},
    "mac dsp": {**DSP, "formats": ("int2",), "bits": 8},
    "narrow lut": {**LUT, "formats": ("int2",), "bits": 2},
    "narrow lut block": {**LUT, "table": "block", "formats": ("int2",), "bits": 2},
    "narrow lut bipolar": {**LUT, "formats": ("bcq2",), "bits": 2},
    "narrow lut half": {**LUT, "table": "half", "formats": ("bcq2",), "bits": 2},
    "narrow lut half unipolar": {**LUT, "table": "half", "formats": ("int2",), "bits": 2},
    "narrow lut with zero-points": {**LUT, "formats": ("int2_asym",), "bits": 2},
    "narrow term with zero-points": {**TERM, "formats": ("int2_asym",), "bits": 2},
    "narrow mac dsp with two tiles": {**DSP, "formats": ("int2",), "bits": 2, "slices": 2},
}
SLOW = (
    "lut",
    "mac",
    "mac dsp",
    "narrow lut",
    "narrow lut block",
    "narrow lut half unipolar",
    "narrow lut with zero-points",
    "narrow term with zero-points",
    "narrow mac dsp with two tiles",
)
FAULTS = {
    "lut": ("add", "sub", 3),  # what tables are built from
    "term": ("mux", "swapped", 6),  # terms that are taken off
    "mac": ("mux", "swapped", 6),  # a Booth row
    "mac dsp": ("mul", "add", 3),
    "narrow lut": ("mux", "swapped", 10),  # planes that are taken off
    "narrow lut block": ("add", "sub", 20),  # what look-ups add up to
    "narrow lut bipolar": ("mux", "swapped", 13),  # digits of ±1 from those of 0/1
    "narrow lut half": ("mux", "swapped", 25),  # signs of what is looked up
    "narrow lut half unipolar": ("mux", "swapped", 23),  # digits of 0/1 from those of ±1
    "narrow lut with zero-points": ("mux", "swapped", 15),  # zero-points that are taken off
    "narrow term with zero-points": ("add", "sub", 8),  # the group's sum
    "narrow mac dsp with two tiles": ("mux", "swapped", 5),  # a row's sum begins anew
}


NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in PROOFS]


def _prove(check, formal, monkeypatch, name, **options):
    bench = LaneBench(formal, monkeypatch, **PROOFS[name])
    check(bench.bench, depth=bench.depth, first=bench.settled, solver="yices", **options)


@pytest.mark.parametrize("name", NAMES)
def test_row_sum(formal, monkeypatch, name):
    _prove(formal.prove, formal, monkeypatch, name)


@pytest.mark.parametrize("name", NAMES)
def test_faults_are_found(formal, monkeypatch, name):
    _prove(formal.refute, formal, monkeypatch, name, fault=FAULTS[name])
