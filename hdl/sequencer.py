"""The planes of each slice, one a cycle."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .lane import shape_layout
from .parameters import LutParameters
from .unpack import slice_layout

__all__ = ["Sequencer", "due_layout"]


def due_layout(parameters: LutParameters) -> data.StructLayout:
    """Return the description of one step: a slice's, and the step's place in the record."""
    return data.StructLayout({
        "valid": 1,
        "first": 1,  # of the record
        "last": 1,  # of the record
        "slice": slice_layout(parameters),
    })


class Sequencer(wiring.Component):
    """Steps through the planes of one slice while the next one is being collected.

    A slice that is taken in one cycle has its first step in the next; the last step and the taking
    of the next slice share a cycle, so that steps follow each other without a gap. Only a record
    that is over sooner than the multiplier can take its sum waits before its last step.

    Parameters
    ----------
    parameters : LutParameters
        The engine's.

    Members
    -------
    slice, slice_valid, slice_ready
        The unpacker's slice.
    shape : :py:`In(shape_layout(layout))`
        The lanes' combined shape of its record.
    step : :py:`Out(range(max_planes))`
        Plane that is due.
    due : :py:`Out(due_layout(parameters))`
        Description of the step.
    occupied : :py:`Out(1)`
        Whether a slice has steps left.
    """

    slice: data.View
    slice_valid: Signal
    slice_ready: Signal
    shape: data.View
    step: Signal
    due: data.View
    occupied: Signal

    def __init__(self, *, parameters: LutParameters) -> None:
        self.parameters = parameters
        super().__init__({
            "slice": In(slice_layout(parameters)),
            "slice_valid": In(1),
            "slice_ready": Out(1),
            "shape": In(shape_layout(parameters.layout)),
            "step": Out(range(parameters.layout.max_planes)),
            "due": Out(due_layout(parameters)),
            "occupied": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        occupied = self.occupied
        current = Signal(slice_layout(self.parameters), reset_less=True)
        planes = Signal.like(self.shape.planes, reset_less=True)
        last_plane, wait = Signal(), Signal()

        m.d.comb += [
            last_plane.eq(~Cat(planes, 0).bit_select(self.step, 1)),
            self.due.valid.eq(occupied & ~wait),
            self.due.first.eq(current.first & (self.step == 0)),
            self.due.last.eq(current.last & last_plane),
            self.due.slice.eq(current),
            self.slice_ready.eq(~occupied | (last_plane & ~wait)),
        ]
        with m.If(self.due.valid):
            m.d.sync += self.step.eq(Mux(last_plane, 0, self.step + 1))
            with m.If(last_plane):
                m.d.sync += occupied.eq(0)
        with m.If(self.slice_valid & self.slice_ready):
            m.d.sync += occupied.eq(1)
            m.d.sync += current.eq(self.slice)
            m.d.sync += planes.eq(self.shape.planes)

        interval = self.parameters.multiply_interval
        if interval > 1:
            left = Signal(range(interval))
            m.d.comb += wait.eq(self.due.last & (left != 0))
            with m.If(self.due.valid & self.due.last):
                m.d.sync += left.eq(interval - 1)
            with m.Elif(left != 0):
                m.d.sync += left.eq(left - 1)

        return m
