"""What stands on an engine's streams, as bytes: the same for every simulator."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats import Numerics, PackedLayer
from .dtypes import DTYPES

__all__ = ["EngineInterface"]


@dataclass(frozen=True, kw_only=True)
class EngineInterface:
    """Widths of an engine's streams.

    A payload is kept as the bytes of its bits, lowest first; the ``last`` flag is its top bit.

    Parameters
    ----------
    numerics : Numerics
        Types of activations and outputs.
    act_lanes : int
        Activations in one beat.
    beat_width : int
        Bits of one beat of weights.
    sum_width, exponent_width : int
        Bits of an ``int`` output's two parts.
    """

    numerics: Numerics
    act_lanes: int
    beat_width: int
    sum_width: int
    exponent_width: int

    @property
    def x_width(self) -> int:
        """Bits of an activation beat, without ``last``."""
        return self.act_lanes * self.numerics.element_width

    @property
    def o_width(self) -> int:
        """Bits of an output, without ``last``."""
        if self.numerics.output == "int":
            return self.sum_width + self.exponent_width
        return DTYPES[self.numerics.output].itemsize * 8

    def activations(self, x: npt.NDArray) -> npt.NDArray[np.uint8]:
        """Return the beats of M tokens.

        Parameters
        ----------
        x : array of the activation type, shape (M, K)

        Returns
        -------
        uint8 array, shape (M * ceil(K / act_lanes), bytes)
        """
        tokens, columns = x.shape
        beats = -(-columns // self.act_lanes)
        padded = np.zeros((tokens, beats * self.act_lanes), dtype=x.dtype)
        padded[:, :columns] = x
        raw = padded.view(np.uint8).reshape(tokens * beats, -1)
        return _with_last(raw, self.x_width, every=beats)

    def weights(self, layer: PackedLayer) -> npt.NDArray[np.uint8]:
        """Return the beats of one layer, ``(beats, bytes) uint8``."""
        return _with_last(layer.beats, self.beat_width, every=len(layer.beats))

    def outputs(self, raw: npt.NDArray[np.uint8], rows: int) -> Any:
        """Read outputs back.

        Parameters
        ----------
        raw : uint8 array, shape (M * rows, bytes)
            Payloads as they came.
        rows : int
            N.

        Returns
        -------
        array of the output type, shape (M, rows)
            For ``int`` output a pair: sums, int64, and exponents, int32, of shape (M,).

        Raises
        ------
        :exc:`ValueError`
            If ``last`` does not mark just the end of each token's outputs.
        """
        last = raw[:, self.o_width // 8] >> (self.o_width % 8) & 1
        expected = np.arange(len(raw)) % rows == rows - 1
        if not np.array_equal(last, expected):
            raise ValueError(f"Output stream does not mark just every {rows}th element as the last")
        if self.numerics.output != "int":
            dtype = DTYPES[self.numerics.output]
            return raw[:, : dtype.itemsize].copy().view(dtype).reshape(-1, rows)
        fields = [int.from_bytes(row.tobytes(), "little") for row in raw]
        sums = np.array([_signed(word, self.sum_width) for word in fields], dtype=np.int64)
        exponents = [_signed(word >> self.sum_width, self.exponent_width) for word in fields]
        return sums.reshape(-1, rows), np.array(exponents[::rows], dtype=np.int32)


def _with_last(raw: npt.NDArray[np.uint8], width: int, *, every: int) -> npt.NDArray[np.uint8]:
    """Append the ``last`` flag at bit ``width``, set on every ``every``-th payload."""
    payloads = np.zeros((len(raw), width // 8 + 1), dtype=np.uint8)
    payloads[:, : raw.shape[1]] = raw
    payloads[every - 1 :: every, width // 8] |= 1 << (width % 8)
    return payloads


def _signed(word: int, width: int) -> int:
    word &= (1 << width) - 1
    return word - (word >> (width - 1) << width)
