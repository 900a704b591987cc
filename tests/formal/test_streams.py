# amaranth: UnusedElaboratable=no
"""Streams: what is offered stays, and nothing is lost, repeated, invented or put out of order."""

import pytest
from amaranth import Array, Cat, Const, Mux, Signal, Value

from lutra.formats import Numerics
from lutra.hdl import Engine, activation_store, skid_buffer
from lutra.hdl.activation_store import store_latency
from lutra.hdl.convert_output import ConvertOutput
from lutra.hdl.drain import Drain
from lutra.hdl.lane_reader import LaneReader
from lutra.hdl.token_stores import TokenStores
from lutra.hdl.unpack import Unpack

INT = Numerics(activation="int8", act_width=8, output="int")
FLOAT = Numerics(activation="int8", act_width=8, output="float32")


def _in_order(bench, *, taken, item, given, seen, room):
    """Follow one marked item: the n-th that goes out is the n-th that came in, for any n.

    Numbers count modulo a power of two beyond the ``room`` that there is for items.
    """
    m, bits = bench.m, room.bit_length() + 1
    marked = bench.some(bits, name="marked")
    ins, outs = Signal(bits, name="ins"), Signal(bits, name="outs")
    inside, kept = Signal(name="inside"), Signal(Value.cast(item).shape(), name="kept")
    ours = given & inside & (outs == marked)
    with m.If(taken):
        m.d.sync += ins.eq(ins + 1)
    with m.If(given):
        m.d.sync += outs.eq(outs + 1)
    with m.If(ours):
        m.d.sync += inside.eq(0)
    with m.If(taken & (ins == marked)):
        m.d.sync += [kept.eq(item), inside.eq(1)]
    count = bench.wire((ins - outs)[:bits], name="count")
    bench.claim("no more than there is room for", count <= room)
    bench.claim("nothing from nothing", count != 0, when=given)
    bench.claim("marked is under way", (marked - outs)[:bits] < count, when=inside)
    bench.claim("the same item", seen == kept, when=ours)
    return count, inside & (outs == marked), kept


# -- output ----------------------------------------------------------------------------------------


def convert(formal, numerics, rows=2):
    """Return the last stage; of floating-point numbers the marks of the last row are followed."""
    parameters = formal.parameters(numerics=numerics, output_lanes=rows)
    bench = formal.Bench()
    dut = bench.add(ConvertOutput(parameters=parameters))
    row, o = dut.i.payload, dut.o.payload
    item, seen = row.last, o.last
    if numerics.output == "int":
        kept = [Mux(row.present[i], row.sums[i], 0).as_signed() for i in range(rows)]
        kept = [bench.wire(v[: parameters.sum_width], name=f"row_{i}") for i, v in enumerate(kept)]
        item, seen = Cat(*kept, row.exponent, row.last), Cat(o.values, o.exponent, o.last)
    count, next_out, kept = _in_order(
        bench,
        taken=dut.i.valid & dut.i.ready,
        item=item,
        given=dut.o.valid & dut.o.ready,
        seen=seen,
        room=dut.latency + 1,
    )
    bench.steady(dut.o, "o")
    bench.claim("busy", dut.busy == (count != 0))
    bench.claim("the same item waits", seen == kept, when=next_out & dut.o.valid)
    return bench


