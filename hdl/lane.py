"""One lane: everything that belongs to one row of a block at a time."""

from amaranth import Cat, Module, ResetInserter, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..formats.layout import ROW_SCALE_WIDTH
from .accumulator import RowAccumulator, prepare_cycles
from .codebooks import codebooks_member
from .core import Core
from .cores import core_for
from .lane_reader import LaneReader, program_layout
from .memory_attributes import NO_COLLISIONS
from .multiply import multiply_for
from .parameters import EngineParameters
from .pipeline import delay
from .sequencer import Sequencer

__all__ = ["Lane", "LaneSchedule", "row_fill_layout"]


def row_fill_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return what tells every lane which part of its rows' scales the word at hand is."""
    layout = parameters.layout
    return data.StructLayout({
        "places": 1,  # places of the next blocks
        "place": range(max(1, layout.places_of_beat)),  # which of them is that of `row`
        "scale": layout.row_scale_beats,  # one-hot: this part of `row`'s scale
        "row": parameters.row_address_width,
    })


class LaneSchedule:
    """Cycles from a step to what happens to it later.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.
    """

    def __init__(self, parameters: EngineParameters) -> None:
        core = core_for(parameters)
        self.release = core.hold_cycles
        self.combine = core.latency
        self.add = self.combine + parameters.multiply_latency
        self.prepare = self.add - prepare_cycles(parameters)


