"""How two latency tables differ."""

import math
import statistics

import msgspec

from goldnas.lut.schema import Failed, Measured, Row, Valued
from goldnas.lut.table import LatencyTable, check_same_kind
from goldnas.resource_names import ENERGY


class RowDifference(msgspec.Struct, frozen=True):
    """A row whose two values differ by more than their intervals allow."""

    row: str
    a_us: float
    b_us: float
    ratio: float | None
    """``b_us`` over ``a_us``; None if ``a_us`` is 0."""
    allowed_us: float
    """Both rows' intervals together."""

    @property
    def values(self) -> tuple[float, float, float]:
        """a, b, and what their intervals allow, in microseconds."""
        return self.a_us, self.b_us, self.allowed_us


class EnergyDifference(msgspec.Struct, frozen=True):
    """A row of tables of energies whose two values differ; they have no intervals."""

    row: str
    a_uj: float
    b_uj: float
    ratio: float | None
    """``b_uj`` over ``a_uj``; None if ``a_uj`` is 0."""
    allowed_uj: float = 0.0

    @property
    def values(self) -> tuple[float, float, float]:
        """a, b, and what their intervals allow, in microjoules."""
        return self.a_uj, self.b_uj, self.allowed_uj


class TableDifference(msgspec.Struct, frozen=True):
    """The result of :func:`diff`. Ratios are b over a, for the rows of both tables."""

    conditions: list[str]
    only_in_a: list[str]
    only_in_b: list[str]
    """Rows with a latency in b and without one in a; ``only_in_a`` is the reverse."""
    differing: list[RowDifference | EnergyDifference]
    """The largest difference comes first."""
    common_rows: int
    ratio_median: float | None
    ratio_p5: float | None
    ratio_p95: float | None
    spearman: float | None
    """Rank correlation; None for fewer than two rows, or where all are equal."""


def diff(a: LatencyTable, b: LatencyTable) -> TableDifference:
    """Compare two tables, row by row.

    Raises:
        TableError: If one is of times and the other of energies.
    """
    check_same_kind([a, b], "cannot be compared")
    rows_a, rows_b = _with_latency(a), _with_latency(b)
    common = [key for key in rows_a if key in rows_b]
    ratios = [rows_b[key].cost / rows_a[key].cost for key in common if rows_a[key].cost > 0]
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
            [rows_a[key].cost for key in common],
            [rows_b[key].cost for key in common],
        ),
    )


def _with_latency(table: LatencyTable) -> dict[str, Valued]:
    return {row.key: row for row in table.sorted_rows() if not isinstance(row, Failed)}


def _factor(ratio: float | None) -> float:
    return max(ratio, 1 / ratio) if ratio else math.inf


def _difference(key: str, a: Valued, b: Valued) -> RowDifference | EnergyDifference | None:
    allowed = _interval(a) + _interval(b)
    if abs(b.cost - a.cost) <= allowed:
        return None
    ratio = b.cost / a.cost if a.cost > 0 else None
    make = EnergyDifference if a.kind == ENERGY else RowDifference
    return make(key, a.cost, b.cost, ratio, allowed)


def _interval(row: Row) -> float:
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
