"""The same layers and tokens through several back ends, and every pair of results compared."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats import QuantizedMatrix
from ..sim import GoldenModel
from .backend import Backend, EngineError, Progress
from .config import EngineConfig
from .differences import differing, output_bits
from .locate import Intermediate, locate
from .simulate import families

__all__ = [
    "FirstDifference",
    "LayerResults",
    "PairComparison",
    "compare_backends",
    "first_difference",
]


@dataclass(frozen=True, kw_only=True)
class PairComparison:
    """Outputs of one layer from two back ends.

    Parameters
    ----------
    backends : two str
        Which.
    outputs, differences : int
        Numbers compared, and those of them that differ in any bit.
    first : two int, or None
        Token and row of the first that differs.
    bits : dict of str to str
        That output of either in hexadecimal; empty where there is none.
    """

    backends: tuple[str, str]
    outputs: int
    differences: int
    first: tuple[int, int] | None
    bits: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        first = None
        if self.first is not None:
            first = {"token": self.first[0], "row": self.first[1], "bits": self.bits}
        return {
            "backends": list(self.backends),
            "outputs": self.outputs,
            "differences": self.differences,
            "first": first,
        }


@dataclass(frozen=True, kw_only=True)
class LayerResults:
    """One layer from several back ends.

    Parameters
    ----------
    layer : str
        Its name.
    format : str
        Families of its groups' formats, with a ``+`` between them.
    rows, columns : int
        N and K.
    tokens : sequence of str
        What each token is, M of them.
    seconds : dict of str to float
        Time of each back end.
    cycles : dict of str to int or None
        Clock cycles of each; None without a clock.
    pairs : sequence of PairComparison
        Every two of them.
    """

    layer: str
    format: str
    rows: int
    columns: int
    tokens: Sequence[str]
    seconds: dict[str, float]
    cycles: dict[str, int | None]
    pairs: Sequence[PairComparison]

    @property
    def differences(self) -> int:
        """Outputs that differ, over all pairs."""
        return sum(pair.differences for pair in self.pairs)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "layer": self.layer,
            "format": self.format,
            "rows": self.rows,
            "columns": self.columns,
            "tokens": list(self.tokens),
            "outputs": self.rows * len(self.tokens),
            "differences": self.differences,
            "seconds": self.seconds,
            "cycles": self.cycles,
            "pairs": [pair.to_dict() for pair in self.pairs],
        }


@dataclass(frozen=True, kw_only=True)
class FirstDifference:
    """The first output that two back ends do not agree about, and where they part on the way to it.

    Parameters
    ----------
    layer : str
        The layer.
    token, row : int
        The output.
    token_name : str
        What the token is.
    bits : dict of str to str
        The output of either back end in hexadecimal.
    golden : str
        What it is in the contract.
    intermediate : Intermediate or None
        The first intermediate that differs; None where the search came to no end.
    problem : str
        Why it did not, or empty.
    """

    layer: str
    token: int
    row: int
    token_name: str
    bits: dict[str, str]
    golden: str
    intermediate: Intermediate | None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        found = self.intermediate
        return {
            "layer": self.layer,
            "token": self.token,
            "token_name": self.token_name,
            "row": self.row,
            "bits": self.bits,
            "golden": self.golden,
            "intermediate": None if found is None else found.to_dict(),
            "problem": self.problem,
        }


def compare_backends(
    name: str,
    matrix: QuantizedMatrix,
    x: npt.NDArray,
    *,
    config: EngineConfig,
    backends: Mapping[str, Backend],
    tokens: Sequence[str],
    progress: Progress = lambda *_: None,
) -> LayerResults:
    """Run a layer on each back end and compare every two of them, bit by bit.

    Parameters
    ----------
    name : str
        The layer's name.
    matrix : QuantizedMatrix
        The layer.
    x : array of the activation type, shape (M, K)
        Tokens.
    config : EngineConfig
        The engine.
    backends : mapping of str to Backend
        At least two.
    tokens : sequence of str
        What each token is, M of them.
    progress : callable, optional
        Told in a few words what is being done.

    Raises
    ------
    :exc:`ValueError`
        If the configuration was not made for such a layer.
    :exc:`EngineError`
        If an engine stops or does not answer; the sentence names it and the layer.
    """
    packed = config.parameters.pack(matrix)
    outputs: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    cycles: dict[str, int | None] = {}
    for index, (label, backend) in enumerate(backends.items()):
        progress(f"{name} on {label}", index / len(backends))
        start = time.perf_counter()
        try:
            run = backend.run(matrix, x, packed=packed)
        except EngineError as error:
            raise EngineError(f"Layer {name!r} on {label}: {error}") from error
        seconds[label] = time.perf_counter() - start
        outputs[label], cycles[label] = run.outputs, run.cycles
    return LayerResults(
        layer=name,
        format=families(matrix),
        rows=matrix.rows,
        columns=matrix.columns,
        tokens=tokens,
        seconds=seconds,
        cycles=cycles,
        pairs=[_compare(pair, outputs) for pair in itertools.combinations(outputs, 2)],
    )


def first_difference(
    results: LayerResults,
    matrix: QuantizedMatrix,
    x: npt.NDArray,
    *,
    config: EngineConfig,
    backends: Mapping[str, Backend],
    progress: Progress = lambda *_: None,
) -> FirstDifference | None:
    """Find the first difference in a layer's results, and the first intermediate that differs.

    Of the pairs that differ there, the first is looked into; see :func:`locate`.

    Parameters
    ----------
    results : LayerResults
        What :func:`compare_backends` returned for the arguments that follow.
    matrix, x, config, backends, progress
        As there.

    Returns
    -------
    FirstDifference or None
        None where all are equal.
    """
    differing_pairs = [pair for pair in results.pairs if pair.first is not None]
    if not differing_pairs:
        return None
    pair = min(differing_pairs, key=lambda pair: pair.first or (0, 0))
    token, row = pair.first or (0, 0)
    is_int = config.parameters.numerics.output == "int"
    golden = GoldenModel(matrix, config.parameters.numerics).run(
        x, nonfinite="raise" if is_int else "nan"
    )
    problem, intermediate = "", None
    two = {label: backends[label] for label in pair.backends}
    try:
        intermediate = locate(config, two, matrix, x[token], row, progress)
    except EngineError as error:
        problem = str(error)
    return FirstDifference(
        layer=results.layer,
        token=token,
        row=row,
        token_name=results.tokens[token],
        bits=pair.bits,
        golden=output_bits(golden, token, row),
        intermediate=intermediate,
        problem=problem,
    )


def _compare(pair: tuple[str, str], outputs: Mapping[str, Any]) -> PairComparison:
    one, other = (outputs[label] for label in pair)
    differs = differing(one, other)
    first, bits = None, {}
    if differs.any():
        token, row = np.argwhere(differs)[0].tolist()
        first = (token, row)
        bits = {label: output_bits(outputs[label], token, row) for label in pair}
    return PairComparison(
        backends=pair,
        outputs=differs.size,
        differences=int(differs.sum()),
        first=first,
        bits=bits,
    )
