"""Which of several choices no other beats in both of two figures."""

from collections.abc import Sequence

__all__ = ["pareto_front"]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Find the points that no other beats.

    Parameters
    ----------
    points : sequence of (float, float)
        Two figures, of both of which less is better.

    Returns
    -------
    list of int
        Their indices, by the first figure. Of equal points it has the first.
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=points.__getitem__):
        if not front or points[index][1] < points[front[-1]][1]:
            front.append(index)
    return front
