"""Seconds that quantisers take for one layer, and what they do to its weights and outputs.

Run ``.venv/bin/python bench/quantizers.py``. Weights are normally distributed, inputs too, with
correlations and with columns of different sizes; both depend on the seed only.
"""

import argparse
import os
import time
from typing import Any

import numpy as np

from lutra.gen.console import print_table
from lutra.quant import Recipe, quantize_by

# Most seconds for 4096 x 4096 on two cores, where there is a promise.
CASES: dict[str, tuple[dict[str, Any], float | None]] = {
    "RTN int4": ({"format": "int4"}, 1.0),
    "BitMoD 3": ({"format": "bitmod3"}, 5.0),
    "BitMoD 4": ({"format": "bitmod4"}, 5.0),
    "GPTQ int4": ({"format": "int4", "method": "gptq"}, 60.0),
    "GPTQ bitmod3": ({"format": "bitmod3", "method": "gptq"}, 60.0),
    "MSE int4": ({"format": "int4", "method": "mse"}, None),
    "alternating bcq3": ({"format": "bcq3_asym"}, None),
    "k-means free4": ({"format": "free4", "group_size": "row", "scale_width": 16}, None),
    "SLiM-Quant int4": ({"format": "int4", "method": "slim_quant"}, None),
    "LLM-FP4 float4_e2m1": ({"format": "float4_e2m1", "method": "llm_fp4"}, None),
    "FineQuant int4": ({"format": "int4", "method": "finequant", "group_size": 32}, None),
}
GROUP_SIZE = 128


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES, metavar="NAME")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns")
    parser.add_argument("--tokens", type=int, default=2048, help="of calibration data")
    parser.add_argument("--repeat", type=int, default=1, help="take the quickest of so many runs")
    arguments = parser.parse_args()
    weights, inputs = layer(arguments.size, arguments.tokens)
    rows = [measure(name, weights, inputs, arguments.repeat) for name in arguments.cases]
    title = f"{arguments.size} x {arguments.size}, groups of {GROUP_SIZE}, {os.cpu_count()} cores"
    columns = ("quantiser", "seconds", "allowed", "weights' error", "outputs' error")
    print_table(title, columns, rows)


def layer(size: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and inputs, float32."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((size, size), dtype=np.float32)
    few = rng.standard_normal((tokens, size // 8), dtype=np.float32)
    inputs = few @ rng.standard_normal((size // 8, size), dtype=np.float32)
    inputs += rng.standard_normal((tokens, size), dtype=np.float32)
    return weights, inputs * np.exp(rng.standard_normal(size, dtype=np.float32) / 2)


def measure(name: str, weights: np.ndarray, inputs: np.ndarray, repeat: int) -> tuple:
    """Quantise, and return a row of the table."""
    fields, allowed = CASES[name]
    chosen: dict[str, Any] = {"group_size": GROUP_SIZE} | fields
    recipe = Recipe(**chosen)
    calibration = inputs if recipe.needs_calibration else None
    seconds, made = np.inf, None
    for _ in range(repeat):
        start = time.perf_counter()
        made = quantize_by(recipe, weights, calibration=calibration)
        seconds = min(seconds, time.perf_counter() - start)
    assert made is not None
    errors = (made.dequantize() - weights).astype(np.float32)
    some = inputs[:256]
    return (
        name,
        f"{seconds:.2f}",
        "" if allowed is None else f"{allowed:g}",
        f"{float(np.linalg.norm(errors) / np.linalg.norm(weights)):.4f}",
        f"{float(np.linalg.norm(some @ errors.T) / np.linalg.norm(some @ weights.T)):.4f}",
    )


if __name__ == "__main__":
    main()
