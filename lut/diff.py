"""How two latency tables differ."""

import math
import statistics

import msgspec

from goldnas.lut.schema import Failed, Interpolated, Measured, Row
from goldnas.lut.table import LatencyTable


class RowDifference(msgspec.Struct, frozen=True):
    """A row whose two values differ by more than their intervals allow."""

    row: str
    a_us: float
    b_us: float
    ratio: float | None
    """``b_us`` over ``a_us``; None if ``a_us`` is 0."""
    allowed_us: float
    """Both rows' intervals together."""


class TableDifference(msgspec.Struct, frozen=True):
    """The result of :func:`diff`. Ratios are b over a, for the rows of both tables."""

    conditions: list[str]
    only_in_a: list[str]
    only_in_b: list[str]
    """Rows with a latency in b and without one in a; ``only_in_a`` is the reverse."""
    differing: list[RowDifference]
    """The largest difference comes first."""
    common_rows: int
    ratio_median: float | None
    ratio_p5: float | None
    ratio_p95: float | None
    spearman: float | None
    """Rank correlation; None for fewer than two rows, or where all are equal."""


def diff(a: LatencyTable, b: LatencyTable) -> TableDifference:
    """Compare two tables, row by row."""
    rows_a, rows_b = _with_latency(a), _with_latency(b)
    common = [key for key in rows_a if key in rows_b]
    ratios = [
        rows_b[key].latency_us / rows_a[key].latency_us
        for key in common
        if rows_a[key].latency_us > 0
    ]
    differing = [
        difference
        for key in common
        if (difference := _difference(key, rows_a[key], rows_b[key])) is not None
    ]
    low, high = _p5_p95(ratios) if ratios else (None, None)
    return TableDifference(
        conditions=a.conditions.differences(b.conditions),
        only_in_a=[key for key in rows_a if key not in rows_b],
        only_in_b=[key for key in rows_b if key not in rows_a],
        differing=sorted(differing, key=lambda d: _factor(d.ratio), reverse=True),
        common_rows=len(common),
        ratio_median=statistics.median(ratios) if ratios else None,
        ratio_p5=low,
        ratio_p95=high,
        spearman=_spearman(
            [rows_a[key].latency_us for key in common],
            [rows_b[key].latency_us for key in common],
        ),
    )


def _with_latency(table: LatencyTable) -> dict[str, Measured | Interpolated]:
    return {row.key: row for row in table.sorted_rows() if not isinstance(row, Failed)}


def _factor(ratio: float | None) -> float:
    return max(ratio, 1 / ratio) if ratio else math.inf


def _difference(
    key: str, a: Measured | Interpolated, b: Measured | Interpolated
) -> RowDifference | None:
    allowed_us = _interval_us(a) + _interval_us(b)
    if abs(b.latency_us - a.latency_us) <= allowed_us:
        return None
    return RowDifference(
        row=key,
        a_us=a.latency_us,
        b_us=b.latency_us,
        ratio=b.latency_us / a.latency_us if a.latency_us > 0 else None,
        allowed_us=allowed_us,
    )


def _interval_us(row: Row) -> float:
    return row.interval_us if isinstance(row, Measured) else 0.0


def _p5_p95(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return cuts[0], cuts[-1]


def _spearman(a: list[float], b: list[float]) -> float | None:
    if len(set(a)) < 2 or len(set(b)) < 2:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)
