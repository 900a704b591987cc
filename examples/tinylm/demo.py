"""A language model whose every linear layer is computed by generated, simulated hardware.

Quantises the checkpoint beside this file, generates an engine's Verilog, compiles it with Verilator
and writes text with it, each layer's output compared with the golden model. ``make demo`` runs it.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from calibrate import calibrate
from corpus import held_out_text
from safetensors.numpy import save_file

from lutra.formats import PackedLayer, QuantizedMatrix
from lutra.gen import EngineConfig, load_config, make_backend
from lutra.gen.console import progress_bar
from lutra.gen.differences import count_mismatches
from lutra.gen.files import write_files
from lutra.gen.verilog import generate_verilog
from lutra.quant import (
    LayeredRecipe,
    Mixture,
    ModelFile,
    Recipe,
    load_recipe,
    quantize_file,
)
from lutra.sim import GoldenModel
from lutra.sim.tiny_lm import Floats, TinyLM, load

HERE = Path(__file__).parent
CHECKPOINT = HERE / "tinylm.safetensors"
WINDOWS = 16  # of the held-out text, spread evenly: all of it would take a minute
PROMPT = "class Parser:\n    def __init__(self, "


@dataclass
class Tally:
    """What the hardware did so far."""

    tokens: int = 0
    outputs: int = 0
    mismatches: int = 0
    cycles: int = 0
    useful_cycles: float = 0.0


class HardwareLayers:
    """The model's matrix product in hardware, checked against the golden model as it goes.

    Parameters
    ----------
    model : ModelFile
        The quantised layers.
    config : EngineConfig
        The engine; float16 activations.
    backend : Backend
        What runs it.
    """

    def __init__(self, model: ModelFile, config: EngineConfig, backend) -> None:
        self.config = config
        self.backend = backend
        self.matrices: dict[str, QuantizedMatrix] = {n: model.layer(n) for n in model.layers}
        self.packed: dict[str, PackedLayer] = {
            name: config.parameters.pack(matrix) for name, matrix in self.matrices.items()
        }
        self.golden = {
            name: GoldenModel(matrix, config.parameters.numerics)
            for name, matrix in self.matrices.items()
        }
        self.tally = Tally()

    @property
    def stream_bits_per_weight(self) -> float:
        """Bits of the weight streams, headers, padding and checksums included, for each weight."""
        weights = sum(matrix.codes.size for matrix in self.matrices.values())
        return sum(packed.bits for packed in self.packed.values()) / weights

    def golden_product(self, name: str, x: Floats) -> Floats:
        """Return ``x @ W.T`` of a quantised layer as hardware would, without hardware."""
        return self.golden[name].run(x.astype(np.float16))

    def product(self, name: str, x: Floats) -> Floats:
        """Return ``x @ W.T`` of a quantised layer from hardware, having compared every bit."""
        packed, half = self.packed[name], x.astype(np.float16)
        run = self.backend.run(self.matrices[name], half, packed=packed)
        # The output layer runs once for each token; all others run along with it.
        self.tally.tokens += len(x) if name == "lm_head" else 0
        self.tally.outputs += run.outputs.size
        self.tally.mismatches += count_mismatches(run.outputs, self.golden[name].run(half))
        self.tally.cycles += run.cycles
        self.tally.useful_cycles += packed.useful_cycles * self.config.interface.passes(len(x))
        return run.outputs


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="small", help="preset or TOML file (default: small)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--format", default="bitmod4", help="number format (default: bitmod4)")
    choice.add_argument("--recipe", type=Path, help="recipe, TOML, instead of the format")
    parser.add_argument(
        "--calibration",
        type=Path,
        help="what calibrate.py wrote, for the recipe (default: made anew where it is needed)",
    )
    parser.add_argument("--prompt", default=PROMPT, help="text to continue")
    parser.add_argument("--tokens", type=int, default=240, help="characters to add (default: 240)")
    parser.add_argument("--temperature", type=float, default=0.5, help="0 is greedy (default: 0.5)")
    parser.add_argument("--seed", type=int, default=3, help="of the draw (default: 3)")
    parser.add_argument("--build", type=Path, default=Path("build/demo"), help="folder for files")
    arguments = parser.parse_args()
    try:
        if arguments.tokens < 1:
            raise ValueError(f"--tokens must be at least 1, not {arguments.tokens}")
        demonstrate(arguments)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(2)


def demonstrate(arguments: argparse.Namespace) -> None:
    """Quantise, generate, compile, write text, and print the figures."""
    start = time.perf_counter()
    config = load_config(arguments.config)
    arguments.build.mkdir(parents=True, exist_ok=True)
    quantised = arguments.build / "tinylm.lutra.safetensors"
    recipe, kind = Recipe(format=arguments.format, group_size=128), arguments.format
    if arguments.recipe is not None:
        recipe, kind = load_recipe(arguments.recipe), arguments.recipe.name
    with progress_bar() as progress:
        calibration = arguments.calibration
        rules = recipe.rules if isinstance(recipe, LayeredRecipe) else (recipe,)
        measures = any(isinstance(rule, Mixture) and rule.needs_calibration for rule in rules)
        if calibration is None and measures:
            progress("calibrating", 0.0)
            calibration = arguments.build / "tinylm.calibration.safetensors"
            save_file(calibrate(load(CHECKPOINT)), calibration)
        progress("quantising", 0.0)
        model_file = quantize_file(
            CHECKPOINT,
            quantised,
            recipe,
            calibration=calibration,
            cycles=config.parameters.slice_cycles,
        )
        progress("generating Verilog", 0.0)
        write_files(arguments.build, {f"{config.name}.v": generate_verilog(config)})
        backend = make_backend("verilator", config, progress)
        hardware = HardwareLayers(model_file, config, backend)

        model = load(CHECKPOINT)
        progress("perplexity in float", 0.0)
        in_float = model.perplexity(held_out_text(), window_count=WINDOWS)
        progress("perplexity, quantised", 0.0)
        golden_model = model.with_matmul(hardware.golden_product)
        in_quantised = golden_model.perplexity(held_out_text(), window_count=WINDOWS)
        text = write_text(model, hardware, arguments, progress)

    tally = hardware.tally
    stored = sum(model_file.stored_bytes(name) for name in model_file.layers) * 8
    weights = sum(matrix.codes.size for matrix in hardware.matrices.values())
    print(arguments.prompt + text)
    print("-" * 72)
    print(f"tokens                    {tally.tokens:,} read or written")
    print(f"outputs compared          {tally.outputs:,}")
    print(f"outputs with other bits   {tally.mismatches:,}")
    print(f"cycles a token            {tally.cycles / tally.tokens:,.0f}")
    print(f"utilisation               {100 * tally.useful_cycles / tally.cycles:.1f} %")
    print(f"bits a weight             {stored / weights:.3f} in the model file, "
          f"{hardware.stream_bits_per_weight:.3f} in the weight stream")  # fmt: skip
    print(f"perplexity a character    {in_float:.4f} in float, {in_quantised:.4f} in "
          f"{kind} ({WINDOWS} windows of held-out text)")  # fmt: skip
    print(f"engine                    {config.name}: {config.parameters.layout.lanes} lanes x "
          f"{config.parameters.layout.width} weights a slice")  # fmt: skip
    print(f"time                      {time.perf_counter() - start:.0f} s")
    if tally.mismatches:
        sys.exit("demo: the hardware and the golden model differ")


def write_text(model: TinyLM, hardware: HardwareLayers, arguments, progress) -> str:
    """Continue the prompt with every linear layer in hardware; return what was added."""
    prompt = arguments.prompt.encode("ascii")
    written = 0

    def on_token(_: int) -> None:
        nonlocal written
        written += 1
        progress("writing text in hardware", written / arguments.tokens)

    text = model.generate(
        prompt,
        arguments.tokens,
        matmul=hardware.product,
        temperature=arguments.temperature,
        seed=arguments.seed,
        on_token=on_token,
    )
    return text.decode("ascii")


if __name__ == "__main__":
    main()
