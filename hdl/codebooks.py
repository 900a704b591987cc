"""Registers of the programmable codebooks, and what lanes look up in them."""

from collections.abc import Sequence

from amaranth import Cat, Module, Signal, Value, signed
from amaranth.hdl import ShapeLike
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .boolean import look_up
from .core_options import TermOptions
from .parameters import EngineParameters

__all__ = ["CodebookLookUp", "Codebooks", "codebooks_layout", "codebooks_member"]


def codebooks_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return what lanes take of the codebooks: of each slot, entry by entry.

    Values, signed, or for a term engine terms: a ``size``, as in :func:`term_layout`, and whether
    the term is ``negative``.
    """
    layout = parameters.layout
    entry: ShapeLike
    if isinstance(parameters.core, TermOptions):
        size = layout.codebook_entry.get("size_0", 0)
        term = data.StructLayout({"size": size, "negative": 1})
        entry = data.ArrayLayout(term, layout.codebook_terms)
    else:
        entry = signed(layout.codebook_width)
    return data.StructLayout({
        slot.name: data.ArrayLayout(entry, 1 << slot.code_width) for slot in layout.codebooks
    })


def codebooks_member(parameters: EngineParameters, flow: wiring.Flow) -> dict[str, wiring.Member]:
    """Return the member ``codebooks`` of a component; none where no format is a codebook."""
    if not parameters.layout.codebooks:
        return {}
    return {"codebooks": flow(codebooks_layout(parameters))}


class Codebooks(wiring.Component):
    """Keeps the codebooks of the layer at hand, as they come in beats of the weight stream.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's; some of its formats are codebooks.

    Members
    -------
    enable : :py:`In(1)`
        Keep ``beat``; seen from the next cycle on.
    part : :py:`In(range(codebook_beats))`
        Which of the section's beats it is.
    beat : :py:`In(beat_width)`
        The beat.
    codebooks : :py:`Out(codebooks_layout(parameters))`
        What is kept.
    """

    enable: Signal
    part: Signal
    beat: Signal
    codebooks: data.View

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        layout = parameters.layout
        super().__init__({
            "enable": In(1),
            "part": In(range(layout.codebook_beats)),
            "beat": In(layout.beat_width),
            **codebooks_member(parameters, Out),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout = self.parameters.layout
        entry = data.StructLayout(layout.codebook_entry)
        kept = Signal(
            data.StructLayout({
                slot.name: data.ArrayLayout(entry, 1 << slot.code_width)
                for slot in layout.codebooks
            }),
            reset_less=True,
        )
        bits, width = Value.cast(kept), layout.beat_width
        for part in range(layout.codebook_beats):
            with m.If(self.enable & (self.part == part)):
                m.d.sync += bits[part * width : (part + 1) * width].eq(self.beat)
        for slot in layout.codebooks:
            for code in range(1 << slot.code_width):
                self._tell(m, self.codebooks[slot.name][code], kept[slot.name][code])
        return m

    def _tell(self, m: Module, told: data.View | Value, entry: data.View) -> None:
        """Hand on what lanes take of one entry."""
        if not isinstance(told, data.View):
            m.d.comb += told.eq(entry.value)
            return
        for index in range(self.parameters.layout.codebook_terms):
            m.d.comb += [
                told[index].size.eq(entry[f"size_{index}"]),
                told[index].negative.eq(entry[f"negative_{index}"]),
            ]


class CodebookLookUp(wiring.Component):
    """Bits of many weights' entries, for whichever codebook their record names.

    Combinational. All bits are 0 for a format that is none, so that they can be added by OR to what
    other formats decode to.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's; some of its formats are codebooks.
    bits : int
        Bits of an entry.
    width : int
        Weights.

    Members
    -------
    codes : :py:`In(data.ArrayLayout(width, max code_width of the codebooks))`
        Bit ``b`` of every weight's code in element ``b``.
    format : :py:`In(range(members))`
        Number of the weights' format.
    entries : :py:`In(data.StructLayout({slot: data.ArrayLayout(bits, entries), ...}))`
        Bits of the entries of each slot.
    o : :py:`Out(data.ArrayLayout(width, bits))`
        Bit ``b`` of every weight's entry in element ``b``.
    """

    codes: data.View
    format: Signal
    entries: data.View
    o: data.View

    def __init__(self, *, parameters: EngineParameters, bits: int, width: int) -> None:
        self.parameters = parameters
        layout = parameters.layout
        self._code_width = max(slot.code_width for slot in layout.codebooks)
        super().__init__({
            "codes": In(data.ArrayLayout(width, self._code_width)),
            "format": In(range(len(layout.members))),
            "entries": In(
                data.StructLayout({
                    slot.name: data.ArrayLayout(bits, 1 << slot.code_width)
                    for slot in layout.codebooks
                })
            ),
            "o": Out(data.ArrayLayout(width, bits)),
        })

    def connect(self, m: Module, codes: data.View | Sequence[Value], number: Value) -> None:
        """Take the codes and the format's number of whoever looks up; spare bits are left out."""
        m.d.comb += self.format.eq(number)
        for bit in range(self._code_width):
            m.d.comb += self.codes[bit].eq(codes[bit])

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The codebook at hand; a shorter one is repeated, so that codes' spare bits do not matter.
        count = 1 << self._code_width
        bits = self.o.shape().length
        entries = Signal(data.ArrayLayout(bits, count))
        with m.Switch(self.format):
            for index, item in enumerate(self.parameters.layout.members):
                if item in self.parameters.layout.codebooks:
                    with m.Case(index):
                        repeated = [self.entries[item.name]] * (count >> item.code_width)
                        m.d.comb += entries.eq(Cat(repeated))
        codes = [self.codes[bit] for bit in range(self._code_width)]
        for bit in range(bits):
            table = [entries[code][bit] for code in range(count)]
            m.d.comb += self.o[bit].eq(look_up(table, codes, self.codes.shape().elem_shape))
        return m
