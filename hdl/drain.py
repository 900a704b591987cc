"""Finished row sums, in order."""

from collections.abc import Sequence

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..formats.layout import ROW_SCALE_WIDTH
from .align import exponent_width
from .lane import drained_layout
from .parameters import EngineParameters

__all__ = ["Drain", "sum_layout"]


def sum_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return consecutive rows' exact sums and what it takes to convert them."""
    count = parameters.layout.output_lanes
    return data.StructLayout({
        "sums": data.ArrayLayout(signed(parameters.sum_width), count),
        "row_scales": data.ArrayLayout(ROW_SCALE_WIDTH, count),
        "present": count,  # rows past the end of the layer are not
        "exponent": signed(exponent_width(parameters.numerics)),
        "nonfinite": 1,
        "last": 1,
    })


class Drain(wiring.Component):
    """Reads finished rows out of the lanes, in order: one token's, then the next one's.

    ``output_lanes`` rows a cycle while ``advance`` is set, without a gap within a token. Two layers
    can wait, one in each bank of the row sums. What lanes have read, each behind a register of its
    own, goes through another one before the choice of a place among the rows: memory, the way
    between them and the choice take a cycle each.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.

    Members
    -------
    done, rows, bank, exponents, nonfinites
        A layer is finished in that bank; exponents and flags have an element a token.
    free : :py:`Out(2)`
        Bit ``b``: bank ``b`` holds nothing that is still wanted, but in the registers.
    read : :py:`Out(1)`
        Read ``read_row`` in every lane.
    read_row : :py:`Out(row_address_width)`
        Row of every lane to read.
    drained : :py:`In(data.ArrayLayout(drained_layout(parameters), lanes))`
        What the lanes read before the last ``read``.
    advance : :py:`In(1)`
        Take ``o`` in this cycle.
    o : :py:`Out(sum_layout(parameters))`
        Rows.
    o_valid : :py:`Out(1)`
        Whether there are any.
    """

    LATENCY = 1
    """Cycles from what lanes have read to rows."""

    done: Signal
    rows: Signal
    bank: Signal
    exponents: data.View
    nonfinites: Signal
    free: Signal
    read: Signal
    read_row: Signal
    drained: data.View
    advance: Signal
    o: data.View
    o_valid: Signal

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        layout, tokens = parameters.layout, parameters.tokens
        exponent = signed(exponent_width(parameters.numerics))
        super().__init__({
            "done": In(1),
            "rows": In(range(layout.max_rows + 1)),
            "bank": In(1),
            "exponents": In(data.ArrayLayout(exponent, tokens)),
            "nonfinites": In(tokens),
            "free": Out(2),
            "read": Out(1),
            "read_row": Out(parameters.row_address_width),
            "drained": In(data.ArrayLayout(drained_layout(parameters), layout.lanes)),
            "advance": In(1),
            "o": Out(sum_layout(parameters)),
            "o_valid": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count, tokens = self.parameters.layout.output_lanes, self.parameters.tokens
        parts = self.parameters.layout.lanes // count
        finished = data.StructLayout({
            "rows": self.rows.shape(),
            "exponents": self.exponents.shape(),
            "nonfinites": tokens,
        })
        layers = [Signal(finished, name=f"layer_{bank}", reset_less=True) for bank in range(2)]
        layer = Signal(finished)
        valid, last = Signal(), Signal()
        free = Signal(2, init=0b11)
        bank, part, token = Signal(), Signal(range(parts)), Signal(range(tokens))
        left, block = Signal.like(self.rows), Signal(len(self.read_row) - 1)

        for index in range(2):
            with m.If(self.done & (self.bank == index)):
                m.d.sync += free[index].eq(0)
                m.d.sync += layers[index].rows.eq(self.rows)
                m.d.sync += layers[index].exponents.eq(self.exponents)
                m.d.sync += layers[index].nonfinites.eq(self.nonfinites)
        m.d.comb += [
            self.free.eq(free),
            layer.eq(Mux(bank, layers[1], layers[0])),
            self.read_row.eq(Cat(block, bank)),
            last.eq(left <= count),
        ]
        known = data.StructLayout({
            "token": token.shape(),
            "present": count,
            "exponent": self.o.exponent.shape(),
            "nonfinite": 1,
            "last": 1,
        })
        held, beat = Signal.like(self.drained, reset_less=True), Signal(known, reset_less=True)
        with m.If(self.advance):
            m.d.sync += [
                held.eq(self.drained),
                self.o_valid.eq(valid),
                beat.token.eq(token),
                beat.present.eq(Cat(left > index for index in range(count))),
                beat.exponent.eq(layer.exponents[token]),
                beat.nonfinite.eq(layer.nonfinites.bit_select(token, 1)),
                beat.last.eq(last),
            ]
        m.d.comb += [
            self.o.present.eq(beat.present),
            self.o.exponent.eq(beat.exponent),
            self.o.nonfinite.eq(beat.nonfinite),
            self.o.last.eq(beat.last),
        ]
        self._choose_rows(m, held, part, beat.token)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [left.eq(layer.rows), part.eq(0)]
                with m.If(~free.bit_select(bank, 1)):
                    m.d.comb += self.read.eq(1)
                    m.d.sync += block.eq(1)
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.read.eq(1)
                m.d.sync += block.eq(2)
                m.next = "ROWS"
            with m.State("ROWS"):
                m.d.comb += valid.eq(1)
                with m.If(self.advance):
                    m.d.sync += left.eq(left - count)
                    m.d.sync += part.eq(part + 1)
                    with m.If(part == parts - 1):
                        m.d.comb += self.read.eq(1)
                        m.d.sync += part.eq(0)
                        m.d.sync += block.eq(block + 1)
                    with m.If(last):
                        m.d.sync += block.eq(0)
                        m.d.sync += token.eq(Mux(token == tokens - 1, 0, token + 1))
                        with m.If(token == tokens - 1):
                            m.d.sync += free.bit_select(bank, 1).eq(1)
                            m.d.sync += bank.eq(~bank)
                        m.next = "IDLE"

        return m

    def _choose_rows(self, m: Module, held: data.View, part: Value, token: Value) -> None:
        """Put the rows of one part of a block in order, whichever lanes they were dealt to.

        Which lane has a row is known when its ``part`` is taken into ``held``: only the choice
        itself is left for the cycle after that.
        """
        outputs, lanes = self.parameters.layout.output_lanes, self.parameters.layout.lanes
        row = data.StructLayout({
            "sum": self.o.sums.shape().elem_shape,
            "row_scale": ROW_SCALE_WIDTH,
            "output": self.parameters.layout.place["output"],
        })
        # Of the lanes that are the same modulo `output_lanes`, just one has a row of the part. Its
        # number chooses in a tree: fewer look-up tables than a rank among lanes.
        rows = [Signal(row, name=f"row_{index}") for index in range(outputs)]
        for index, own in enumerate(rows):
            own_lanes = range(index, lanes, outputs)
            chosen = [
                self.drained[lane].place.part == part if lanes > outputs else Const(1)
                for lane in own_lanes
            ]
            number = Signal((len(chosen) - 1).bit_length(), name=f"lane_{index}", reset_less=True)
            with m.If(self.advance):
                m.d.sync += number.eq(_number_of(chosen))
            rest = [
                Cat(held[lane].sums[token], held[lane].scale, held[lane].place.output)
                for lane in own_lanes
            ]
            for bit in number:
                rest = [
                    Mux(bit, rest[i + 1], rest[i]) if i + 1 < len(rest) else rest[i]
                    for i in range(0, len(rest), 2)
                ]
            m.d.comb += own.eq(rest[0])
        for index in range(outputs):
            for own in rows:
                with m.If(own.output == index if outputs > 1 else 1):
                    m.d.comb += self.o.sums[index].eq(own.sum)
                    m.d.comb += self.o.row_scales[index].eq(own.row_scale)


def _number_of(chosen: Sequence[Value]) -> Value:
    """Return the number of the one bit that is set, of several."""
    bits = range((len(chosen) - 1).bit_length())
    return Cat(Cat(one for i, one in enumerate(chosen) if i >> bit & 1).any() for bit in bits)
