"""Activations to run layers with."""

import numpy as np
import numpy.typing as npt

from ..formats import Numerics
from ..sim import DTYPES, adversarial_tokens, nonfinite_tokens

__all__ = ["mixed_tokens", "random_tokens"]


def random_tokens(numerics: Numerics, count: int, columns: int, *, seed: int) -> npt.NDArray:
    """Return normally distributed activations of the type an engine takes, ``(count, columns)``."""
    rng = np.random.default_rng(seed)
    if not numerics.is_float:
        return rng.integers(-128, 128, (count, columns), dtype=np.int8)
    return rng.standard_normal((count, columns)).astype(DTYPES[numerics.activation])


def mixed_tokens(
    numerics: Numerics, count: int, columns: int, *, seed: int, layer: int = 0
) -> tuple[list[str], npt.NDArray]:
    """Return one normally distributed token, then some of the adversarial set.

    The set is that of :func:`adversarial_tokens`, in an order that the seed decides, and of
    :func:`nonfinite_tokens` where the output can say NaN. Each layer goes on where the one before
    ended, so that a few tokens a layer get through all of it.

    Parameters
    ----------
    numerics : Numerics
        Types of activations and outputs.
    count : int
        Tokens, M, at least 1.
    columns : int
        Elements of a token, K.
    seed : int
        Equal arguments give equal tokens.
    layer : int
        Which layer of a run, from 0.

    Returns
    -------
    names : list of str
        What each token is, M of them.
    tokens : array of the activation type, shape (M, K)
    """
    hard = adversarial_tokens(numerics, columns, seed=seed + layer)
    if numerics.output != "int":
        hard |= nonfinite_tokens(numerics, columns, seed=seed + layer)
    order = np.random.default_rng(seed).permutation(sorted(hard)).tolist()
    first = layer * (count - 1)
    names = [order[(first + index) % len(order)] for index in range(count - 1)]
    normal = random_tokens(numerics, 1, columns, seed=seed + layer)
    return ["normal", *names], np.concatenate([normal, *(hard[name][None] for name in names)])
