"""A memory of a board, with one port."""

from amaranth import ClockSignal, Instance, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["WordMemory", "WordMemoryInstance", "word_memory_verilog"]


class WordMemory(wiring.Component):
    """Words that are written or read, one a cycle.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words.

    Members
    -------
    address : :py:`In(range(depth))`
        Which word.
    write, i : :py:`In(1)`, :py:`In(width)`
        Write that word.
    read : :py:`In(1)`
        Read it, unless it is written.
    o : :py:`Out(width)`
        What was read, from the next cycle until something else is.
    """

    address: Signal
    write: Signal
    i: Signal
    read: Signal
    o: Signal

    def __init__(self, *, width: int, depth: int) -> None:
        self.width, self.depth = width, depth
        super().__init__({
            "address": In(range(depth)),
            "write": In(1),
            "i": In(width),
            "read": In(1),
            "o": Out(width),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.words = words = memory.Memory(shape=self.width, depth=self.depth, init=[])
        write, read = words.write_port(), words.read_port()
        m.d.comb += [
            write.addr.eq(self.address),
            write.data.eq(self.i),
            write.en.eq(self.write),
            read.addr.eq(self.address),
            read.en.eq(self.read & ~self.write),
            self.o.eq(read.data),
        ]
        return m


class WordMemoryInstance(WordMemory):
    """The same as a module of :func:`word_memory_verilog`, for synthesis.

    Amaranth's own memories come with a value for every word, which some block RAMs cannot have and
    which makes long texts.

    Parameters
    ----------
    width, depth : int
        As above.
    module : str
        The module's name.
    """

    def __init__(self, *, width: int, depth: int, module: str) -> None:
        self._module = module
        super().__init__(width=width, depth=depth)

    def elaborate(self, platform: object) -> Instance:  # type: ignore[override]
        return Instance(
            self._module,
            i_clk=ClockSignal(),
            i_address=self.address,
            i_write=self.write,
            i_i=self.i,
            i_read=self.read,
            o_o=self.o,
        )


def word_memory_verilog(component: WordMemory, *, module: str) -> str:
    """Return the text of a memory's module.

    Parameters
    ----------
    component : WordMemory
        A memory of that width and depth.
    module : str
        Name of the module.
    """
    return f"""
module {module}(
  input clk, input [{len(component.address) - 1}:0] address, input write,
  input [{component.width - 1}:0] i, input read, output reg [{component.width - 1}:0] o
);
  reg [{component.width - 1}:0] words [0:{component.depth - 1}];
  always @(posedge clk)
    if (write) words[address] <= i;
    else if (read) o <= words[address];
endmodule
"""
