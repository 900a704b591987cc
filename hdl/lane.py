"""One lane: everything that belongs to one row of a block at a time."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..formats import StreamLayout
from ..formats.layout import ROW_SCALE_WIDTH
from .accumulator import RowAccumulator, row_address_width
from .lookup import Lookup, slice_address_width, table_write_layout
from .multiply import multiply_for
from .parameters import LutParameters
from .pipeline import delay, sum_latency
from .plane_decoder import PlaneDecoder, header_layout, step_layout

__all__ = ["Lane", "LaneSchedule", "fill_layout", "shape_layout"]


def fill_layout(parameters: LutParameters) -> data.StructLayout:
    """Return what tells every lane to do with the beat at hand; bits of a mask are one-hot."""
    layout = parameters.layout
    batch_beats, batch_records = layout.batch_shape
    return data.StructLayout({
        "batch": batch_beats,  # keep the beat as this part of the header batch
        "header": 1,  # take up the header at `record` of the batch
        "record": range(batch_records),
        "code": layout.max_code_width,  # the beat is this bit of the codes
        "slice": 1,  # ... and completes the slice: hand it on
        "row_scale": layout.row_scale_beats,  # the beat is this part of `row`'s scale
        "row": row_address_width(parameters),
    })


def shape_layout(layout: StreamLayout) -> data.StructLayout:
    """Return what a lane tells of the record whose header it has taken up.

    Thermometer codes, so that the largest over all lanes is their OR: bit ``i`` is set if the
    format has more than ``i + 1`` code bits, or planes.
    """
    return data.StructLayout({
        "code_bits": max(1, layout.max_code_width - 1),
        "planes": max(1, layout.max_planes - 1),
        "unknown": 1,  # the header names no format, or the one scale that has no negative
    })


class LaneSchedule:
    """Cycles from the step at which a plane is chosen to what happens to it later.

    Parameters
    ----------
    parameters : LutParameters
        The engine's.
    """

    def __init__(self, parameters: LutParameters) -> None:
        self.look_up = 1
        self.inject = self.look_up + 1 + sum_latency(parameters.tables)
        self.combine = self.inject + 1
        self.scale = self.combine + 1
        self.add = self.scale + parameters.multiply_latency
        self.prepare = self.add - 1


class Lane(wiring.Component):
    """Codes to row sums for every row ``n`` with ``n % lanes`` equal to the lane's number.

    All lanes work in step: the engine tells all of them at once what the beat at hand is and which
    plane of the slice is due, and each takes its own bits of the beat. A lane knows which format
    each of its records has; nothing else differs between lanes. The ``at_*`` members are the
    engine's one description of a step, as old as :class:`LaneSchedule` says.

    Throughput is one plane of one slice a cycle; there is no backpressure.

    Parameters
    ----------
    parameters : LutParameters
        The engine's.

    Members
    -------
    beat : :py:`In(width)`
        The lane's bits of the beat at hand.
    fill : :py:`In(fill_layout(parameters))`
        What to do with it.
    shape : :py:`Out(shape_layout(layout))`
        Code width and planes of the record taken up.
    write : :py:`In(table_write_layout(parameters))`
        Fills the tables.
    at_step : :py:`In(range(max_planes))`
        Plane of the slice handed on that is due.
    at_look_up : :py:`In(slice_address_width(parameters))`
        The slice's tables.
    at_inject : :py:`In(signed(slice_width))`
        Sum of the slice's activations.
    at_combine : :py:`In(...)`
        Whether there was a step, whether it is the record's first or last, and whether the record
        is the first of its row.
    at_prepare, at_add : :py:`In(row_address_width(parameters))`
        Row of the record.
    drain : :py:`In(1)`
        Read ``drain_row``: its sum and row scale are out from the next cycle on.
    drain_row : :py:`In(row_address_width(parameters))`
        Row to read.
    drained_sum : :py:`Out(signed(sum_width))`
        Row sum.
    drained_scale : :py:`Out(32)`
        Row scale, float32.
    """

    beat: Signal
    fill: data.View
    shape: data.View
    write: data.View
    at_step: Signal
    at_look_up: Signal
    at_inject: Signal
    at_combine: data.View
    at_prepare: Signal
    at_add: Signal
    drain: Signal
    drain_row: Signal
    drained_sum: Signal
    drained_scale: Signal

    def __init__(self, *, parameters: LutParameters) -> None:
        self.parameters = parameters
        layout, row = parameters.layout, row_address_width(parameters)
        super().__init__({
            "beat": In(layout.width),
            "fill": In(fill_layout(parameters)),
            "shape": Out(shape_layout(layout)),
            "write": In(table_write_layout(parameters)),
            "at_step": In(range(layout.max_planes)),
            "at_look_up": In(slice_address_width(parameters)),
            "at_inject": In(signed(parameters.slice_width)),
            "at_combine": In(data.StructLayout({"valid": 1, "first": 1, "last": 1, "clear": 1})),
            "at_prepare": In(row),
            "at_add": In(row),
            "drain": In(1),
            "drain_row": In(row),
            "drained_sum": Out(signed(parameters.sum_width)),
            "drained_scale": Out(ROW_SCALE_WIDTH),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters, schedule = self.parameters, LaneSchedule(self.parameters)
        m.submodules.decoder = decoder = PlaneDecoder(parameters=parameters)
        m.submodules.lookup = lookup = Lookup(parameters=parameters)
        m.submodules.multiply = multiply = multiply_for(parameters)
        m.submodules.rows = rows = RowAccumulator(parameters=parameters)

        self._take_beats(m, decoder)
        self._keep_row_scales(m)

        # Look up the plane's sum of ±activations.
        key = Signal.like(decoder.key, reset_less=True)
        info = Signal(step_layout(parameters), reset_less=True)
        m.d.comb += decoder.step.eq(self.at_step)
        m.d.sync += key.eq(decoder.key)
        m.d.sync += info.eq(decoder.info)
        m.d.comb += lookup.write.eq(self.write)
        m.d.comb += lookup.key.eq(key)
        m.d.comb += lookup.slice.eq(self.at_look_up)

        # Turn it into the digits' sum, weight it, and collect the group.
        total = self._digits(m, lookup.sum, self._info_at(m, info, schedule.inject))
        at_combine = self._info_at(m, info, schedule.combine)
        group, fire, clear = self._collect(m, total, at_combine)
        at_scale = self._info_at(m, info, schedule.scale)
        m.d.comb += multiply.start.eq(fire)
        m.d.comb += multiply.value.eq(group)
        m.d.comb += multiply.scale.eq(at_scale.scale)

        # Add the product to its row.
        latency = parameters.multiply_latency
        m.d.comb += [
            rows.prepare_row.eq(self.at_prepare),
            rows.row.eq(self.at_add),
            rows.add.eq(delay(m, fire, latency, name="add", control=True)),
            rows.clear.eq(delay(m, clear, latency, name="clear")),
            rows.value.eq(multiply.product),
            rows.drain.eq(self.drain),
            rows.drain_row.eq(self.drain_row),
            self.drained_sum.eq(rows.drained),
        ]
        return m

    def _take_beats(self, m: Module, decoder: PlaneDecoder) -> None:
        """Keep header batches and code bits until a slice is complete; feed the decoder."""
        layout = self.parameters.layout
        header_shape = header_layout(layout)
        batch_beats, batch_records = layout.batch_shape

        batch = Signal(batch_beats * layout.width, reset_less=True)
        header = Signal(header_shape, reset_less=True)
        for part in range(batch_beats):
            with m.If(self.fill.batch[part]):
                m.d.sync += batch.word_select(part, layout.width).eq(self.beat)
        with m.If(self.fill.header), m.Switch(self.fill.record):
            for record in range(batch_records):
                with m.Case(record):
                    bits = batch[record * header_shape.size : (record + 1) * header_shape.size]
                    m.d.sync += header.eq(bits)
        m.d.comb += self.shape.eq(_shape_of(m, header, layout))

        # The last code bit goes straight on with those kept before it.
        due_codes = Signal(data.ArrayLayout(layout.width, layout.max_code_width), reset_less=True)
        due_header = Signal(header_shape, reset_less=True)
        for bit in range(layout.max_code_width):
            kept = Signal(layout.width, name=f"code_{bit}", reset_less=True)
            with m.If(self.fill.code[bit]):
                m.d.sync += kept.eq(self.beat)
            with m.If(self.fill.slice):
                m.d.sync += due_codes[bit].eq(Mux(self.fill.code[bit], self.beat, kept))
        with m.If(self.fill.slice):
            m.d.sync += due_header.eq(header)
        m.d.comb += decoder.codes.eq(due_codes)
        m.d.comb += decoder.header.eq(due_header)

    def _keep_row_scales(self, m: Module) -> None:
        layout = self.parameters.layout
        depth = 1 << row_address_width(self.parameters)
        m.submodules.row_scales = store = memory.Memory(shape=ROW_SCALE_WIDTH, depth=depth, init=[])
        write, read = store.write_port(), store.read_port()

        parts = []
        for part in range(layout.row_scale_beats - 1):
            kept = Signal(layout.width, name=f"row_scale_{part}", reset_less=True)
            with m.If(self.fill.row_scale[part]):
                m.d.sync += kept.eq(self.beat)
            parts.append(kept)
        m.d.comb += [
            write.addr.eq(self.fill.row),
            write.data.eq(Cat(*parts, self.beat)),
            write.en.eq(self.fill.row_scale[-1]),
            read.addr.eq(self.drain_row),
            read.en.eq(self.drain),
            self.drained_scale.eq(read.data),
        ]

    def _info_at(self, m: Module, info: data.View, stage: int) -> data.View:
        """Return the step's information at a later stage; unused bits are optimised away."""
        name = f"info_{stage}"
        bits = delay(m, info, stage - LaneSchedule(self.parameters).look_up, name=name)
        return data.View(step_layout(self.parameters), bits)

    def _digits(self, m: Module, signed_sum: Value, info: data.View) -> Value:
        """Sum of 0/1 digits less the zero-point's, or of ±1 digits as it is; one cycle later.

        With ``D`` the sum over ±1 and ``X`` that over all activations, 0/1 digits sum up to
        ``(D + X) / 2``; a zero-point's digit of 1 takes ``X`` off that.
        """
        total = Signal(signed(self.parameters.slice_width + 1), reset_less=True)
        unipolar = Signal.like(total)
        every = self.at_inject
        m.d.comb += unipolar.eq(Mux(info.zero, signed_sum - every, signed_sum + every) >> 1)
        m.d.sync += total.eq(Mux(info.bipolar, signed_sum, unipolar))
        return total

    def _collect(self, m: Module, total: Value, info: data.View) -> tuple[Value, Value, Value]:
        """Add up planes and slices until a scale is due.

        Returns
        -------
        group : Value
            The sum, one cycle later.
        fire : Value
            Whether it is complete.
        clear : Value
            Whether it is the first of its row.
        """
        coefficients, step = self.parameters.coefficients, self.at_combine
        weighted = Signal(signed(self.parameters.segment_width))
        with m.Switch(info.coefficient):
            for index, coefficient in enumerate(coefficients):
                with m.Case(index):
                    m.d.comb += weighted.eq(total * coefficient)

        group = Signal.like(weighted, reset_less=True)
        fire, clear = Signal(), Signal(reset_less=True)
        with m.If(step.valid):
            m.d.sync += group.eq(Mux(step.first | info.every_step, 0, group) + weighted)
        m.d.sync += fire.eq(step.valid & (step.last | info.every_step))
        m.d.sync += clear.eq(step.clear & (step.first | ~info.every_step))
        return group, fire, clear


def _shape_of(m: Module, header: data.View, layout: StreamLayout) -> data.View:
    """Look up the thermometer codes of a header's format, and check the header."""
    shape = Signal(shape_layout(layout))
    with m.Switch(header.format):
        for index, item in enumerate(layout.members):
            with m.Case(index):
                m.d.comb += shape.code_bits.eq((1 << (item.code_width - 1)) - 1)
                m.d.comb += shape.planes.eq((1 << (len(item.planes) - 1)) - 1)
        with m.Default():
            m.d.comb += shape.unknown.eq(1)
    # Widths are derived for magnitudes below 2^scale_width; this one would be over them.
    for index in range(layout.scale_count):
        with m.If(header[f"scale_{index}"] == -(1 << layout.scale_width)):
            m.d.comb += shape.unknown.eq(1)
    return shape
