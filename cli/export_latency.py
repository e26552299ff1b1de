"""The latencies of what is exported: measured on the devices of the tables, and kept."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from goldnas.cli.console import warn
from goldnas.errors import GoldnasError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from goldnas.exporting.budget_check import BudgetCheck
    from goldnas.lut import LatencyTable
    from goldnas.profiling.gpu_backend import GpuBackend
    from goldnas.profiling.host import Host
    from goldnas.searching.folder import SearchRun


def gpu_for(
    backend: str,
    precision: str,
    tables: "Sequence[LatencyTable]",
    search: "SearchRun | None",
) -> "GpuBackend":
    """What builds engines and runs them: as the first table of the backend was measured.

    So the engine that is stored is the one that is held against that table.

    Raises:
        MeasurementError: If there is no GPU, or the backend is not installed.
    """
    from goldnas.profiling.deployed import no_caches
    from goldnas.profiling.gpu_backend import GpuBackend

    fitting = _fitting(backend, precision, tables)
    if fitting:
        folder = _engines_for(search, fitting[0])
        if folder is None:
            warn(no_caches(fitting[0]))
        gpu = GpuBackend.like(fitting[0].conditions, folder=folder, on_warning=warn)
    else:
        gpu = GpuBackend(backend, precision=precision, on_warning=warn)
    gpu.conditions(batch=1)
    return gpu


def _engines_for(search: "SearchRun | None", table: "LatencyTable") -> Path | None:
    """Where engines and caches for a table are kept: beside the user's own file of it.

    A search has a copy of the table, and its folder gets no engines by itself: those beside the
    file that was copied are used, and added to. None if that is gone.
    """
    from goldnas.profiling.backends import engines_of

    beside = engines_of(table.path)
    if search is None or all(table is not own for own in search.tables) or beside.is_dir():
        return beside
    file = search.table_file(table.name)
    return engines_of(file) if file is not None and os.path.isfile(file) else None


def _fitting(
    backend: str, precision: str, tables: "Sequence[LatencyTable]"
) -> "list[LatencyTable]":
    """The tables that an engine can be held against."""
    return [
        table
        for table in tables
        if table.conditions.backend.split(" ")[0] == backend
        and table.conditions.gpu is not None
        and table.conditions.precision == precision
    ]


def of_other_engines(
    backend: str, precision: str, tables: "Sequence[LatencyTable]"
) -> list[str]:
    """What the latencies below do not say of the engine that is stored."""
    fitting = _fitting(backend, precision, tables)
    if not fitting:
        return [
            f"the engine's latency is not compared: no table is of {backend} in {precision}. "
            f"goldnas profile --backend {backend} makes one, --latency-lut names it"
        ]
    of_batches = [t for t in fitting if t.conditions.batch != 1]
    return [
        f"the engine is of a batch of 1, and the table {table.name} of "
        f"{table.conditions.batch}: another engine is measured for it"
        for table in of_batches
    ]


def measure(
    network: "nn.Module",
    input_shape: tuple[int, ...],
    precision: str,
    tables: "Sequence[LatencyTable]",
    models: dict[int, bytes],
    host: "Host",
    search: "SearchRun | None" = None,
    gpu: "GpuBackend | None" = None,
) -> tuple[dict[str, float], dict[str, str]]:
    """Microseconds on a machine by table; and why not, for tables of other machines.

    ``models`` holds what is exported already, by batch. ``search`` has some of the tables.
    ``gpu`` measures for those whose conditions it has.
    """
    from goldnas.profiling.deployed import measure_network

    return measure_network(
        network,
        input_shape,
        tables,
        precision=precision,
        models=models,
        host=host,
        gpu=gpu,
        engines=partial(_engines_for, search),
        on_warning=warn,
    )


def keep(
    search: "SearchRun",
    fingerprint: str,
    checks: "Sequence[BudgetCheck]",
    tables: "Sequence[LatencyTable]",
    precision: str,
) -> None:
    """Keep what was measured in the search's folder, for goldnas compare."""
    import datetime

    from goldnas.resource_names import name_latency
    from goldnas.searching.measured import Measurement, keep_measured

    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    kept = {
        table.name: Measurement(
            predicted_us=check.predicted,
            measured_us=check.measured,
            precision=precision,
            machine=table.conditions.machine,
            measured_at=now,
        )
        for table in tables
        for check in checks
        if check.resource == name_latency(table.name) and check.measured is not None
    }
    try:
        if kept:
            keep_measured(search.path, fingerprint, kept)
    except GoldnasError as error:  # the export is there, whatever became of this
        warn(f"what was measured is not kept: {error}")
