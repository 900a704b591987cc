# amaranth: UnusedElaboratable=no
"""Benches for components and whole engines in Amaranth's simulator."""

import random
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from amaranth import Value
from amaranth.lib import wiring
from amaranth.sim import Simulator

from lutra.formats import Numerics, PackedLayer, QuantizedMatrix, StreamLayout
from lutra.hdl import CORE_OPTIONS, Engine, EngineParameters, Error
from lutra.hdl.align import exponent_width
from lutra.sim import GoldenModel
from lutra.sim.handshake import Sink, Source, StallPattern
from lutra.sim.interface import EngineInterface


def simulate(dut: Any, bench: Callable[[Any], Any], *, clocked: bool = True) -> None:
    """Run one testbench to its end."""
    simulator = Simulator(dut)
    if clocked:
        simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def make_parameters(
    formats: Sequence[str] = ("int4",), numerics: Numerics | None = None, **changes: Any
) -> EngineParameters:
    """Small parameters; what belongs to the layout or the core is told from what does not."""
    layout = {
        "lanes": 4,
        "width": 8,
        "tile_slices": 2,
        "formats": tuple(formats),
        "group_sizes": (8, 16, 32),
        "scale_width": 8,
        "output_lanes": 1,
        "codebook_width": 8,
        "codebook_terms": 0,
        "max_rows": 12,
        "max_columns": 80,
    }
    known = StreamLayout.__dataclass_fields__
    layout.update({key: changes.pop(key) for key in list(changes) if key in known})
    options = CORE_OPTIONS[changes.pop("engine", "lut")]
    fields = options.__dataclass_fields__
    core = options(**{key: changes.pop(key) for key in list(changes) if key in fields})
    changes.setdefault("act_lanes", 4)
    return EngineParameters(
        layout=StreamLayout(**layout), numerics=numerics or Numerics(), core=core, **changes
    )


