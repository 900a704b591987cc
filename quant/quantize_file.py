"""From a float checkpoint to a model file."""

import math
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..formats import NumberFormat, QuantizedMatrix
from .calibration import Calibration
from .checkpoint import Checkpoint
from .file_error import FileError
from .imports.source import CheckpointSource
from .layer_options import plane_count
from .layered_recipe import LayeredRecipe
from .mixture import Mixture
from .mixture_run import MixtureRun
from .model_file import ModelFile
from .model_writer import ModelWriter
from .parse_recipe import AnyRecipe
from .quantize import quantize_by
from .recipe import Recipe

__all__ = ["quantize_file"]


def quantize_file(
    source: str | Path | CheckpointSource,
    target: str | Path,
    recipe: AnyRecipe,
    *,
    patterns: Sequence[str] | None = None,
    calibration: str | Path | None = None,
    cycles: Callable[[NumberFormat], int] = plane_count,
    progress: Callable[[str, int, int], object] | None = None,
) -> ModelFile:
    """Quantise the layers of a checkpoint, one in memory at a time.

    Where a budget is shared by the model, the layers that share it are read twice: for their
    losses first, of which one number for each unit and format is kept, then to be quantised.

    Without mixtures, what a killed run of the same recipe and checkpoint has left beside the target
    is gone on with.

    Parameters
    ----------
    source : path or CheckpointSource
        A ``.safetensors`` file of float32, float16 or bfloat16 tensors, or a folder of them.
    target : path
        The model file; written beside its place and renamed when it is whole.
    recipe : Recipe, Mixture or LayeredRecipe
        How to quantise every layer.
    patterns : sequence of str, optional
        Which tensors, as :meth:`Checkpoint.select` takes them.
    calibration : path, optional
        A file as :class:`Calibration` reads it, for methods and mixtures that need one.
    cycles : callable
        Cycles of one slice of a format's weights, for budgets of cycles.
    progress : callable, optional
        Called as ``progress(layer, done, total)``, counted in weights, before each layer is read;
        and at the end with the last layer and ``done == total``.

    Returns
    -------
    ModelFile
        The target, opened.

    Raises
    ------
    :exc:`ValueError`
        If a pattern matches nothing that can be quantised, a layer has NaN or infinite weights, or
        a budget is too small; the sentence names the layer, pattern or budget.
    FileError
        If a file cannot be read or written.
    """
    checkpoint = Checkpoint(source)
    checkpoint.source.refuse_target(Path(target))
    tensors = checkpoint.select(patterns)
    if isinstance(recipe, LayeredRecipe):
        _check_patterns(recipe, checkpoint, tensors if patterns is None else None)
    opened = None if calibration is None else Calibration(calibration)
    _check_calibration(recipe, tensors, opened)
    runs = _runs(recipe, checkpoint, opened, tensors, cycles)

    mixtures = [run for run in dict.fromkeys(runs) if run is not None]
    first = [tensor for run in mixtures for tensor in run.to_measure]
    sizes = {tensor: math.prod(checkpoint.shape(tensor)) for tensor in tensors}
    total = sum(sizes[tensor] for tensor in (*first, *tensors))
    report = progress or (lambda layer, done, total: None)
    done = 0
    name = ""
    calibrated = None if opened is None else opened.sha256()
    # What a mixture decides depends on more than can be written down; it begins anew.
    job = None if mixtures else _job(checkpoint, recipe, tensors, calibrated)
    with ModelWriter(target, recipe=recipe, job=job) as writer:
        writer.calibration_sha256 = calibrated
        there = set(writer.layers)
        for run in mixtures:
            for tensor in run.to_measure:
                report(_layer_name(tensor), done, total)
                run.measure(tensor)
                done += sizes[tensor]
            run.decide()
        for tensor, run in zip(tensors, runs, strict=True):
            name = _layer_name(tensor)
            report(name, done, total)
            if run is not None:
                writer.add(name, run.quantize(tensor))
            elif name not in there:
                rule = _rule(recipe, tensor)
                writer.add(name, _quantize_layer(checkpoint, tensor, rule, opened))
            done += sizes[tensor]
        report(name, done, total)
        writer.allocations = [item for run in mixtures for item in run.records]
    return ModelFile(target)


