"""Train the character model of this folder and write its checkpoint.

Needs PyTorch, which nothing else here does; the middle size takes about a quarter of an hour on two
CPU cores.
"""

import argparse
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from corpus import held_out_text, training_text
from dims import CHECKPOINTS, SIZES
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor, nn
from torch.nn import functional

from lutra.sim.model_dims import DIMS, ModelDims, tensor_shapes
from lutra.sim.tiny_lm import TinyLM

__all__ = ["Recipe", "TorchLM", "main", "train", "write_checkpoint"]

Halves = NDArray[np.float16]

# Between the float32 logits of PyTorch and of NumPy, which only add up in another order.
LOGITS_TOLERANCE = 1e-3

# Wider models diverge at rates at which narrow ones still learn.
PEAK_RATES = {"small": 6e-3, "medium": 4e-3, "large": 2e-3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train: all that the result depends on besides text and dimensions.

    Parameters
    ----------
    steps : :class:`int`
        Number of steps of the optimiser.
    seed : :class:`int`
        Seed of the first weights and of the order of the text.
    batch_size : :class:`int`
        Windows of one context each that a step sees.
    peak_rate : :class:`float`
        Learning rate after the warm-up; falls along a cosine to a tenth of it.
    warm_up_steps : :class:`int`
        Steps over which the learning rate rises to its peak.
    weight_decay : :class:`float`
        Decay of the matrices; the gains of the norms are left alone.
    bfloat16 : :class:`bool`
        Whether to multiply in bfloat16, as faster hardware can; weights and sums stay float32.
    seconds : :class:`float`
        Time after which training ends where it has not taken all its steps. The learning rate
        falls with the time where that goes by faster than the steps.
    """

    steps: int
    seed: int
    batch_size: int = 16
    peak_rate: float = 4e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.1
    bfloat16: bool = False
    seconds: float = math.inf

    def rate(self, step: int, elapsed: float = 0.0) -> float:
        """Learning rate of a step, ``elapsed`` seconds into training, as a fraction of the peak."""
        if step < self.warm_up_steps:
            return (step + 1) / self.warm_up_steps
        progress = (step - self.warm_up_steps) / max(1, self.steps - self.warm_up_steps)
        progress = min(1.0, max(progress, elapsed / self.seconds))
        return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))


class Norm(nn.Module):
    """RMSNorm over the last axis."""

    def __init__(self, dims: ModelDims) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dims.hidden_size))
        self.eps = dims.norm_eps

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., hidden_size) float32 to the same shape."""
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Causal attention with rotary positions."""

    def __init__(self, dims: ModelDims) -> None:
        super().__init__()
        self.head_count = dims.head_count
        self.q_proj = _matrix(dims.hidden_size, dims.hidden_size)
        self.k_proj = _matrix(dims.hidden_size, dims.hidden_size)
        self.v_proj = _matrix(dims.hidden_size, dims.hidden_size)
        self.o_proj = _matrix(dims.hidden_size, dims.hidden_size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map x (B, M, hidden_size) with tables (M, head_size) to the shape of x."""
        batch, length, size = x.shape
        heads = (batch, length, self.head_count, size // self.head_count)
        q, k, v = (
            project(x).view(heads).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(
            _rotated(q, cos, sin), _rotated(k, cos, sin), v, is_causal=True
        )
        return self.o_proj(mixed.transpose(1, 2).reshape(x.shape))


class FeedForward(nn.Module):
    """Feed-forward part, gated by SiLU."""

    def __init__(self, dims: ModelDims) -> None:
        super().__init__()
        self.gate_proj = _matrix(dims.hidden_size, dims.intermediate_size)
        self.up_proj = _matrix(dims.hidden_size, dims.intermediate_size)
        self.down_proj = _matrix(dims.intermediate_size, dims.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., hidden_size) float32 to the same shape."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention and feed-forward part, each with its norm and its residual."""

    def __init__(self, dims: ModelDims) -> None:
        super().__init__()
        self.input_layernorm = Norm(dims)
        self.self_attn = Attention(dims)
        self.post_attention_layernorm = Norm(dims)
        self.mlp = FeedForward(dims)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map x (B, M, hidden_size) with tables (M, head_size) to the shape of x."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """All of the model but its last matrix."""

    def __init__(self, dims: ModelDims) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(dims.vocab_size, dims.hidden_size)
        self.layers = nn.ModuleList(Layer(dims) for _ in range(dims.layer_count))
        self.norm = Norm(dims)

        exponents = torch.arange(0, dims.head_size, 2, dtype=torch.float64) / dims.head_size
        positions = torch.arange(dims.context_length, dtype=torch.float64)
        angles = torch.outer(positions, dims.rope_base**-exponents).repeat(1, 2)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, M) int64 to (B, M, hidden_size) float32."""
        x = self.embed_tokens(tokens)
        cos = self.get_buffer("cos")[: tokens.shape[1]]
        sin = self.get_buffer("sin")[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)


class TorchLM(nn.Module):
    """``TinyLM`` in PyTorch; its parameters have the names of a checkpoint.

    Parameters
    ----------
    dims : :class:`ModelDims`
        Dimensions of the model.

    Attributes
    ----------
    dims : :class:`ModelDims`
        As given.
    steps_taken : :class:`int`
        Steps of the optimiser so far.
    """

    def __init__(self, dims: ModelDims = DIMS) -> None:
        super().__init__()
        self.dims = dims
        self.steps_taken = 0
        self.model = Decoder(dims)
        self.lm_head = _matrix(dims.hidden_size, dims.vocab_size)
        self._initialise(dims)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, M) int64 to logits (B, M, vocab_size) float32."""
        return self.lm_head(self.model(tokens))

    def _initialise(self, dims: ModelDims) -> None:
        # Radford et al., GPT-2, 2019, section 2.3: what adds to the residual stream starts smaller
        # by the root of the number of additions.
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                adds = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = (2 * dims.layer_count) ** -0.5 if adds else 1.0
                nn.init.normal_(parameter, std=0.02 * scale)


def train(
    recipe: Recipe,
    text: Tensor,
    held_out: Tensor,
    report: Callable[[str], None] = print,
    *,
    dims: ModelDims = DIMS,
) -> TorchLM:
    """Train a model from random weights.

    Parameters
    ----------
    recipe : :class:`Recipe`
        How to train.
    text, held_out : int64 tensor, shape (characters,)
        Text to train on, and text that is only looked at to report progress.
    report : callable
        Takes each line of progress.
    dims : :class:`ModelDims`
        Dimensions of the model.

    Returns
    -------
    :class:`TorchLM`
        The model after the last step.
    """
    torch.manual_seed(recipe.seed)
    lm = TorchLM(dims)
    optimizer = _optimizer(lm, recipe)
    start = time.monotonic()
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: recipe.rate(step, time.monotonic() - start)
    )
    for step in range(recipe.steps):
        window = _random_windows(text, recipe.batch_size, dims.context_length)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
            loss = _loss(lm, window)
        loss.backward()
        nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        lm.steps_taken += 1
        elapsed = time.monotonic() - start
        if step % 50 == 49 or step in (0, recipe.steps - 1):
            line = f"step {step + 1:5} of {recipe.steps}: loss {loss.item():.3f}, {elapsed:.0f} s"
            report(line + (_held_out_note(lm, held_out) if step % 250 == 249 else ""))
        if elapsed > recipe.seconds:
            report(f"time is over after {step + 1} steps")
            break
    return lm


def write_checkpoint(path: Path, lm: TorchLM, recipe: Recipe, held_out: bytes) -> float:
    """Round the weights to float16, judge them with ``TinyLM`` and write them to a file.

    The file is written beside and then renamed, so that no reader ever sees half of one.

    Parameters
    ----------
    path : :class:`pathlib.Path`
        Checkpoint to write, replaced if there is one.
    lm : :class:`TorchLM`
        Trained model; its weights are rounded in place.
    recipe : :class:`Recipe`
        How it was trained, for the metadata.
    held_out : :class:`bytes`
        Text to judge it on.

    Returns
    -------
    :class:`float`
        Perplexity per character on the held-out text.

    Raises
    ------
    :exc:`RuntimeError`
        If ``TinyLM`` does not compute what PyTorch does.
    """
    tensors = _rounded(lm)
    numpy_lm = TinyLM(tensors, dims=lm.dims)
    _check_same(lm, numpy_lm, held_out)
    perplexity = numpy_lm.perplexity(held_out)
    metadata = lm.dims.to_metadata() | {
        "architecture": "llama",
        "python": platform.python_version(),
        "seed": str(recipe.seed),
        "steps": str(lm.steps_taken),
        "batch_size": str(recipe.batch_size),
        "products": "bfloat16" if recipe.bfloat16 else "float32",
        "held_out_loss": f"{math.log(perplexity):.4f}",
    }
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(save(dict(tensors), metadata))
    partial.replace(path)
    return perplexity


def main() -> None:
    """Train as the command line says."""
    folder = Path(__file__).parent
    parser = argparse.ArgumentParser(description="Train the character model of this folder.")
    parser.add_argument("--size", choices=SIZES, default="medium", help="(default: medium)")
    parser.add_argument("--steps", type=int, default=4400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end at the latest then")
    parser.add_argument("--output", type=Path, help="checkpoint (default: that of the size, here)")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    output = arguments.output or folder / CHECKPOINTS[arguments.size]
    recipe = Recipe(
        steps=arguments.steps,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        peak_rate=PEAK_RATES[arguments.size],
        bfloat16=arguments.bfloat16,
        seconds=60 * arguments.minutes,
    )
    text, held_out = training_text(), held_out_text()
    print(f"{len(text)} characters to train on, {len(held_out)} held out")
    lm = train(
        recipe,
        _as_tensor(text),
        _as_tensor(held_out),
        lambda line: print(line, flush=True),
        dims=SIZES[arguments.size],
    )
    perplexity = write_checkpoint(output, lm, recipe, held_out)
    print(
        f"held-out perplexity per character {perplexity:.3f} ({math.log2(perplexity):.3f} bits), "
        f"{output.stat().st_size} bytes"
    )


def _matrix(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


def _optimizer(lm: TorchLM, recipe: Recipe) -> torch.optim.Optimizer:
    groups = [
        {
            "params": [p for p in lm.parameters() if p.ndim == 2],
            "weight_decay": recipe.weight_decay,
        },
        {"params": [p for p in lm.parameters() if p.ndim != 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.peak_rate, betas=(0.9, 0.95), fused=True)


def _random_windows(text: Tensor, batch_size: int, length: int) -> Tensor:
    # One character more than a context: each but the last is read, each but the first predicted.
    starts = torch.randint(len(text) - length, (batch_size, 1))
    return text[starts + torch.arange(length + 1)]


def _loss(lm: TorchLM, window: Tensor) -> Tensor:
    logits = lm(window[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())


def _held_out_note(lm: TorchLM, held_out: Tensor) -> str:
    # A sample is enough to follow progress; the checkpoint is judged on the whole text.
    length = lm.dims.context_length
    starts = torch.linspace(0, len(held_out) - length - 1, 64).long()[:, None]
    with torch.no_grad():
        loss = _loss(lm, held_out[starts + torch.arange(length + 1)]).item()
    return f", held-out perplexity about {math.exp(loss):.3f}"


def _rounded(lm: TorchLM) -> dict[str, Halves]:
    tensors: dict[str, Halves] = {}
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            half = parameter.half()
            parameter.copy_(half)
            tensors[name] = half.numpy()
    return {name: tensors[name] for name in tensor_shapes(lm.dims)}


def _check_same(lm: TorchLM, numpy_lm: TinyLM, text: bytes) -> None:
    tokens = _as_tensor(text[: lm.dims.context_length])
    with torch.no_grad():
        expected = lm(tokens[None])[0].numpy()
    error = float(np.abs(numpy_lm.logits(tokens.numpy()) - expected).max())
    print(f"largest difference of logits between PyTorch and NumPy {error:.1e}")
    if error > LOGITS_TOLERANCE:
        raise RuntimeError(f"Logits must agree to {LOGITS_TOLERANCE}, not differ by {error}")


def _as_tensor(text: bytes) -> Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).long()


if __name__ == "__main__":
    main()
