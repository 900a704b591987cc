"""Memories around an engine: layers and activations are replayed, outputs kept."""

from collections.abc import Callable
from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..hdl import EngineParameters, Error, Status
from ..hdl.activation_store import activation_layout
from ..hdl.convert_output import output_layout
from ..hdl.unpack import weight_layout
from .board_memory import BoardMemory
from .commands import Commands
from .replay import Replay
from .word_memory import WordMemory

__all__ = ["MakeMemory", "Runner"]

MakeMemory = Callable[[str, int, int], WordMemory]


class Runner(wiring.Component):
    """Everything on a board that keeps an engine busy.

    A run clears the engine and then offers both streams in the same cycle, activations vector by
    vector and the weights once for each pass, both without a gap. It is over when the last output
    of its last vector is kept, or the engine has stopped.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.
    memory : BoardMemory
        Words of each memory.
    make_memory : callable, optional
        Makes a memory from its name, width and depth; generation passes one that refers to it by
        its module's name.

    Attributes
    ----------
    shapes : dict of str to pair of int
        Width and depth of each memory.

    Members
    -------
    commands : :py:`In(Commands(parameters, memory))`
        What a host may do.
    x, w, o, clear, status
        The engine's ports.
    """

    commands: Any
    x: stream.Interface
    w: stream.Interface
    o: stream.Interface
    clear: Signal
    status: data.View

    def __init__(
        self,
        *,
        parameters: EngineParameters,
        memory: BoardMemory,
        make_memory: MakeMemory | None = None,
    ) -> None:
        self.parameters, self.memory = parameters, memory
        self._make_memory = make_memory or (lambda _, w, d: WordMemory(width=w, depth=d))
        commands = Commands(parameters, memory)
        self.shapes = {
            "weights": (commands.weight_width, memory.weights),
            "activations": (commands.activation_width, memory.activations),
            "outputs": (commands.output_width, memory.outputs),
        }
        super().__init__({
            "commands": In(commands),
            "x": Out(stream.Signature(activation_layout(parameters))),
            "w": Out(stream.Signature(weight_layout(parameters))),
            "o": In(stream.Signature(output_layout(parameters))),
            "clear": Out(1),
            "status": In(Status()),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        commands = self.commands
        begin = Signal()
        weights = self._inputs(m, "weights", self.w)
        activations = self._inputs(m, "activations", self.x)
        m.d.comb += [
            weights.count.eq(commands.words),
            weights.rounds.eq(commands.passes),
            activations.count.eq(commands.beats),
            activations.rounds.eq(commands.passes * self.parameters.tokens),
            commands.status.eq(self.status),
        ]
        # The activations' register takes a cycle more; until then the weights rest.
        m.d.sync += weights.start.eq(begin)
        m.d.comb += activations.start.eq(begin)
        m.d.comb += weights.stop.eq(commands.stop | begin)
        m.d.comb += activations.stop.eq(commands.stop)
        m.d.comb += [replay.first.eq(0) for replay in (weights, activations)]
        ended = self._outputs(m)
        self._count(m, ended)

        stopped = (self.status.error != Error.NONE) & ~self.status.busy
        with m.FSM():
            with m.State("IDLE"):
                with m.If(commands.start):
                    m.next = "CLEAR"
            with m.State("CLEAR"):
                m.d.comb += [commands.running.eq(1), self.clear.eq(1), begin.eq(1)]
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [commands.running.eq(1), self.clear.eq(commands.stop)]
                with m.If(ended | stopped | commands.stop):
                    m.next = "IDLE"

        return m

    def _inputs(self, m: Module, name: str, o: stream.Interface) -> Replay:
        """Make one of the memories that the host fills, and what offers its words to the engine."""
        commands, of_weights = self.commands, name == "weights"
        store = self._make_memory(name, *self.shapes[name])
        width, depth = self.shapes[name]
        most = ((1 << len(commands.passes)) - 1) * (1 if of_weights else self.parameters.tokens)
        write = commands.weight if of_weights else commands.activation
        replay = Replay(
            width=width, depth=depth, rewind=of_weights, max_rounds=most, register=not of_weights
        )
        m.submodules[name], m.submodules[f"replay_{name}"] = store, replay
        m.d.comb += [
            store.address.eq(Mux(write, commands.write_address, replay.address)),
            store.write.eq(write),
            store.i.eq(commands.word[-width:]),
            store.read.eq(replay.enable),
            replay.data.eq(store.o),
            Value.cast(o.payload).eq(replay.o.payload),
            o.valid.eq(replay.o.valid),
            replay.o.ready.eq(o.ready),
        ]
        return replay

    def _outputs(self, m: Module) -> Value:
        """Keep output beats, and read them back.

        Returns
        -------
        Value
            Whether the last one of the run is being kept.
        """
        commands, (width, depth) = self.commands, self.shapes["outputs"]
        m.submodules.outputs = store = self._make_memory("outputs", width, depth)
        m.submodules.replay_outputs = replay = Replay(width=width, depth=depth)
        kept = Signal(range(depth + 1))
        vectors = Signal(range((1 << len(commands.passes)) * self.parameters.tokens))
        taken = Signal()

        m.d.comb += [
            self.o.ready.eq(1),
            taken.eq(self.o.valid & commands.running & ~self.clear),
            store.address.eq(Mux(commands.running, kept, replay.address)),
            store.i.eq(Value.cast(self.o.payload)),
            store.write.eq(taken & (kept < depth)),
            store.read.eq(replay.enable),
            replay.data.eq(store.o),
            replay.start.eq(commands.read),
            replay.stop.eq(commands.start),
            replay.first.eq(commands.read_first),
            replay.count.eq(commands.read_count),
            replay.rounds.eq(1),
            commands.outputs.eq(kept),
        ]
        wiring.connect(m, replay.o, wiring.flipped(commands.o))
        with m.If(taken):
            m.d.sync += kept.eq(kept + store.write)
            m.d.sync += vectors.eq(vectors - self.o.payload.last)
        with m.If(commands.start):
            m.d.sync += kept.eq(0)
            m.d.sync += vectors.eq(commands.passes * self.parameters.tokens)
        return taken & self.o.payload.last & (vectors == 1)

    def _count(self, m: Module, ended: Value) -> None:
        """Count cycles as the cycle model does."""
        commands, offered, seen = self.commands, Signal(), Signal()
        m.d.comb += offered.eq(commands.running & ~self.clear & (self.x.valid | seen))
        with m.If(offered):
            m.d.sync += [seen.eq(~ended), commands.cycles.eq(commands.cycles + 1)]
        with m.If(commands.start):
            m.d.sync += [seen.eq(0), commands.cycles.eq(0)]
