# amaranth: UnusedElaboratable=no
"""Engines that are given something wrong: the code, no output, no hang, and afresh after clear."""

import dataclasses
import random
import sys
import zlib
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest

from lutra.formats import Numerics, pack
from lutra.formats.lane_order import lane_order
from lutra.formats.layout import FRAME_BEATS, LAYER_HEADER, SPAN_HEADER
from lutra.hdl import Error
from lutra.sim import adversarial_tokens, nonfinite_tokens, random_matrix

FORMATS = ("bitmod3", "int2_asym", "int8")  # six members, so that ids 6 and 7 are unknown
ROWS, COLUMNS, GROUP_SIZE = 6, 45, 8  # two blocks with two padding rows, three tiles, a tail


def _layer(layout):
    """Return a layer of two spans: rows of equal work, two of which have most of it at first."""
    matrix = random_matrix(layout.members, ROWS, COLUMNS, GROUP_SIZE, seed=2)
    rng = random.Random(2)
    ids = []
    for row in range(ROWS):
        a, b, c = (rng.randrange(4) for _ in range(3))
        ids.append([5, 5, a, b, c, 4] if row in (0, 4) else [a, 4, b, c, 5, 5])
    ids = np.array(ids, dtype=np.uint8)
    return dataclasses.replace(
        matrix,
        codes=matrix.codes & 3,
        format_ids=ids,
        zeros=np.where(ids == 4, matrix.zeros & 3, 0).astype(np.uint8),
    )


def _in_order(cycles, output_lanes):
    return np.tile(np.arange(cycles.shape[1]), (len(cycles), 1))


