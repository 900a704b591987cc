"""Weights times activations by signed powers of two: shifters and adders, no multiplier."""

from collections.abc import Sequence

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data

from .folded_core import BITS_OF_COUNT, FoldedCore, count_ones
from .pipeline import delay, registered_sum, sum_latency
from .term_decoder import TermDecoder, term_layout

__all__ = ["TermCore"]


class TermCore(FoldedCore):
    """:class:`FoldedCore` that adds one signed power of two times its activation a weight.

    Turn ``t`` is term step ``t`` of the format. What all of a step's terms have in common of their
    exponents is applied to their sum; a weight's own shift is by few places. A term is taken off by
    adding its complement, and the ones that are missing then are counted and added at the end.

    Parameters
    ----------
    parameters : EngineParameters
        A term engine's.
    """

    @property
    def latency(self) -> int:
        """Cycles from a step to its sums."""
        return 3 + self._add_cycles

    @property
    def _add_cycles(self) -> int:
        """Cycles from the terms to their sum."""
        width = self.parameters.part_width
        corrections = -(-(width + 1) // BITS_OF_COUNT) + 1
        return sum_latency(max(width, corrections), levels=self.parameters.adder_levels)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.decoder = decoder = TermDecoder(parameters=self.parameters)
        turn, part = self._turn_and_part(m)
        m.d.comb += [
            decoder.codes.eq(self._part_codes(m, part)),
            decoder.format.eq(self.format),
            decoder.step.eq(turn),
        ]
        if self.parameters.layout.codebooks:
            m.d.comb += decoder.codebooks.eq(self.codebooks)
        layout = term_layout(self.parameters)
        terms = data.View(layout, delay(m, decoder.terms, 1, name="terms"))
        base = delay(m, terms.base, 1 + self._add_cycles, name="base")
        words = self._activations(
            m, delay(m, self.slice, 1, name="slice"), delay(m, part, 1, name="part")
        )

        # A zero-point's term is taken off: the part's sum is one more activation, with the other
        # sign. What complements lack is the same for all tokens.
        width, has_zero = self.parameters.part_width, "sum" in words[0].shape().members
        negative = Cat(terms.negative[:width], ~terms.negative[width])
        counts = count_ones(m, negative if has_zero else negative[:width])
        sizes = [Cat(bits[index] for bits in terms.size) for index in range(width + 1)]
        for token, word in enumerate(words):
            name = f"term_{token}"
            addends = [
                self._addend(
                    m, word.elements[index], sizes[index], negative[index], f"{name}_{index}"
                )
                for index in range(width)
            ]
            corrections = list(counts)
            if has_zero:
                corrections.append(
                    self._addend(m, word.sum, sizes[width], negative[width], f"{name}_zero")
                )
            every = self._sum(m, addends, f"sum_{token}")
            every += self._sum(m, corrections, f"correction_{token}")
            total = Signal.like(every, name=f"total_{token}")
            m.d.comb += total.eq(every)
            with m.Switch(base):
                for shift in sorted(self._bases):
                    with m.Case(shift):
                        m.d.sync += self.sums[token].eq(total << shift)
        return m

    @property
    def _bases(self) -> set[int]:
        """Exponents that the terms of some step have in common."""
        items = self.parameters.layout.members
        return {step.base for item in items for step in item.term_steps}

    def _sum(self, m: Module, addends: Sequence[Value], name: str) -> Value:
        """Add up, later by as many cycles as any sum of the core's."""
        levels = self.parameters.adder_levels
        rest = self._add_cycles - sum_latency(len(addends), levels=levels)
        total = registered_sum(m, addends, levels=levels, name=name)
        return delay(m, total, rest, name=f"{name}_late")

    def _addend(self, m: Module, value: Value, size: Value, negative: Value, name: str) -> Value:
        """Return the term times a value, or its complement where it is negative; a cycle later."""
        items = self.parameters.layout.members
        span = max(step.span for item in items for step in item.term_steps)
        shifted = Signal(signed(len(value) + span - 1), name=f"{name}_shifted")
        addend = Signal.like(shifted, name=name, reset_less=True)
        with m.Switch(size):
            with m.Case(0):
                m.d.comb += shifted.eq(0)
            for places in range(span):
                # No size is larger than the last.
                with m.Default() if places == span - 1 else m.Case(places + 1):
                    m.d.comb += shifted.eq(value << places)
        m.d.sync += addend.eq(Mux(negative, ~shifted, shifted))
        return addend
