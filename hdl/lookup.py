"""The table look-ups of one lane: keys in, the slice's signed sum out."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .parameters import LutParameters
from .pipeline import registered_sum, sum_latency

__all__ = ["Lookup", "slice_address_width", "table_write_layout"]


def slice_address_width(parameters: LutParameters) -> int:
    """Bits that tell the slices of the two tiles whose tables are held; the bank is the top one."""
    return (parameters.layout.tile_slices - 1).bit_length() + 1


def table_write_layout(parameters: LutParameters) -> data.StructLayout:
    """Return the bus that fills one entry of every table of a slice."""
    return data.StructLayout({
        "enable": 1,
        "slice": slice_address_width(parameters),
        "entry": (parameters.entries - 1).bit_length(),
        "values": data.ArrayLayout(signed(parameters.entry_width), parameters.tables),
    })


class Lookup(wiring.Component):
    """Sum of ±activations of one slice, by one look-up for each ``mu`` of them.

    Table ``j`` holds, for every choice of signs, the signed sum of activations ``mu * j`` up to
    ``mu * (j + 1)``; a key bit of 1 stands for +1. A half table holds those whose last sign is -1,
    at the lower bits' address; for the others the complement is looked up and negated.

    Latency is :attr:`latency` cycles, throughput is one slice a cycle, no backpressure.

    Parameters
    ----------
    parameters : LutParameters
        The engine's.

    Members
    -------
    write : :py:`In(table_write_layout(parameters))`
        Fills the tables; seen by look-ups from the next cycle on.
    key : :py:`In(width)`
        Sign bits of one slice.
    slice : :py:`In(slice_address_width(parameters))`
        Which slice's tables to use.
    sum : :py:`Out(signed(slice_width))`
        Signed sum.
    """

    write: data.View
    key: Signal
    slice: Signal
    sum: Signal

    def __init__(self, *, parameters: LutParameters) -> None:
        self.parameters = parameters
        super().__init__({
            "write": In(table_write_layout(parameters)),
            "key": In(parameters.layout.width),
            "slice": In(slice_address_width(parameters)),
            "sum": Out(signed(parameters.slice_width)),
        })

    @property
    def latency(self) -> int:
        """Cycles from key to sum."""
        return 1 + sum_latency(self.parameters.tables)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        mu = self.parameters.mu

        entries = []
        for table in range(self.parameters.tables):
            key = Signal(mu, name=f"key_{table}")
            entry = Signal(signed(self.parameters.entry_width), name=f"entry_{table}")
            m.d.comb += key.eq(self.key[table * mu : (table + 1) * mu])
            m.d.sync += entry.eq(self._read(m, table, key))
            entries.append(entry)
        m.d.comb += self.sum.eq(registered_sum(m, entries, name="sum"))

        return m

    def _read(self, m: Module, table: int, key: Value) -> Value:
        parameters = self.parameters
        depth = parameters.entries << slice_address_width(parameters)
        shape = signed(parameters.entry_width)
        m.submodules[f"table_{table}"] = store = memory.Memory(shape=shape, depth=depth, init=[])
        write, read = store.write_port(), store.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(self.write.enable),
            write.addr.eq(Cat(self.write.entry, self.write.slice)),
            write.data.eq(self.write.values[table]),
        ]
        if parameters.table == "full":
            m.d.comb += read.addr.eq(Cat(key, self.slice))
            return read.data
        negate = key[-1]
        m.d.comb += read.addr.eq(Cat(key[:-1] ^ negate.replicate(len(key) - 1), self.slice))
        return Mux(negate, -read.data, read.data)
