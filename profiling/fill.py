"""A latency table, opened and filled with what it lacks of a space."""

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
    """Measure what a table lacks of a space: rows, and networks that it is calibrated with.

    All in the same processes. A machine may be a percent slower for some minutes, and what is
    spread over more of them sees more of its fast ones.

    Args:
        session: Measures.
        table: There or empty, as :func:`open_table` gives it.
        space: To measure.
        networks: How many the calibration is to rest on.
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