class Lane(wiring.Component):
    """Codes to row sums for one row of each block.

    A lane reads its own stream, its bits of every beat, and works at its own pace: all that lanes
    share are the beats, the activations and the layer's shape. What kind of engine it is decides
    the core alone.

    Throughput is one step a cycle while words come.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.

    Members
    -------
    clear : :py:`In(1)`
        Forget everything, as reset does.
    word : :py:`In(width)`
        The lane's bits of the beat at hand.
    row_fill : :py:`In(row_fill_layout(parameters))`
        What it is, where it belongs to the row scales.
    ends_span : :py:`In(1)`
        It is the last of a span.
    push : :py:`In(1)`
        It belongs to the lane's own stream; only where ``room`` was set in the cycle
        before.
    room : :py:`Out(1)`
        Whether a word can be taken in this cycle and another one in the next.
    start : :py:`In(1)`
        A layer's words begin.
    program : :py:`In(program_layout(parameters))`
        Shape of the layer.
    codebooks : :py:`In(codebooks_layout(parameters))`
        The layer's codebooks; steady while it is computed. There is none without such formats.
    write : :py:`In(write layout of the core)`
        Activations.
    filled : :py:`In(2)`
        Bit ``b``: bank ``b`` of the activations holds a tile.
    finished : :py:`Out(2)`
        Bit ``b``: this lane has done with it.
    release : :py:`In(2)`
        Bit ``b``: all lanes have; ``filled`` is 0 from the next cycle on.
    unknown : :py:`Out(1)`
        A record had a format or scale that is none in the cycle before.
    cut_short : :py:`Out(1)`
        A span ended before the lane's last record of it in the cycle before.
    working : :py:`Out(1)`
        Anything moved in the cycle before: a word was taken, a slice waited for its turn, or a step
        was under way.
    busy : :py:`Out(1)`
        Anything was under way in the cycle before, or words were still to come.
    drain : :py:`In(1)`
        Read ``drain_row``: its sums, scale and place are out from the cycle after the ``drain``
        behind this one on.
    drain_row : :py:`In(row_address_width)`
        Row to read.
    drained : :py:`Out(drained_layout)`
        ``sums`` for each token, ``scale`` as float32, ``place`` among the rows of its block.
    """

    clear: Signal
    word: Signal
    row_fill: data.View
    ends_span: Signal
    push: Signal
    room: Signal
    start: Signal
    program: data.View
    codebooks: data.View
    write: data.View
    filled: Signal
    finished: Signal
    release: Signal
    unknown: Signal
    cut_short: Signal
    working: Signal
    busy: Signal
    drain: Signal
    drain_row: Signal
    drained: data.View

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        super().__init__({
            "clear": In(1),
            "word": In(parameters.layout.width),
            "row_fill": In(row_fill_layout(parameters)),
            "ends_span": In(1),
            "push": In(1),
            "room": Out(1),
            "start": In(1),
            "program": In(program_layout(parameters)),
            **codebooks_member(parameters, In),
            "write": In(core_for(parameters).write.shape()),
            "filled": In(2),
            "finished": Out(2),
            "release": In(2),
            "unknown": Out(1),
            "cut_short": Out(1),
            "working": Out(1),
            "busy": Out(1),
            "drain": In(1),
            "drain_row": In(parameters.row_address_width),
            "drained": Out(drained_layout(parameters)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lane = Module()
        parameters, schedule = self.parameters, LaneSchedule(self.parameters)
        lane.submodules.reader = reader = LaneReader(parameters=parameters)
        lane.submodules.sequencer = sequencer = Sequencer(parameters=parameters)
        lane.submodules.core = core = core_for(parameters)
        lane.submodules.rows = rows = RowAccumulator(parameters=parameters)
        self._connect_reader(lane, reader, sequencer)

        self._connect_core(lane, reader, sequencer, core)
        self._finish_tiles(lane, sequencer.due, schedule.release)

        # What is known of a step follows it from stage to stage: collect the group, multiply it
        # with its scale, and add the product to its row.
        due = sequencer.due
        scale, every_step = self._scale_of(lane, reader, sequencer.step)
        stages = [due.valid]
        for age in range(1, schedule.add + 1):
            stages.append(delay(lane, stages[-1], 1, name=f"valid_{age}", control=True))
        valid = stages[schedule.combine]
        info = Cat(due.first, due.last, due.slice.clear, every_step)
        at_combine = delay(lane, info, schedule.combine, name="combine")
        first, last, clear_row, every_step = at_combine
        complete = Signal()  # the group's sum
        lane.d.comb += complete.eq(valid & (last | every_step))
        clear = clear_row & (first | ~every_step)
        at_combine_scale = delay(lane, scale, schedule.combine, name="scale").as_signed()
        row = delay(lane, due.slice.row, schedule.prepare, name="prepare_row")
        latency = parameters.multiply_latency
        under_way = Signal()
        lane.d.comb += [
            rows.prepare_row.eq(row),
            rows.row.eq(delay(lane, row, prepare_cycles(parameters), name="row")),
            rows.add.eq(delay(lane, complete, latency, name="add", control=True)),
            rows.clear.eq(delay(lane, clear, latency - 1, name="clear")),
            rows.drain.eq(self.drain),
            rows.drain_row.eq(self.drain_row),
            self.drained.sums.eq(rows.drained),
            under_way.eq(reader.slice_valid | sequencer.occupied | Cat(stages[1:]).any()),
        ]
        # All lanes' are looked at together: they are a cycle late.
        lane.d.sync += [
            self.working.eq(reader.taking | under_way),
            self.busy.eq(~reader.done | under_way),
            self.unknown.eq(reader.unknown),
            self.cut_short.eq(reader.cut_short),
        ]
        for token in range(parameters.tokens):
            lane.submodules[f"multiply_{token}"] = multiply = multiply_for(parameters)
            total = self._total(lane, token, core.sums[token], valid, complete)
            lane.d.comb += [
                multiply.start.eq(complete),
                multiply.value.eq(total),
                multiply.scale.eq(at_combine_scale),
                rows.values[token].eq(multiply.product),
            ]
        self._keep_row_scales(lane)
        m.submodules.lane = ResetInserter(self.clear)(lane)
        return m

    def _connect_core(
        self, m: Module, reader: LaneReader, sequencer: Sequencer, core: Core
    ) -> None:
        m.d.comb += [
            core.write.eq(self.write),
            core.codes.eq(reader.codes),
            core.format.eq(reader.header.format),
            core.zero.eq(reader.header.zero),
            core.step.eq(sequencer.step),
            core.slice.eq(sequencer.due.slice.slice),
        ]
        if self.parameters.layout.codebooks:
            m.d.comb += core.codebooks.eq(self.codebooks)

    def _connect_reader(self, m: Module, reader: LaneReader, sequencer: Sequencer) -> None:
        m.d.comb += [
            reader.word.eq(self.word),
            reader.push.eq(self.push),
            reader.ends_span.eq(self.ends_span),
            self.room.eq(reader.room),
            reader.start.eq(delay(m, self.start, 1, name="start", control=True)),
            reader.program.eq(self.program),
            reader.filled.eq(self.filled),
            reader.release.eq(self.release),
            sequencer.slice.eq(reader.slice),
            sequencer.slice_valid.eq(reader.slice_valid),
            reader.slice_ready.eq(sequencer.slice_ready),
        ]

    def _finish_tiles(self, m: Module, due: data.View, hold_cycles: int) -> None:
        """Tell of a tile when its last step has used its activations."""
        ends = delay(m, due.valid & due.tile_end, hold_cycles, name="tile_end", control=True)
        ended = delay(m, due.slice.slice[-1], hold_cycles, name="tile_bank")
        for bank in range(2):
            with m.If(self.release[bank]):
                m.d.sync += self.finished[bank].eq(0)
            with m.If(ends & (ended == bank)):
                m.d.sync += self.finished[bank].eq(1)

    def _scale_of(self, m: Module, reader: LaneReader, step: Value) -> tuple[Value, Value]:
        """Choose the step's scale; tell whether its format has one for each plane."""
        layout, fold = self.parameters.layout, self.parameters.core.fold
        scale = Signal(signed(layout.scale_width + 1))
        every_step = Signal()
        m.d.comb += scale.eq(reader.header.scale_0)
        with m.Switch(reader.header.format):
            for step_scales, numbers in self._step_scales().items():
                with m.Case(*numbers):
                    m.d.comb += every_step.eq(1)
                    with m.Switch(step):
                        for cycle in range(len(step_scales) * fold):
                            with m.Case(cycle):
                                index = step_scales[cycle // fold]
                                m.d.comb += scale.eq(reader.header[f"scale_{index}"])
        return scale, every_step

    def _step_scales(self) -> dict[tuple[int, ...], list[int]]:
        """Map the scales of steps to the numbers of formats with several; one after another once.

        Formats that take a scale after the other share the choice that the longest of them needs.
        """
        layout, core = self.parameters.layout, self.parameters.core
        found: dict[tuple[int, ...], list[int]] = {}
        for number, item in enumerate(layout.members):
            scales = core.step_scales(item)
            if item.scale_count > 1:
                in_order = scales == tuple(range(len(scales)))
                key = tuple(range(layout.scale_count)) if in_order else scales
                found.setdefault(key, []).append(number)
        return found

    def _total(self, m: Module, token: int, part: Value, valid: Value, complete: Value) -> Value:
        """Add up a group's steps; what they have come to with the one at hand."""
        group = Signal(signed(self.parameters.segment_width), name=f"group_{token}")
        total = Signal.like(group, name=f"total_{token}")
        m.d.comb += total.eq(group + part)
        with m.If(valid):
            m.d.sync += group.eq(total)
        with m.If(complete):
            m.d.sync += group.eq(0)
        return total

    def _keep_row_scales(self, m: Module) -> None:
        layout, width = self.parameters.layout, self.parameters.layout.place.width
        # As every lane has a register for its words (`WordQueue`), so here.
        word = delay(m, self.word, 1, name="fill_word")
        fill_bits = delay(m, self.row_fill, 1, name="row_fill", control=True)
        fill = data.View(self.row_fill.shape(), fill_bits)
        shape = data.StructLayout({"scale": ROW_SCALE_WIDTH, "place": width})
        depth = 1 << self.parameters.row_address_width
        m.submodules.row_scales = store = memory.Memory(
            shape=shape, depth=depth, init=[], attrs=NO_COLLISIONS
        )
        write, read = store.write_port(), store.read_port()

        places = Signal(layout.width, reset_less=True)
        with m.If(fill.places):
            m.d.sync += places.eq(word)
        parts = []
        for part in range(layout.row_scale_beats - 1):
            kept = Signal(layout.width, name=f"row_scale_{part}", reset_less=True)
            with m.If(fill.scale[part]):
                m.d.sync += kept.eq(word)
            parts.append(kept)
        m.d.comb += [
            write.addr.eq(fill.row),
            write.data.scale.eq(Cat(*parts, word)),
            write.data.place.eq(places.word_select(fill.place, width) if width else 0),
            write.en.eq(fill.scale[-1]),
            read.addr.eq(self.drain_row),
            read.en.eq(self.drain),
        ]
        near = Signal.like(read.data, reset_less=True)
        with m.If(self.drain):
            m.d.sync += near.eq(read.data)
        m.d.comb += [self.drained.scale.eq(near.scale), self.drained.place.eq(near.place)]


def drained_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return what a lane tells of one of its rows."""
    return data.StructLayout({
        "sums": data.ArrayLayout(signed(parameters.sum_width), parameters.tokens),
        "scale": ROW_SCALE_WIDTH,
        "place": data.StructLayout(parameters.layout.place),
    })
