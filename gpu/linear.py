"""A layer of a model file as a torch module."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..formats import Numerics, QuantizedMatrix
from .activations import check_finite
from .dtypes import DTYPES, dtype_name
from .gradient import without_gradient
from .host import add_bias, scale_tokens
from .op import check_sum_width, matmul, sums
from .outputs import with_one_nan
from .packed import PackedWeights
from .paths import why_not_fast
from .rounding import narrow, narrow_to_odd

__all__ = ["Linear"]

# Attributes that are made of the matrix and the bias for a device.
_DERIVED = ("packed", "fallback_reason", "_bias", "_column_order")


class Linear(nn.Module):
    """A quantised layer whose outputs have the bits of the golden model, on any device.

    The packed weights are derived from the matrix when the module is made, and again when it moves
    to another device or comes out of a pickle. They are neither parameters nor part of the
    ``state_dict`` or a pickle, which holds the matrix, and
    changing the module's type (``half()``) does not touch them. There is no gradient: going
    backward through an output is a :exc:`RuntimeError`.

    Parameters
    ----------
    matrix : QuantizedMatrix
        The layer, such as ``ModelFile(path).layer(name)``. It is kept, a byte a weight.
    numerics : Numerics
        Activation type and width, and output type; not ``int``, which :meth:`sums` is for.
    device : device, optional
        Where to compute; the processor by default.
    cast : bool
        Round inputs of another floating-point type to the activation type, half to even. If false,
        they are refused.
    check : bool
        Refuse a NaN or an infinity in the input, which waits for the device. If false, such a token
        has the quiet NaN in all of its outputs.
    bias : float32 tensor, shape (N,), optional
        Instead of the matrix's own.

    Attributes
    ----------
    in_features, out_features : int
        K and N.
    fallback_reason : str
        Why the layer goes through exact float64 products instead of kernels; empty if it does not.

    Raises
    ------
    :exc:`ValueError`
        If the exact sum could need more than 63 bits, the output is ``int``, or the bias is not as
        stated.

    Notes
    -----
    A bias, and token scales, are float32 steps of a host: with either, the product is float32, they
    are applied, and the result is rounded half to even to the output type.
    """

    def __init__(
        self,
        matrix: QuantizedMatrix,
        numerics: Numerics | None = None,
        *,
        device: torch.device | str | None = None,
        cast: bool = False,
        check: bool = False,
        bias: Tensor | None = None,
    ):
        super().__init__()
        self.numerics = numerics or Numerics()
        if self.numerics.output == "int":
            raise ValueError("Output type must be a float type for a Linear; sums() gives integers")
        self.matrix = matrix
        self.in_features, self.out_features = matrix.columns, matrix.rows
        self.cast, self.check = cast, check
        # Beside the matrix, to come back from a device that holds no values.
        self._host_bias = matrix.bias if bias is None else _checked_bias(bias, matrix.rows)
        self._move(torch.device(device or "cpu"))

    def _move(self, device: torch.device) -> None:
        """Derive the weights for a device."""
        self.fallback_reason = why_not_fast(self.matrix, device)
        derive = PackedWeights.dense if self.fallback_reason else PackedWeights.words
        packed = derive(self.matrix)
        check_sum_width(packed.spec.row_sum, self.numerics)
        self.packed = packed.to(device)
        bias = self._host_bias
        self._bias = None if bias is None else torch.from_numpy(bias.copy()).to(device)
        order = self.matrix.column_order
        self._column_order = None if order is None else torch.from_numpy(order.copy()).to(device)
        # What functions given to _apply are tried on, to learn the device that they move to.
        self._probe = torch.empty(0, device=device)

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickles and copies are made of: not what is derived.

        The empty probe says where to derive it again, also where ``torch.load`` maps it elsewhere.
        """
        return {name: item for name, item in vars(self).items() if name not in _DERIVED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Derive the rest for the probe's device."""
        super().__setstate__(state)
        self._move(self._probe.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Linear":
        super()._apply(fn, recurse)
        device = fn(self._probe).device
        if device != self._probe.device:
            self._move(device)
        return self

    def forward(self, x: Tensor, token_scales: Tensor | None = None) -> Tensor:
        """Multiply.

        Parameters
        ----------
        x : tensor of the activation type, shape (..., K)
            Any strides.
        token_scales : float32 tensor, shape (...), optional
            A scale for each token, for int8 activations that the caller has quantised.

        Returns
        -------
        tensor of the output type, shape (..., N)

        Raises
        ------
        :exc:`ValueError`
            If types, shapes or devices do not go together, or ``check`` finds something.
        """
        tokens = self._tokens(x.detach())
        output = self.numerics.output
        if self._bias is None and token_scales is None:
            y = matmul(tokens, self.packed, self.numerics)
        else:
            y = matmul(tokens, self.packed, replace(self.numerics, output="float32"))
            if token_scales is not None:
                y = scale_tokens(y, token_scales.detach().reshape(-1))
            if self._bias is not None:
                y = add_bias(y, self._bias)
            y = with_one_nan(y.to(DTYPES[output]), output)
        y = y.reshape(*x.shape[:-1], self.out_features)
        return without_gradient(y, x, token_scales)

    def sums(self, x: Tensor, exponent: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the exact sums before any scale; see :func:`sums`.

        Parameters
        ----------
        x : tensor of the activation type, shape (M, K)
        exponent : int32 tensor, shape (M,), optional
            Exponents of whole tokens, where ``x`` and the layer are a shard along K.

        Returns
        -------
        sums : int64 tensor, shape (M, N)
        exponent : int32 tensor, shape (M,)
        nonfinite : bool tensor, shape (M,)
        """
        return sums(self._tokens(x), self.packed, self.numerics, exponent=exponent, check=False)

    def _tokens(self, x: Tensor) -> Tensor:
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"Activations must have {self.in_features} elements a token, "
                f"not shape {tuple(x.shape)}"
            )
        tokens = x.reshape(-1, self.in_features)
        if self._column_order is not None:
            tokens = tokens[:, self._column_order]
        if self.cast and self.numerics.is_float and tokens.is_floating_point():
            if tokens.dtype == torch.float64:  # torch would round it to float32 on the way
                single = self.numerics.activation == "float32"
                tokens = narrow(tokens) if single else narrow_to_odd(tokens)
            tokens = tokens.to(DTYPES[self.numerics.activation])
        if self.check:
            check_finite(tokens)
        return tokens

    @property
    def path(self) -> str:
        """How the layer is computed, in words."""
        if self.fallback_reason:
            return f"exact float64 products, because {self.fallback_reason}"
        spec = self.packed.spec
        kinds = ", ".join(
            f"{bucket.sums} planes" if bucket.sums > 1
            else f"{bucket.code_width} bits" + (" by table" if bucket.tables else "")
            for bucket in spec.buckets
        )  # fmt: skip
        return f"kernels ({kinds}{'' if spec.is_ordered else '; groups gathered by width'})"

    def extra_repr(self) -> str:
        """Return shape, formats, numerics and path."""
        names = [item.name for item in self.matrix.members]
        listed = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        numerics = self.numerics
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self._bias is not None}, formats={listed}, "
            f"group_size={self.matrix.group_size}, activation={numerics.activation}, "
            f"act_width={numerics.act_width}, output={numerics.output}, path={self.path}"
        )


def _checked_bias(bias: Tensor, rows: int) -> npt.NDArray[np.float32]:
    if not isinstance(bias, Tensor):
        raise ValueError(
            f"The bias must be a float32 tensor of shape ({rows},), not a {type(bias).__name__}"
        )
    if bias.dtype != torch.float32 or bias.shape != (rows,):
        raise ValueError(
            f"The bias must be float32 of shape ({rows},), "
            f"not {dtype_name(bias.dtype)} of shape {tuple(bias.shape)}"
        )
    if bias.is_meta:
        raise ValueError("The bias must have values, which there are none of on the meta device")
    values = bias.detach().cpu().numpy().copy()
    if not np.isfinite(values).all():
        raise ValueError("The bias must be finite; remove NaN and infinity")
    return values
