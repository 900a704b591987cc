"""The operators: ``lutra::matmul`` and ``lutra::sums``, for eager and compiled graphs.

``torch.ops.lutra.matmul(x, weights, spec, act_width, output)`` takes the tensors and the text of
:class:`PackedWeights`, because an operator's arguments are tensors, numbers and text;
:func:`matmul` is the same for people. Operators have no gradient.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..formats import Numerics
from ..formats.numerics import MAX_SUM_WIDTH
from .activations import ZERO_TOKEN, align, check_finite, check_tokens, step_exponents
from .dtypes import DTYPES, dtype_name
from .outputs import convert_output
from .packed import PackedWeights
from .product import exact_product
from .weight_spec import WeightSpec

__all__ = ["check_sum_width", "matmul", "sums"]

# ``act_width`` of exact activations, since an operator's integer cannot be text.
_EXACT_WIDTH = 41


def check_sum_width(row_sum: int, numerics: Numerics) -> None:
    """Refuse a layer whose exact sums could need too many bits.

    Raises
    ------
    :exc:`ValueError`
        If ``row_sum`` times the peak of the activations needs more than ``MAX_SUM_WIDTH`` bits.
    """
    width = (numerics.peak * row_sum).bit_length() + 1
    if width > MAX_SUM_WIDTH:
        raise ValueError(
            f"The exact sum must fit {MAX_SUM_WIDTH} bits, but may need {width}: reduce "
            f"act_width, scale_width or the number of columns"
        )


def matmul(x: Tensor, weights: PackedWeights, numerics: Numerics, *, check: bool = False) -> Tensor:
    """Return ``x @ W.T`` with the bits of the arithmetic contract.

    Parameters
    ----------
    x : tensor of the activation type, shape (M, K)
        Any strides. A token with a NaN or an infinity gives the quiet NaN in all of its outputs.
    weights : PackedWeights
        On the device of ``x``. Words go through the kernels on a GPU; dense weights, and all on a
        processor, through exact float64 products.
    numerics : Numerics
        Activation type and width, and output type.
    check : bool
        Refuse a NaN or an infinity, which waits for the device.

    Returns
    -------
    tensor of the output type, shape (M, N)

    Raises
    ------
    :exc:`ValueError`
        If types, shapes or devices do not go together, the exact sum could need more than 63 bits,
        the output is ``int`` (see :func:`sums`), or ``check`` finds something.
    """
    check_tokens(x, numerics)
    if check:
        check_finite(x)
    return torch.ops.lutra.matmul(
        x, weights.tensors, weights.text, numerics.aligned_width, numerics.output
    )


def sums(
    x: Tensor,
    weights: PackedWeights,
    numerics: Numerics,
    *,
    exponent: Tensor | None = None,
    check: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the exact sums: the ``int`` output, and what shards of K are added up from.

    Parameters
    ----------
    x, weights, numerics :
        As for :func:`matmul`; the output type does not matter.
    exponent : int32 tensor, shape (M,), optional
        Exponents of the whole tokens, where ``x`` is a part of them; see :func:`step_exponents`.
        None may be below that of a token of ``x``, which would be limited to the peak; those of
        int8 and ``exact`` are fixed, and others are not taken.
    check : bool
        Refuse a NaN or an infinity, as an integer cannot say so, and an exponent below a token's
        own; waits for the device. If false, a token that is not finite has sums of 0 and a flag,
        and one with too low an exponent has wrong sums.

    Returns
    -------
    sums : int64 tensor, shape (M, N)
        In steps of ``row_scales[n] * 2**exponent[m]``.
    exponent : int32 tensor, shape (M,)
    nonfinite : bool tensor, shape (M,)

    Raises
    ------
    :exc:`ValueError`
        As :func:`matmul`; or if the exponents are not as stated.
    """
    check_tokens(x, numerics)
    if check:
        check_finite(x)
        if exponent is not None:
            _check_exponent(exponent, x)
            _check_bound(exponent, x, numerics)
    return torch.ops.lutra.sums(x, weights.tensors, weights.text, numerics.aligned_width, exponent)


def _check_exponent(exponent: Tensor, x: Tensor) -> None:
    if (
        exponent.dtype != torch.int32
        or exponent.shape != x.shape[:1]
        or exponent.device != x.device
    ):
        raise ValueError(
            f"Exponents must be int32 of shape {tuple(x.shape[:1])} on {x.device}, not "
            f"{dtype_name(exponent.dtype)} of shape {tuple(exponent.shape)} on {exponent.device}"
        )


