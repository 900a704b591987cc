"""Uniform formats against mixtures of formats with as many bits a weight.

Calibrates on training text, quantises the checkpoint beside this file by each recipe, and prints
the loss on held-out text. Products are done in float32 with the quantised weights: what is compared
is what quantising loses, and an engine's own rounding of activations is left out.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from calibrate import calibrate
from corpus import held_out_text
from safetensors.numpy import save_file

from lutra.formats import QuantizedMatrix
from lutra.quant import Mixture, Recipe, load_recipe, quantize_file
from lutra.sim.tiny_lm import Floats, TinyLM, load

__all__ = ["Measured", "bits_with_scales", "main", "measure", "recipes"]

HERE = Path(__file__).parent
CHECKPOINT = HERE / "tinylm.safetensors"
GROUP_SIZE = 32
WINDOWS = 160
_SPARSE_BITS = 32


@dataclass(frozen=True)
class Measured:
    """A recipe's figures.

    Parameters
    ----------
    code_bits : float
        Mean code bits of a weight.
    all_bits : float
        The same with scales, zero-points and format ids.
    loss : float
        Mean negative log likelihood of a held-out character, in nats.
    seconds : float
        Time to quantise.
    """

    code_bits: float
    all_bits: float
    loss: float
    seconds: float


def recipes(group_size: int = GROUP_SIZE) -> list[tuple[str, Recipe, list[tuple[str, Mixture]]]]:
    """Return uniform recipes of 3 bits, and for each the mixtures to compare with it."""

    def mixture(*formats: str, bits: float = 3, **choices: Any) -> Mixture:
        given = {"formats": formats, "budget": {"bits": bits}, "group_size": group_size}
        return Mixture.from_fields(given | choices)

    integers = ("int2", "int3", "int4")
    with_zeros = ("int2_asym", "int3_asym", "int4_asym")
    signs = ("bcq2_asym", "bcq3_asym", "bcq4_asym")
    everything = ("int2", "bcq2_asym", "int3", "bitmod3", "bcq3_asym", "int4", "bitmod4")
    best: dict[str, Any] = {"sensitivity": "hessian", "unit": "group"}
    by_rows: dict[str, Any] = {**best, "unit": "row"}
    by_columns: dict[str, Any] = {**best, "unit": "columns"}
    ids_paid = 3 - 2 / group_size  # two bits a group name one of three formats
    return [
        (
            "int3",
            Recipe(format="int3", group_size=group_size),
            [
                ("int2..4 knapsack", mixture(*integers, **best)),
                ("int2..4 knapsack, ids paid for", mixture(*integers, **best, bits=ids_paid)),
                ("int2..4 knapsack, by rows", mixture(*integers, **by_rows)),
                ("int2..4 knapsack, by columns", mixture(*integers, **by_columns)),
                ("int2..4 slim", mixture(*integers, allocator="slim")),
            ],
        ),
        (
            "int3, clipped",
            Recipe(format="int3", group_size=group_size, method="mse"),
            [
                ("int2..4 knapsack, clipped", mixture(*integers, **best, method="mse")),
                ("int2..4 slim, clipped", mixture(*integers, allocator="slim", method="mse")),
            ],
        ),
        (
            "int3_asym, clipped",
            Recipe(format="int3_asym", group_size=group_size, method="mse"),
            [("int2..4_asym knapsack, clipped", mixture(*with_zeros, **best, method="mse"))],
        ),
        (
            "bitmod3",
            Recipe(format="bitmod3", group_size=group_size),
            [("all kinds knapsack, clipped", mixture(*everything, **best, method="mse"))],
        ),
        (
            "bcq3_asym",
            Recipe(format="bcq3_asym", group_size=group_size),
            [("bcq2..4_asym knapsack", mixture(*signs, **best))],
        ),
    ]


def measure(
    model: TinyLM, recipe, calibration: Path, folder: Path, text: bytes, windows: int | None
) -> Measured:
    """Quantise by a recipe and read held-out text with the result."""
    # Importances count for mixtures that do without activations, too.
    uses = not isinstance(recipe, Recipe) or recipe.needs_calibration
    start = time.perf_counter()
    quantised = quantize_file(
        CHECKPOINT,
        folder / "model.lutra.safetensors",
        recipe,
        calibration=calibration if uses else None,
    )
    seconds = time.perf_counter() - start
    matrices = {name: quantised.layer(name) for name in quantised.layers}
    weights = {name: item.dequantize().astype(np.float32) for name, item in matrices.items()}

    def product(name: str, x: Floats) -> Floats:
        return x @ weights[name].T

    loss = float(np.log(model.with_matmul(product).perplexity(text, window_count=windows)))
    count = sum(item.codes.size for item in matrices.values())
    return Measured(
        code_bits=sum(item.code_bits for item in matrices.values()) / count,
        all_bits=sum(bits_with_scales(item) for item in matrices.values()) / count,
        loss=loss,
        seconds=seconds,
    )


def bits_with_scales(matrix: QuantizedMatrix) -> int:
    """Count codes, group scales, zero-points and format ids at their own widths, and row scales.

    A weight beside the codes counts 32 bits: as many as its column and its value need at least.
    """
    per_group = np.array([
        item.scale_count * (matrix.scale_width + 1) + item.code_width * item.has_zero_point
        for item in matrix.members
    ])
    id_bits = (len(matrix.members) - 1).bit_length() * matrix.format_ids.size
    beside = 0 if matrix.outliers is None else _SPARSE_BITS * len(matrix.outliers.columns)
    dense = matrix.code_bits + int(per_group[matrix.format_ids].sum()) + id_bits
    return dense + beside + 32 * matrix.rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, help="add a recipe file, such as mixture.toml")
    parser.add_argument(
        "--windows", type=int, default=WINDOWS, help="of held-out text; 0 for all (default: 160)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the calibration (default: 1)")
    arguments = parser.parse_args()
    try:
        _print_table(arguments)
    except (ValueError, OSError) as error:
        print(f"mixture: {error}", file=sys.stderr)
        sys.exit(2)


def _print_table(arguments: argparse.Namespace) -> None:
    model, text = load(CHECKPOINT), held_out_text()
    windows = arguments.windows or None
    own = []
    if arguments.recipe is not None:
        own = [(arguments.recipe.name, load_recipe(arguments.recipe))]
    in_float = float(np.log(model.perplexity(text, window_count=windows)))
    print(f"{'':32}  code bits  all bits    loss  perplexity  gain  of the gap")
    print(_line("float16 weights", 16, 16, in_float))
    with TemporaryDirectory() as name:
        folder = Path(name)
        calibration = folder / "calibration.safetensors"
        save_file(calibrate(model, seed=arguments.seed), calibration)
        for index, (title, uniform, mixtures) in enumerate(recipes()):
            base = measure(model, uniform, calibration, folder, text, windows)
            print(_line(title, base.code_bits, base.all_bits, base.loss))
            for label, recipe in [*mixtures, *(own if index == 0 else [])]:
                found = measure(model, recipe, calibration, folder, text, windows)
                gain = base.loss - found.loss
                line = _line(f"  {label}", found.code_bits, found.all_bits, found.loss)
                print(f"{line}  {gain:+.4f}  {100 * gain / (base.loss - in_float):+5.0f} %")


def _line(title: str, code_bits: float, all_bits: float, loss: float) -> str:
    return f"{title:32}  {code_bits:9.3f}  {all_bits:8.3f}  {loss:.4f}  {np.exp(loss):10.4f}"


if __name__ == "__main__":
    main()
