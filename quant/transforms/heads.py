"""Matrices within attention heads, merged into the layers on either side."""

import numpy as np
import numpy.typing as npt

from .decoder_block import DecoderBlock, Tensors

__all__ = ["rotary_matrices", "transform_queries", "transform_values"]

_Floats = npt.NDArray[np.float64]


def transform_values(
    tensors: Tensors, block: DecoderBlock, matrices: npt.ArrayLike
) -> dict[str, npt.NDArray]:
    """Multiply the values of each head by a matrix, and take it off again in ``o_proj``.

    Attention mixes tokens, not the elements of a head, so that any invertible matrix passes.

    Parameters
    ----------
    tensors : mapping of str to arrays
    block : DecoderBlock
    matrices : float array, shape (kv_heads, head_size, head_size)

    Returns
    -------
    dict
        All tensors, those that have changed in float64.

    Raises
    ------
    :exc:`ValueError`
        If a matrix cannot be inverted.

    Source
    ------
    Ma et al., AffineQuant, ICLR 2024, section 3: the position between ``v_proj`` and ``o_proj``.
    """
    a = np.asarray(matrices, np.float64)
    value, output = block.name("self_attn.v_proj"), block.name("self_attn.o_proj")
    made = _from_left(tensors, value, a)
    weights = tensors[f"{output}.weight"].astype(np.float64)
    size = a.shape[-1]
    parts = weights.reshape(len(weights), block.heads, size)
    inverse = np.repeat(_inverses(a), block.heads // block.kv_heads, axis=0)
    made[f"{output}.weight"] = np.einsum("nhi,hij->nhj", parts, inverse).reshape(weights.shape)
    return made


def transform_queries(
    tensors: Tensors, block: DecoderBlock, matrices: npt.ArrayLike
) -> dict[str, npt.NDArray]:
    """Multiply the queries of each head by a matrix, and its keys by the inverse transposed.

    Equivalent only if the matrices go with the rotations of all positions, as those of
    :func:`rotary_matrices` do; :func:`check_equivalence` refuses others.

    Parameters
    ----------
    tensors : mapping of str to arrays
    block : DecoderBlock
    matrices : float array, shape (kv_heads, head_size, head_size)
        Query heads that share keys share the matrix.

    Returns
    -------
    dict
        All tensors, those that have changed in float64.

    Raises
    ------
    :exc:`ValueError`
        If a matrix cannot be inverted.
    """
    a = np.asarray(matrices, np.float64)
    shared = np.repeat(a, block.heads // block.kv_heads, axis=0)
    made = _from_left(tensors, block.name("self_attn.q_proj"), shared)
    return _from_left(made, block.name("self_attn.k_proj"), _inverses(a).swapaxes(1, 2))


def rotary_matrices(block: DecoderBlock, factors: npt.ArrayLike) -> _Floats:
    """Return the matrices that multiply each rotary pair by a complex number.

    Rotations do so, too, and complex numbers commute: no other matrices pass through rotary
    positions whose frequencies all differ. Real factors scale both elements of a pair alike.

    Parameters
    ----------
    block : DecoderBlock
    factors : complex array, shape (kv_heads, head_size / 2)
        Not 0.

    Returns
    -------
    float64 array, shape (kv_heads, head_size, head_size)

    Source
    ------
    Own derivation; scales of OmniQuant's and AffineQuant's code leave pairs apart.
    """
    z = np.asarray(factors, np.complex128)
    size = 2 * z.shape[1]
    first, second = block.pairs(size)
    matrices = np.zeros((len(z), size, size))
    matrices[:, first, first] = matrices[:, second, second] = z.real
    matrices[:, first, second], matrices[:, second, first] = -z.imag, z.imag
    return matrices


def _from_left(tensors: Tensors, name: str, matrices: _Floats) -> dict[str, npt.NDArray]:
    """Multiply the rows of each head by its matrix."""
    heads, size, _ = matrices.shape
    made = dict(tensors)
    weights = tensors[f"{name}.weight"].astype(np.float64)
    if weights.shape[0] != heads * size:
        raise ValueError(
            f"{name} must have {heads} heads of {size} rows for these matrices, not "
            f"{weights.shape[0]} rows"
        )
    made[f"{name}.weight"] = (matrices @ weights.reshape(heads, size, -1)).reshape(weights.shape)
    if f"{name}.bias" in tensors:
        bias = tensors[f"{name}.bias"].astype(np.float64).reshape(heads, size, 1)
        made[f"{name}.bias"] = (matrices @ bias).reshape(-1)
    return made


def _inverses(matrices: _Floats) -> _Floats:
    try:
        return np.linalg.inv(matrices).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        raise ValueError("A matrix cannot be inverted; take one that can") from None
