"""A scaling law for training with floating-point quantisation, to choose a layout by."""

import math
from dataclasses import dataclass

__all__ = ["CHANNEL_BLOCK_LOG2", "LAW_LIMITS", "Layout", "ScalingLaw"]

CHANNEL_BLOCK_LOG2 = 13.1567
"""log2 of the block size that a scale for each channel behaves as."""

_RANGE = (
    "It was fitted to 366 trainings of models of 41 to 679 million parameters and compared with "
    "models of up to 70 billion."
)
_TRAINING = (
    "It describes training: weights were quantised in both passes and activations in the backward "
    "pass only. It says nothing of activations in the forward pass, nor of models that are "
    "quantised after training."
)
_EXPONENT = (
    "It does not hold without exponent bits: E0M3 and E1M2 are the same values, and it would price "
    "them twelvefold apart. Integers have no place in it."
)
_BLOCK = (
    "A block is as many weights as share one scale. Nothing else of a format is in it, neither "
    "special values nor how a scale is stored."
)

LAW_LIMITS = (_RANGE, _TRAINING, _EXPONENT, _BLOCK)
"""What must be known of the law before it is relied on, a sentence or two each."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Bits of a floating-point format beside its sign.

    Parameters
    ----------
    exponent, mantissa : int
        Bits of each; at least 1 and 0.

    Raises
    ------
    :exc:`ValueError`
        If there are fewer.
    """

    exponent: int
    mantissa: int

    def __post_init__(self) -> None:
        if self.exponent < 1 or self.mantissa < 0:
            raise ValueError(
                "The law holds from one exponent bit and no mantissa bits on, not for "
                f"E{self.exponent}M{self.mantissa}"
            )

    def __str__(self) -> str:
        return f"E{self.exponent}M{self.mantissa}"

    @property
    def bits(self) -> int:
        """All bits, the sign included."""
        return 1 + self.exponent + self.mantissa


@dataclass(frozen=True, kw_only=True)
class ScalingLaw:
    """Loss of a language model of N parameters after D tokens in a format with blocks of B.

    ``n/N^a + d/D^b + e + (D^b/N^a) log2(B) / (g (E + 0.5)^de (M + 0.5)^nu)``

    The last term is what quantising costs. It grows with D: from :meth:`critical_tokens` on, more
    data make the loss worse.

    Parameters
    ----------
    parameters : float
        N, at least 1.
    block_log2 : float
        log2 of B, above 0; :data:`CHANNEL_BLOCK_LOG2` for a scale for each channel.

    Raises
    ------
    :exc:`ValueError`
        If a number is out of range.

    Source
    ------
    Sun et al., Scaling Laws for Floating Point Quantization Training, ICML 2025 (2501.02423): the
    law, its constants, the best layout and the critical data size.
    """

    parameters: float
    block_log2: float

    _n, _a, _d, _b = 69.2343, 0.2368, 68973.0621, 0.5162
    _e, _g, _de, _nu = 1.9061, 11334.5197, 3.1926, 2.9543

    def __post_init__(self) -> None:
        if not (math.isfinite(self.parameters) and self.parameters >= 1):
            raise ValueError(f"Parameters must be a number of at least 1, not {self.parameters}")
        if not (math.isfinite(self.block_log2) and self.block_log2 > 0):
            raise ValueError("A block must be of more than one weight")

    def float_loss(self, tokens: float) -> float:
        """Return the loss in nats a token without quantisation."""
        _check_tokens(tokens)
        return self._n / self.parameters**self._a + self._d / tokens**self._b + self._e

    def cost(self, layout: Layout, tokens: float) -> float:
        """Return what a layout adds to :meth:`float_loss`."""
        _check_tokens(tokens)
        share = self.block_log2 * tokens**self._b / self.parameters**self._a
        return share / (self._g * self._weight(layout))

    def loss(self, layout: Layout, tokens: float) -> float:
        """Return the loss in nats a token, trained in a layout."""
        return self.float_loss(tokens) + self.cost(layout, tokens)

    def critical_tokens(self, layout: Layout) -> float:
        """Return D_crit: the tokens after which more of them make the loss worse."""
        scale = self.parameters**self._a * self._weight(layout) / self.block_log2
        return (self._d * self._g * scale) ** (1 / (2 * self._b))

    @classmethod
    def layouts(cls, bits: int) -> list[Layout]:
        """Return the layouts of a width that the law holds for, the best of them first.

        Parameters
        ----------
        bits : int
            Width with the sign, 3 to 16. The order depends on nothing else.
        """
        if not 3 <= bits <= 16:
            raise ValueError(f"Bits must be in 3..16, not {bits}")
        every = [Layout(exponent, bits - 1 - exponent) for exponent in range(1, bits)]
        return sorted(every, key=cls._weight, reverse=True)

    @classmethod
    def ideal_bits(cls, bits: int) -> tuple[float, float]:
        """Return the exponent and mantissa bits that would be best if they could be fractions."""
        total = cls._de + cls._nu
        return cls._de * bits / total - 0.5, cls._nu * bits / total - 0.5

    @classmethod
    def _weight(cls, layout: Layout) -> float:
        return (layout.exponent + 0.5) ** cls._de * (layout.mantissa + 0.5) ** cls._nu


def _check_tokens(tokens: float) -> None:
    if not (math.isfinite(tokens) and tokens >= 1):
        raise ValueError(f"Tokens must be a number of at least 1, not {tokens}")
