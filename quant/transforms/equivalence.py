"""Whether a transformed block still computes the same."""

import numpy as np

from .decoder_block import DecoderBlock, Tensors

__all__ = ["check_equivalence"]


def check_equivalence(
    before: Tensors,
    after: Tensors,
    block: DecoderBlock,
    *,
    tokens: int = 12,
    seed: int = 0,
    tolerance: float = 1e-10,
) -> float:
    """Compare the outputs of a block in float64, on random inputs; refuse if they differ.

    Parameters
    ----------
    before, after : mapping of str to arrays
        Tensors of the checkpoint.
    block : DecoderBlock
    tokens : int
        Length of the sequence; rotary positions need several.
    seed : int
        Of the inputs.
    tolerance : float
        Largest difference allowed, as a share of the largest output.

    Returns
    -------
    float
        The difference that was found, as such a share.

    Raises
    ------
    :exc:`ValueError`
        If it is larger, or not a number.
    """
    width = before[f"{block.attention_norm}.weight"].shape[0]
    x = np.random.default_rng(seed).standard_normal((tokens, width))
    # The residual itself passes unchanged and would hide a small difference.
    wanted, found = (block.forward(tensors, x) - x for tensors in (before, after))
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not difference <= tolerance:
        raise ValueError(
            f"The transform of {block.prefix} is not equivalent: outputs differ by "
            f"{difference:.1e} of the largest, and {tolerance:.0e} is allowed; "
            "only transforms that can be merged into the weights are admitted"
        )
    return difference
