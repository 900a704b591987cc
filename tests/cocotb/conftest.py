"""Small engines that cover the catalogue, and the means to run them in a Verilog simulator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest

from lutra.formats import Numerics, QuantizedMatrix, StreamLayout
from lutra.gen.config import EngineConfig
from lutra.gen.verilog import generate_verilog
from lutra.hdl import CoreOptions, EngineParameters, LutOptions
from lutra.sim import EmulatedRun, GoldenModel, ToolError
from lutra.sim.cocotb_runner import SIMULATORS, CocotbJob, check_simulator, run_cocotb

TILE_OF_128 = {"width": 16, "tile_slices": 8, "group_sizes": (16, 32, 64, 128)}


def _engine(
    name: str,
    numerics: Numerics,
    layout: dict[str, Any],
    core: CoreOptions | None = None,
    **changes: Any,
) -> EngineConfig:
    layout = {"max_rows": 11, "max_columns": 300} | layout
    return EngineConfig(
        name=name,
        parameters=EngineParameters(
            layout=StreamLayout(**layout),
            numerics=numerics,
            core=core or LutOptions(),
            **changes,
        ),
    )


# Together: every family, activation type, output type, table kind and multiplier.
CONFIGS = (
    _engine(
        "integers",
        Numerics(activation="float16", act_width=16, output="float32"),
        {
            "lanes": 4,
            "formats": (*(f"int{width}" for width in range(2, 9)), "ternary"),
            **TILE_OF_128,
        },
        act_lanes=4,
    ),
    _engine(
        "zero_points",
        Numerics(activation="bfloat16", act_width=12, output="bfloat16"),
        {
            "lanes": 2,
            "formats": tuple(f"int{n}_asym" for n in range(2, 9)),
            "output_lanes": 2,
            **TILE_OF_128,
        },
        LutOptions(table="half"),
        multiply="dsp",
        act_lanes=16,
    ),
    _engine(
        "codings",
        Numerics(activation="int8", act_width=8, output="int"),
        {
            "lanes": 3,
            "formats": (
                *(f"bcq{n}{kind}" for n in range(1, 5) for kind in ("", "_asym")),
                *("int3_affine", "free2"),
            ),
            **TILE_OF_128,
        },
        LutOptions(mu=3),
        act_lanes=8,
    ),
    _engine(
        "floats",
        Numerics(activation="float32", act_width=24, output="float16"),
        {
            "lanes": 4,
            "width": 8,
            "tile_slices": 2,
            "formats": ("float4_e2m1", "float4_e3m0", "nf4", "bitmod3", "bitmod4"),
            "group_sizes": (8, 16, 32, 64, 128),
            "output_lanes": 2,
            "ahead": 4,
        },
        LutOptions(table="half"),
        tokens=2,
        act_lanes=2,
    ),
    _engine(
        "mixed",
        Numerics(activation="float16", act_width="exact", output="int"),
        {
            "lanes": 2,
            "width": 16,
            "tile_slices": 1,
            "formats": ("bitmod4", "int8_asym", "bcq2", "ternary"),
            "group_sizes": (16, 32, 64, 128),
            "scale_width": 4,
        },
        multiply="dsp",
        act_lanes=1,
    ),
)


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer and its tokens; the label says how it was made."""

    label: str
    matrix: QuantizedMatrix
    x: np.ndarray


