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
    output_lanes : int
        Outputs in one beat.
    sum_width, exponent_width : int
        Bits of an ``int`` output's two parts.
    tokens : int
        Vectors that one pass of the weights serves.
    """

    numerics: Numerics
    act_lanes: int
    output_lanes: int
    beat_width: int
    sum_width: int
    exponent_width: int
    tokens: int = 1

    @property
    def x_width(self) -> int:
        """Bits of an activation beat, without ``last``."""
        return self.act_lanes * self.numerics.element_width

    @property
    def value_width(self) -> int:
        """Bits of one output."""
        if self.numerics.output == "int":
            return self.sum_width
        return DTYPES[self.numerics.output].itemsize * 8

    @property
    def o_width(self) -> int:
        """Bits of an output beat, without ``last``."""
        exponent = self.exponent_width if self.numerics.output == "int" else 0
        return self.output_lanes * self.value_width + exponent

    @property
    def o_bytes(self) -> int:
        """Bytes of an output payload."""
        return self.o_width // 8 + 1

    def passes(self, count: int) -> int:
        """Count the passes of a layer's weights that ``count`` vectors take."""
        return -(-count // self.tokens)

    def output_beats(self, rows: int) -> int:
        """Beats of one token's outputs."""
        return -(-rows // self.output_lanes)

    def activations(self, x: npt.NDArray) -> npt.NDArray[np.uint8]:
        """Return the beats of M tokens, filled up with zero vectors to whole passes.

        Parameters
        ----------
        x : array of the activation type, shape (M, K)

        Returns
        -------
        uint8 array, shape (passes * tokens * ceil(K / act_lanes), bytes)

        Raises
        ------
        :exc:`ValueError`
            If the activations are of another type: their bits would be read as other numbers.
        """
        dtype = DTYPES[self.numerics.activation]
        if x.ndim != 2 or not x.size or x.dtype != dtype:
            raise ValueError(
                f"Activations must be {dtype.name} of shape (tokens, columns), neither 0, "
                f"not {x.dtype} of shape {x.shape}"
            )
        count, columns = x.shape
        beats = -(-columns // self.act_lanes)
        tokens = self.passes(count) * self.tokens
        padded = np.zeros((tokens, beats * self.act_lanes), dtype=x.dtype)
        padded[:count, :columns] = x
        raw = padded.view(np.uint8).reshape(tokens * beats, -1)
        return _with_last(raw, self.x_width, every=beats)

    def weights(self, layer: PackedLayer) -> npt.NDArray[np.uint8]:
        """Return the beats of one layer, ``(beats, bytes) uint8``."""
        return _with_last(layer.beats, self.beat_width, every=len(layer.beats))

    def outputs(self, raw: npt.NDArray[np.uint8], rows: int) -> Any:
        """Read outputs back.

        Parameters
        ----------
        raw : uint8 array, shape (M * output_beats(rows), bytes)
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
            If ``last`` marks anything but the end of each token's outputs.
        """
        beats = self.output_beats(rows)
        last = raw[:, self.o_width // 8] >> (self.o_width % 8) & 1
        if not np.array_equal(last, np.arange(len(raw)) % beats == beats - 1):
            raise ValueError(f"The output stream must mark every {beats}th beat as the last")
        if self.numerics.output == "int":
            return self._int_outputs(raw, rows)
        dtype = DTYPES[self.numerics.output]
        values = raw[:, : self.output_lanes * dtype.itemsize].copy().view(dtype)
        return values.reshape(-1, beats * self.output_lanes)[:, :rows]

    def _int_outputs(
        self, raw: npt.NDArray[np.uint8], rows: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        words = [int.from_bytes(row.tobytes(), "little") for row in raw]
        beats, width, lanes = self.output_beats(rows), self.sum_width, self.output_lanes
        sums = [_signed(word >> lane * width, width) for word in words for lane in range(lanes)]
        exponents = [_signed(word >> lanes * width, self.exponent_width) for word in words]
        return (
            np.array(sums, dtype=np.int64).reshape(-1, beats * lanes)[:, :rows],
            np.array(exponents[::beats], dtype=np.int32),
        )


def _with_last(raw: npt.NDArray[np.uint8], width: int, *, every: int) -> npt.NDArray[np.uint8]:
    """Append the ``last`` flag at bit ``width``, set on every ``every``-th payload."""
    payloads = np.zeros((len(raw), width // 8 + 1), dtype=np.uint8)
    payloads[:, : raw.shape[1]] = raw
    payloads[every - 1 :: every, width // 8] |= 1 << (width % 8)
    return payloads


def _signed(word: int, width: int) -> int:
    word &= (1 << width) - 1
    return word - (word >> (width - 1) << width)
