"""A core: the arithmetic of one lane, the one thing in which engines differ."""

from amaranth import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .codebooks import codebooks_member
from .parameters import EngineParameters

__all__ = ["Core", "activation_write_layout"]

INDEX_WIDTH = 10
"""Bits that tell what is written of a slice: entries of a table, or parts."""


def activation_write_layout(parameters: EngineParameters, values: data.Layout) -> data.StructLayout:
    """Return the bus that gives every lane what its core keeps of the activations.

    ``values`` is the core's own: what it keeps of one slice in one cycle, for each token.
    """
    tokens = parameters.tokens
    fields: dict = {
        "enable": 1,  # keep `values`
        "slice": parameters.slice_address_width,
        "index": INDEX_WIDTH,  # which of the slice's values these are
        "values": data.ArrayLayout(values, tokens),
    }
    if parameters.core.needs_slice_sums(parameters.layout.members):
        fields["enable_sum"] = 1  # keep `sum`, as the slice's
        fields["sum"] = data.ArrayLayout(signed(parameters.slice_width), tokens)
    return data.StructLayout(fields)


class Core(wiring.Component):
    """Weights of a slice times activations: codes and a step in, the step's sum out.

    The sums of a slice's steps, each times its scale, add up to the slice's part of the row sum,
    less the zero-point's. Throughput is one step a cycle, no backpressure.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.
    write_layout : data.StructLayout
        What the kind's :func:`activation_write_layout` is.

    Members
    -------
    write : :py:`In(write_layout)`
        Activations; seen by steps from the next cycle on.
    codes : :py:`In(data.ArrayLayout(width, max_code_width))`
        Bit ``b`` of every weight's code in element ``b``.
    format : :py:`In(range(members))`
        Number of the weights' format.
    zero : :py:`In(zero_width)`
        Code of the zero-point; of no bits where no format has one.
    step : :py:`In(range(max_cycles))`
        Which of the format's cycles for a slice this is.
    slice : :py:`In(slice_address_width)`
        Which slice's activations.
    codebooks : :py:`In(codebooks_layout(parameters))`
        The layer's codebooks; steady while it is computed. There is none without such formats.
    sums : :py:`Out(data.ArrayLayout(signed(segment_width), tokens))`
        The step's sum for each token, ``latency`` cycles later.
    """

    write: data.View
    codes: data.View
    format: Signal
    zero: Signal
    step: Signal
    slice: Signal
    codebooks: data.View
    sums: data.View

    def __init__(self, *, parameters: EngineParameters, write_layout: data.StructLayout) -> None:
        self.parameters = parameters
        layout = parameters.layout
        super().__init__({
            "write": In(write_layout),
            "codes": In(data.ArrayLayout(layout.width, layout.max_code_width)),
            "format": In(range(len(layout.members))),
            "zero": In(layout.zero_width),
            "step": In(range(parameters.max_cycles)),
            "slice": In(parameters.slice_address_width),
            **codebooks_member(parameters, In),
            "sums": Out(data.ArrayLayout(signed(parameters.segment_width), parameters.tokens)),
        })

    @property
    def latency(self) -> int:
        """Cycles from a step to its sums."""
        raise NotImplementedError

    @property
    def hold_cycles(self) -> int:
        """Cycles from a step to when its slice's activations may be overwritten."""
        return self.latency

    def elaborate(self, platform: object) -> Module:
        """Return the logic; each kind has its own."""
        raise NotImplementedError