def _check_bound(exponent: Tensor, x: Tensor, numerics: Numerics) -> None:
    if not numerics.is_float or numerics.is_exact:
        return
    own = step_exponents(x, numerics)
    found = (torch.where(exponent == ZERO_TOKEN, 0, exponent) < own).nonzero()
    if len(found):
        token = int(found[0])
        raise ValueError(
            f"Exponents must not be below those of the tokens; that of token {token} is "
            f"{int(exponent[token])}, and the token needs {int(own[token])}"
        )


def _parse(
    x: Tensor,
    weights: Sequence[Tensor],
    spec: str,
    act_width: int,
    output: str = "float32",
    exponent: Tensor | None = None,
) -> tuple[PackedWeights, Numerics]:
    """Check and name an operator's arguments; direct callers have been checked by nobody else."""
    if output == "int":
        raise ValueError("lutra::matmul has float outputs; take the sums of lutra::sums for 'int'")
    packed = PackedWeights(WeightSpec.parse(spec), tuple(weights))
    numerics = Numerics(
        activation=dtype_name(x.dtype),
        act_width="exact" if act_width == _EXACT_WIDTH else act_width,
        output=output,
    )
    check_tokens(x, numerics, packed.spec.columns)
    if x.device != weights[0].device:
        raise ValueError(
            f"Activations and weights must be on one device, "
            f"not on {x.device} and {weights[0].device}"
        )
    if exponent is not None:
        _check_exponent(exponent, x)
    check_sum_width(packed.spec.row_sum, numerics)
    return packed, numerics


def _exact_sums(
    x: Tensor, weights: PackedWeights, numerics: Numerics, exponent: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute with float64 products, on any device."""
    tokens = align(x, numerics, exponent)
    spec = weights.spec
    integers = weights.tensors[2] if spec.is_dense else weights.integer_weights().double()
    total = exact_product(tokens.X, integers, peak=numerics.peak, row_sum=spec.row_sum)
    return total, tokens.exponent, tokens.nonfinite


def _exact_outputs(x: Tensor, weights: PackedWeights, numerics: Numerics) -> Tensor:
    total, exponent, nonfinite = _exact_sums(x, weights, numerics, None)
    significand, power = weights.tensors[:2]
    return convert_output(total, exponent, significand, power, numerics.output, nonfinite)


@torch.library.custom_op("lutra::sums", mutates_args=(), device_types="cpu")
def _sums(
    x: Tensor, weights: Sequence[Tensor], spec: str, act_width: int, exponent: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    packed, numerics = _parse(x, weights, spec, act_width, exponent=exponent)
    return _exact_sums(x, packed, numerics, exponent)


@torch.library.custom_op("lutra::matmul", mutates_args=(), device_types="cpu")
def _matmul(x: Tensor, weights: Sequence[Tensor], spec: str, act_width: int, output: str) -> Tensor:
    packed, numerics = _parse(x, weights, spec, act_width, output)
    return _exact_outputs(x, packed, numerics)


@_sums.register_kernel("cuda")
def _(x, weights, spec, act_width, exponent):
    packed, numerics = _parse(x, weights, spec, act_width, exponent=exponent)
    if packed.spec.is_dense:
        return _exact_sums(x, packed, numerics, exponent)
    from .launch import launch_sums  # needs triton

    return launch_sums(x, packed, numerics, exponent)


@_matmul.register_kernel("cuda")
def _(x, weights, spec, act_width, output):
    packed, numerics = _parse(x, weights, spec, act_width, output)
    if packed.spec.is_dense:
        return _exact_outputs(x, packed, numerics)
    from .launch import launch_matmul

    return launch_matmul(x, packed, numerics)


@_sums.register_fake
def _(x, weights, spec, act_width, exponent):
    packed, _ = _parse(x, weights, spec, act_width, exponent=exponent)
    return (
        x.new_empty((x.shape[0], packed.spec.rows), dtype=torch.int64),
        x.new_empty((x.shape[0],), dtype=torch.int32),
        x.new_empty((x.shape[0],), dtype=torch.bool),
    )


@_matmul.register_fake
def _(x, weights, spec, act_width, output):
    packed, _ = _parse(x, weights, spec, act_width, output)
    return x.new_empty((x.shape[0], packed.spec.rows), dtype=DTYPES[output])
