"""The interface of everything that reads the layers of a quantised checkpoint."""

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from ...formats import QuantizedMatrix
from ..file_error import FileError
from .source import CheckpointSource

__all__ = ["Importer"]


class Importer(ABC):
    """A checkpoint of one format, opened.

    What is read equals what the format's own definition says, without any rounding; what Lutra's
    model cannot hold so is refused.

    Parameters
    ----------
    source : CheckpointSource
        One that :meth:`detect` says yes to.

    Attributes
    ----------
    name : str
        Name on the command line.
    summary : str
        One line for people.
    source : CheckpointSource
    notes : list of str
        Sentences for people on what was read until now.

    Raises
    ------
    :exc:`ValueError`
        If the configuration asks for what cannot be read.
    FileError
        If a file is damaged.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    def __init__(self, source: CheckpointSource):
        self.source = source
        self.notes: list[str] = []

    @classmethod
    @abstractmethod
    def detect(cls, source: CheckpointSource) -> bool:
        """Whether a checkpoint is of this format, by its configuration and tensors' names."""

    @cached_property
    @abstractmethod
    def layers(self) -> tuple[str, ...]:
        """Names of the quantised layers, in the order of the files."""

    @abstractmethod
    def size(self, layer: str) -> int:
        """Return a layer's number of weights, for progress, without reading it."""

    @abstractmethod
    def tensors(self, layer: str) -> tuple[str, ...]:
        """Return the names of the tensors that a layer is made of."""

    @abstractmethod
    def read_layer(self, layer: str) -> QuantizedMatrix:
        """Read a layer that there is; errors need not name it."""

    @property
    def other_files(self) -> tuple[Path, ...]:
        """Files that the checkpoint has beside those of its source."""
        return ()

    def choose_precision(self, bits: int) -> None:
        """Read layers at one of several precisions that a checkpoint has.

        Raises
        ------
        :exc:`ValueError`
            If it does not have that one, or only one at all.
        """
        raise ValueError(f"{self.source.path} has one precision, so that none can be chosen")

    def read(self, layer: str) -> QuantizedMatrix:
        """Read a layer.

        Raises
        ------
        :exc:`ValueError`
            If there is no such layer, or the arithmetic cannot hold it exactly; the sentence names
            the layer.
        FileError
            If its tensors are missing, of other types or shapes than they should be, or have
            values that the format does not allow; likewise.
        """
        if layer not in self._names:
            some = ", ".join(self.layers[:6]) + (", …" if len(self.layers) > 6 else "")
            raise ValueError(f"{self.source.path} has no layer {layer!r}; it has {some}")
        try:
            return self.read_layer(layer)
        except FileError as error:
            raise FileError(f"Layer {layer!r}: {error}") from error
        except ValueError as error:
            raise ValueError(f"Layer {layer!r}: {error}") from error

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.layers)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the tensors that are of no layer, such as those that were not quantised."""
        used = {tensor for layer in self.layers for tensor in self.tensors(layer)}
        return tuple(name for name in self.source.tensor_names if name not in used)