def drained(formal, outputs=1):
    """Return rows on their way from the lanes out, by the way of both last stages.

    A lane's row sum is its address and the row of its block, which lanes share out in some way.
    """
    parameters = formal.parameters(numerics=INT, max_rows=8, scale_width=2, output_lanes=outputs)
    layout = parameters.layout
    bench = formal.Bench()
    m = bench.m
    parts = layout.lanes // outputs
    # Which part a lane of each set has, and which output each set has of a part.
    part_of = bench.some(outputs * layout.place["part"], name="part_of")
    output_of = bench.some(parts * layout.place["output"], name="output_of")
    layers_in, layers_out = Signal(3, name="layers_in"), Signal(3, name="layers_out")
    bank, rows = layers_in[0], bench.free(4, name="rows")
    done = bench.free(1, name="done")
    drain, convert = Drain(parameters=parameters), ConvertOutput(parameters=parameters)
    row, newest = (Signal.like(drain.read_row, name=name) for name in ("row", "newest"))
    lane_rows = []
    for lane in range(layout.lanes):
        index, own = divmod(lane, outputs)
        part = Signal(layout.place["part"], name=f"part_{lane}")
        output = Signal(layout.place["output"], name=f"output_{lane}")
        m.d.comb += part.eq(part_of[own * len(part) : (own + 1) * len(part)] ^ index)
        m.d.comb += output.eq((output_of >> part * len(output)) ^ own)
        place = Cat(output, part)
        total = bench.wire(Cat(row, place), name=f"total_{lane}")
        padding = Const(0, parameters.sum_width - len(total))
        lane_rows.append(Cat(total, padding, Const(0, 32), place))
    bench.add(
        drain,
        name="dut_drain",
        done=done,
        rows=rows,
        bank=bank,
        drained=Cat(lane_rows),
        advance=convert.i.ready,
    )
    bench.add(convert, name="dut_convert", i__payload=drain.o.as_value(), i__valid=drain.o_valid)
    with m.If(drain.read):
        m.d.sync += [row.eq(newest), newest.eq(drain.read_row)]
    bench.assume(~done | (drain.free.bit_select(bank, 1) & (rows > 0) & (rows <= 8)))

    # More layers may begin while the last rows of the first are still being converted.
    sizes = Array(Signal(4, name=f"size_{index}") for index in range(8))
    number = Signal(4, name="number")
    with m.If(done):
        m.d.sync += [layers_in.eq(layers_in + 1), sizes[layers_in].eq(rows)]
    given, o = convert.o.valid & convert.o.ready, convert.o.payload
    last = number + outputs >= sizes[layers_out]
    with m.If(given):
        m.d.sync += number.eq(Mux(last, 0, number + outputs))
        with m.If(last):
            m.d.sync += layers_out.eq(layers_out + 1)
    bench.claim("rows of a layer", layers_in != layers_out, when=given)
    for index in range(outputs):
        own = bench.wire((number + index)[:4], name=f"number_{index}")
        there = given & (own < sizes[layers_out])
        total = Cat(own[2:][: len(row) - 1], layers_out[0], own[:2])
        bench.claim(f"rows in order {index}", o.values[index] == total, when=there)
    bench.claim("the last is the last", o.last == last, when=given)
    bench.steady(convert.o, "o")
    return bench


# -- activations -----------------------------------------------------------------------------------


def stores(formal, tokens=1):
    """Return activation stores; one element of one vector is followed, any of any."""
    parameters = formal.parameters(tokens=tokens, max_columns=8, act_lanes=4)
    bench = formal.Bench()
    m = bench.m
    dut = bench.add(TokenStores(parameters=parameters), discard=Const(0))
    bits = (4 * tokens - 1).bit_length()
    marked = bench.some(bits, name="marked")
    beat = bench.some(1, name="beat")
    bench.keep_steady(dut.i)
    taken, last = dut.i.valid & dut.i.ready, dut.i.payload.last
    ins, outs, place = Signal(bits), Signal(bits), Signal(2)
    kept, length, inside = Signal(32, name="kept"), Signal(2, name="length"), Signal(name="inside")
    bench.assume(~dut.i.valid | last | (place < parameters.max_act_beats - 1))
    with m.If(taken):
        m.d.sync += place.eq(Mux(last, 0, place + 1))
        with m.If((ins == marked) & (place == beat)):
            m.d.sync += kept.eq(dut.i.payload.elements)
        with m.If(last):
            m.d.sync += ins.eq(ins + 1)
            with m.If(ins == marked):
                m.d.sync += [length.eq(place + 1), inside.eq(1)]
    bench.assume(dut.ready | (~dut.read & ~dut.release))
    bench.assume(~(dut.read & dut.release))
    late = store_latency(parameters)
    for age in range(1, late):
        bench.assume(~bench.past(dut.read, age) | ~dut.release)
    with m.If(dut.release):
        m.d.sync += outs.eq(outs + tokens)
        with m.If((marked - outs)[:bits] < tokens):
            m.d.sync += inside.eq(0)
    count = bench.wire((ins - outs)[:bits], name="count")
    store = (marked - outs)[:bits]
    ours = inside & (store < tokens) & dut.ready
    bench.claim("room for two of each", count <= 2 * tokens)
    bench.claim("as many as are ready", count >= tokens, when=dut.ready)
    wanted = Mux(beat < length, kept, 0)
    for token in range(tokens):
        own = ours & (store == token)
        bench.claim(f"beats {token}", dut.tokens[token].beats == length, when=own)
        read = bench.past(own & dut.read & (dut.read_beat == beat), late)
        bench.claim(f"elements {token}", dut.aligned[token].as_value() == wanted, when=read)
    bench.claim("valid follows", dut.aligned_valid == bench.past(dut.read, late))
    bench.claim("never too long", ~dut.too_long)
    return bench


