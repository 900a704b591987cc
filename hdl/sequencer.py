"""The cycles of each slice of one lane, one after another."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .parameters import EngineParameters

__all__ = ["Sequencer", "due_layout", "slice_layout"]


def slice_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return what is known of a slice whose codes are complete."""
    return data.StructLayout({
        "slice": parameters.slice_address_width,
        "row": parameters.row_address_width,
        "first": 1,  # of its record
        "last": 1,  # of its record
        "clear": 1,  # the record is the first of its row
        "tile_end": 1,  # the lane is done with the tile after this
        "last_step": range(parameters.max_cycles),  # its cycles, less one
    })


def due_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return the description of one step: a slice's, and the step's place in the record."""
    return data.StructLayout({
        "valid": 1,
        "first": 1,  # of the record
        "last": 1,  # of the record
        "tile_end": 1,  # the last step of the tile
        "slice": slice_layout(parameters),
    })


class Sequencer(wiring.Component):
    """Steps through the cycles of one slice while the next one is being collected.

    A slice that is taken in one cycle has its first step in the next; the last step and the taking
    of the next slice share a cycle, so that steps follow each other without a gap. Only a record
    that is over sooner than the multiplier can take its sum waits before its last step.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.

    Members
    -------
    slice : :py:`In(slice_layout(parameters))`
        The slice to take.
    slice_valid, slice_ready
        Its handshake.
    step : :py:`Out(range(max_cycles))`
        Which of the slice's cycles this is.
    due : :py:`Out(due_layout(parameters))`
        Description of the step.
    occupied : :py:`Out(1)`
        Whether a slice has steps left.
    """

    slice: data.View
    slice_valid: Signal
    slice_ready: Signal
    step: Signal
    due: data.View
    occupied: Signal

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        super().__init__({
            "slice": In(slice_layout(parameters)),
            "slice_valid": In(1),
            "slice_ready": Out(1),
            "step": Out(range(parameters.max_cycles)),
            "due": Out(due_layout(parameters)),
            "occupied": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        occupied, due = self.occupied, self.due
        current = Signal(slice_layout(self.parameters), reset_less=True)
        last_step, wait = Signal(), Signal()

        m.d.comb += [
            last_step.eq(self.step == current.last_step),
            due.valid.eq(occupied & ~wait),
            due.first.eq(current.first & (self.step == 0)),
            due.last.eq(current.last & last_step),
            due.tile_end.eq(current.tile_end & last_step),
            due.slice.eq(current),
            self.slice_ready.eq(~occupied | (last_step & ~wait)),
        ]
        with m.If(due.valid):
            m.d.sync += self.step.eq(Mux(last_step, 0, self.step + 1))
            with m.If(last_step):
                m.d.sync += occupied.eq(0)
        with m.If(self.slice_valid & self.slice_ready):
            m.d.sync += occupied.eq(1)
            m.d.sync += current.eq(self.slice)

        interval = self.parameters.multiply_interval
        if interval > 1:
            left = Signal(range(interval))
            m.d.comb += wait.eq(due.last & (left != 0))
            with m.If(due.valid & due.last):
                m.d.sync += left.eq(interval - 1)
            with m.Elif(left != 0):
                m.d.sync += left.eq(left - 1)

        return m
