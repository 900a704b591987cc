# amaranth: UnusedElaboratable=no
"""Benches for components and whole engines in Amaranth's simulator."""

from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from amaranth import Value
from amaranth.lib import wiring
from amaranth.sim import Simulator

from lutra.formats import Numerics, PackedLayer, QuantizedMatrix, StreamLayout, pack
from lutra.hdl import Error, LutEngine, LutParameters
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
) -> LutParameters:
    """Small parameters; what belongs to the stream's layout is told from what does not."""
    layout = {
        "lanes": 4,
        "width": 8,
        "tile_slices": 2,
        "formats": tuple(formats),
        "group_sizes": (8, 16, 32),
        "scale_width": 8,
        "max_rows": 12,
        "max_columns": 80,
    }
    layout.update({key: changes.pop(key) for key in list(changes) if key in layout})
    changes.setdefault("act_lanes", 4)
    return LutParameters(layout=StreamLayout(**layout), numerics=numerics or Numerics(), **changes)


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

    def __init__(self, parameters: LutParameters, *, engine: Any = None) -> None:
        self.parameters = parameters
        self.engine = engine or LutEngine(parameters=parameters)
        self.interface = EngineInterface(
            numerics=parameters.numerics,
            act_lanes=parameters.act_lanes,
            output_lanes=parameters.output_lanes,
            beat_width=parameters.layout.beat_width,
            sum_width=parameters.sum_width,
            exponent_width=exponent_width(parameters.numerics),
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
        packed = layer if isinstance(layer, PackedLayer) else pack(layer, self.parameters.layout)
        return self.payloads(self.interface.weights(packed))

    def outputs(self, payloads: Sequence[int], rows: int) -> Any:
        """Read the outputs of some tokens of one layer back."""
        size = self.interface.o_bytes
        raw = [list(payload.to_bytes(size, "little")) for payload in payloads]
        return self.interface.outputs(np.array(raw, dtype=np.uint8).reshape(-1, size), rows)

    def beats(self, matrix: QuantizedMatrix, tokens: int = 1) -> int:
        """Output beats of a layer."""
        return tokens * self.interface.output_beats(matrix.rows)

    def check(self, payloads: Sequence[int], matrix: QuantizedMatrix, tokens: np.ndarray) -> None:
        """Compare outputs with the golden model's, bit for bit."""
        golden = GoldenModel(matrix, self.parameters.numerics)
        got = self.outputs(payloads, matrix.rows)
        if self.parameters.numerics.output == "int":
            sums, exponents = golden.run(tokens)
            assert np.array_equal(got[0], sums), f"sums {got[0]} and not {sums}"
            assert np.array_equal(got[1], exponents), f"exponents {got[1]} and not {exponents}"
            return
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
            w = [p for matrix, tokens in work for p in self.w(matrix) * len(tokens)]
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
def hdl() -> Any:
    """Return what the tests of components share."""
    return SimpleNamespace(
        simulate=simulate,
        parameters=make_parameters,
        Host=Host,
        EngineBench=EngineBench,
        ports=ports,
    )
