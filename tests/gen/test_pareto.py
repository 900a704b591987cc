import numpy as np

from lutra.gen.pareto import pareto_front


def test_by_hand():
    assert pareto_front([(3, 1), (1, 3), (2, 2), (2, 3), (4, 1), (1, 4)]) == [1, 2, 0]


def test_of_equal_points_the_first():
    assert pareto_front([(1, 1), (1, 1)]) == [0]
    assert pareto_front([]) == []


def test_against_the_definition():
    points = [tuple(p) for p in np.random.default_rng(1).integers(0, 30, (200, 2)).tolist()]
    front = pareto_front(points)
    best = {p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)}
    assert {points[index] for index in front} == best
    assert [points[index] for index in front] == sorted(best)
