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

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

# Modules that do not only call their linear layers.
_READERS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


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
        If the file is damaged; the model is left as it was.
    """
    modules = _by_name(model)
    found = [(name, module) for name, module in modules.items() if isinstance(module, nn.Linear)]
    layers = set(model_file.layers)
    made: dict[int, tuple[str, Linear]] = {}  # by module, which a model may use under many names
    reasons: dict[str, str] = {}
    for name, module in found:
        if name not in layers:
            continue
        if id(module) in made:
            first = made[id(module)][0]
            reasons[name] = f"it is the same module as {first}, but the file has both"
            continue
        parents = [_parent(modules, other) for other, same in found if same is module]
        result = _try(name, module, parents, model_file, numerics, cast, check)
        if isinstance(result, Linear):
            made[id(module)] = (name, result)
        else:
            reasons[name] = result
    # Only now, so that a damaged file leaves the model as it was.
    for name, module in found:
        if id(module) in made and name not in reasons:
            setattr(_parent(modules, name), name.rpartition(".")[2], made[id(module)][1])
    replaced: dict[str, Linear] = {}
    skipped: dict[str, str] = {}
    after = _by_name(model)
    for name, _ in found:
        # By what is there: parts of a model that have several names are replaced under all.
        layer = after[name]
        if isinstance(layer, Linear):
            replaced[name] = layer
        else:
            skipped[name] = reasons.get(name, "the model file has no layer of this name")
    used = {name for name, _ in made.values()}
    unused = {
        name: reasons.get(name, "the model has no linear layer of this name")
        for name in model_file.layers
        if name not in used
    }
    return PatchReport(replaced, skipped, unused)


def _by_name(model: nn.Module) -> dict[str, nn.Module]:
    return dict(model.named_modules(remove_duplicate=False))


def _parent(modules: dict[str, nn.Module], name: str) -> nn.Module:
    return modules[name.rpartition(".")[0]]


def _try(
    name: str,
    module: nn.Linear,
    parents: Sequence[nn.Module],
    model_file: LayerFile,
    numerics: Numerics | None,
    cast: bool,
    check: bool,
) -> Linear | str:
    """Make a layer for a module, or say why not."""
    if reason := _why_not(name, module, numerics) or _why_not_below(parents):
        return reason
    matrix = model_file.layer(name)
    if reason := _mismatch(module, matrix):
        return reason
    try:
        return _make(module, matrix, numerics or _own_numerics(module), cast, check)
    except ValueError as error:
        return str(error)


def _why_not(name: str, module: nn.Linear, numerics: Numerics | None) -> str:
    if not name:
        return "it is the model itself, which has nothing to be replaced in; make a Linear of it"
    if type(module) is not nn.Linear:
        return f"it is a {type(module).__name__}, whose behaviour may differ from nn.Linear's"
    if "forward" in vars(module):
        return "its forward has been replaced, which would be lost"
    if any(getattr(module, hooks) for hooks in _HOOKS):
        return "it has hooks, which would be lost"
    if numerics is None and dtype_name(module.weight.dtype) not in BIT_DTYPES:
        return (
            f"its weights are {dtype_name(module.weight.dtype)}; "
            f"give numerics for types other than {', '.join(BIT_DTYPES)}"
        )
    return ""


def _why_not_below(parents: Sequence[nn.Module]) -> str:
    for parent in parents:
        if isinstance(parent, _READERS):
            return f"it is a part of a {type(parent).__name__}, which reads its weights itself"
    return ""


def _mismatch(module: nn.Linear, matrix: QuantizedMatrix) -> str:
    shape, found = (module.out_features, module.in_features), (matrix.rows, matrix.columns)
    if shape != found:
        return f"its weights have shape {shape}, and those of the model file {found}"
    if module.bias is None and matrix.bias is not None:
        return "it has no bias, and the layer of the model file has one"
    if module.bias is not None and matrix.bias is None and module.bias.is_meta:
        return "its bias is on the meta device, and the layer of the model file has none"
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
