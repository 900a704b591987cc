"""The core of a LUT engine: one digit plane of a slice a cycle, by table look-up."""

from amaranth import Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory

from .core import Core, activation_write_layout
from .lookup import Lookup, entries_layout, lut_options, read_cycles
from .parameters import EngineParameters
from .pipeline import delay, sum_latency
from .plane_decoder import PlaneDecoder, decode_cycles, plane_coefficients, plane_layout
from .weigh import magnitude_slots, slot_choices, weigh, weigh_latency

__all__ = ["LutCore"]


class LutCore(Core):
    """:class:`Core` by look-up: every token has tables of its own, all share the keys.

    ``write.values`` is one entry of every table of a slice, ``write.index`` its number.

    Parameters
    ----------
    parameters : EngineParameters
        A LUT engine's.
    """

    def __init__(self, *, parameters: EngineParameters) -> None:
        tables = entries_layout(parameters).length
        tree = sum_latency(tables, levels=parameters.adder_levels)
        self._look_up = read_cycles(parameters) + tree
        self._coefficients = plane_coefficients(parameters)
        self._slots = magnitude_slots(self._coefficients)
        write = activation_write_layout(parameters, entries_layout(parameters))
        super().__init__(parameters=parameters, write_layout=write)

    @property
    def latency(self) -> int:
        """Cycles from a step to its sums: decode, look up, add, inject, add up once more."""
        return self._inject + 1 + self._weigh_cycles

    @property
    def hold_cycles(self) -> int:
        """Cycles from a step to when its slice's activations may be overwritten."""
        return self._inject

    @property
    def _inject(self) -> int:
        """Cycles from a step to when its slice's activation sum is needed."""
        return self._key + self._look_up

    @property
    def _key(self) -> int:
        """Cycles from a step to its key."""
        return decode_cycles(self.parameters) + 1

    @property
    def _weigh_cycles(self) -> int:
        """Cycles for the coefficient: adders have one of their own."""
        return weigh_latency(self._slots, levels=self.parameters.adder_levels)

    @property
    def _needs_slice_sums(self) -> bool:
        parameters = self.parameters
        return parameters.core.needs_slice_sums(parameters.layout.members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        m.submodules.decoder = decoder = PlaneDecoder(parameters=parameters)
        key = Signal.like(decoder.key, reset_less=True)
        m.d.comb += [
            decoder.codes.eq(self.codes),
            decoder.format.eq(self.format),
            decoder.zero.eq(self.zero),
            decoder.step.eq(self.step),
        ]
        if parameters.layout.codebooks:
            m.d.comb += decoder.codebooks.eq(self.codebooks)
        m.d.sync += key.eq(decoder.key)

        slice_at_look_up = delay(m, self.slice, self._key, name="look_up_slice")
        # A cycle ahead, for the register behind the sums' memory.
        summed_slice = delay(m, slice_at_look_up, self._look_up - 1, name="summed_slice")
        plane_bits = delay(m, decoder.plane, self._look_up + 1, name="inject_plane")
        plane = data.View(plane_layout(parameters), plane_bits)
        negative = Signal()
        with m.Switch(plane.coefficient):
            for index, factor in enumerate(self._coefficients):
                with m.Case(index):
                    m.d.comb += negative.eq(factor < 0)
        choices = slot_choices(m, self._slots, plane.coefficient, name="coefficient")
        for token in range(parameters.tokens):
            m.submodules[f"lookup_{token}"] = lookup = Lookup(parameters=parameters)
            m.d.comb += [
                lookup.enable.eq(self.write.enable),
                lookup.write_slice.eq(self.write.slice),
                lookup.entry.eq(self.write.index),
                lookup.entries.eq(self.write.values[token]),
                lookup.key.eq(key),
                lookup.slice.eq(slice_at_look_up),
            ]
            digits: Value = lookup.sum
            if self._needs_slice_sums:
                every = self._slice_sum(m, token, summed_slice)
                digits = self._digits(lookup.sum, every, plane)
            total = Signal(signed(parameters.slice_width), name=f"total_{token}", reset_less=True)
            m.d.sync += total.eq(Mux(negative, ~digits, digits) + negative)
            levels = parameters.adder_levels
            name = f"weighted_{token}"
            weighted = weigh(m, total, self._slots, choices, levels=levels, name=name)
            m.d.comb += self.sums[token].eq(weighted)

        return m

    def _slice_sum(self, m: Module, token: int, address: Value) -> Value:
        """Keep the sum of each slice's activations; return that at ``address``, a cycle later."""
        shape = signed(self.parameters.slice_width)
        store = memory.Memory(shape=shape, depth=1 << len(self.slice), init=[])
        m.submodules[f"slice_sums_{token}"] = store
        write, read = store.write_port(), store.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(self.write.slice),
            write.data.eq(self.write.sum[token]),
            write.en.eq(self.write.enable_sum),
            read.addr.eq(address),
        ]
        return delay(m, read.data, 1, name=f"slice_sum_{token}").as_signed()

    def _digits(self, looked_up: Value, every: Value, plane: data.View) -> Value:
        """Sum of 0/1 digits less the zero-point's, or of ±1 digits.

        With ``S`` the sum over 0/1, ``D`` that over ±1 and ``X`` that over all activations,
        ``D`` is ``2 S - X``; a zero-point's digit of 1 takes ``X`` off ``S``.
        """
        if lut_options(self.parameters).is_half:
            unipolar = looked_up + Mux(plane.zero, ~every, every) + plane.zero
            return Mux(plane.bipolar, looked_up, unipolar >> 1)
        takes_off = plane.bipolar | plane.zero
        digits = Mux(plane.bipolar, looked_up << 1, looked_up)
        return digits + Mux(takes_off, ~every, 0) + takes_off
