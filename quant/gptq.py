"""Column by column, with what each error does to the output made up for by later columns."""

import numpy as np
import numpy.typing as npt

from ..formats import Family, QuantizedMatrix
from .calibration import LayerCalibration
from .error_feedback import ErrorFeedback
from .group_searches import find_search, quick_search
from .groups import search_groups
from .input_hessian import damped_hessian, inverse_factor

__all__ = ["gptq"]

# Errors that are passed on make some groups larger than they were; a row scale leaves that room.
_HEADROOM = np.float32(1.25)


def gptq(
    weights: npt.NDArray[np.float32],
    family: Family,
    group_size: int,
    scale_width: int,
    *,
    calibration: LayerCalibration,
    base: str = "auto",
    damping: float = 0.1,
    scales: str = "along",
    order: str = "given",
) -> QuantizedMatrix:
    """Quantise to any format with error feedback.

    With ``U`` the upper Cholesky factor of the inverse of ``H = X.T @ X / M``, damped, columns are
    taken in order. Column ``k`` is rounded to the nearest weights that its groups allow, ``q``;
    then ``(w - q) / U[k, k] * U[k, j]`` is subtracted from every column ``j`` after it. What is
    rounded to are the weights as they will be stored, second level of scales and all.

    Formats and scales of groups are those of another method, whose squared errors are multiplied by
    ``1 / U[k, k]**2``, which is what an error of column ``k`` costs in the end. Without that, and
    with the damping of 0.01 that is usual for large models, few bits and few tokens do harm.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Finite.
    family : Family
    group_size : int
        1 to K.
    scale_width : int
        Magnitude bits of a group scale.
    calibration : LayerCalibration
    base : str
        Method that finds each group's format and scales; "auto" is the best for the family.
    damping : float
        Added to the diagonal of ``H``, as a share of its mean.
    scales : str
        "along": a group's scales are found when its turn comes, for weights that make up for
        earlier errors; the row's scale leaves a quarter of room for that. "before": all are found
        for the weights as they are.
    order : str
        "given", or "activation": columns with the largest mean squares of inputs come first. With
        scales along the way groups hold columns that follow one another in that order, and the
        matrix has a column order; with scales before, groups and columns stay where they are.

    Source
    ------
    Frantar et al., GPTQ, ICLR 2023, algorithm 1; groups, order and static groups as its authors'
    code has them.
    """
    hessian = damped_hessian(calibration.inputs, damping)
    turns = np.arange(len(hessian))
    if order == "activation":
        turns = np.argsort(-np.diag(hessian), kind="stable")
    factor = inverse_factor(hessian[np.ix_(turns, turns)]).astype(np.float32)
    costs = 1 / np.diag(factor).astype(np.float64) ** 2
    moved = order == "activation" and scales == "along"
    columns = turns if moved else np.arange(len(turns))
    column_costs = np.empty_like(costs)
    column_costs[turns] = costs
    search = find_search(family, base)
    arranged = np.ascontiguousarray(weights[:, columns])
    # A single scale a row is found before anything has moved.
    once = group_size >= len(turns) and max(item.scale_count for item in family.members) == 1
    kept = scales == "before" or once
    found = search_groups(
        arranged,
        search if kept else quick_search(family, base),
        members=family.members,
        group_size=group_size,
        column_factors=column_costs[columns] if kept else None,
    )
    start = found.split(scale_width, None if kept else found.row_peaks() * _HEADROOM)
    feedback = ErrorFeedback(start, factor, None if kept else search)
    if moved:
        return feedback.quantize(arranged, column_order=turns.astype(np.int32))
    return feedback.quantize(arranged, turns=turns)
