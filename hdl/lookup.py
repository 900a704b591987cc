"""The table look-ups of one lane for one token: keys in, the slice's signed sum out."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .core_options import LutOptions
from .parameters import EngineParameters, signed_width
from .pipeline import registered_sum, sum_latency

__all__ = ["Lookup", "entries_layout", "lut_options"]


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
    """Return one entry of every table of a slice: signed sums of ``mu`` activations."""
    options = lut_options(parameters)
    entry = signed(signed_width(options.mu * parameters.numerics.peak))
    return data.ArrayLayout(entry, options.tables(parameters.layout.width))


class Lookup(wiring.Component):
    """Sum of ±activations of one slice, by one look-up for each ``mu`` of them.

    Table ``j`` holds, for every choice of signs, the signed sum of activations ``mu * j`` up to
    ``mu * (j + 1)``; a key bit of 1 stands for +1. A half table holds those whose last sign is -1,
    at the lower bits' address; for the others the complement is looked up and negated.

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
        Sign bits of one slice.
    slice : :py:`In(slice_address_width)`
        Which slice's tables to use.
    sum : :py:`Out(signed(slice_width))`
        Signed sum.
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
        return 1 + sum_latency(self._entries.length)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        mu = self._options.mu

        entries = []
        for table in range(self._entries.length):
            key = Signal(mu, name=f"key_{table}")
            entry = Signal(self._entries.elem_shape, name=f"entry_{table}")
            m.d.comb += key.eq(self.key[table * mu : (table + 1) * mu])
            m.d.sync += entry.eq(self._read(m, table, key))
            entries.append(entry)
        m.d.comb += self.sum.eq(registered_sum(m, entries, name="sum"))

        return m

    def _read(self, m: Module, table: int, key: Value) -> Value:
        depth = self._options.entries << self.parameters.slice_address_width
        store = memory.Memory(shape=self._entries.elem_shape, depth=depth, init=[])
        m.submodules[f"table_{table}"] = store
        write, read = store.write_port(), store.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(self.enable),
            write.addr.eq(Cat(self.entry, self.write_slice)),
            write.data.eq(self.entries[table]),
        ]
        if self._options.table == "full":
            m.d.comb += read.addr.eq(Cat(key, self.slice))
            return read.data
        negate = key[-1]
        m.d.comb += read.addr.eq(Cat(key[:-1] ^ negate.replicate(len(key) - 1), self.slice))
        return Mux(negate, -read.data, read.data)
