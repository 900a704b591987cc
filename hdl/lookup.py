"""The table look-ups of one lane for one token: keys in, the slice's sum out."""

from amaranth import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .core_options import LutOptions
from .memory_attributes import BLOCK, NO_COLLISIONS
from .parameters import EngineParameters, signed_width
from .pipeline import registered_signed_sum, registered_sum, sum_latency

__all__ = ["Lookup", "entries_layout", "entry_offset", "lut_options", "read_cycles"]


def lut_options(parameters: EngineParameters) -> LutOptions:
    """Return the core's options of a LUT engine.

    Raises
    ------
    :exc:`TypeError`
        If the parameters are another kind of engine's.
    """
    if not isinstance(parameters.core, LutOptions):
        raise TypeError(f"Tables need LutOptions, not {type(parameters.core).__name__}")
    return parameters.core


def entries_layout(parameters: EngineParameters) -> data.ArrayLayout:
    """Return one entry of every table of a slice.

    In half tables a sum of ``mu`` activations under signs. In others the sum of some of them, and
    :func:`entry_offset` beside it, which makes it unsigned: adders of unsigned numbers need no LUT
    for the bit that they grow by.
    """
    options, numerics = lut_options(parameters), parameters.numerics
    entry = signed(signed_width(options.mu * numerics.peak))
    if not options.is_half:
        entry = unsigned(numerics.aligned_width + (options.mu - 1).bit_length())
    return data.ArrayLayout(entry, options.tables(parameters.layout.width))


def entry_offset(parameters: EngineParameters) -> int:
    """Return what every entry has beside its sum."""
    if lut_options(parameters).is_half:
        return 0
    return 1 << (Shape.cast(entries_layout(parameters).elem_shape).width - 1)


def read_cycles(parameters: EngineParameters) -> int:
    """Return the cycles from a key to the entries of its tables."""
    return 2 if lut_options(parameters).table == "block" else 1


