"""From a model file to a checkpoint of another tool."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..file_error import FileError
from ..model_file import ModelFile
from ..tensor_spool import TensorSpool
from .compressed_tensors import CompressedTensorsExporter
from .exact_floats import SCALE_TYPES
from .exporter import Exporter
from .gptq import GptqExporter
from .integer_layer import IntegerLayer

__all__ = ["EXPORTERS", "SCALE_TYPES", "Exported", "export_file"]

_T = TypeVar("_T")

EXPORTERS: dict[str, type[Exporter]] = {
    item.name: item for item in (GptqExporter, CompressedTensorsExporter)
}
"""Every exporter, by its name on the command line."""


@dataclass(frozen=True)
class Exported:
    """What an export has made.

    Parameters
    ----------
    folder : Path
    files : tuple of Path
    layers : tuple of str
    scale_change : float
        By how much of itself a scale was changed at most, by rounding; 0 for an exact export.
    """

    folder: Path
    files: tuple[Path, ...]
    layers: tuple[str, ...]
    scale_change: float


def export_file(
    model: str | Path,
    folder: str | Path,
    exporter: str,
    *,
    scale_type: str | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> Exported:
    """Write the layers of a model file as another tool's checkpoint, without rounding by default.

    The layers are read twice, one in memory at a time. The folder gets ``model.safetensors`` and
    the configuration of the quantisation; what else a model needs is not in a model file.

    Parameters
    ----------
    model : path
        A model file whose layers are of integer formats.
    folder : path
        A new or an empty folder.
    exporter : str
        Name in ``EXPORTERS``.
    scale_type : str, optional
        Key of ``SCALE_TYPES`` to round the scales to: those that Lutra has chosen, an integer times
        a row's float32, seldom are floats of such a type.
    progress : callable, optional
        Called as ``progress(layer, done, total)``, counted in weights, before each layer is read;
        and at the end with the last layer and ``done == total``.

    Returns
    -------
    Exported

    Raises
    ------
    :exc:`ValueError`
        If the exporter is unknown or cannot hold a layer exactly; the sentence names the layer.
    FileError
        If a file cannot be read or written, or the folder is not empty.
    """
    if exporter not in EXPORTERS:
        raise ValueError(f"Unknown exporter {exporter!r}; known exporters: {', '.join(EXPORTERS)}")
    if scale_type is not None and scale_type not in SCALE_TYPES:
        raise ValueError(
            f"Unknown type of scales {scale_type!r}; known types: {', '.join(SCALE_TYPES)}"
        )
    opened, made, place = ModelFile(model), EXPORTERS[exporter](), Path(folder)
    change = 0.0
    sizes = {name: _size(opened, name) for name in opened.layers}
    total, done = 2 * sum(sizes.values()), 0
    report = progress or (lambda layer, done, total: None)
    for name in opened.layers:
        report(name, done, total)
        layer = _read(opened, name, scale_type)
        change = max(change, layer.scale_change)
        _named(name, lambda name=name, layer=layer: made.look(name, layer))
        done += sizes[name]
    is_new = _make(place)
    target, written = place / "model.safetensors", []
    try:
        spool = TensorSpool(target)
        try:
            for name in opened.layers:
                report(name, done, total)
                layer = _read(opened, name, scale_type)
                for tensor, array in made.tensors(name, layer).items():
                    spool.append(tensor, array)
                done += sizes[name]
            written.append(target)
            spool.assemble(lambda digest: {"format": "pt"})
        finally:
            spool.close(keep=False)
        for name, content in made.configurations().items():
            written.append(place / name)
            written[-1].write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except BaseException as error:
        with contextlib.suppress(OSError):
            for path in written:
                path.unlink(missing_ok=True)
            if is_new:
                place.rmdir()
        if isinstance(error, OSError):
            raise FileError(f"Cannot write into {place}: {error.strerror or error}") from error
        raise
    report(opened.layers[-1], done, total)
    return Exported(place, tuple(written), opened.layers, change)


def _read(model: ModelFile, name: str, scale_type: str | None) -> IntegerLayer:
    matrix = model.layer(name)
    return _named(name, lambda: IntegerLayer.of(matrix, scale_type))


def _named(name: str, call: Callable[[], _T]) -> _T:
    """Put a layer's name before what is wrong with it."""
    try:
        return call()
    except ValueError as error:
        raise ValueError(f"Layer {name!r}: {error}") from error


def _size(model: ModelFile, name: str) -> int:
    record = model.record(name)
    return record.rows * record.columns


def _make(folder: Path) -> bool:
    """Make the folder if it is not there, and say so; refuse one that is not empty."""
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            return True
        if not folder.is_dir() or any(folder.iterdir()):
            raise FileError(f"Cannot write into {folder}: it must be a new or an empty folder")
    except OSError as error:
        raise FileError(f"Cannot write into {folder}: {error.strerror or error}") from None
    return False
