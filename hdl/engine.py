"""The LUT engine: activations and weights in, one layer's outputs out."""

from collections.abc import Callable
from typing import Any

from amaranth import Module, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .activation_store import ActivationStore, activation_layout
from .convert_output import ConvertOutput, output_layout
from .drain import Drain
from .lane import Lane, LaneSchedule, shape_layout
from .parameters import LutParameters
from .sequencer import Sequencer, due_layout
from .status import Error, Status
from .table_builder import TableBuilder
from .unpack import Unpack, weight_layout

__all__ = ["LutEngine"]


class LutEngine(wiring.Component):
    """Matrix-vector products by table look-up, bit-exact with the golden model.

    For each layer the engine takes one activation vector and the layer's whole weight stream, and
    gives the layer's outputs in row order. Both streams may run ahead: the next layer's vector is
    aligned and its tables are built while the weights of this one pass, and the outputs leave while
    the next layer is computed. One plane of one slice is looked up in every lane and cycle while
    the weight stream keeps up.

    An error stops the engine: ``status`` says why, both inputs are discarded, and no output of the
    layer appears; layers finished before still come out. ``clear`` or a reset starts afresh.

    Parameters
    ----------
    parameters : LutParameters
        Everything that is chosen about the engine.
    make_lane : callable, optional
        Makes the component of one lane; generation passes one that refers to a lane by name.

    Members
    -------
    i_x : :py:`In(stream.Signature(activation_layout(parameters)))`
        Activations; ``last`` ends a vector, unused elements of its last beat are zero.
    i_w : :py:`In(stream.Signature(weight_layout(parameters)))`
        Weights, as ``docs/weight-stream.md`` has them; ``last`` ends a layer.
    o : :py:`Out(stream.Signature(output_layout(parameters)))`
        Outputs; ``last`` ends a layer.
    clear : :py:`In(1)`
        Forget everything, as reset does.
    status : :py:`Out(Status())`
        Error code, non-finite activations seen, work under way.
    """

    i_x: stream.Interface
    i_w: stream.Interface
    o: stream.Interface
    clear: Signal
    status: data.View

    def __init__(
        self,
        *,
        parameters: LutParameters,
        make_lane: Callable[[], Any] | None = None,
    ) -> None:
        self.parameters = parameters
        self._make_lane = make_lane or (lambda: Lane(parameters=parameters))
        super().__init__({
            "i_x": In(stream.Signature(activation_layout(parameters))),
            "i_w": In(stream.Signature(weight_layout(parameters))),
            "o": Out(stream.Signature(output_layout(parameters))),
            "clear": In(1),
            "status": Out(Status()),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core = Module()
        parameters = self.parameters
        core.submodules.store = store = ActivationStore(parameters=parameters)
        core.submodules.builder = builder = TableBuilder(parameters=parameters)
        core.submodules.unpack = unpack = Unpack(parameters=parameters)
        core.submodules.sequencer = sequencer = Sequencer(parameters=parameters)
        core.submodules.drain = drain = Drain(parameters=parameters)
        core.submodules.convert = convert = ConvertOutput(parameters=parameters)
        # Lanes hold nothing that outlives a layer, so `clear` need not reach them.
        lanes = [self._make_lane() for _ in range(parameters.layout.lanes)]
        for index, lane in enumerate(lanes):
            m.submodules[f"lane_{index}"] = lane

        self._connect_activations(core, store, builder, unpack)
        idle = self._connect_schedule(core, builder, unpack, sequencer, drain, lanes)
        self._connect_beats(core, unpack, sequencer, builder, drain, lanes)
        self._connect_outputs(core, unpack, drain, convert)

        stopped = unpack.error != Error.NONE
        nonfinite = Signal()
        with core.If(unpack.done & unpack.layer_token.nonfinite):
            core.d.sync += nonfinite.eq(1)
        core.d.comb += [
            store.discard.eq(stopped),
            self.status.error.eq(unpack.error),
            self.status.nonfinite.eq(nonfinite),
            self.status.busy.eq(
                (~stopped & (unpack.busy | store.occupied | builder.occupied))
                | ~idle
                | (drain.free != 0b11)
                | convert.busy
            ),
        ]
        with core.If(store.too_long):
            core.d.comb += unpack.stop.eq(Error.SIZE)
        m.submodules.core = ResetInserter(self.clear)(core)

        return m

    def _connect_activations(
        self, m: Module, store: ActivationStore, builder: TableBuilder, unpack: Unpack
    ) -> None:
        wiring.connect(m, wiring.flipped(self.i_x), store.i)
        wiring.connect(m, wiring.flipped(self.i_w), unpack.i)
        m.d.comb += [
            builder.token_ready.eq(store.ready),
            builder.token.eq(store.token),
            store.release.eq(builder.release),
            store.read.eq(builder.read),
            store.read_beat.eq(builder.read_beat),
            builder.aligned.eq(store.aligned),
            builder.aligned_valid.eq(store.aligned_valid),
            builder.bank.eq(unpack.table_bank),
            builder.taken.eq(unpack.taken),
            unpack.filled.eq(builder.filled),
            unpack.token.eq(builder.filled_token),
        ]

    def _connect_schedule(self, m, builder, unpack, sequencer, drain, lanes):
        """Tell every lane of each step when it is due there.

        Returns
        -------
        Value
            Whether no step is under way.
        """
        parameters, schedule = self.parameters, LaneSchedule(self.parameters)
        due = [Signal(due_layout(parameters), name="due_0")]
        m.d.comb += due[0].eq(sequencer.due)
        for age in range(1, schedule.add + 1):
            following = Signal(due_layout(parameters), name=f"due_{age}")
            m.d.sync += following.eq(due[-1])
            due.append(following)

        at_combine = due[schedule.combine]
        m.d.comb += builder.sum_slice.eq(due[schedule.inject].slice.slice)
        with m.If(at_combine.valid & at_combine.last & at_combine.slice.tile_end):
            m.d.comb += builder.used.eq(1 << at_combine.slice.slice[-1])
        for lane in lanes:
            m.d.comb += [
                lane.at_step.eq(sequencer.step),
                lane.at_look_up.eq(due[schedule.look_up].slice.slice),
                lane.at_inject.eq(builder.sum),
                lane.at_combine.valid.eq(at_combine.valid),
                lane.at_combine.first.eq(at_combine.first),
                lane.at_combine.last.eq(at_combine.last),
                lane.at_combine.clear.eq(at_combine.slice.clear),
                lane.at_prepare.eq(due[schedule.prepare].slice.row),
                lane.at_add.eq(due[schedule.add].slice.row),
            ]
        idle = ~sequencer.occupied
        for step in due[1:]:
            idle = idle & ~step.valid
        m.d.comb += unpack.drained.eq(idle)
        return idle

    def _connect_beats(self, m, unpack, sequencer, builder, drain, lanes) -> None:
        """Give every lane its part of each beat, and combine what the lanes answer."""
        layout = self.parameters.layout
        shape = Signal(shape_layout(layout))
        answers = 0
        for index, lane in enumerate(lanes):
            m.d.comb += [
                lane.beat.eq(self.i_w.payload.data.word_select(index, layout.width)),
                lane.fill.eq(unpack.fill),
                lane.write.eq(builder.write),
                lane.drain.eq(drain.read),
                lane.drain_row.eq(drain.read_row),
                drain.sums[index].eq(lane.drained_sum),
                drain.row_scales[index].eq(lane.drained_scale),
            ]
            answers = answers | lane.shape.as_value()
        m.d.comb += shape.as_value().eq(answers)
        m.d.comb += [
            unpack.shape.eq(shape),
            sequencer.shape.eq(shape),
            sequencer.slice.eq(unpack.slice),
            sequencer.slice_valid.eq(unpack.slice_valid),
            unpack.slice_ready.eq(sequencer.slice_ready),
        ]

    def _connect_outputs(
        self, m: Module, unpack: Unpack, drain: Drain, convert: ConvertOutput
    ) -> None:
        m.d.comb += [
            unpack.rows_free.eq(drain.free),
            drain.done.eq(unpack.done),
            drain.rows.eq(unpack.rows),
            drain.bank.eq(unpack.row_bank),
            drain.exponent.eq(unpack.layer_token.exponent),
            drain.nonfinite.eq(unpack.layer_token.nonfinite),
            convert.i.payload.eq(drain.o),
            convert.i.valid.eq(drain.o_valid),
            drain.advance.eq(convert.i.ready),
        ]
        wiring.connect(m, convert.o, wiring.flipped(self.o))
