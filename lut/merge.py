"""Several tables of one device and setting as one."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import msgspec

from goldnas.errors import TableError
from goldnas.lut.schema import AnyCalibration, Failed
from goldnas.lut.table import LatencyTable, check_same_kind

Preference = Literal["first", "newest"]

_Record = TypeVar("_Record")


def merge(tables: Sequence[LatencyTable], *, prefer: Preference | None = None) -> LatencyTable:
    """Merge the rows, calibrations and campaigns of tables.

    A measured row replaces a failed one.

    Args:
        tables: At least one; all measured under the same conditions.
        prefer: Which record to take where two tables differ: ``first`` takes that of the
            earlier argument, ``newest`` that of the later measurement. Of two tables measured
            on one day, it takes the earlier argument.

    Raises:
        TableError: If some are of times and others of energies, if conditions differ, or if
            records differ and ``prefer`` is None.
    """
    first = tables[0]
    check_same_kind(tables, "cannot be merged")
    for other in tables[1:]:
        if differences := first.conditions.differences(other.conditions):
            raise TableError(
                f"cannot merge {first.path} with {other.path}, which was measured under other "
                f"conditions: {'; '.join(differences)}. Merge tables of one device and setting"
            )
    newest_first = sorted(tables, key=lambda t: t.conditions.measured_on, reverse=True)
    order = newest_first if prefer == "newest" else list(tables)
    latest = newest_first[0].conditions
    failed = {
        row.key: row
        for table in reversed(order)
        for row in table.rows
        if isinstance(row, Failed)
    }
    rows = _united(
        (
            (row.key, row.key, row, table)
            for table in order
            for row in table.rows
            if not isinstance(row, Failed)
        ),
        prefer,
    )
    calibrations: dict[str, AnyCalibration] = _united(
        (
            (calibration.space_key, f"the calibration of {calibration.space}", calibration, t)
            for t in order
            for calibration in t.calibrations
        ),
        prefer,
    )
    campaigns = {msgspec.json.encode(c): c for table in tables for c in table.campaigns}
    return replace(
        first,
        conditions=msgspec.structs.replace(
            first.conditions, os=latest.os, measured_on=latest.measured_on
        ),
        rows=tuple({**failed, **rows}.values()),
        calibrations=tuple(calibrations.values()),
        campaigns=tuple(sorted(campaigns.values(), key=lambda c: c.measured_on)),
    )


def _united(
    records: Iterable[tuple[str, str, _Record, LatencyTable]], prefer: Preference | None
) -> dict[str, _Record]:
    """The first record of each key.

    Raises:
        TableError: If two of one key differ and it is not said which to take.
    """
    found: dict[str, tuple[_Record, LatencyTable]] = {}
    for key, name, record, table in records:
        earlier, where = found.setdefault(key, (record, table))
        if prefer is None and earlier != record:
            raise TableError(
                f"{where.path} and {table.path} differ in {name}. Choose which to take: "
                "`prefer='first'`, or `prefer='newest'`"
            )
    return {key: record for key, (record, _) in found.items()}
