"""Requests into actions and replies: the board's end of the host link."""

from collections.abc import Mapping
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .commands import Commands
from .protocol import HASH_BYTES, LINK_VERSION, MAGIC, REPLY, Code, Request
from .replay import replay_layout
from .write_words import WriteWords

__all__ = ["ARGUMENT_BYTES", "Responder"]

# Bytes after sequence number and kind; a WRITE has its words behind them.
ARGUMENT_BYTES: Mapping[Request, int] = {
    Request.HELLO: 0,
    Request.WRITE: 4,
    Request.READ: 4,
    Request.RUN: 6,
    Request.STATUS: 0,
    Request.CLEAR: 0,
}


class Responder(wiring.Component):
    """Does what each request asks, once, and answers it as often as it comes.

    A request has the sequence number after that of the last one, or the same if the host asks
    again because no answer came; others are ignored. HELLO sets the number. All requests but RUN
    may be done twice without harm, and RUN is not.

    Parameters
    ----------
    commands : Commands
        What it commands.
    identity : bytes
        Hash of the configuration, of :data:`HASH_BYTES`.

    Members
    -------
    i : :py:`In(stream.Signature(replay_layout(8)))`
        Bodies of requests.
    o : :py:`Out(stream.Signature(replay_layout(8)))`
        Bodies of replies.
    commands : :py:`Out(commands)`
        What it has done, and what it is told.
    damaged : :py:`In(8)`
        Frames that were lost, for STATUS.

    Raises
    ------
    :exc:`ValueError`
        If the hash has another length.
    """

    i: stream.Interface
    o: stream.Interface
    commands: Any
    damaged: Signal

    def __init__(self, *, commands: Commands, identity: bytes) -> None:
        if len(identity) != HASH_BYTES:
            raise ValueError(f"identity must have {HASH_BYTES} bytes, not {len(identity)}")
        self.widths, self.identity = commands, identity
        super().__init__({
            "i": In(stream.Signature(replay_layout(8))),
            "o": Out(stream.Signature(replay_layout(8))),
            "commands": Out(commands),
            "damaged": In(8),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sequence, received, kind = Signal(8), Signal(8), Signal(8)
        again = Signal()  # the request came before: its answer was lost
        arguments = Signal(8 * max(ARGUMENT_BYTES.values()))
        left = Signal(range(max(ARGUMENT_BYTES.values()) + 1))
        code, ended = Signal(Code), Signal()
        byte, last, valid = self.i.payload.data, self.i.payload.last, self.i.valid
        write = WriteWords(self.commands, self.widths)

        first, count = _read_arguments(arguments)
        m.d.comb += [
            Cat(self.commands.words, self.commands.passes, self.commands.beats).eq(arguments),
            self.commands.read_first.eq(first),
            self.commands.read_count.eq(count),
        ]
        with m.FSM():
            self._accept(m, sequence, received, kind, again, left, ended)
            with m.State("ARGUMENTS"):
                with m.If((left == 0) | ended):
                    m.next = "ACT"
                with m.Else():
                    m.d.comb += self.i.ready.eq(1)
                    with m.If(valid):
                        m.d.sync += arguments.eq(Cat(arguments[8:], byte))
                        m.d.sync += [left.eq(left - 1), ended.eq(last)]
            with m.State("ACT"):
                self._act(m, kind, again, code, (left == 0) & ended, arguments)
                m.next = "REPLY"
                with m.If(~ended):
                    m.next = "REST"
                with m.If(self._may_write(kind, left) & ~ended):
                    m.d.comb += write.begin.eq(1)
                    m.next = "WORDS"
            with m.State("REST"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(valid & last):
                    m.next = "REPLY"
            with m.State("WORDS"):
                m.d.comb += [self.i.ready.eq(1), write.take.eq(valid)]
                with m.If(valid & last):
                    m.d.sync += code.eq(Mux(write.fits, Code.DONE, Code.REFUSED))
                    m.next = "REPLY"
            with m.State("REPLY"):
                with m.If(self._reply(m, received, kind, code, arguments)):
                    m.next = "SEQUENCE"
        write.connect(m, arguments, byte)

        return m

    def _accept(
        self,
        m: Module,
        sequence: Signal,
        received: Signal,
        kind: Signal,
        again: Signal,
        left: Signal,
        ended: Signal,
    ) -> None:
        """Describe the states in which a request is taken or ignored, by its first two bytes."""
        byte, last, valid = self.i.payload.data, self.i.payload.last, self.i.valid
        with m.State("SEQUENCE"):
            m.d.comb += self.i.ready.eq(1)
            with m.If(valid):
                m.d.sync += received.eq(byte)
                m.next = "KIND"
        with m.State("KIND"):
            m.d.comb += self.i.ready.eq(1)
            repeated = (received == sequence) & (byte != Request.HELLO)
            expected = (received == (sequence + 1)[:8]) | (byte == Request.HELLO)
            with m.If(valid):
                m.d.sync += [kind.eq(byte), sequence.eq(received), again.eq(repeated)]
                m.d.sync += [ended.eq(last), left.eq(self._need(byte))]
                m.next = "ARGUMENTS"
                with m.If(~repeated & ~expected):
                    m.d.sync += sequence.eq(sequence)
                    m.next = "SEQUENCE"
                    with m.If(~last):
                        m.next = "IGNORE"
        with m.State("IGNORE"):
            m.d.comb += self.i.ready.eq(1)
            with m.If(valid & last):
                m.next = "SEQUENCE"

    def _need(self, kind: Value) -> Value:
        """Return how many bytes of arguments a kind has; one that nobody knows has none."""
        count: Value = Const(0)
        for known, size in ARGUMENT_BYTES.items():
            count = Mux(kind == known, size, count)
        return count

    def _may_write(self, kind: Value, left: Value) -> Value:
        return (kind == Request.WRITE) & (left == 0) & ~self.commands.running

    def _act(
        self, m: Module, kind: Value, again: Value, code: Signal, complete: Value, arguments: Value
    ) -> None:
        """Do what has no words of its own; ``complete`` says that the request ends here."""
        commands, depths = self.commands, self.widths.memory
        words, beats = commands.words, commands.beats
        first, count = _read_arguments(arguments)
        inside = (count != 0) & (first + count <= depths.outputs)
        some = (words != 0) & (words <= depths.weights) & (commands.passes != 0)
        some &= (beats != 0) & (beats <= depths.activations)

        m.d.sync += code.eq(Code.REFUSED)
        with m.Switch(kind):
            with m.Case(Request.HELLO, Request.STATUS):
                with m.If(complete):
                    m.d.sync += code.eq(Code.DONE)
            with m.Case(Request.CLEAR):
                with m.If(complete):
                    m.d.comb += commands.stop.eq(1)
                    m.d.sync += code.eq(Code.DONE)
            with m.Case(Request.WRITE):
                with m.If(commands.running):
                    m.d.sync += code.eq(Code.BUSY)
            with m.Case(Request.READ):
                with m.If(commands.running):
                    m.d.sync += code.eq(Code.BUSY)
                with m.Elif(complete & inside):
                    m.d.comb += commands.read.eq(1)
                    m.d.sync += code.eq(Code.DONE)
            with m.Case(Request.RUN):
                with m.If(again):
                    m.d.sync += code.eq(code)
                with m.Elif(commands.running):
                    m.d.sync += code.eq(Code.BUSY)
                with m.Elif(complete & some):
                    m.d.comb += commands.start.eq(1)
                    m.d.sync += code.eq(Code.DONE)

    def _reply(
        self, m: Module, sequence: Value, kind: Value, code: Value, arguments: Value
    ) -> Value:
        """Send the reply at hand.

        Returns
        -------
        Value
            Whether its last byte is being taken.
        """
        commands = self.commands
        head = Cat(sequence, kind | REPLY, Value.cast(code), Const(0, 8 - len(Value.cast(code))))
        hello = Const(
            int.from_bytes(MAGIC + bytes([LINK_VERSION]) + self.identity, "little"),
            8 * (len(MAGIC) + 1 + HASH_BYTES),
        )
        status = Cat(
            Value.cast(commands.running),
            Const(0, 7),
            Value.cast(commands.status),
            Const(0, 8 - len(Value.cast(commands.status))),
            commands.cycles,
            commands.outputs,
            self.damaged,
        )
        most = (len(head) + max(len(hello), len(status))) // 8
        bodies, index, size = Signal(8 * most), Signal(range(most + 1)), Signal(range(most + 1))
        m.d.comb += [size.eq(3), bodies.eq(head)]
        done = code == Code.DONE
        with m.If(done & (kind == Request.HELLO)):
            m.d.comb += [size.eq(3 + len(hello) // 8), bodies.eq(Cat(head, hello))]
        with m.If(done & (kind == Request.STATUS)):
            m.d.comb += [size.eq(3 + len(status) // 8), bodies.eq(Cat(head, status))]

        # Words of outputs follow their three bytes; each is taken apart, lowest byte first.
        reads = done & (kind == Request.READ)
        bytes_of_word = self.widths.output_width // 8
        part = Signal(range(bytes_of_word))
        ends_word = part == bytes_of_word - 1
        ends = Signal()
        with m.If(index < size):
            m.d.comb += [self.o.valid.eq(1), self.o.payload.data.eq(bodies.word_select(index, 8))]
            m.d.comb += self.o.payload.last.eq((index == size - 1) & ~reads)
            with m.If(self.o.ready):
                m.d.sync += index.eq(index + 1)
        with m.Else():
            m.d.comb += [
                self.o.valid.eq(commands.o.valid),
                self.o.payload.data.eq(commands.o.payload.data.word_select(part, 8)),
                self.o.payload.last.eq(commands.o.payload.last & ends_word),
                commands.o.ready.eq(self.o.ready & ends_word),
            ]
            with m.If(self.o.valid & self.o.ready):
                m.d.sync += part.eq(Mux(ends_word, 0, part + 1))
        m.d.comb += ends.eq(self.o.valid & self.o.ready & self.o.payload.last)
        with m.If(ends):
            m.d.sync += [index.eq(0), part.eq(0)]
        return ends


def _read_arguments(arguments: Value) -> tuple[Value, Value]:
    """Return where a READ begins and how many words it wants; they come last."""
    return arguments[-32:-8], arguments[-8:]
