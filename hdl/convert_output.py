"""Exact row sums to output numbers: section 4 of the arithmetic contract."""

from amaranth import Cat, EnableInserter, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..formats import FLOATS
from .align import exponent_width
from .convert_row import ConvertRow, convert_latency
from .drain import sum_layout
from .parameters import EngineParameters
from .pipeline import delay
from .skid_buffer import SkidBuffer

__all__ = ["ConvertOutput", "output_latency", "output_layout"]


def output_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return one beat of the output stream: ``output_lanes`` values, the first lowest.

    Values past the end of a layer are zero. ``int`` output has the token's exponent with it.
    """
    kind, count = parameters.numerics.output, parameters.layout.output_lanes
    if kind == "int":
        return data.StructLayout({
            "values": data.ArrayLayout(signed(parameters.sum_width), count),
            "exponent": signed(exponent_width(parameters.numerics)),
            "last": 1,
        })
    return data.StructLayout({"values": data.ArrayLayout(FLOATS[kind].width, count), "last": 1})


def output_latency(parameters: EngineParameters) -> int:
    """Return the cycles from row sums, as the drain gives them, to numbers."""
    return 1 if parameters.numerics.output == "int" else convert_latency(parameters)


class ConvertOutput(wiring.Component):
    """Converts row sums, ``output_lanes`` side by side, and hands them on.

    Latency is :attr:`latency` cycles while the output is taken, throughput is one beat a cycle,
    backpressure is full: everything holds while the output waits.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.

    Members
    -------
    i : :py:`In(stream.Signature(sum_layout(parameters)))`
        Row sums.
    o : :py:`Out(stream.Signature(output_layout(parameters)))`
        Numbers, in the same order.
    busy : :py:`Out(1)`
        Whether a beat is under way.
    """

    i: stream.Interface
    o: stream.Interface
    busy: Signal

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        super().__init__({
            "i": In(stream.Signature(sum_layout(parameters))),
            "o": Out(stream.Signature(output_layout(parameters))),
            "busy": Out(1),
        })

    @property
    def latency(self) -> int:
        """Cycles from row sums to numbers."""
        return output_latency(self.parameters)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.skid = skid = SkidBuffer(output_layout(self.parameters))
        wiring.connect(m, skid.o, wiring.flipped(self.o))
        # A module of its own, so that one enable holds all of the pipeline's registers.
        pipeline, numbers = Module(), skid.i.payload
        valid = Signal(self.latency)
        pipeline.d.sync += valid.eq(Cat(self.i.valid, valid))
        last = delay(pipeline, self.i.payload.last, self.latency, name="last")
        if self.parameters.numerics.output == "int":
            for index in range(self.parameters.layout.output_lanes):
                present, total = self.i.payload.present[index], self.i.payload.sums[index]
                value = Signal.like(numbers.values[index], name=f"value_{index}", reset_less=True)
                pipeline.d.sync += value.eq(Mux(present, total, 0))
                m.d.comb += numbers.values[index].eq(value)
            exponent = delay(pipeline, self.i.payload.exponent, 1, name="exponent")
            m.d.comb += numbers.exponent.eq(exponent)
        else:
            self._convert_floats(pipeline, numbers)
        m.submodules.pipeline = EnableInserter(skid.i.ready)(pipeline)

        m.d.comb += [
            skid.i.valid.eq(valid[-1]),
            numbers.last.eq(last),
            self.i.ready.eq(skid.i.ready),
            self.busy.eq(valid.any() | self.o.valid),
        ]
        return m

    def _convert_floats(self, m: Module, numbers: data.View) -> None:
        """One converter for each row of a beat, side by side."""
        row = self.i.payload
        for index in range(self.parameters.layout.output_lanes):
            m.submodules[f"row_{index}"] = convert = ConvertRow(parameters=self.parameters)
            m.d.comb += [
                convert.sum.eq(row.sums[index]),
                convert.row_scale.eq(Mux(row.present[index], row.row_scales[index], 0)),
                convert.exponent.eq(row.exponent),
                convert.nonfinite.eq(row.nonfinite & row.present[index]),
                numbers.values[index].eq(convert.number),
            ]
