"""Weights times activations by multipliers: what the other cores are measured against."""

from collections.abc import Sequence
from typing import cast

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data

from .core_options import MacOptions
from .folded_core import FoldedCore, count_ones
from .pipeline import delay, registered_sum, sum_latency
from .value_decoder import ValueDecoder, value_width

__all__ = ["MacCore"]


class MacCore(FoldedCore):
    """:class:`FoldedCore` that multiplies each weight's value by its activation.

    Turn ``t`` is what the format's scale ``t`` multiplies. The zero-point's value is multiplied by
    the part's sum, which takes one multiplier more and none of them wider.

    In logic, products are sums of radix-4 Booth rows: one LUT a bit of a row, one a bit of an
    adder. A row is taken off by adding its complement; the one that is missing then goes where the
    next row has zeros, and those of the last rows are counted and added at the end.

    Parameters
    ----------
    parameters : EngineParameters
        A MAC engine's.
    """

    @property
    def latency(self) -> int:
        """Cycles from a step to its sums."""
        corrected = int(self._in_logic or self._has_zero)
        return 1 + self._product_cycles + self._sum_cycles + corrected

    @property
    def _sum_cycles(self) -> int:
        """Cycles from products to their sum."""
        return sum_latency(self.parameters.part_width, levels=self.parameters.adder_levels)

    @property
    def _has_zero(self) -> bool:
        """Whether some format has a zero-point."""
        return any(item.has_zero_point for item in self.parameters.layout.members)

    @property
    def _in_logic(self) -> bool:
        return cast(MacOptions, self.parameters.core).product == "logic"

    @property
    def _rows(self) -> int:
        """Booth digits of a value."""
        return (value_width(self.parameters.layout) + 1) // 2

    @property
    def _product_cycles(self) -> int:
        """Cycles from operands to their product."""
        if not self._in_logic:
            return 2
        return 1 + sum_latency(self._rows, levels=self.parameters.adder_levels)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.decoder = decoder = ValueDecoder(parameters=self.parameters)
        turn, part = self._turn_and_part(m)
        m.d.comb += [
            decoder.codes.eq(self._part_codes(m, part)),
            decoder.format.eq(self.format),
            decoder.scale.eq(turn),
        ]
        if self.parameters.layout.codebooks:
            m.d.comb += decoder.codebooks.eq(self.codebooks)
        bits = data.View(decoder.values.shape(), delay(m, decoder.values, 1, name="values"))
        words = self._activations(
            m, delay(m, self.slice, 1, name="slice"), delay(m, part, 1, name="part")
        )

        width = self.parameters.part_width
        values = [Cat(row[index] for row in bits).as_signed() for index in range(width + 1)]
        missing = self._missing(m, bits[-1][:width])
        for token, word in enumerate(words):
            products = [
                self._product(m, word.elements[index], values[index], f"product_{token}_{index}")
                for index in range(width)
            ]
            total = self._sum(m, products, f"sum_{token}")
            if self._in_logic:
                total += missing
            if self._has_zero:
                total -= self._zero(m, word.sum, values[width], f"zero_{token}")
            if self._in_logic or self._has_zero:
                total = delay(m, total, 1, name=f"total_{token}")
            m.d.comb += self.sums[token].eq(total)
        return m

    def _product(self, m: Module, x: Value, value: Value, name: str) -> Value:
        """Multiply, ``_product_cycles`` later; in logic without the last row's missing one."""
        if not self._in_logic:
            x = delay(m, x, 1, name=f"{name}_x")
            value = delay(m, value, 1, name=f"{name}_value")
            return delay(m, x * value, 1, name=name)
        digits = Cat(Const(0, 1), value, value[-1])
        rows = []
        for row in range(self._rows):
            bits = digits[2 * row : 2 * row + 3]
            multiple = delay(
                m, _booth_multiple(m, x, bits, f"{name}_{row}"), 1, name=f"{name}_{row}"
            )
            if row:
                before = delay(m, digits[2 * row], 1, name=f"{name}_{row}_one")
                multiple = Cat(before, Const(0, 1), multiple).as_signed() << (2 * row - 2)
            rows.append(multiple)
        return self._sum(m, rows, name)

    def _sum(self, m: Module, terms: Sequence[Value], name: str) -> Value:
        return registered_sum(m, terms, levels=self.parameters.adder_levels, name=name)

    def _missing(self, m: Module, negative: Value) -> Value:
        """Return what all weights' last rows lack, when their products have been added up."""
        counts = count_ones(m, negative)
        own_cycles = sum_latency(len(counts), levels=self.parameters.adder_levels)
        cycles = self._product_cycles - 1 + self._sum_cycles - own_cycles
        total = self._sum(m, counts, "missing")
        return delay(m, total, cycles, name="missing_late") << (2 * self._rows - 2)

    def _zero(self, m: Module, x: Value, value: Value, name: str) -> Value:
        """Multiply a part's sum by the zero-point's value, as late as products are added up."""
        product = self._product(m, x, value, name)
        if self._in_logic:
            negative = delay(m, value[-1], self._product_cycles, name=f"{name}_negative")
            product += negative << (2 * self._rows - 2)
        return delay(m, product, self._sum_cycles, name=f"{name}_late")


def _booth_multiple(m: Module, x: Value, bits: Value, name: str) -> Value:
    """Return -2 to 2 times ``x`` by two bits and the one below; one too little if negative."""
    multiple = Signal(signed(len(x) + 1), name=f"{name}_multiple")
    once = Mux(bits[0] ^ bits[1], x, 0)
    twice = Mux((bits[0] == bits[1]) & (bits[1] != bits[2]), x << 1, 0)
    m.d.comb += multiple.eq((once | twice) ^ bits[2].replicate(len(multiple)))
    return multiple
