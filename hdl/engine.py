"""The engine: activations and weights in, one layer's outputs out."""

from collections.abc import Callable, Sequence
from typing import Any

from amaranth import Cat, Module, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .activation_store import activation_layout
from .convert_output import ConvertOutput, output_layout
from .cores import builder_for
from .drain import Drain
from .lane import Lane
from .parameters import EngineParameters
from .status import Error, Status
from .tile_builder import TileBuilder
from .token_stores import TokenStores
from .unpack import Unpack, weight_layout

__all__ = ["Engine"]


class Engine(wiring.Component):
    """Matrix-vector products, bit-exact with the golden model, whatever the kind of core.

    For each layer the engine takes one activation vector a token and the layer's whole weight
    stream, and gives the layer's outputs in row order, one token's after another. Both streams may
    run ahead: the next layer's vectors are aligned and written for the cores while the weights of
    this one pass, and the outputs leave while the next layer is computed.

    An error stops the engine: ``status`` says why, both inputs are discarded, and no output of the
    layer appears; layers finished before still come out. ``clear`` or a reset starts afresh.

    Parameters
    ----------
    parameters : EngineParameters
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
        Outputs; ``last`` ends those of a token.
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
        parameters: EngineParameters,
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
        core.submodules.stores = stores = TokenStores(parameters=parameters)
        core.submodules.builder = builder = builder_for(parameters)
        core.submodules.unpack = unpack = Unpack(parameters=parameters)
        core.submodules.drain = drain = Drain(parameters=parameters)
        core.submodules.convert = convert = ConvertOutput(parameters=parameters)
        lanes = [self._make_lane() for _ in range(parameters.layout.lanes)]
        for index, lane in enumerate(lanes):
            m.submodules[f"lane_{index}"] = lane

        self._connect_activations(core, stores, builder, unpack)
        self._connect_lanes(core, unpack, builder, drain, lanes)
        self._connect_outputs(core, unpack, drain, convert)

        stopped = unpack.error != Error.NONE
        nonfinite = Signal()
        with core.If(unpack.done & drain.nonfinites.any()):
            core.d.sync += nonfinite.eq(1)
        core.d.comb += [
            stores.discard.eq(stopped),
            self.status.error.eq(unpack.error),
            self.status.nonfinite.eq(nonfinite),
            self.status.busy.eq(
                (~stopped & (unpack.busy | stores.occupied | builder.occupied))
                | (drain.free != 0b11)
                | drain.o_valid
                | convert.busy
            ),
        ]
        with core.If(stores.too_long):
            core.d.comb += unpack.stop.eq(Error.SIZE)
        m.submodules.core = ResetInserter(self.clear)(core)

        return m

    def _connect_activations(
        self, m: Module, stores: TokenStores, builder: TileBuilder, unpack: Unpack
    ) -> None:
        wiring.connect(m, wiring.flipped(self.i_x), stores.i)
        wiring.connect(m, wiring.flipped(self.i_w), unpack.i)
        m.d.comb += [
            builder.token_ready.eq(stores.ready),
            builder.tokens.eq(stores.tokens),
            stores.release.eq(builder.release),
            stores.read.eq(builder.read),
            stores.read_beat.eq(builder.read_beat),
            builder.aligned.eq(stores.aligned),
            builder.aligned_valid.eq(stores.aligned_valid),
            unpack.filled.eq(builder.filled),
            unpack.kept_tokens.eq(builder.kept_tokens),
        ]

    def _connect_lanes(
        self,
        m: Module,
        unpack: Unpack,
        builder: TileBuilder,
        drain: Drain,
        lanes: Sequence[Any],
    ) -> None:
        """Give every lane its part of each beat, and combine what the lanes tell."""
        width = self.parameters.layout.width
        finished = Signal(2)
        for index, lane in enumerate(lanes):
            m.d.comb += [
                lane.clear.eq(self.clear),
                lane.word.eq(self.i_w.payload.data.word_select(index, width)),
                lane.row_fill.eq(unpack.row_fill),
                lane.ends_span.eq(unpack.ends_span),
                lane.push.eq(unpack.push),
                lane.start.eq(unpack.start),
                lane.program.eq(unpack.program),
                lane.write.eq(builder.write),
                lane.filled.eq(builder.filled),
                lane.release.eq(finished),
                lane.drain.eq(drain.read),
                lane.drain_row.eq(drain.read_row),
                drain.drained[index].eq(lane.drained),
            ]
            if self.parameters.layout.codebooks:
                m.d.comb += lane.codebooks.eq(unpack.codebooks)

        def every(name: str) -> Value:
            return Cat(getattr(lane, name) for lane in lanes).all()

        def some(name: str) -> Value:
            return Cat(getattr(lane, name) for lane in lanes).any()

        # Lanes tell of room a cycle early; what is told of them otherwise may be a cycle late.
        m.d.sync += [
            unpack.room.eq(every("room")),
            unpack.idle.eq(~some("busy")),
            unpack.unknown.eq(some("unknown")),
            unpack.cut_short.eq(some("cut_short")),
        ]
        m.d.comb += [
            finished[0].eq(Cat(lane.finished[0] for lane in lanes).all()),
            finished[1].eq(Cat(lane.finished[1] for lane in lanes).all()),
            builder.finished.eq(finished),
            unpack.working.eq(some("working") | builder.working),
        ]

    def _connect_outputs(
        self, m: Module, unpack: Unpack, drain: Drain, convert: ConvertOutput
    ) -> None:
        m.d.comb += [
            unpack.rows_free.eq(drain.free),
            drain.done.eq(unpack.done),
            drain.rows.eq(unpack.rows),
            drain.bank.eq(unpack.row_bank),
            convert.i.payload.eq(drain.o),
            convert.i.valid.eq(drain.o_valid),
            drain.advance.eq(convert.i.ready),
        ]
        for token in range(self.parameters.tokens):
            m.d.comb += [
                drain.exponents[token].eq(unpack.layer_tokens[token].exponent),
                drain.nonfinites[token].eq(unpack.layer_tokens[token].nonfinite),
            ]
        wiring.connect(m, convert.o, wiring.flipped(self.o))