def _job(
    checkpoint: Checkpoint, recipe: AnyRecipe, tensors: Sequence[str], calibration: str | None
) -> dict[str, Any]:
    """Return what the model file is made of, so that a killed run can be gone on with."""
    return {
        "lutra": version("lutra"),
        "recipe": recipe.to_json(),
        "tensors": list(tensors),
        "calibration": calibration,
        **checkpoint.source.identity(),
    }


def _layer_name(tensor: str) -> str:
    return tensor.removesuffix(".weight")


def _rule(recipe: AnyRecipe, tensor: str) -> Recipe | Mixture:
    if isinstance(recipe, LayeredRecipe):
        return recipe.rules[recipe.rule_of(tensor)]
    return recipe


def _runs(
    recipe: AnyRecipe,
    checkpoint: Checkpoint,
    calibration: Calibration | None,
    tensors: Sequence[str],
    cycles: Callable[[NumberFormat], int],
) -> list[MixtureRun | None]:
    """Return the run that each tensor takes part in: one for each mixture among the rules."""
    rules = recipe.rules if isinstance(recipe, LayeredRecipe) else (recipe,)
    indices = [
        recipe.rule_of(tensor) if isinstance(recipe, LayeredRecipe) else 0 for tensor in tensors
    ]
    runs: list[MixtureRun | None] = []
    for index, rule in enumerate(rules):
        own = [tensor for tensor, at in zip(tensors, indices, strict=True) if at == index]
        if not isinstance(rule, Mixture) or not own:
            runs.append(None)
            continue
        runs.append(MixtureRun(rule, checkpoint, calibration, own, cycles))
    return [runs[index] for index in indices]


def _check_calibration(
    recipe: AnyRecipe, tensors: Sequence[str], calibration: Calibration | None
) -> None:
    """Refuse calibration data that are missing, or that nothing uses."""
    rules = [_rule(recipe, tensor) for tensor in tensors]
    if calibration is None:
        for rule in rules:
            if rule.needs_calibration:
                raise ValueError(rule.without_calibration)
    # Importances count for every mixture, also where its sensitivity does without inputs.
    elif not any(isinstance(rule, Mixture) or rule.needs_calibration for rule in rules):
        raise ValueError(
            f"Calibration file {calibration.path} is not used; no layer gets a mixture or a method "
            "that measures with activations"
        )


def _check_patterns(
    recipe: LayeredRecipe, checkpoint: Checkpoint, tensors: Sequence[str] | None
) -> None:
    """Refuse patterns without effect; where only some layers are asked for, those of no tensor."""
    found = checkpoint.tensor_names if tensors is None else tensors
    for pattern, _ in recipe.layers:
        if not any(
            fnmatchcase(name, pattern) or fnmatchcase(_layer_name(name), pattern) for name in found
        ):
            some = ", ".join(map(_layer_name, found[:6])) + (", …" if len(found) > 6 else "")
            raise ValueError(
                f"The recipe's pattern {pattern!r} matches no layer of {checkpoint.path}; "
                f"layers: {some}"
            )


def _quantize_layer(
    checkpoint: Checkpoint,
    tensor: str,
    recipe: Recipe | Mixture,
    calibration: Calibration | None,
) -> QuantizedMatrix:
    assert isinstance(recipe, Recipe)  # mixtures have runs
    layer = checkpoint.read(tensor)
    try:
        known = None
        if calibration is not None and recipe.needs_calibration:
            known = calibration.layer(layer.name, *layer.weights.shape)
        return quantize_by(recipe, layer.weights, bias=layer.bias, calibration=known)
    except FileError:
        raise
    except ValueError as error:
        raise ValueError(f"Layer {layer.name!r}: {error}") from error
