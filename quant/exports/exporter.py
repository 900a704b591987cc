"""The interface of everything that writes layers as another tool's checkpoint."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..packing import pack_codes
from .integer_layer import IntegerLayer

__all__ = ["Exporter", "pack_words"]


class Exporter(ABC):
    """A checkpoint in the making: every layer is looked at first, then written.

    Attributes
    ----------
    name : str
        Name on the command line.
    """

    name: ClassVar[str]

    @abstractmethod
    def look(self, name: str, layer: IntegerLayer) -> None:
        """Take note of a layer.

        Raises
        ------
        :exc:`ValueError`
            If the format cannot hold it, or not beside those before; the sentence need not name it.
        """

    @abstractmethod
    def tensors(self, name: str, layer: IntegerLayer) -> dict[str, npt.NDArray]:
        """Return the tensors of a layer, by their names, after all were looked at."""

    @abstractmethod
    def configurations(self) -> dict[str, Any]:
        """Return the JSON objects beside the tensors, by the name of the file."""


def pack_words(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.int32]:
    """Pack rows of codes as streams of bits, lowest first, into whole words.

    Parameters
    ----------
    codes : uint8 array, shape (R, C)
    bits : int

    Returns
    -------
    int32 array, shape (R, ceil(C * bits / 32))
    """
    packed = pack_codes(np.ascontiguousarray(codes), bits)
    words = np.zeros((len(packed), -(-packed.shape[1] // 4)), dtype="<u4")
    words.view(np.uint8)[:, : packed.shape[1]] = packed
    return words.astype(np.uint32, copy=False).view(np.int32)