# -- weights ---------------------------------------------------------------------------------------


def reader(formal):
    """Return the reader of a lane with a layer of three records of one slice each.

    With two headers a word and two words of codes a slice, the words are B C C B C C C C.
    """
    parameters = formal.parameters(("int2",), scale_width=2, max_rows=16, ahead=2)
    layout = parameters.layout
    assert layout.batch_shape == (1, 2)
    batches, codes = (0, 3), ((1, 2), (4, 5), (6, 7))
    bench = formal.Bench()
    m = bench.m
    dut = LaneReader(parameters=parameters)
    sent = Signal(4, name="sent")
    bench.add(
        dut,
        start=~bench.started,
        ends_span=sent == 7,
        program=Cat(Const(0, 1), Const(2, 2), Const(0, dut.program.shape().size - 3)),
        release=Const(0, 2),
    )
    bench.assume(~dut.push | (dut.room & bench.started & (sent < 8)))
    bench.assume(~dut.unknown)
    number = bench.some(2, name="number")
    kept = [Signal(8, name=f"kept_{index}") for index in range(3)]
    with m.If(dut.push):
        m.d.sync += sent.eq(sent + 1)
        for index, slice_words in enumerate(codes):
            with m.If(number == index):
                for register, word in zip(kept, (batches[index // 2], *slice_words), strict=True):
                    with m.If(sent == word):
                        m.d.sync += register.eq(dut.word)
    count, taken = Signal(3, name="count"), dut.slice_valid & dut.slice_ready
    with m.If(taken):
        m.d.sync += count.eq(count + 1)
    ends = Array(Const(words[-1], 4) for words in codes)[count[:2]]
    ours = bench.past(taken & (count == number))
    bench.claim("three slices", count < 3, when=dut.slice_valid)
    bench.claim("complete words", sent > ends, when=dut.slice_valid & (count < 3))
    bench.claim("row", dut.slice.row == count, when=dut.slice_valid)
    bench.claim("whole records", dut.slice.first & dut.slice.last, when=dut.slice_valid)
    bench.claim("end", dut.slice.tile_end == (count == 2), when=dut.slice_valid)
    bench.claim("codes", Cat(dut.codes[0], dut.codes[1]) == Cat(kept[1], kept[2]), when=ours)
    header = Mux(number[0], kept[0][4:], kept[0][:4])
    bench.claim("header", dut.header.as_value() == header, when=ours)
    waits = bench.past(dut.slice_valid & ~dut.slice_ready)
    bench.claim("slice stays valid", dut.slice_valid, when=waits)
    bench.claim("slice stays", dut.slice.as_value() == bench.past(dut.slice.as_value()), when=waits)
    bench.claim("not cut short", ~dut.cut_short)
    bench.claim("done with the last word", sent == 8, when=dut.done & bench.past(bench.started))
    return bench


class WatchedUnpack(Unpack):
    """Shows what is kept twice: in a bit of its own, and in the error and the state."""

    def __init__(self, **changes):
        super().__init__(**changes)
        self.kept = Signal(2, name="kept")
        self.meant = Signal(2, name="meant")

    def elaborate(self, platform):
        """Return the logic."""
        m = super().elaborate(platform)
        failed = Value.cast(self.error) != 0
        m.d.comb += self.kept.eq(Cat(self._failed, self._in_words))
        m.d.comb += self.meant.eq(Cat(failed, self._states.ongoing("WORDS") & ~failed))
        return m


def unpack(formal):
    """Return the stream's reader in any state: what it hands on is what it takes, once."""
    parameters = formal.parameters()
    bench = formal.Bench()
    dut = bench.add(WatchedUnpack(parameters=parameters))
    taken = dut.i.valid & dut.i.ready
    fill = dut.row_fill
    handed = [dut.push, fill.places, *fill.scale]
    bench.claim("kept as meant", dut.kept == dut.meant)
    bench.claim("only what is taken", taken, when=Cat(handed).any())
    for index, one in enumerate(handed):
        bench.claim(f"one at a time {index}", ~Cat(handed[:index]).any(), when=one)
    bench.claim("room", dut.room, when=dut.push)
    error = Value.cast(dut.error)
    stopped = error != 0
    bench.claim("errors stay", error == bench.past(error), when=bench.past(stopped))
    bench.claim("discards", dut.i.ready & ~Cat(handed).any() & ~dut.done, when=stopped)
    return bench


def engine(formal, kind="lut", output="int"):
    """Return a whole engine in any state: its outputs keep the handshake's rules."""
    numerics = Numerics(activation="int8", act_width=8, output=output)
    parameters = formal.parameters(numerics=numerics, engine=kind)
    bench = formal.Bench()
    dut = bench.add(Engine(parameters=parameters), name="dut", clear=Const(0))
    bench.steady(dut.o, "o")
    return bench


PROOFS = {
    "integers out": (lambda formal: convert(formal, INT), 10, False),
    "floats out": (lambda formal: convert(formal, FLOAT, 1), 19, False),
    "rows in order": (drained, 11, False),
    "two rows in order": (lambda formal: drained(formal, 2), 10, False),
    "activations": (stores, 11, False),
    "activations of two tokens": (lambda formal: stores(formal, 2), 12, False),
    "slices of a lane": (reader, 15, False),
    "weights": (unpack, 2, True),
    "engine": (engine, 2, True),
    "engine of terms": (lambda formal: engine(formal, "term", "float32"), 2, True),
}


SLOW = ("activations of two tokens", "slices of a lane")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in PROOFS],
)
def test_stream(formal, name):
    make, depth, induction = PROOFS[name]
    formal.prove(make(formal), depth=depth, induction=induction)


FAULTS = {
    "integers out": ("mux", "swapped", 0),
    "floats out": ("not", "pos", 1),
    "rows in order": ("eq", "ne", 0),
    "two rows in order": ("eq", "ne", 4),
    "slices of a lane": ("mux", "swapped", 9),
    "weights": ("and", "or", 24),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found(formal, name):
    make, depth, induction = PROOFS[name]
    formal.refute(make(formal), depth=depth, induction=induction, fault=FAULTS[name])


@pytest.mark.parametrize("tokens", [1, 2])
def test_banks_mixed_up_are_found(formal, monkeypatch, tokens):
    """Whatever a bank chooses is the other bank's."""
    monkeypatch.setattr(activation_store, "Mux", lambda bank, one, zero: Mux(bank, zero, one))
    formal.refute(stores(formal, tokens), depth=9)


@pytest.mark.parametrize(
    "kind", [("lut", "int"), pytest.param(("term", "float32"), marks=pytest.mark.slow)]
)
def test_outputs_that_do_not_wait_are_found(formal, monkeypatch, kind):
    """The engine's last stage keeps nothing while its output waits."""
    monkeypatch.setattr(skid_buffer, "Mux", lambda holds, kept, comes: comes)
    formal.refute(
        engine(formal, *kind), "o stays valid", "o stays the same", depth=2, induction=True
    )
