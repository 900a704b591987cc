"""A board without its pins' names: serial line, link, memories and engine."""

from collections.abc import Callable
from typing import Any

from amaranth import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..hdl import Engine, EngineParameters, Error
from .board_memory import BoardMemory
from .commands import Commands
from .deframe import Deframe
from .enframe import Enframe
from .responder import Responder
from .runner import MakeMemory, Runner
from .uart import UartReceiver, UartTransmitter

__all__ = ["BoardTop"]


class BoardTop(wiring.Component):
    """An engine that a host commands over a serial line.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.
    memory : BoardMemory
        Words of each memory.
    divisor : int
        Cycles of a bit on the line, at least 4.
    identity : bytes
        Hash by which the host knows what it talks to.
    make_engine : callable, optional
        Makes the engine; generation passes one that refers to it by name.
    make_memory : callable, optional
        Makes a memory; see :class:`Runner`.

    Members
    -------
    rx, tx
        The serial line.
    running : :py:`Out(1)`
        A run is under way.
    error : :py:`Out(1)`
        The engine has stopped with an error.
    """

    rx: Signal
    tx: Signal
    running: Signal
    error: Signal

    def __init__(
        self,
        *,
        parameters: EngineParameters,
        memory: BoardMemory,
        divisor: int,
        identity: bytes,
        make_engine: Callable[[], Any] | None = None,
        make_memory: MakeMemory | None = None,
    ) -> None:
        self.parameters, self.memory = parameters, memory
        self.divisor, self.identity = divisor, identity
        self._make_engine = make_engine or (lambda: Engine(parameters=parameters))
        self._make_memory = make_memory
        super().__init__({
            "rx": In(1),
            "tx": Out(1),
            "running": Out(1),
            "error": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(divisor=self.divisor)
        m.submodules.deframe = deframe = Deframe()
        commands = Commands(self.parameters, self.memory)
        m.submodules.responder = responder = Responder(commands=commands, identity=self.identity)
        m.submodules.runner = runner = Runner(
            parameters=self.parameters, memory=self.memory, make_memory=self._make_memory
        )
        m.submodules.enframe = enframe = Enframe()
        m.submodules.transmitter = transmitter = UartTransmitter(divisor=self.divisor)
        m.submodules.engine = engine = self._make_engine()

        m.d.comb += [
            receiver.rx.eq(self.rx),
            deframe.i.eq(receiver.o),
            deframe.i_valid.eq(receiver.o_valid),
            responder.damaged.eq(deframe.damaged),
            self.tx.eq(transmitter.tx),
            self.running.eq(responder.commands.running),
            self.error.eq(engine.status.error != Error.NONE),
            engine.clear.eq(runner.clear),
            Value.cast(runner.status).eq(Value.cast(engine.status)),
        ]
        wiring.connect(m, deframe.o, responder.i)
        wiring.connect(m, responder.o, enframe.i)
        wiring.connect(m, enframe.o, transmitter.i)
        wiring.connect(m, responder.commands, runner.commands)
        wiring.connect(m, runner.x, engine.i_x)
        wiring.connect(m, runner.w, engine.i_w)
        wiring.connect(m, engine.o, runner.o)

        return m
