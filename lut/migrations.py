"""Tables of earlier schema versions, read as tables of this one."""

import math
from typing import Annotated, Any

import msgspec

from goldnas.lut.schema import (
    SCHEMA_VERSION,
    Conditions,
    Count,
    Failed,
    Located,
    Measured,
    Microseconds,
    ModelTiming,
    Row,
    Strict,
    checksum_of,
)


class MeasuredV1(Located, frozen=True, tag_field="status", tag="measured"):
    """A measured row of version 1: the operator as a model of its own."""

    latency_us: Microseconds
    min_us: Microseconds
    p10_us: Microseconds
    p25_us: Microseconds
    median_us: Microseconds
    spread: Annotated[float, msgspec.Meta(ge=0)]
    count: Count
    visits: Count


RowV1 = MeasuredV1 | Failed


class _FileV1(Strict, frozen=True):
    schema_version: int
    conditions: Conditions
    rows: tuple[RowV1, ...]


def migrate(content: dict[str, Any]) -> dict[str, Any]:
    """Turn a file of version 1 into one of this version.

    Args:
        content: The file as JSON gives it.

    Raises:
        msgspec.ValidationError: If it is not of that version.
    """
    file = msgspec.convert(content, _FileV1)
    new: dict[str, Any] = msgspec.to_builtins(
        {
            "schema_version": SCHEMA_VERSION,
            "conditions": file.conditions,
            "rows": [migrate_row(row) for row in file.rows],
        }
    )
    return new | {"checksum": checksum_of(new)}


def migrate_row(row: RowV1) -> Row:
    """Turn a row of version 1 into one of this version."""
    if isinstance(row, Failed):
        return row
    # The standard error of a lower quartile is 1.36 standard deviations over the root of the
    # number of visits, and a standard deviation is 0.74 interquartile ranges.
    interval_us = 1.96 * 1.36 * 0.74 * row.spread * row.latency_us / math.sqrt(row.visits)
    return Measured(
        operator=row.operator,
        site=row.site,
        latency_us=row.latency_us,
        interval_us=interval_us,
        converged=True,  # the protocol of version 1 had no target to miss
        isolated_us=row.latency_us,
        method="isolated",
        timings=(
            ModelTiming(
                model="isolated",
                min_us=row.min_us,
                p10_us=row.p10_us,
                p25_us=row.p25_us,
                median_us=row.median_us,
                spread=row.spread,
                calls=row.count,
                visits=row.visits,
            ),
        ),
    )