class Lookup(wiring.Component):
    """Sum of a slice's activations as a key chooses, by one look-up for each ``mu`` of them.

    Table ``j`` holds sums of activations ``mu * j`` up to ``mu * (j + 1)``, for every choice of
    key bits the sum of those whose bit is 1. A half table holds sums under signs, of which 1 is +1,
    for those choices whose last is -1, at the lower bits' address; for the others the complement is
    looked up, and the sign goes on to the adders, which have room for it.

    With ``banks = 1`` pairs of tables in block RAM share a true dual-port memory, a port each, that
    writes while ``enable`` is set: what is looked up in such a cycle means nothing.

    Latency is :attr:`latency` cycles, throughput is one slice a cycle, no backpressure.

    Parameters
    ----------
    parameters : EngineParameters
        A LUT engine's.

    Members
    -------
    enable : :py:`In(1)`
        Keep ``entries``; look-ups see them from the next cycle on.
    write_slice : :py:`In(slice_address_width)`
        Slice whose tables are written.
    entry : :py:`In(range(entries))`
        Which entry of each table.
    entries : :py:`In(entries_layout(parameters))`
        What it is.
    key : :py:`In(width)`
        Digit bits of one slice.
    slice : :py:`In(slice_address_width)`
        Which slice's tables to use.
    sum : :py:`Out(signed(slice_width))`
        Sum of the activations whose bit is 1; in half tables that less the sum of all others.
    """

    enable: Signal
    write_slice: Signal
    entry: Signal
    entries: data.View
    key: Signal
    slice: Signal
    sum: Signal

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        self._options = lut_options(parameters)
        self._entries = entries_layout(parameters)
        super().__init__({
            "enable": In(1),
            "write_slice": In(parameters.slice_address_width),
            "entry": In(range(self._options.entries)),
            "entries": In(self._entries),
            "key": In(parameters.layout.width),
            "slice": In(parameters.slice_address_width),
            "sum": Out(signed(parameters.slice_width)),
        })

    @property
    def latency(self) -> int:
        """Cycles from key to sum."""
        levels = self.parameters.adder_levels
        return read_cycles(self.parameters) + sum_latency(self._entries.length, levels=levels)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        mu, tables = self._options.mu, self._entries.length
        levels = self.parameters.adder_levels
        keys = [self.key[table * mu : (table + 1) * mu] for table in range(tables)]
        if self._options.is_half:
            signs, entries = [], []
            for table, key in enumerate(keys):
                last = key[mu - 1] if len(key) == mu else 0  # what is left over has no more signs
                negate = Signal(name=f"negate_{table}", reset_less=True)
                m.d.sync += negate.eq(last)
                address = Cat(bit ^ last for bit in key[: mu - 1])
                signs.append(negate)
                entries.append(self._read(m, table, address))
            total = registered_signed_sum(m, signs, entries, levels=levels, name="sum")
            m.d.comb += self.sum.eq(total)
        else:
            entries = []
            for first in range(0, tables, self._tables_of_memory):
                own = keys[first : first + self._tables_of_memory]
                if len(own) == 1:
                    entries.append(self._read(m, first, own[0]))
                else:
                    entries += self._read_shared(m, first, own)
            offset = tables * entry_offset(self.parameters)
            total = registered_sum(m, entries, levels=levels, name="sum")
            m.d.comb += self.sum.eq(total - offset)

        return m

    @property
    def _tables_of_memory(self) -> int:
        """Tables in one memory: two where ports that look up are free to write."""
        return 2 if self._options.shares_blocks else 1

    def _read_shared(self, m: Module, first: int, keys: list[Value]) -> list[Value]:
        """Return entries of tables in one memory, a port each, ``read_cycles`` later."""
        kept = self.parameters.table_address_width
        depth = self._options.entries << kept
        store = memory.Memory(
            shape=self._entries.elem_shape,
            depth=depth * len(keys),
            init=[],
            attrs=NO_COLLISIONS | BLOCK,
        )
        m.submodules[f"tables_{first}"] = store
        written = Cat(self.entry, self.write_slice[:kept])
        entries = []
        for number, key in enumerate(keys):
            table = first + number
            entry = Signal(self._entries.elem_shape, name=f"entry_{table}", reset_less=True)
            address = Signal(range(depth), name=f"address_{table}")
            own_key = Cat(key, Const(0, self._options.mu))[: self._options.mu]
            looked_up = Cat(own_key, self.slice[:kept])
            write, read = store.write_port(), store.read_port()
            m.d.comb += [
                address.eq(Mux(self.enable, written, looked_up)),
                write.en.eq(self.enable),
                write.addr.eq(Cat(address, Const(number, 1))),
                write.data.eq(self.entries[table]),
                read.addr.eq(Cat(address, Const(number, 1))),
            ]
            m.d.sync += entry.eq(read.data)  # block RAM alone takes most of a cycle
            entries.append(entry)
        return entries

    def _read(self, m: Module, table: int, key: Value) -> Value:
        """Return an entry, ``read_cycles`` later."""
        address = Signal((self._options.entries - 1).bit_length(), name=f"key_{table}")
        entry = Signal(self._entries.elem_shape, name=f"entry_{table}", reset_less=True)
        in_blocks = self._options.table == "block"
        kept = self.parameters.table_address_width
        store = memory.Memory(
            shape=self._entries.elem_shape,
            depth=self._options.entries << kept,
            init=[],
            attrs=NO_COLLISIONS | BLOCK if in_blocks else NO_COLLISIONS,
        )
        m.submodules[f"table_{table}"] = store
        write = store.write_port()
        m.d.comb += [
            address.eq(key),
            write.en.eq(self.enable),
            write.addr.eq(Cat(self.entry, self.write_slice[:kept])),
            write.data.eq(self.entries[table]),
        ]
        if in_blocks:
            read = store.read_port()
            m.d.comb += read.addr.eq(Cat(address, self.slice[:kept]))
            m.d.sync += entry.eq(read.data)  # block RAM alone takes most of a cycle
        else:
            read = store.read_port(domain="comb")
            m.d.comb += read.addr.eq(Cat(address, self.slice[:kept]))
            m.d.sync += entry.eq(read.data)
        return entry
