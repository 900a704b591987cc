"""What passes between the host link and what it commands."""

from amaranth import Shape
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..hdl import EngineParameters, Status
from ..hdl.activation_store import activation_layout
from ..hdl.convert_output import output_layout
from .board_memory import BoardMemory
from .replay import replay_layout

__all__ = ["Commands"]


class Commands(wiring.Signature):
    """Signals from the link to a board's memories and runs, and back.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.
    memory : BoardMemory
        Words of each memory.

    Members
    -------
    weight, activation : :py:`Out(1)`
        Write ``word``, of which the highest bits count, at ``write_address`` of that memory.
    write_address : :py:`Out(24)`
        Address of a word.
    word : :py:`Out(max(weight_width, activation_width))`
        The word.
    start, stop : :py:`Out(1)`
        Begin a run, or give it up.
    words, passes, beats : :py:`Out(24)`, :py:`Out(8)`, :py:`Out(16)`
        Of a run: words of the layer, its passes, beats of a vector; in the cycle of ``start`` and
        in the next two.
    running : :py:`In(1)`
        Whether a run is under way.
    cycles : :py:`In(32)`
        Cycles of the run from the first beats offered to the last output.
    outputs : :py:`In(24)`
        Output beats kept.
    status : :py:`In(Status())`
        The engine's.
    read, read_first, read_count
        Begin to read output beats.
    o : :py:`In(stream.Signature(replay_layout(output_width)))`
        Those beats, each with its ``last`` flag above it and filled up with zeros to bytes.

    Attributes
    ----------
    weight_width, activation_width, output_width : int
        Bits of a word of each memory; multiples of 8.
    """

    def __init__(self, parameters: EngineParameters, memory: BoardMemory) -> None:
        self.parameters, self.memory = parameters, memory
        self.weight_width = parameters.layout.beat_width
        self.activation_width = Shape.cast(activation_layout(parameters)).width - 1
        self.output_width = -(-Shape.cast(output_layout(parameters)).width // 8) * 8
        super().__init__({
            "weight": Out(1),
            "activation": Out(1),
            "write_address": Out(24),
            "word": Out(max(self.weight_width, self.activation_width)),
            "start": Out(1),
            "stop": Out(1),
            "words": Out(24),
            "passes": Out(8),
            "beats": Out(16),
            "running": In(1),
            "cycles": In(32),
            "outputs": In(24),
            "status": In(Status()),
            "read": Out(1),
            "read_first": Out(range(memory.outputs)),
            "read_count": Out(range(memory.outputs + 1)),
            "o": In(stream.Signature(replay_layout(self.output_width))),
        })

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Commands)
            and self.parameters == other.parameters
            and self.memory == other.memory
        )

    def __repr__(self) -> str:
        return f"Commands({self.parameters!r}, {self.memory!r})"
