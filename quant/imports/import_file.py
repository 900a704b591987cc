"""From a quantised checkpoint to a model file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path

from ..file_error import FileError
from ..model_file import ModelFile
from ..model_writer import ModelWriter
from .importer import Importer
from .registry import IMPORTERS, detect_importer
from .source import CheckpointSource

__all__ = ["Imported", "import_file"]


@dataclass(frozen=True)
class Imported:
    """What an import has made.

    Parameters
    ----------
    model : ModelFile
        The target, opened.
    importer : str
        Name of the importer.
    left_out : tuple of str
        Tensors of the checkpoint that are of no quantised layer and so not in the model file.
    notes : tuple of str
        Sentences for people on the layers that this run has read.
    """

    model: ModelFile
    importer: str
    left_out: tuple[str, ...]
    notes: tuple[str, ...] = ()


def import_file(
    source: str | Path | CheckpointSource,
    target: str | Path,
    importer: str = "auto",
    *,
    patterns: Sequence[str] | None = None,
    precision: int | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> Imported:
    """Write the layers of a quantised checkpoint into a model file, one in memory at a time.

    What a killed import of the same checkpoint has left beside the target is gone on with.

    Parameters
    ----------
    source : path or CheckpointSource
        A file or a folder.
    target : path
        The model file; written beside its place and renamed when it is whole.
    importer : str
        Name in ``IMPORTERS``, or ``auto`` to find it out.
    patterns : sequence of str, optional
        Shell patterns (``*``, ``?``, ``[…]``), case-sensitive, each for a layer's whole name. By
        default all quantised layers.
    precision : int, optional
        Which of the precisions to take of a checkpoint that has several; by default the largest.
    progress : callable, optional
        Called as ``progress(layer, done, total)``, counted in weights, before each layer is read;
        and at the end with the last layer and ``done == total``.

    Returns
    -------
    Imported

    Raises
    ------
    :exc:`ValueError`
        If the importer is unknown, the checkpoint is of no format that is imported or not of the
        precision, a pattern matches nothing, or a layer cannot be held exactly; the sentence names
        the layer.
    FileError
        If a file cannot be read or written.
    """
    opened = source if isinstance(source, CheckpointSource) else CheckpointSource(source)
    chosen = _choose(opened, importer)
    reader = chosen(opened)
    opened.refuse_target(Path(target), reader.other_files)
    if precision is not None:
        reader.choose_precision(precision)
    layers = _select(reader, patterns)
    sizes = {layer: reader.size(layer) for layer in layers}
    total, done = sum(sizes.values()), 0
    report = progress or (lambda layer, done, total: None)
    job = {
        "lutra": version("lutra"),
        "importer": chosen.name,
        "layers": layers,
        "precision": precision,
        **opened.identity(reader.other_files),
    }
    with ModelWriter(target, job=job) as writer:
        there = set(writer.layers)
        for layer in layers:
            report(layer, done, total)
            if layer not in there:
                writer.add(layer, reader.read(layer))
            done += sizes[layer]
        report(layers[-1], done, total)
    return Imported(ModelFile(target), chosen.name, reader.left_out, tuple(reader.notes))


def _choose(source: CheckpointSource, name: str) -> type[Importer]:
    if name != "auto":
        if name not in IMPORTERS:
            raise ValueError(f"Unknown importer {name!r}; known importers: {', '.join(IMPORTERS)}")
        if not IMPORTERS[name].detect(source):
            raise ValueError(f"{source.path} is not a checkpoint of {name}")
        return IMPORTERS[name]
    found = detect_importer(source)
    if found is None:
        raise ValueError(
            f"{source.path} is not quantised in a format that Lutra imports: {', '.join(IMPORTERS)}"
        )
    return found


def _select(reader: Importer, patterns: Sequence[str] | None) -> tuple[str, ...]:
    if not reader.layers:
        raise FileError(f"{reader.source.path} has no quantised layer of {reader.name}")
    if patterns is None:
        return reader.layers
    for pattern in patterns:
        if not any(fnmatchcase(layer, pattern) for layer in reader.layers):
            some = ", ".join(reader.layers[:6]) + (", …" if len(reader.layers) > 6 else "")
            raise ValueError(
                f"Pattern {pattern!r} matches no quantised layer of {reader.source.path}; "
                f"it has {some}"
            )
    return tuple(
        layer for layer in reader.layers if any(fnmatchcase(layer, pattern) for pattern in patterns)
    )
