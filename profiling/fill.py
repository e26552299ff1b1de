"""Opening a latency table, and measuring the rows and networks that it lacks for a space."""

import dataclasses
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from goldnas.errors import ExportError, TableError
from goldnas.lut import Conditions, LatencyTable
from goldnas.profiling.calibration import calibrate, draw_lacking
from goldnas.profiling.networks import compose_networks
from goldnas.profiling.rows import measure_rows
from goldnas.profiling.session import Session
from goldnas.spaces import SearchSpace


def open_table(out: Path, conditions: Conditions) -> LatencyTable:
    """The table to fill: the file if there is one, else an empty table.

    Raises:
        TableError: If the file is unreadable, or was measured under other conditions.
    """
    if not os.path.exists(out):  # unlike Path.exists, no error where it may not look
        return LatencyTable(conditions, (), out)
    table = LatencyTable.load(out)
    if differences := table.conditions.differences(conditions):
        raise TableError(
            f"{out} was measured under other conditions: {'; '.join(differences)}. "
            "Choose another `out`"
        )
    updated = msgspec.structs.replace(
        table.conditions, os=conditions.os, measured_on=conditions.measured_on
    )
    return dataclasses.replace(table, conditions=updated)


def fill_table(
    session: Session,
    table: LatencyTable,
    space: SearchSpace,
    *,
    networks: int,
    strict: bool = False,
) -> LatencyTable:
    """Measure the rows that a table lacks for a space, and networks for its calibration.

    The same processes measure both. A machine may be a percent slower for some minutes, and a
    longer measurement sees more of its fast minutes.

    Args:
        session: The session that measures.
        table: From :func:`open_table`; it may be empty.
        space: The space to measure.
        networks: Number of networks for the calibration.
        strict: Whether a row fails if the provider leaves one of its nodes to another.

    Returns:
        The table; without a calibration where a row failed.

    Raises:
        ExportError: If a network cannot be exported.
        MeasurementError: If the runtime cannot start, or the machine is too noisy.
        WriteError: If the disk refuses; what was measured is in the session's journal.
    """
    rows = space.rows()
    models: dict[str, bytes] = {}
    if table.missing(rows):
        with suppress(ExportError):  # of a row, which fails, and then no network is wanted
            models = compose_networks(session, space, draw_lacking(table, space, networks))
    table = measure_rows(
        session, table, rows, build=space.build_part, strict=strict, also=models
    )
    if table.missing(rows):
        return table
    return calibrate(session, table, space, networks=networks)
