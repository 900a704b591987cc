"""From a model file to a checkpoint of another tool."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..file_error import FileError
from ..model_file import ModelFile
from ..tensor_spool import TensorSpool
from .compressed_tensors import CompressedTensorsExporter
from .exporter import Exporter
from .gptq import GptqExporter
from .integer_layer import IntegerLayer

__all__ = ["EXPORTERS", "Exported", "export_file"]

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
    """

    folder: Path
    files: tuple[Path, ...]
    layers: tuple[str, ...]


def export_file(
    model: str | Path,
    folder: str | Path,
    exporter: str,
    *,
    progress: Callable[[str, int, int], object] | None = None,
) -> Exported:
    """Write the layers of a model file as another tool's checkpoint, without rounding.

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
    opened, made, place = ModelFile(model), EXPORTERS[exporter](), Path(folder)
    sizes = {name: _size(opened, name) for name in opened.layers}
    total, done = 2 * sum(sizes.values()), 0
    report = progress or (lambda layer, done, total: None)
    for name in opened.layers:
        report(name, done, total)
        _try(made.look, opened, name)
        done += sizes[name]
    is_new = _make(place)
    target, written = place / "model.safetensors", []
    try:
        spool = TensorSpool(target)
        try:
            for name in opened.layers:
                report(name, done, total)
                for tensor, array in _try(made.tensors, opened, name).items():
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
    return Exported(place, tuple(written), opened.layers)


def _try(call, model: ModelFile, name: str):
    """Call with a layer; put its name before what is wrong."""
    matrix = model.layer(name)
    try:
        return call(name, IntegerLayer.of(matrix))
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