class LaneStream:
    """Random records of one lane: its words, as the page of the stream has them, and its slices.

    Each word comes with whether it ends a span; spans end in some words of rubbish. ``slices`` has
    a dictionary for each slice: fields of the slice as the lane's parts pass it on, beside them
    ``tile``, ``codes`` and ``header``.
    """

    def __init__(
        self,
        parameters: EngineParameters,
        *,
        blocks: int,
        slices: int,
        segment_slices: int,
        span_tiles: int,
        row_bank: int = 0,
        first_bank: int = 0,
        padding: int = 3,
        seed: int = 0,
    ) -> None:
        self.parameters, self.layout = parameters, parameters.layout
        self.rng = random.Random(seed)
        self.shape = (blocks, slices, segment_slices, span_tiles, row_bank, first_bank)
        self.tiles = -(-slices // self.layout.tile_slices)
        self.records = list(self._records())
        self.slices = [item for record in self.records for item in self._slices(*record)]
        self.batches = list(self._batches())  # numbers of the records of each
        self.batch_starts: list[int] = []  # words before each
        self.words = list(self._words(padding))
        last = slices - (self.tiles - 1) * self.layout.tile_slices
        self.program = {
            "row_bank": row_bank,
            "block": blocks - 1,
            "tile": self.tiles - 1,
            "segment_slice": segment_slices - 1,
            "tile_slice": last - 1,
            "span_tile": min(span_tiles, self.tiles) - 1,
        }

    def _records(self) -> Iterable[tuple]:
        blocks, slices, segment_slices, *_ = self.shape
        size = self.layout.tile_slices
        for tile in range(self.tiles):
            length = min(size, slices - tile * size)
            for block in range(blocks):
                for start in range(0, length, segment_slices):
                    count = min(segment_slices, length - start)
                    number = self.rng.randrange(len(self.layout.members))
                    item = self.layout.members[number]
                    header = {
                        name: self.rng.getrandbits(width)
                        for name, width in self.layout.record_header(item).items()
                    }
                    header["format"] = number
                    for index in range(item.scale_count):
                        limit = (1 << self.layout.scale_width) - 1
                        header[f"scale_{index}"] = self.rng.randint(-limit, limit)
                    last = block == blocks - 1 and start + count == length
                    yield tile, block, start, count, header, last

    def _slices(
        self, tile: int, block: int, start: int, count: int, header: dict, last: bool
    ) -> Iterable[dict]:
        layout, number = self.layout, header["format"]
        *_, row_bank, first_bank = self.shape
        bank = tile % 2 ^ first_bank
        for index in range(start, start + count):
            width = layout.members[number].code_width
            yield {
                "slice": bank << self.parameters.slice_address_width - 1 | index,
                "row": row_bank << self.parameters.row_address_width - 1 | block,
                "first": index == start,
                "last": index == start + count - 1,
                "clear": tile == 0 and start == 0,
                "tile_end": last and index == start + count - 1,
                "last_step": self.parameters.member_cycles[number] - 1,
                "tile": tile,
                "codes": [self.rng.getrandbits(width) for _ in range(layout.width)],
                "header": header,
            }

    def _words(self, padding: int) -> Iterable[tuple[int, bool]]:
        span_tiles, layout = self.shape[3], self.layout
        slices = iter(self.slices)
        before, span = 0, []
        for number, (tile, _, _, count, header, last) in enumerate(self.records):
            for index, records in enumerate(self.batches):
                if max(records[0] - 1, 0) == number:
                    self.batch_starts.append(before + len(span))
                    span += self._batch(index)
            for _ in range(count):
                codes = next(slices)["codes"]
                for bit in range(layout.members[header["format"]].code_width):
                    span.append(sum((code >> bit & 1) << i for i, code in enumerate(codes)))
            if last and (tile % span_tiles == span_tiles - 1 or tile == self.tiles - 1):
                rubbish = self.rng.randint(0, padding)
                span += [self.rng.getrandbits(layout.width) for _ in range(rubbish)]
                yield from ((word, index == len(span) - 1) for index, word in enumerate(span))
                before, span = before + len(span), []

    def _slots(self, number: int) -> int:
        """Slots of a record's header."""
        item = self.layout.members[self.records[number][4]["format"]]
        return -(-self.layout.record_header(item).width // self.layout.slot_width)

    def _batches(self) -> Iterable[list[int]]:
        """Fill batches with headers, one after the other, as long as they fit."""
        batch, room = [], self.layout.batch_shape[1]
        for number in range(len(self.records)):
            if sum(map(self._slots, [*batch, number])) > room:
                yield batch
                batch = []
            batch.append(number)
        yield batch

    def _batch(self, index: int) -> list[int]:
        """Return the words of a header batch; rubbish between headers and behind them."""
        layout, (count, slots) = self.layout, self.layout.batch_shape
        bits, slot = self.rng.getrandbits(count * layout.width), 0
        for number in self.batches[index]:
            header = self.records[number][4]
            for name, value in header.items():
                bits = self._with_field(bits, slot, header["format"], name, value)
            slot += self._slots(number)
        if slot < slots and index + 1 < len(self.batches):
            number = self.records[self.batches[index + 1][0]][4]["format"]
            bits = self._with_field(bits, slot, number, "format", number)
        return [bits >> part * layout.width & (1 << layout.width) - 1 for part in range(count)]

    def _with_field(self, bits: int, slot: int, number: int, name: str, value: int) -> int:
        """Put a field of a header of format ``number`` into the bits of a batch."""
        fields = self.layout.record_header(self.layout.members[number])
        names = list(fields)
        position = slot * self.layout.slot_width
        position += sum(fields[other] for other in names[: names.index(name)])
        mask = (1 << fields[name]) - 1
        return bits & ~(mask << position) | (value & mask) << position

    def words_with(self, record: int, name: str, value: int) -> list[tuple[int, bool]]:
        """Return the words with a field of one record's header changed."""
        index = next(i for i, numbers in enumerate(self.batches) if record in numbers)
        before = [number for number in self.batches[index] if number < record]
        slot = sum(map(self._slots, before))
        start, width = self.batch_starts[index], self.layout.width
        chosen = self.words[start : start + self.layout.batch_shape[0]]
        bits = sum(word << part * width for part, (word, _) in enumerate(chosen))
        number = self.records[record][4]["format"]
        bits = self._with_field(bits, slot, number, name, value)
        changed = [
            (bits >> part * width & (1 << width) - 1, ends) for part, (_, ends) in enumerate(chosen)
        ]
        return [*self.words[:start], *changed, *self.words[start + len(changed) :]]


class Host:
    """An engine's three streams and its status, one cycle at a time."""

    def __init__(
        self,
        ctx: Any,
        engine: Any,
        *,
        stalls: tuple[float, float, float] = (0.0, 0.0, 0.0),
        seed: int = 0,
    ) -> None:
        self._ctx, self._engine = ctx, engine
        self.get, self.set = ctx.get, ctx.set
        self._patterns = [StallPattern(chance, seed + i) for i, chance in enumerate(stalls)]
        self.cycles = 0
        self.error = Error.NONE
        self.nonfinite = self.busy = False
        self.offer([], [])
        self.open()

    def offer(self, x: Iterable[int] | None = None, w: Iterable[int] | None = None) -> None:
        """Put new payloads before the engine, in place of whatever is left of that stream."""
        if x is not None:
            self.x = Source(x, self._patterns[0])
        if w is not None:
            self.w = Source(w, self._patterns[1])

    def open(self) -> None:
        """Take outputs from here on as if nothing had been seen."""
        self.o = Sink(self._patterns[2])

    async def cycle(self, *, clear: bool = False, hold_output: bool = False) -> None:
        """Drive, clock, and observe one cycle."""
        ctx, engine = self._ctx, self._engine
        ctx.set(engine.clear, clear)
        for port, source in ((engine.i_x, self.x), (engine.i_w, self.w)):
            ctx.set(port.valid, source.valid)
            ctx.set(Value.cast(port.payload), source.payload)
        if hold_output:
            self.o.ready = False
        ctx.set(engine.o.ready, self.o.ready)
        x_ready, w_ready, valid, payload, status = (
            await ctx.tick().sample(
                engine.i_x.ready,
                engine.i_w.ready,
                engine.o.valid,
                Value.cast(engine.o.payload),
                Value.cast(engine.status),
            )
        )[2:]
        self.cycles += 1
        self.x.observe(bool(x_ready))
        self.w.observe(bool(w_ready))
        self.o.observe(bool(valid), int(payload))
        self.error = Error(status & 7)
        self.nonfinite, self.busy = bool(status >> 3 & 1), bool(status >> 4)

    async def until(self, condition: Callable[[], bool], *, limit: int = 4000) -> None:
        """Clock until something is so; fail where it never is."""
        for _ in range(limit):
            if condition():
                return
            await self.cycle()
        raise AssertionError(
            f"nothing after {limit} cycles: {self.x.sent} activation beats and {self.w.sent} "
            f"weight beats taken, {len(self.o.received)} outputs, error {self.error.name}, "
            f"busy {self.busy}"
        )

    async def clear(self) -> None:
        """Clear the engine, offering nothing; the next cycle is the first of a new life."""
        self.offer([], [])
        await self.cycle(clear=True)
        status = self._ctx.get(Value.cast(self._engine.status))
        assert status == 0, f"status {status:#x} after clear"
        self.error, self.nonfinite, self.busy = Error.NONE, False, False
        self.open()


class EngineBench:
    """One engine, and the payloads of layers for it."""

    def __init__(self, parameters: EngineParameters, *, engine: Any = None) -> None:
        self.parameters = parameters
        self.engine = engine or Engine(parameters=parameters)
        self.interface = EngineInterface(
            numerics=parameters.numerics,
            act_lanes=parameters.act_lanes,
            output_lanes=parameters.layout.output_lanes,
            beat_width=parameters.layout.beat_width,
            sum_width=parameters.sum_width,
            exponent_width=exponent_width(parameters.numerics),
            tokens=parameters.tokens,
        )

    @staticmethod
    def payloads(raw: np.ndarray) -> list[int]:
        """Bytes of payloads as integers."""
        return [int.from_bytes(row.tobytes(), "little") for row in raw]

    def x(self, tokens: np.ndarray) -> list[int]:
        """Payloads of tokens (M, K)."""
        return self.payloads(self.interface.activations(tokens))

    def w(self, layer: QuantizedMatrix | PackedLayer) -> list[int]:
        """Payloads of a layer, packed first if need be."""
        packed = layer if isinstance(layer, PackedLayer) else self.parameters.pack(layer)
        return self.payloads(self.interface.weights(packed))

    def outputs(self, payloads: Sequence[int], rows: int) -> Any:
        """Read the outputs of some tokens of one layer back."""
        size = self.interface.o_bytes
        raw = [list(payload.to_bytes(size, "little")) for payload in payloads]
        return self.interface.outputs(np.array(raw, dtype=np.uint8).reshape(-1, size), rows)

    def beats(self, matrix: QuantizedMatrix, tokens: int = 1) -> int:
        """Output beats of a layer."""
        whole = self.interface.passes(tokens) * self.interface.tokens
        return whole * self.interface.output_beats(matrix.rows)

    def check(self, payloads: Sequence[int], matrix: QuantizedMatrix, tokens: np.ndarray) -> None:
        """Compare outputs with the golden model's, bit for bit."""
        golden = GoldenModel(matrix, self.parameters.numerics)
        got = self.outputs(payloads, matrix.rows)
        whole = got if isinstance(got, tuple) else (got,)
        got = tuple(part[: len(tokens)] for part in whole)
        if self.parameters.numerics.output == "int":
            sums, exponents = golden.run(tokens)
            assert np.array_equal(got[0], sums), f"sums {got[0]} and not {sums}"
            assert np.array_equal(got[1], exponents), f"exponents {got[1]} and not {exponents}"
            return
        (got,) = got
        expected = golden.run(tokens, nonfinite="nan")
        unsigned = f"u{expected.dtype.itemsize}"
        wrong = np.argwhere(got.view(unsigned) != expected.view(unsigned))
        assert not len(wrong), (
            f"{len(wrong)} of {expected.size} outputs differ, the first at token and row "
            f"{wrong[0].tolist()}: {got[tuple(wrong[0])]!r} and not {expected[tuple(wrong[0])]!r}"
        )

    def run(
        self,
        work: Sequence[tuple[QuantizedMatrix, np.ndarray]],
        *,
        stalls: tuple[float, float, float] = (0.0, 0.0, 0.0),
        seed: int = 0,
        limit: int = 20_000,
    ) -> SimpleNamespace:
        """Run layers one after the other without reset and compare every output."""
        seen = SimpleNamespace()

        async def script(host: Host) -> None:
            x = [payload for _, tokens in work for payload in self.x(tokens)]
            passes = [self.interface.passes(len(tokens)) for _, tokens in work]
            w = [
                payload
                for (matrix, _), count in zip(work, passes, strict=True)
                for payload in self.w(matrix) * count
            ]
            host.offer(x, w)
            total = sum(self.beats(matrix, len(tokens)) for matrix, tokens in work)
            await host.until(
                lambda: len(host.o.received) >= total or host.error != Error.NONE, limit=limit
            )
            assert host.error == Error.NONE, f"the engine stopped: {host.error.name}"
            seen.cycles, seen.nonfinite = host.cycles, host.nonfinite
            position = 0
            for matrix, tokens in work:
                count = self.beats(matrix, len(tokens))
                self.check(host.o.received[position : position + count], matrix, tokens)
                position += count
            for _ in range(8):
                await host.cycle()
            assert len(host.o.received) == total, "more outputs than rows"
            assert not host.busy

        self.script(script, stalls=stalls, seed=seed)
        return seen

    def script(self, script: Callable[[Host], Any], **options: Any) -> None:
        """Simulate the engine under a host's orders."""

        async def bench(ctx: Any) -> None:
            await script(Host(ctx, self.engine, **options))

        simulate(self.engine, bench)


def ports(component: wiring.Component) -> dict[str, tuple[str, int]]:
    """Ports as a toplevel has them: name to direction and width."""
    return {
        "__".join(map(str, path)): (
            "out" if member.flow == wiring.Out else "in",
            len(Value.cast(value)),
        )
        for path, member, value in component.signature.flatten(component)
    }


@pytest.fixture
def hdl(streamed: Any) -> Any:
    """Return what the tests of components share."""
    return SimpleNamespace(
        simulate=simulate,
        parameters=make_parameters,
        Host=Host,
        EngineBench=EngineBench,
        LaneStream=LaneStream,
        ports=ports,
        streamed=streamed,
    )
