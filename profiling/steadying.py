"""One speed for all visits: a slowdown that all models share is divided out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import nan

import numpy as np

from goldnas.profiling.backend import Failure, Timing, Visit

_FAST = 0.1
"""Quantile over the rounds; of the very fastest, chance has a share."""


def steady(results: Mapping[str, Timing | Failure]) -> dict[str, Timing | Failure]:
    """Scale the visits of all rounds to one speed of the machine.

    For seconds to minutes, a machine may be some percent slower for all models. The fit
    ``log t = model + round``, by medians, gives the speed of each round. Each visit is scaled
    from this speed to that of a fast round, the tenth percentile.
    """
    visited = {n: r.visits for n, r in results.items() if isinstance(r, Timing) and r.visits}
    if not visited:
        return dict(results)
    numbers: dict[tuple[int, int], int] = {}
    rounds = {
        name: [numbers.setdefault(place, len(numbers)) for place in _rounds(visits)]
        for name, visits in visited.items()
    }
    logs = np.full((len(visited), len(numbers)), nan)
    for row, (name, visits) in zip(logs, visited.items(), strict=True):
        row[rounds[name]] = np.log([visit.p10_us for visit in visits])
    slow = np.zeros(len(numbers))
    for _ in range(10):
        level = np.nanmedian(logs - slow, axis=1, keepdims=True)
        slow = np.nanmedian(logs - level, axis=0)
    factor = np.exp(np.quantile(slow, _FAST) - slow).tolist()
    steady: dict[str, Timing | Failure] = {
        name: Timing(
            tuple(v.scaled(factor[r]) for v, r in zip(visits, rounds[name], strict=True))
        )
        for name, visits in visited.items()
    }
    return {**results, **steady}


def _rounds(visits: Sequence[Visit]) -> Iterator[tuple[int, int]]:
    """The process of each visit, and the round of that process."""
    before: Counter[int] = Counter()
    for visit in visits:
        yield visit.process, before[visit.process]
        before[visit.process] += 1
