"""One activation store for each token that a pass of the weights serves."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .activation_store import ActivationStore, activation_layout, token_layout
from .parameters import EngineParameters

__all__ = ["TokenStores"]


class TokenStores(wiring.Component):
    """Deals vectors to stores in turn, and reads them side by side.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.

    Members
    -------
    i : :py:`In(stream.Signature(activation_layout(parameters)))`
        Activations, one vector after another.
    occupied, ready, release, too_long, discard
        As :class:`ActivationStore` has them, for all together; ``ready`` when each has a vector.
    tokens : :py:`Out(data.ArrayLayout(token_layout(parameters), tokens))`
        The oldest vector of each.
    read, read_beat, aligned, aligned_valid
        One read port for all; ``aligned`` has an element a token.
    """

    i: stream.Interface
    occupied: Signal
    ready: Signal
    tokens: data.View
    read: Signal
    read_beat: Signal
    aligned: data.View
    aligned_valid: Signal
    release: Signal
    too_long: Signal
    discard: Signal

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        tokens = parameters.tokens
        aligned = data.ArrayLayout(signed(parameters.numerics.aligned_width), parameters.act_lanes)
        super().__init__({
            "i": In(stream.Signature(activation_layout(parameters))),
            "occupied": Out(1),
            "ready": Out(1),
            "tokens": Out(data.ArrayLayout(token_layout(parameters), tokens)),
            "read": In(1),
            "read_beat": In(range(parameters.max_act_beats + parameters.beats_of_slice)),
            "aligned": Out(data.ArrayLayout(aligned, tokens)),
            "aligned_valid": Out(1),
            "release": In(1),
            "too_long": Out(1),
            "discard": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = self.parameters.tokens
        turn = Signal(range(count))
        passes = self.i.valid & self.i.ready & self.i.payload.last & ~self.discard
        with m.If(passes):
            m.d.sync += turn.eq(Mux(turn == count - 1, 0, turn + 1))

        occupied, ready, too_long = turn != 0, 1, 0
        for token in range(count):
            m.submodules[f"store_{token}"] = store = ActivationStore(parameters=self.parameters)
            m.d.comb += [
                store.i.payload.eq(self.i.payload),
                store.read.eq(self.read),
                store.read_beat.eq(self.read_beat),
                store.release.eq(self.release),
                store.discard.eq(self.discard),
                self.tokens[token].eq(store.token),
                self.aligned[token].eq(store.aligned),
            ]
            with m.If(turn == token):
                m.d.comb += store.i.valid.eq(self.i.valid)
                m.d.comb += self.i.ready.eq(store.i.ready)
            if token == 0:
                m.d.comb += self.aligned_valid.eq(store.aligned_valid)
            occupied, ready = occupied | store.occupied, ready & store.ready
            too_long = too_long | store.too_long
        m.d.comb += [
            self.occupied.eq(occupied),
            self.ready.eq(ready),
            self.too_long.eq(too_long),
        ]
        return m
