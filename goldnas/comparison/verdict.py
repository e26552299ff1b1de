"""The verdict between the network of a search and a ready-made one that was trained alike."""

import math
import statistics
from collections.abc import Iterator, Sequence

from goldnas.comparison.quantities import Sample
from goldnas.comparison.rows import Comparison, Row
from goldnas.errors import in_one_line

LEVEL = 0.05
"""Level of the test: how often it takes equally good networks for different ones."""


def write_verdicts(comparison: Comparison) -> list[str]:
    """A sentence for each kind of search, and each way in which networks were trained alike.

    None without ready-made networks.
    """
    kinds: dict[tuple[str, ...], list[Row]] = {}
    for row in comparison.rows:
        held_against = any(entry.run.baselines for entry in row.entries)
        if row.network == "best" and not row.ready_made and held_against:
            kinds.setdefault((row.strategy, row.settings, row.budgets), []).append(row)
    verdicts = []
    for kind, rows in kinds.items():
        whose = f"{', '.join(filter(None, kind))}: " if len(kinds) > 1 else ""
        verdicts += [whose + told for told in _judge_kind(rows, comparison)]
    return verdicts


def _judge_kind(rows: Sequence[Row], comparison: Comparison) -> Iterator[str]:
    """The verdicts on one kind of search, which has a row for each training."""
    test = f"test_{comparison.metric.key}"
    rivals = [
        rival
        for rival in comparison.rows
        if rival.ready_made and rival.budgets == rows[0].budgets
    ]
    if not rivals:
        yield "the search has no rival: no ready-made network is within the budgets"
        return
    decided = False
    for row in rows:
        alike = [
            rival
            for rival in rivals
            if row.training is not None and rival.training == row.training
        ]
        if alike:
            yield _decide(row, max(alike, key=lambda rival: _sample(rival, test).mean), test)
            decided = True
    if not decided:
        yield (
            "it is not known whether a ready-made network within the budgets is better on this "
            "data: train both alike"
        )


def _sample(row: Row, test: str) -> Sample:
    cell = row.cells[test]
    assert isinstance(cell, Sample)
    return cell


def _decide(row: Row, rival: Row, test: str) -> str:
    mine, theirs = _sample(row, test), _sample(rival, test)
    points = 100 * abs(mine.mean - theirs.mean)
    network = in_one_line(rival.network)
    told = f"on the test set, after {row.training}"
    ready_made, found = (f"{100 * sample.mean:.2f} %" for sample in (theirs, mine))
    if mine.mean == theirs.mean:
        return (
            f"neither wins: ready-made {network} and the network of the search both have "
            f"{found} {told}"
        )
    if mine.mean > theirs.mean:
        outcome = (
            f"the search wins by {points:.2f} points: its network has {found} {told}, and the "
            f"best ready-made one, {network}, {ready_made}"
        )
    else:
        outcome = (
            f"the ready-made network wins by {points:.2f} points: {network} has {ready_made} "
            f"{told}, and that of the search {found}"
        )
    return f"{outcome}. {_judge_spread(mine, theirs)}"


def _judge_spread(mine: Sample, theirs: Sample) -> str:
    """Whether the difference is beyond the spread of the seeds, and how this was decided."""
    counts = f"{len(mine.values)} and {len(theirs.values)} values"
    if min(len(mine.values), len(theirs.values)) < 2:
        return (
            "To tell whether that is beyond the spread of the seeds, train both with two or "
            "more seeds"
        )
    chance = compute_chance(mine.values, theirs.values)
    how = f"Welch's t-test on {counts}: p = {chance:.2g}"
    if chance < LEVEL:
        return f"That is beyond the spread of the seeds ({how}, below {LEVEL})"
    return (
        f"That is within the spread of the seeds ({how}, not below {LEVEL}), so it may be "
        "chance"
    )


def compute_chance(some: Sequence[float], others: Sequence[float]) -> float:
    """Probability of such a difference for equal means: Welch's t-test, two-sided.

    Args:
        some: Two or more values.
        others: Two or more other values.

    Returns:
        Between 0 and 1. If neither sample has any spread: 0 if they differ, else 1.

    Source: B. L. Welch, Biometrika 34 (1947), 28-35.
    """
    from scipy.special import stdtr

    variances = [statistics.variance(values) / len(values) for values in (some, others)]
    difference = abs(statistics.fmean(some) - statistics.fmean(others))
    if not sum(variances):
        return 0.0 if difference else 1.0
    freedom = sum(variances) ** 2 / sum(
        variance**2 / (len(values) - 1)
        for variance, values in zip(variances, (some, others), strict=True)
    )
    return float(2 * stdtr(freedom, -difference / math.sqrt(sum(variances))))
