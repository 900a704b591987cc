"""Write what training text puts into each layer: the calibration file that a recipe can use.

For each layer the file has ``inputs``, float16 activations of tokens drawn from windows of the
training text, and ``importance``, one number for each output: the sum over a window of squared
gradients of the loss, which is the Fisher information of that output. It says what an error there
does to the model's own output, so that layers can be compared.
"""

import argparse
from pathlib import Path

import numpy as np
from corpus import training_text
from gradient import layer_gradients
from safetensors.numpy import save_file

from lutra.sim.tiny_lm import Floats, TinyLM, load

__all__ = ["calibrate", "calibration_windows", "main"]

HERE = Path(__file__).parent
CHECKPOINT = HERE / "tinylm.safetensors"
WINDOWS = 64
TOKENS = 1024


def calibration_windows(model: TinyLM, count: int, seed: int = 1) -> np.ndarray:
    """Draw windows of one context each from the training text, uint8 of shape (count, M)."""
    tokens = np.frombuffer(training_text(), np.uint8)
    length = model.dims.context_length
    starts = np.random.default_rng(seed).integers(0, len(tokens) - length, count)
    return np.stack([tokens[start : start + length] for start in starts])


def calibrate(
    model: TinyLM, *, windows: int = WINDOWS, tokens: int = TOKENS, seed: int = 1
) -> dict[str, np.ndarray]:
    """Return the tensors of a calibration file.

    Parameters
    ----------
    model : TinyLM
        In floating point.
    windows : int
        Windows of the training text to read.
    tokens : int
        Tokens to keep, drawn from all of them.
    seed : int
        Of all that is drawn.
    """
    texts = calibration_windows(model, windows, seed)
    rng = np.random.default_rng(seed)
    inputs: dict[str, list[Floats]] = {name: [] for name in model.linear_layers()}
    squares: dict[str, list[Floats]] = {name: [] for name in inputs}
    for text in texts:
        for name, (x, gradient) in layer_gradients(model, text, rng).items():
            inputs[name].append(x)
            squares[name].append((gradient * gradient).sum(axis=0))
    kept = np.sort(rng.permutation(texts.size)[:tokens])
    found: dict[str, np.ndarray] = {}
    for name, rows in inputs.items():
        found[f"{name}.inputs"] = np.concatenate(rows)[kept].astype(np.float16)
        found[f"{name}.importance"] = np.mean(squares[name], axis=0)
    return found


def main() -> None:
    """Write the calibration file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/tinylm.calibration.safetensors"))
    parser.add_argument("--windows", type=int, default=WINDOWS, help="of training text")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="tokens to keep")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    found = calibrate(
        load(CHECKPOINT),
        windows=arguments.windows,
        tokens=arguments.tokens,
        seed=arguments.seed,
    )
    save_file(found, arguments.output)
    print(f"{arguments.output}: {arguments.tokens} tokens of training text")


if __name__ == "__main__":
    main()
