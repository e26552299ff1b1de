"""The area that a front covers."""

from collections.abc import Iterable


def compute_hypervolume(
    points: Iterable[tuple[float, float]], reference: tuple[float, float]
) -> float:
    """Area between a front and a reference point, both coordinates to be minimised.

    The result is exact, by a sweep from left to right. Dominated points, and points that are
    not below the reference in both coordinates, add nothing.

    Args:
        points: In any order.
        reference: The worst of both coordinates.

    Source:
        Zitzler and Thiele, "Multiobjective optimization using evolutionary algorithms: a
        comparative case study", 1998.
    """
    right, lowest = reference
    area = 0.0
    for x, y in sorted(points):
        if x < right and y < lowest:
            area += (right - x) * (lowest - y)
            lowest = y
    return area
