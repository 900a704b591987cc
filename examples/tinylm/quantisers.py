"""Quantisers against rounding to nearest, with as many bits a weight.

Calibrates on training text, quantises the checkpoint beside this file by each recipe, and prints
the loss on held-out text; otherwise as ``mixture.py``.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from calibrate import calibrate
from corpus import held_out_text
from mixture import CHECKPOINT, measure
from safetensors.numpy import save_file

from lutra.quant import Recipe
from lutra.sim.tiny_lm import load

__all__ = ["main", "recipes"]

GROUP_SIZE = 32
WINDOWS = 160
WEIGHTED = {"weighting": "activation"}


def recipes(group_size: int = GROUP_SIZE) -> dict[str, list[tuple[str, Recipe]]]:
    """Return the recipes to compare, by what they have in common; the first is the plainest."""

    def values(name: str) -> list[tuple[str, Recipe]]:
        chosen = {"format": name, "group_size": group_size}
        return [
            ("nearest", Recipe(**chosen)),
            ("clipped", Recipe(**chosen, method="mse")),
            ("clipped, weighted", Recipe(**chosen, method="mse", options=WEIGHTED)),
            ("learned clipping", Recipe(**chosen, method="learned_clipping")),
            ("learned rounding", Recipe(**chosen, method="learned_rounding")),
            ("GPTQ", Recipe(**chosen, method="gptq")),
        ]

    def codebooks(name: str) -> list[tuple[str, Recipe]]:
        chosen = {"format": name, "group_size": "row", "scale_width": 16}
        sparse = WEIGHTED | {"outliers": 0.004, "sensitive": 0.0005}
        return [
            ("k-means", Recipe(**chosen)),
            ("k-means, weighted", Recipe(**chosen, options=WEIGHTED)),
            ("the same, 0.45 % sparse", Recipe(**chosen, options=sparse)),
        ]

    signs = {"format": "bcq2_asym", "group_size": group_size}
    return {
        **{name: values(name) for name in ("int3", "int2", "int2_asym", "bitmod3")},
        **{name: codebooks(name) for name in ("free3", "free2")},
        "bcq2_asym": [
            ("alternating", Recipe(**signs)),
            ("alternating, weighted", Recipe(**signs, options=WEIGHTED)),
            ("GPTQ", Recipe(**signs, method="gptq")),
        ],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formats", nargs="+", choices=list(recipes()), default=list(recipes()))
    parser.add_argument(
        "--windows", type=int, default=WINDOWS, help="of held-out text; 0 for all (default: 160)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the calibration (default: 1)")
    arguments = parser.parse_args()
    try:
        _print_table(arguments)
    except (ValueError, OSError) as error:
        print(f"quantisers: {error}", file=sys.stderr)
        sys.exit(2)


def _print_table(arguments: argparse.Namespace) -> None:
    model, text = load(CHECKPOINT), held_out_text()
    windows = arguments.windows or None
    print(f"{'':36}  all bits    loss  seconds")
    in_float = float(np.log(model.perplexity(text, window_count=windows)))
    print(f"{'float16 weights':36}  {16:8.3f}  {in_float:.4f}")
    with TemporaryDirectory() as name:
        folder = Path(name)
        calibration = folder / "calibration.safetensors"
        save_file(calibrate(model, seed=arguments.seed), calibration)
        for chosen in arguments.formats:
            for label, recipe in recipes()[chosen]:
                found = measure(model, recipe, calibration, folder, text, windows)
                title = f"{chosen}, {label}"
                print(
                    f"{title:36}  {found.all_bits:8.3f}  {found.loss:.4f}  {found.seconds:7.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
