"""Quantised layers in place of the linear layers of a torch model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..formats import Numerics, QuantizedMatrix
from .dtypes import BIT_DTYPES, dtype_name
from .linear import Linear

__all__ = ["LayerFile", "PatchReport", "patch"]


class LayerFile(Protocol):
    """What :func:`patch` needs of a model file; :class:`lutra.quant.ModelFile` has it."""

    @property
    def layers(self) -> Sequence[str]:
        """Names of the layers."""
        ...

    def layer(self, name: str) -> QuantizedMatrix:
        """Read a layer."""
        ...


@dataclass(frozen=True)
class PatchReport:
    """What :func:`patch` did.

    Parameters
    ----------
    replaced : dict of str to Linear
        The new layers, by name.
    skipped : dict of str to str
        Linear layers of the model that were left as they are, and why.
    unused : dict of str to str
        Layers of the file that went nowhere, and why.
    """

    replaced: dict[str, Linear]
    skipped: dict[str, str]
    unused: dict[str, str]

    def __str__(self) -> str:
        lines = [f"replaced {name}: {layer.path}" for name, layer in self.replaced.items()]
        lines += [f"skipped {name}: {reason}" for name, reason in self.skipped.items()]
        lines += [f"unused {name}: {reason}" for name, reason in self.unused.items()]
        return "\n".join(lines)


def patch(
    model: nn.Module,
    model_file: LayerFile,
    numerics: Numerics | None = None,
    *,
    cast: bool = False,
    check: bool = False,
) -> PatchReport:
    """Replace the linear layers of a model, in place, by the layers of the same name of a file.

    A layer keeps its device. Its bias is the file's, or where the file has none the model's.

    Parameters
    ----------
    model : torch.nn.Module
        Its ``nn.Linear`` layers are replaced, each by its name in ``model.named_modules()``.
    model_file : ModelFile
        An open model file.
    numerics : Numerics, optional
        For all layers. By default activations and outputs of a layer are of its own type, and
        ``act_width`` is 16.
    cast, check : bool
        As for :class:`Linear`.

    Returns
    -------
    PatchReport
        Every linear layer of the model and every layer of the file is in it, with the reason where
        nothing was done.

    Raises
    ------
    :exc:`ValueError`
        If the file is damaged.
    """
    layers = set(model_file.layers)
    replaced: dict[str, Linear] = {}
    skipped: dict[str, str] = {}
    made: dict[int, tuple[str, Linear]] = {}  # layers that a model uses under several names
    found = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, nn.Linear)
    ]
    for name, module in found:
        if id(module) in made:
            first, layer = made[id(module)]
            if name in layers:
                skipped[name] = f"it is the same module as {first}, but the file has both"
                continue
        elif reason := _why_not(name, module, layers, numerics):
            skipped[name] = reason
            continue
        else:
            matrix = model_file.layer(name)
            if reason := _mismatch(module, matrix):
                skipped[name] = reason
                continue
            try:
                layer = _make(module, matrix, numerics or _own_numerics(module), cast, check)
            except ValueError as error:
                skipped[name] = str(error)
                continue
            made[id(module)] = (name, layer)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
        replaced[name] = layer
    unused = {
        name: skipped.get(name, "the model has no linear layer of this name")
        for name in model_file.layers
        if name not in replaced
    }
    return PatchReport(replaced, skipped, unused)


def _why_not(name: str, module: nn.Linear, layers: set[str], numerics: Numerics | None) -> str:
    if name not in layers:
        return "the model file has no layer of this name"
    if not name:
        return "it is the model itself, which has nothing to be replaced in; make a Linear of it"
    if type(module) is not nn.Linear:
        return f"it is a {type(module).__name__}, whose behaviour may differ from nn.Linear's"
    if module._forward_hooks or module._forward_pre_hooks:
        return "it has forward hooks, which would be lost"
    if numerics is None and dtype_name(module.weight.dtype) not in BIT_DTYPES:
        return (
            f"its weights are {dtype_name(module.weight.dtype)}; "
            f"give numerics for types other than {', '.join(BIT_DTYPES)}"
        )
    return ""


def _mismatch(module: nn.Linear, matrix: QuantizedMatrix) -> str:
    shape, found = (module.out_features, module.in_features), (matrix.rows, matrix.columns)
    if shape != found:
        return f"its weights have shape {shape}, and those of the model file {found}"
    if module.bias is None and matrix.bias is not None:
        return "it has no bias, and the layer of the model file has one"
    return ""


def _own_numerics(module: nn.Linear) -> Numerics:
    name = dtype_name(module.weight.dtype)
    return Numerics(activation=name, act_width=16, output=name)


def _make(
    module: nn.Linear, matrix: QuantizedMatrix, numerics: Numerics, cast: bool, check: bool
) -> Linear:
    bias: Tensor | None = None
    if module.bias is not None and matrix.bias is None:
        bias = module.bias.detach().to(torch.float32)
    layer = Linear(matrix, numerics, device=module.weight.device, cast=cast, check=check, bias=bias)
    return layer.train(module.training)