class Stream:
    """A layer's stream in sections, to be changed; each is an integer a beat, without checksum.

    The first is that of the layer, each other one a span.
    """

    def __init__(self, layout, matrix):
        self.layout = layout
        # Rows stay where they are, so that a test knows who has them; any dealing is a stream.
        with patch.object(sys.modules[pack.__module__], "deal_rows", _in_order):
            self.packed = pack(matrix, layout)
        self.order = lane_order(layout, self.packed.formats)
        beats = [int.from_bytes(beat.tobytes(), "little") for beat in self.packed.beats]
        blocks = -(-matrix.rows // layout.lanes)
        places = -(-blocks // layout.places_of_beat) if layout.places_of_beat else 0
        count = layout.layer_header_beats + places + blocks * layout.row_scale_beats
        self.sections = []
        while beats:
            self.sections.append(beats[:count])
            beats = beats[count + 1 :]
            if beats:
                words = self._join(beats[: layout.span_header_beats]) >> 32
                assert words <= FRAME_BEATS
                count = layout.span_header_beats + words

    def _join(self, beats):
        return sum(beat << index * self.layout.beat_width for index, beat in enumerate(beats))

    def set(self, section: int, name: str, value: int | Callable[[int], int]):
        """Change a field of a section's header; a function changes what it was."""
        fields = SPAN_HEADER if section else LAYER_HEADER
        width, count = self.layout.beat_width, self.layout.beats_for(fields.width)
        head = self._join(self.sections[section][:count])
        position = sum(w for n, w in list(fields.items())[: list(fields).index(name)])
        mask = (1 << fields[name]) - 1
        new = value(head >> position & mask) if callable(value) else value
        assert 0 <= new <= mask
        assert new != head >> position & mask, "nothing would change"
        head = head & ~(mask << position) | new << position
        beats = [head >> index * width & (1 << width) - 1 for index in range(count)]
        self.sections[section][:count] = beats
        return self

    def lane_words(self, lane, records):
        """Count the words of a lane's codes in its first records."""
        formats, slices = self.packed.formats[lane], self.packed.slices
        return sum(
            self.layout.members[number].code_width * int(count)
            for number, count in zip(formats[:records], slices[:records], strict=True)
        )

    def lane_end(self, lane):
        """Return the beat of the first section of words behind a lane's last, of a single span."""
        records = len(self.packed.slices)
        batches = int(self.order.batches_before[lane].sum())
        count = self.lane_words(lane, records) + batches * self.layout.batch_shape[0]
        return self.layout.span_header_beats + count

    def set_record(self, record, lane, name, value):
        """Change a field of one lane's header, of a record whose batch is in the first span."""
        layout = self.layout
        batches = self.order.batch[lane]
        # It stands before the codes of the record that precedes its first.
        preceding = max(int((batches < batches[record]).sum()) - 1, 0)
        first = int(batches[record]) * layout.batch_shape[0] + self.lane_words(lane, preceding)
        item = layout.members[self.packed.formats[lane, record]]
        fields = list(layout.record_header(item).items())
        field = [field for field, _ in fields].index(name)
        slot = int(self.order.slot[lane, record])
        position = slot * layout.slot_width + sum(w for _, w in fields[:field])
        for bit in range(fields[field][1]):
            part, offset = divmod(position + bit, layout.width)
            place = 1 << lane * layout.width + offset
            beat = layout.span_header_beats + first + part
            self.sections[1][beat] &= ~place
            if value >> bit & 1:
                self.sections[1][beat] |= place
        return self

    def payloads(self):
        """Return beats with right checksums and `last` at the end."""
        beats = []
        for section in self.sections:
            data = b"".join(b.to_bytes(self.layout.beat_width // 8, "little") for b in section)
            beats += [*section, zlib.crc32(data)]
        beats[-1] |= 1 << self.layout.beat_width
        return beats


class Trial:
    """One engine that is given good layers before and behind bad ones."""

    def __init__(self, hdl, numerics=None, **changes):
        self.numerics = numerics or Numerics(act_width=8)
        changes = {"ahead": 2, **changes}
        self.bench = hdl.EngineBench(hdl.parameters(FORMATS, self.numerics, **changes))
        layout = self.bench.parameters.layout
        self.good = random_matrix(layout.members, 5, 20, 16, seed=1)
        self.good_tokens = self.tokens(20, 1)
        self.matrix = _layer(layout)
        self.width = layout.beat_width

    def tokens(self, columns, count):
        """Return equal tokens."""
        tokens = adversarial_tokens(self.numerics, columns, seed=columns)
        return np.stack([tokens["random"]] * count)

    def stream(self):
        """Return the layer, to be changed."""
        return Stream(self.bench.parameters.layout, self.matrix)

    def raw(self):
        """Payloads of the layer as they are."""
        return self.stream().payloads()

    def vector(self, columns=COLUMNS):
        """Return payloads of one pass."""
        return self.bench.x(self.tokens(columns, self.bench.parameters.tokens))

    def run(self, cases, *, stalls=(0.0, 0.0, 0.0), seed=0):
        """Give each case between good layers; cases are (name, weights, vector or None, error)."""

        async def script(host):
            for name, weights, vector, error in cases:
                try:
                    await self._case(host, weights, vector or self.vector(), error)
                except AssertionError as failure:
                    raise AssertionError(f"{name}, seed {seed}: {failure}") from failure
            await self.recovered(host)

        self.bench.script(script, stalls=stalls, seed=seed)

    async def _case(self, host, weights, vector, error):
        bench = self.bench
        await host.clear()
        start = host.cycles
        x, w = bench.x(self.good_tokens), bench.w(self.good)
        host.offer(x, w)
        # Nothing is taken before the error shows: what was finished must come out after it.
        while not host.w.finished:
            await host.cycle(hold_output=True)
            assert host.cycles - start < 1000
        for _ in range(30):
            await host.cycle(hold_output=True)
        assert host.error == Error.NONE
        assert host.busy
        host.offer([*vector, *x, *x], [*weights, *w, *w])
        for _ in range(3000):
            if host.error != Error.NONE:
                break
            await host.cycle(hold_output=True)
        assert host.error != Error.NONE, f"no error, {host.w.sent} beats of weights taken"
        assert error in (None, host.error), f"{host.error.name} and not {error.name}"
        found = host.error
        expected = bench.beats(self.good)
        assert not host.o.received
        await host.until(lambda: len(host.o.received) >= expected)
        bench.check(host.o.received, self.good, self.good_tokens)
        # Everything else is accepted, a beat a cycle, and forgotten.
        await host.until(lambda: host.x.finished and host.w.finished, limit=2 * len(w) + 400)
        for _ in range(20):
            await host.cycle()
        assert len(host.o.received) == expected, "an output of a layer that is wrong"
        assert host.error == found, "the code did not stick"

    async def recovered(self, host):
        """Clear the engine and run a layer bit for bit."""
        await host.clear()
        host.offer(self.vector(), self.raw())
        await host.until(lambda: len(host.o.received) == self.bench.beats(self.matrix))
        self.bench.check(host.o.received, self.matrix, self.tokens(COLUMNS, 1))
        assert host.error == Error.NONE


def _layer_cases(trial):
    """Headers of layers that are whole and consistent in themselves, but wrong."""
    for name, value, error in (
        ("magic", 0x754D, Error.VERSION),
        ("magic", 0x7053, Error.VERSION),
        ("version", 0, Error.VERSION),
        ("version", 1, Error.VERSION),
        ("version", 2, Error.VERSION),
        ("flags", 1, Error.VERSION),
        ("flags", 0x80, Error.VERSION),
        ("layout", lambda old: old ^ 1 << 31, Error.FORMAT),
        ("layout", 0, Error.FORMAT),
        ("rows", 0, Error.SIZE),
        ("rows", ROWS - 2, Error.SIZE),  # one block
        ("rows", 9, Error.SIZE),  # three blocks
        ("rows", 0xFFFFFFFF, Error.SIZE),
        ("columns", 0, Error.SIZE),
        ("columns", 32, Error.SIZE),  # two tiles
        ("columns", 49, Error.SIZE),  # four tiles
        ("columns", 0xFFFFFFFF, Error.SIZE),
        ("blocks", 0, Error.SIZE),
        ("blocks", 1, Error.SIZE),
        ("blocks", 3, Error.SIZE),
        ("blocks", 2 + (1 << 30), Error.SIZE),  # whose rows would wrap to the right number
        ("tiles", 0, Error.SIZE),
        ("tiles", 2, Error.SIZE),
        ("tiles", 4, Error.SIZE),
        ("span_tiles", 0, Error.SIZE),
        ("span_tiles", 1, None),
        ("span_tiles", 3, Error.LENGTH),
        ("segment_slices", 0, Error.SIZE),
        ("segment_slices", 3, Error.SIZE),
        ("segment_slices", 0xFFFF, Error.SIZE),
    ):
        yield f"{name} {value}", trial.stream().set(0, name, value).payloads(), None, error
    too_many = trial.stream().set(0, "rows", 13).set(0, "blocks", 4)
    yield "rows over the limit", too_many.payloads(), None, Error.SIZE
    too_wide = trial.stream().set(0, "columns", 81).set(0, "tiles", 6)
    yield "columns over the limit", too_wide.payloads(), None, Error.SIZE


def _span_cases(trial):
    for section in (1, 2):
        for name, value, error in (
            ("magic", 0x754C, Error.VERSION),
            ("magic", 0x7052, Error.VERSION),
            ("index", lambda old: old + 1, Error.SIZE),
            ("index", lambda old: old | 1 << 15, Error.SIZE),
            ("beats", 0, Error.SIZE),
            ("beats", lambda old: old + 1, None),
            ("beats", lambda old: old - 1, None),
            ("beats", lambda old: old | 1 << 31, Error.LENGTH),
        ):
            stream = trial.stream().set(section, name, value)
            yield f"section {section} {name}", stream.payloads(), None, error


def _record_cases(trial):
    """Ids of no format, and the one scale without a negative: in any lane and record."""
    layout = trial.bench.parameters.layout
    lowest = 1 << layout.scale_width
    # Four records in each tile, the last two of them of the second block, whose last two rows are
    # padding; the last batch stands in the first span, for records of the second.
    for record in (0, 1, 3, 4, 7, 8, 11):
        for lane in range(layout.lanes):
            stream = trial.stream()
            if (record + lane) % 2:
                stream.set_record(record, lane, "format", 6 + lane % 2)
            else:
                stream.set_record(record, lane, "scale_0", lowest)
            yield f"record {record} lane {lane}", stream.payloads(), None, Error.FORMAT


def _checksum_cases(trial):
    stream = trial.stream()
    assert len(stream.sections) == 3
    sizes = [len(section) + 1 for section in stream.sections]
    ends = np.cumsum(sizes)
    header = trial.bench.parameters.layout.layer_header_beats
    places = {
        "place": (header, 0),
        "place of padding": (header, 27),
        "padding of places": (header, 15),
        "row scale": (header + 1, 3),
        "row scale of padding": (header + 8, 30),
        "checksum of the layer": (ends[0] - 1, 17),
        "last code or padding": (ends[1] - 2, 0),
        "checksum of a span": (ends[1] - 1, 31),
        "last code": (ends[-1] - 2, 7),
        "checksum of the last": (ends[-1] - 1, 0),
    }
    for name, (beat, bit) in places.items():
        beats = trial.raw()
        beats[beat] ^= 1 << int(bit)
        yield name, beats, None, Error.CRC


def _last_cases(trial):
    """`last` where it must not be and not where it must."""
    beats = trial.raw()
    flag = 1 << trial.width
    yield "no last", [*beats[:-1], beats[-1] & ~flag], None, Error.LENGTH
    stream = trial.stream()
    sizes = [len(section) + 1 for section in stream.sections]
    ends = np.cumsum(sizes)
    places = (0, 5, 6, 13, ends[0] - 1, ends[0], ends[0] + 3, ends[0] + 12, ends[1] - 1)
    for place in (*places, ends[1], len(beats) - 2):
        early = trial.raw()
        early[int(place)] |= flag
        yield f"last at {place} of {len(beats)}", early, None, Error.LENGTH
        if place > 0:  # and a host that believes in its own last
            yield f"end at {place}", early[: int(place) + 1], None, Error.LENGTH


def _length_cases(trial):
    """Spans with too few beats or too many, whose checksums are right."""
    start = trial.bench.parameters.layout.span_header_beats
    for section in (1, 2):
        for place in (start, start + 7, -1):
            fewer, more = trial.stream(), trial.stream()
            del fewer.sections[section][place]
            more.sections[section].insert(place, 0)
            yield f"one beat less in {section} at {place}", fewer.payloads(), None, None
            yield f"one beat more in {section} at {place}", more.payloads(), None, None
        for count in (1, 2, 30):
            short = trial.stream().set(section, "beats", lambda old, count=count: old - count)
            del short.sections[section][-count:]
            yield f"{count} beats short in {section}", short.payloads(), None, Error.LENGTH
    beats = trial.raw()
    yield "a layer without its spans", beats[: len(trial.stream().sections[0]) + 1], None, None
    spans = trial.stream()
    del spans.sections[1]
    yield "a span left out", spans.payloads(), None, Error.SIZE
    swapped = trial.stream()
    swapped.sections[1:] = swapped.sections[2:0:-1]
    yield "spans in another order", swapped.payloads(), None, Error.SIZE


def _vector_cases(trial):
    """Let the two streams disagree, or a vector be longer than any layer's."""
    raw = trial.raw()
    # 45 columns are twelve beats of four.
    for columns, error in (
        (1, Error.LENGTH),
        (44, Error.LENGTH),
        (49, Error.LENGTH),
        (80, Error.LENGTH),
        (81, Error.SIZE),
        (300, Error.SIZE),
    ):
        yield f"{columns} activations", raw, trial.vector(columns), error
    # A layer of 20 columns fills its beats; one more of zeros is one too many.
    longer = np.zeros((1, 24), dtype=np.float16)
    longer[:, :20] = trial.good_tokens
    good = trial.bench.w(trial.good)
    yield "one beat of zeros more", good, trial.bench.x(longer), Error.LENGTH
    # Activations past the layer's 45 that are not 0: in the last of twelve beats of four.
    for place, element in ((45, 1.0), (47, -(2.0**-24)), (46, np.nan), (45, np.inf)):
        tokens = np.zeros((1, 48), dtype=np.float16)
        tokens[:, :COLUMNS] = trial.tokens(COLUMNS, 1)
        tokens[0, place] = element
        vector = trial.bench.x(tokens)
        yield f"activation {place} is {element}", raw, vector, Error.LENGTH


GROUPS = {
    "layer header": _layer_cases,
    "span header": _span_cases,
    "record header": _record_cases,
    "checksum": _checksum_cases,
    "last": _last_cases,
    "length": _length_cases,
    "vector": _vector_cases,
}


@pytest.mark.parametrize("group", GROUPS)
def test_each_error_has_its_code(hdl, group):
    trial = Trial(hdl)
    trial.run(list(GROUPS[group](trial)))


@pytest.mark.parametrize("which", range(2))
def test_each_vector_of_a_pass_counts(hdl, which):
    """Both must have the layer's length, and nothing behind their end."""
    trial = Trial(hdl, tokens=2)
    interface, raw = trial.bench.interface, trial.raw()

    def beats(token):
        count = -(-len(token) // interface.act_lanes)
        return trial.bench.payloads(interface.activations(token[None])[:count])

    def vectors(other):
        right = trial.tokens(COLUMNS, 1)[0]
        return [p for token in ((right, other) if which else (other, right)) for p in beats(token)]

    cases = []
    for columns in (1, 44, 49, 81):
        error = Error.SIZE if columns > 80 else Error.LENGTH
        other = vectors(trial.tokens(columns, 1)[0])
        cases.append((f"{columns} activations", raw, other, error))
    longer = np.zeros(48, dtype=np.float16)
    longer[:COLUMNS] = trial.tokens(COLUMNS, 1)[0]
    longer[47] = 1
    cases.append(("activation 47 is 1", raw, vectors(longer), Error.LENGTH))
    trial.run(cases)


@pytest.mark.parametrize("which", range(4))
def test_integers_of_any_vector_of_a_pass(hdl, which):
    numerics = Numerics(activation="bfloat16", act_width=8, output="int")
    trial = Trial(hdl, numerics, tokens=4)
    tokens = trial.tokens(COLUMNS, 4)
    tokens[which] = next(iter(nonfinite_tokens(numerics, COLUMNS).values()))
    trial.run([("a vector", trial.raw(), trial.bench.x(tokens), Error.NONFINITE)])


@pytest.mark.parametrize("seed", range(3))
def test_errors_under_stalls(hdl, seed):
    """A few of each group, while every stream stalls at random."""
    trial = Trial(hdl, output_lanes=2)
    rng = random.Random(seed)
    cases = [rng.choice(list(group(trial))) for group in GROUPS.values()]
    trial.run(cases, stalls=(0.4, 0.4, 0.4), seed=seed)


def test_groups_that_the_engine_was_not_made_for(hdl):
    """Its multiplier is as quick as its own groups need; others are refused, not got wrong."""
    trial = Trial(hdl, group_sizes=(16,))
    other = hdl.parameters(FORMATS, trial.numerics, ahead=2, group_sizes=(8, 16)).layout
    assert other.fingerprint == trial.bench.parameters.layout.fingerprint
    trial.good = random_matrix(other.members, 5, 20, 16, seed=1)
    trial.matrix = random_matrix(other.members, ROWS, COLUMNS, 16, seed=2)
    small = random_matrix(other.members, ROWS, COLUMNS, 8, seed=2)
    trial.run([("groups of 8", trial.bench.w(pack(small, other)), None, Error.SIZE)])


@pytest.mark.parametrize("activation", ["float16", "bfloat16", "float32"])
def test_integers_cannot_say_nan(hdl, activation):
    numerics = Numerics(activation=activation, act_width=8, output="int")
    trial = Trial(hdl, numerics)
    cases = [
        (name, trial.raw(), trial.bench.x(token[None]), Error.NONFINITE)
        for name, token in nonfinite_tokens(numerics, COLUMNS).items()
    ]
    trial.run(cases)


@pytest.mark.parametrize("columns", [81, 84, 85, 88, 200])
def test_a_later_vector_may_be_too_long(hdl, columns):
    """It stops the layer at hand, or comes behind it; outputs are those of whole layers."""
    trial = Trial(hdl)
    bench = trial.bench
    finished = []

    async def script(host):
        for wait in (0, 40, 90, 110, 140, 170, 220):
            await host.clear()
            x, w = bench.x(trial.good_tokens), bench.w(trial.good)
            rest = [*trial.vector(columns), *x]
            host.offer(x if wait else [*x, *rest], w * 3)
            for _ in range(wait):
                await host.cycle()
            if wait:
                assert host.x.finished
                host.offer(rest)
            await host.until(lambda: host.error != Error.NONE)
            assert host.error == Error.SIZE
            await host.until(lambda: host.x.finished and host.w.finished)
            for _ in range(40):
                await host.cycle()
            count = len(host.o.received)
            assert count in (0, bench.beats(trial.good)), f"{count} outputs after {wait}"
            if count:
                bench.check(host.o.received, trial.good, trial.good_tokens)
            finished.append(count > 0)
        await trial.recovered(host)

    bench.script(script)
    assert not finished[0]
    assert finished[-1]
    assert finished == sorted(finished)


def test_inputs_are_discarded_while_the_output_is_held(hdl):
    """A host that has stopped reading still gets rid of its streams, a beat a cycle."""
    trial = Trial(hdl)
    bench = trial.bench

    async def script(host):
        x, w = bench.x(trial.good_tokens), bench.w(trial.good)
        bad = trial.stream().set(0, "magic", 0).payloads()
        host.offer(x * 3, [*w, *w, *bad])
        # Two finished layers fit; the third is looked at only once the first has left.
        for _ in range(len(w) * 2 + 200):
            await host.cycle(hold_output=True)
        assert host.error in (Error.NONE, Error.VERSION)
        while host.error == Error.NONE:
            await host.cycle()
        host.offer([*x] * 20, [*w] * 20)
        for _ in range(20 * len(w) + 1):
            await host.cycle(hold_output=True)
        assert host.x.finished
        assert host.w.finished
        await host.until(lambda: len(host.o.received) == 2 * bench.beats(trial.good))
        for half in (host.o.received[:5], host.o.received[5:]):
            bench.check(half, trial.good, trial.good_tokens)

    bench.script(script)


@pytest.mark.parametrize("multiply", ["serial", "dsp"])
def test_clear_at_any_time(hdl, multiply):
    """Whatever was under way, the next layer is right and nothing of the last one appears."""
    trial = Trial(hdl, multiply=multiply, table="half")
    bench = trial.bench
    rng = random.Random(5)

    async def script(host):
        x, w = bench.x(trial.good_tokens), bench.w(trial.good)
        for wait in [*rng.sample(range(1, 2 * len(w) + 120), 28)]:
            host.offer([*trial.vector(), *x, *trial.vector()], [*trial.raw(), *w, *trial.raw()])
            for _ in range(wait):
                await host.cycle()
            await host.clear()
            host.offer(x, w)
            try:
                await host.until(lambda: len(host.o.received) == bench.beats(trial.good))
                bench.check(host.o.received, trial.good, trial.good_tokens)
                assert host.error == Error.NONE
            except AssertionError as failure:
                raise AssertionError(f"cleared after {wait} cycles: {failure}") from failure
            host.open()

    bench.script(script)


def test_a_stream_that_stops_is_waited_for(hdl):
    """No error, no output; it goes on where it stopped, or is cleared."""
    trial = Trial(hdl)
    bench = trial.bench

    async def script(host):
        x, w = bench.x(trial.good_tokens), bench.w(trial.good)
        for cut in (1, 8, len(w) // 2, len(w) - 1):
            host.offer(x, w[:cut])
            for _ in range(150):
                await host.cycle()
            assert host.w.finished
            assert host.busy
            assert host.error == Error.NONE
            assert not host.o.received
            host.offer(w=w[cut:])
            await host.until(lambda: len(host.o.received) == bench.beats(trial.good))
            bench.check(host.o.received, trial.good, trial.good_tokens)
            host.open()
            for _ in range(3):
                await host.cycle()
            assert not host.busy

    bench.script(script)


# What neither row nor column needs, of a layer of five rows in four lanes of 16 bits, in order.


def _pad_places(stream, rng):
    """Behind those of two blocks, which have four bits of each lane's sixteen."""
    for lane in range(4):
        place = rng.getrandbits(12) << 16 * lane + 4
        stream.sections[0][stream.layout.layer_header_beats] ^= place


def _pad_row_scales(stream, rng):
    """Those of lanes 1 to 3 in block 1."""
    for beat in (-2, -1):
        stream.sections[0][beat] ^= rng.getrandbits(48) << 16


def _pad_codes(stream, rng):
    """Those of columns past 21, in the last slice of the last record."""
    for lane in range(4):
        width = stream.layout.members[stream.packed.formats[lane, -1]].code_width
        for beat in range(stream.lane_end(lane) - width, stream.lane_end(lane)):
            stream.sections[1][beat] ^= rng.getrandbits(11) << lane * 16 + 5


def _pad_zeros(stream, rng):
    """Those of padding rows."""
    for record in range(4):
        for lane in range(4):
            member = stream.layout.members[stream.packed.formats[lane, record]]
            if record >= 2 and lane > 0 and member.has_zero_point:
                stream.set_record(record, lane, "zero", 3)


def _pad_batch(stream, rng):
    """Behind the headers of the last batch."""
    beats, headers = stream.layout.batch_shape
    assert headers > 4, "no room behind the last header"
    stream.sections[1][stream.layout.span_header_beats + beats - 1] ^= (1 << 15) | (1 << 63)


def _pad_words(stream, rng):
    """Behind a lane's last, and whole beats of them."""
    for lane in range(4):
        for beat in range(stream.lane_end(lane), len(stream.sections[1])):
            stream.sections[1][beat] ^= rng.getrandbits(16) << lane * 16
    stream.sections[1] += [rng.getrandbits(64) for _ in range(70)]
    stream.set(1, "beats", lambda old: old + 70)


PADDING = {
    "places": _pad_places,
    "row scales": _pad_row_scales,
    "codes": _pad_codes,
    "zeros": _pad_zeros,
    "batch": _pad_batch,
    "words": _pad_words,
    "negative zero": None,
}


@pytest.mark.parametrize("case", PADDING)
def test_padding_is_ignored(hdl, case):
    """It changes no output, given right checksums."""
    trial = Trial(hdl, width=16, group_sizes=(16,), act_lanes=4)
    layout = trial.bench.parameters.layout
    matrix = random_matrix(layout.members, 5, 21, 16, seed=9)
    ids = np.array([[row % 4, 4] if row % 2 else [4, row % 4] for row in range(5)], dtype=np.uint8)
    matrix = dataclasses.replace(
        matrix, codes=matrix.codes & 3, format_ids=ids, zeros=np.where(ids == 4, 1, 0).astype("u1")
    )
    tokens = trial.tokens(21, 1)
    stream = Stream(layout, matrix)
    before = stream.payloads()
    x = trial.bench.x(tokens)
    pad = PADDING[case]
    if pad:
        pad(stream, random.Random(1))
        assert stream.payloads() != before
    else:  # a float's zero has a sign
        zeros = np.zeros((1, 24), dtype=np.float16)
        zeros[:, :21] = tokens
        zeros[:, 21:] = -0.0
        x = trial.bench.x(zeros)

    async def script(host):
        host.offer(x, stream.payloads())
        await host.until(lambda: len(host.o.received) == 5 or host.error != Error.NONE, limit=800)
        assert host.error == Error.NONE
        trial.bench.check(host.o.received, matrix, tokens)

    trial.bench.script(script)


@pytest.mark.parametrize("tokens", [1, 2])
def test_a_span_that_is_too_long(hdl, tokens):
    """Lanes wait for each other's words and activations: an error, and not for ever."""
    trial = Trial(hdl, tokens=tokens)
    layout = trial.bench.parameters.layout
    # Five tiles, of which one lane has the first three wide, and the others the last two.
    matrix = random_matrix(layout.members, 4, 80, 16, seed=1)
    ids = [[5, 5, 5, 4, 4] if row == 0 else [4, 4, 4, 5, 5] for row in range(4)]
    matrix = dataclasses.replace(
        matrix,
        codes=matrix.codes & 3,
        format_ids=np.array(ids, dtype=np.uint8),
        zeros=np.zeros_like(matrix.zeros),
    )
    assert Stream(layout, matrix).packed.span_tiles == 2
    packer = sys.modules[pack.__module__]._Packer
    with patch.object(packer, "_span_tiles", lambda _, ends: ends.shape[1]):
        beats = Stream(layout, matrix).payloads()
    trial.run([("too long", beats, trial.vector(80), Error.LENGTH)])


def test_busy(hdl):
    """From the first beat of anything to the last output; after an error, while outputs come."""
    trial = Trial(hdl)
    bench = trial.bench

    async def script(host):
        x, w = bench.x(trial.good_tokens), bench.w(trial.good)
        expected = bench.beats(trial.good)
        # Of each stream, what comes first; a whole vector ends up in tables, and waits there. Words
        # wait for them.
        rows = len(Stream(bench.parameters.layout, trial.good).sections[0]) + 1
        for begin in ((x[:1], []), (x, []), ([], w[:1]), ([], w[:rows])):
            assert not host.busy
            host.offer(*begin)
            await host.cycle()
            for _ in range(120):
                await host.cycle()
                assert host.busy
            assert host.x.finished
            assert host.w.finished
            host.offer(x[len(begin[0]) :], w[len(begin[1]) :])
            while len(host.o.received) < expected:
                await host.cycle()
                assert host.busy
            await host.cycle()
            assert not host.busy
            host.open()

        bad = trial.stream().set(0, "magic", 0).payloads()
        host.offer([*x, *x, *x], [*w, *bad])
        while host.error == Error.NONE:
            await host.cycle(hold_output=True)
        for _ in range(60):
            await host.cycle(hold_output=True)
            assert host.busy
        while len(host.o.received) < expected:
            assert host.busy
            await host.cycle()
        for _ in range(60):
            await host.cycle()
            assert not host.busy
        assert host.error == Error.VERSION

    bench.script(script)


def test_the_first_error_stays(hdl):
    """What follows it is not looked at, a vector that is too long included."""
    trial = Trial(hdl)
    bench = trial.bench

    async def script(host):
        host.offer([], trial.stream().set(0, "layout", 0).payloads())
        await host.until(lambda: host.error != Error.NONE)
        assert host.error == Error.FORMAT
        host.offer(trial.vector(300), bench.w(trial.good) + [0] * 50)
        await host.until(lambda: host.x.finished and host.w.finished)
        assert host.error == Error.FORMAT
        assert not host.o.received
        await trial.recovered(host)

    bench.script(script)
