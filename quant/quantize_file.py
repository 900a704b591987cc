"""From a float checkpoint to a model file."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from ..formats import QuantizedMatrix
from .checkpoint import Checkpoint
from .file_error import FileError
from .model_file import ModelFile
from .model_writer import ModelWriter
from .quantize import quantize
from .recipe import Recipe

__all__ = ["quantize_file"]


def quantize_file(
    source: str | Path,
    target: str | Path,
    recipe: Recipe,
    *,
    patterns: Sequence[str] | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> ModelFile:
    """Quantise the layers of a checkpoint, one in memory at a time.

    Parameters
    ----------
    source : path
        A ``.safetensors`` file of float32, float16 or bfloat16 tensors.
    target : path
        The model file; written beside its place and renamed when it is whole.
    recipe : Recipe
        How to quantise every layer.
    patterns : sequence of str, optional
        Which tensors, as :meth:`Checkpoint.select` takes them.
    progress : callable, optional
        Called as ``progress(layer, done, total)``, counted in weights, before each layer; and at
        the end with the last layer and ``done == total``.

    Returns
    -------
    ModelFile
        The target, opened.

    Raises
    ------
    :exc:`ValueError`
        If a pattern matches nothing that can be quantised, or a layer has NaN or infinite weights;
        the sentence names the layer.
    FileError
        If a file cannot be read or written.
    """
    checkpoint = Checkpoint(source)
    if Path(target).exists() and Path(target).samefile(source):
        raise FileError(f"The model file must not replace its checkpoint {source}")
    tensors = checkpoint.select(patterns)
    total = sum(math.prod(checkpoint.shape(tensor)) for tensor in tensors)
    report = progress or (lambda layer, done, total: None)
    done = 0
    with ModelWriter(target, recipe=recipe) as writer:
        name = ""
        for tensor in tensors:
            name = tensor.removesuffix(".weight")
            report(name, done, total)
            writer.add(name, _quantize_layer(checkpoint, tensor, recipe))
            done += math.prod(checkpoint.shape(tensor))
        report(name, done, total)
    return ModelFile(target)


def _quantize_layer(checkpoint: Checkpoint, tensor: str, recipe: Recipe) -> QuantizedMatrix:
    layer = checkpoint.read(tensor)
    try:
        return quantize(
            layer.weights,
            format=recipe.format,
            group_size=recipe.group_size,
            method=recipe.method,
            scale_width=recipe.scale_width,
            bias=layer.bias,
        )
    except ValueError as error:
        raise ValueError(f"Layer {layer.name!r}: {error}") from error