class Bench:
    """One engine, its Verilog, and the comparison of its outputs with the golden model's."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.name = config.name
        self.parameters = config.parameters
        self.layout = config.parameters.layout
        self.numerics = config.parameters.numerics
        self.interface = config.interface

    @cached_property
    def verilog(self) -> str:
        """Generated text."""
        return generate_verilog(self.config)

    def x(self, layer: Layer) -> np.ndarray:
        """Beats of a layer's tokens."""
        return self.interface.activations(layer.x)

    def w(self, layer: Layer) -> np.ndarray:
        """Beats of a layer's weights, once for each pass."""
        beats = self.interface.weights(self.parameters.pack(layer.matrix))
        return np.tile(beats, (self.interface.passes(len(layer.x)), 1))

    def output_beats(self, layer: Layer) -> int:
        """Output beats of all tokens of a layer, those included that fill up its last pass."""
        tokens = self.interface.passes(len(layer.x)) * self.interface.tokens
        return tokens * self.interface.output_beats(layer.matrix.rows)

    def job(self, layers: Sequence[Layer], **options: Any) -> CocotbJob:
        """Join layers to one stream each way, with no reset in between."""
        return CocotbJob(
            x=np.concatenate([self.x(layer) for layer in layers]),
            w=np.concatenate([self.w(layer) for layer in layers]),
            expected=sum(map(self.output_beats, layers)),
            **options,
        )

    def run(self, jobs: Sequence[CocotbJob], simulator: str, **options: Any) -> list[EmulatedRun]:
        """Run jobs one after the other in one simulation."""
        options = {"verilog": self.verilog, "top": self.name} | options
        return run_cocotb(jobs=jobs, simulator=simulator, **options)

    def check(self, run: EmulatedRun, layers: Sequence[Layer], how: str) -> None:
        """Compare every output with the golden model's, bit for bit; ``how`` says how to repeat."""
        expected = sum(map(self.output_beats, layers))
        assert len(run.outputs) == expected, (
            f"{how}: {len(run.outputs)} of {expected} output beats came in {run.cycles} cycles, "
            f"status {run.status:#x}"
        )
        position = 0
        for index, layer in enumerate(layers):
            count = self.output_beats(layer)
            raw = run.outputs[position : position + count]
            position += count
            got = self.interface.outputs(raw, layer.matrix.rows)
            want = GoldenModel(layer.matrix, self.numerics).run(layer.x, nonfinite="nan")
            if self.numerics.output == "int":
                exponents = got[1][: len(layer.x), None]
                self._compare(exponents, want[1][:, None], f"{how}: exponents, ", layer)
                got, want = got[0], want[0]
            self._compare(got[: len(layer.x)], want, f"{how}: layer {index}, ", layer)

    def _compare(self, got: np.ndarray, want: np.ndarray, how: str, layer: Layer) -> None:
        assert got.dtype == want.dtype
        bits = f"u{want.itemsize}"
        got, want = got.copy().view(bits), want.view(bits)
        wrong = np.argwhere(got != want)
        if len(wrong):
            token, row = wrong[0]
            raise AssertionError(
                f"{how}{layer.label}: {len(wrong)} of {want.size} outputs differ; token {token}, "
                f"row {row} is {got[token, row]:#x}, not {want[token, row]:#x}"
            )

    def play(
        self,
        layers: Sequence[Layer],
        simulator: str,
        *,
        stalls: tuple[float, float, float] = (0.0, 0.0, 0.0),
        seed: int = 1,
    ) -> EmulatedRun:
        """Run layers back to back and compare everything."""
        (run,) = self.run([self.job(layers, stalls=stalls, seed=seed)], simulator)
        self.check(run, layers, f"{self.name} on {simulator}, stalls {stalls}, seed {seed}")
        assert run.status & ~8 == 0  # a token that is not finite leaves its mark
        return run


BENCHES = {config.name: Bench(config) for config in CONFIGS}


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest) -> Bench:
    """Every small engine."""
    return BENCHES[request.param]


@pytest.fixture
def benches() -> dict[str, Bench]:
    """All small engines, by name."""
    return BENCHES


@pytest.fixture(params=SIMULATORS)
def simulator(request: pytest.FixtureRequest) -> str:
    """Every Verilog simulator; Icarus only where it is installed."""
    if request.param == "icarus":
        try:
            check_simulator("icarus")
        except ToolError as reason:
            pytest.skip(str(reason))
    return request.param


@pytest.fixture
def make_layer() -> Callable[..., Layer]:
    """Make one layer of a label, a matrix and tokens."""
    return Layer
