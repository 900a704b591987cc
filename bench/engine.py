"""What the spine costs, measured here: quantising, golden model, generation, simulation.

Run ``make bench``. Times depend on the machine and its load; cycles and bits do not.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lutra.formats import Numerics, family
from lutra.gen import PRESETS, compare_layer, generate, make_backend, random_tokens
from lutra.gen.console import print_table, progress_bar
from lutra.quant import quantize
from lutra.sim import GoldenModel


def seconds(call: Callable[[], Any], repeats: int = 5) -> float:
    """Return the median time of several calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="small", choices=sorted(PRESETS), help="preset")
    parser.add_argument("--size", type=int, default=1024, help="N and K of the simulated layers")
    parser.add_argument("--tokens", type=int, default=4, help="activation vectors a layer")
    arguments = parser.parse_args()
    with progress_bar() as progress:
        simulated = simulate_formats(arguments, progress)
        progress("timing software", 0.9)
        timed = time_software()
    columns = ("format", "group", "differ", "cycles", "utilisation", "stream bits a weight")
    title = f"{arguments.config}: {arguments.size} x {arguments.size}, {arguments.tokens} tokens"
    print_table(title, columns, simulated)
    print_table("Software, 4096 x 4096, median of 5", ("what", "seconds", "remark"), timed)


def simulate_formats(arguments: argparse.Namespace, progress) -> list[tuple]:
    """Run every format of a preset at every group size; a row for each."""
    config = PRESETS[arguments.config]
    layout, numerics = config.parameters.layout, config.parameters.numerics
    backend = make_backend("verilator", config, progress)
    weights = np.random.default_rng(1).standard_normal((arguments.size, arguments.size), np.float32)
    x = random_tokens(numerics, arguments.tokens, arguments.size, seed=1)
    rows = []
    for name in layout.formats:
        for group_size in (*layout.group_sizes, None):
            progress(f"simulating {name}", len(rows) / len(layout.formats) / 4)
            matrix = quantize(weights, format=name, group_size=group_size)
            result = compare_layer(name, matrix, x, config=config, backend=backend)
            rows.append((
                name,
                group_size or "row",
                result.mismatches,
                f"{result.cycles:,}",
                f"{100 * (result.utilisation or 0):.1f} %",
                f"{result.stream_bits / weights.size:.3f}",
            ))
    return rows


def time_software() -> list[tuple]:
    """Time quantisers, the golden model and generation."""
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((4096, 4096), np.float32)
    rows = []
    for name in ("bitmod4", "bitmod3", "int4"):
        took = seconds(lambda name=name: quantize(weights, format=name), 3)
        rows.append((f"quantise to {name}", f"{took:.2f}", family(name).summary))
    matrix = quantize(weights, format="bitmod4")
    model = GoldenModel(matrix, Numerics())
    dense = matrix.integer_weights().astype(np.float64)
    for count in (1, 32):
        x = rng.standard_normal((count, 4096)).astype(np.float16)
        wide = x.astype(np.float64)
        plain = seconds(lambda wide=wide: dense @ wide.T)
        golden = seconds(lambda x=x: model.run(x))
        remark = f"{golden / plain:.2f} times the plain float64 product"
        rows.append((f"golden model, {count} tokens", f"{golden:.4f}", remark))
    for name, config in PRESETS.items():
        took = seconds(lambda config=config: generate(config), 3)
        layout = config.parameters.layout
        rows.append((f"generate {name}", f"{took:.2f}", f"{layout.lanes} x {layout.width}"))
    return rows


if __name__ == "__main__":
    main()
