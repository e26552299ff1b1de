"""The latencies of an exported network: measured on the devices of the tables, and kept."""

import datetime
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from goldnas.deploying.config import ExportConfig
from goldnas.deploying.source import Source
from goldnas.errors import GoldnasError
from goldnas.exporting.budget_check import BudgetCheck
from goldnas.lut import LatencyTable
from goldnas.profiling.deployed import DeviceLatency, explain_no_caches, measure_network
from goldnas.profiling.gpu_backend import GpuBackend, locate_engines
from goldnas.profiling.host import Host
from goldnas.resource_names import name_latency
from goldnas.searching.folder import SearchRun, table_copy
from goldnas.searching.measured import Measurement, keep_measured
from goldnas.spaces import SearchSpace
from goldnas.trust import made_here

Warn = Callable[[str], None]


def choose_gpu(
    config: ExportConfig, tables: Sequence[LatencyTable], search: SearchRun | None, warn: Warn
) -> GpuBackend:
    """The backend that builds and runs engines, with the settings of its first table.

    So the stored engine is the one that is compared with that table.

    Raises:
        MeasurementError: If there is no GPU, or the backend is not installed.
    """
    fitting = _fitting(config, tables)
    if fitting:
        folder = _engines_for(search, fitting[0])
        if folder is None:
            warn(explain_no_caches(fitting[0]))
        gpu = GpuBackend.like(fitting[0].conditions, folder=folder, on_warning=warn)
    else:
        gpu = GpuBackend(config.backend, precision=config.precision, on_warning=warn)
    gpu.conditions(batch=1)
    return gpu


def _engines_for(search: SearchRun | None, table: LatencyTable) -> Path | None:
    """The folder of engines and caches for a table: beside the user's original table.

    The folder of a search has only a copy of the table, and gets no engines. So goldnas uses
    the folder beside the original. None if the original is gone, or if the user neither made
    the search here nor trusts it: caches are code.
    """
    beside = locate_engines(table.path)
    if search is None or all(table is not own for own in search.tables):
        return beside
    if not search.trusted and table_copy(table) not in made_here(search.path):
        return None
    if beside.is_dir():
        return beside
    file = search.table_file(table.name)
    return locate_engines(file) if file is not None and os.path.isfile(file) else None


def _fitting(config: ExportConfig, tables: Sequence[LatencyTable]) -> list[LatencyTable]:
    """The tables that an engine can be compared with."""
    return [
        table
        for table in tables
        if table.conditions.runtime == config.backend
        and table.conditions.gpu is not None
        and table.conditions.precision == config.precision
    ]


def describe_other_engines(config: ExportConfig, tables: Sequence[LatencyTable]) -> list[str]:
    """The limits of the latencies below for the stored engine."""
    fitting = _fitting(config, tables)
    if not fitting:
        return [
            f"the engine's latency is not compared: no table is for {config.backend} in "
            f"{config.precision}. Make a table with `profile(backend={config.backend!r})`, and "
            "give it in `tables`"
        ]
    of_batches = [t for t in fitting if t.conditions.batch != 1]
    return [
        f"the engine has a batch of 1, but table {table.name} has a batch of "
        f"{table.conditions.batch}: goldnas measures another engine for this table"
        for table in of_batches
    ]


def measure_latencies(
    source: Source,
    space: SearchSpace,
    config: ExportConfig,
    tables: Sequence[LatencyTable],
    models: dict[int, bytes],
    host: Host,
    gpu: GpuBackend | None,
    warn: Warn,
) -> tuple[dict[str, DeviceLatency], dict[str, str]]:
    """Latencies on a machine by table; for tables of other machines, why there are none.

    Args:
        source: The network.
        space: The network's space.
        config: Settings of the export.
        tables: Latency tables of the devices, including those of the search.
        models: Models that are already exported, by batch.
        host: The machine that measures.
        gpu: The backend for tables that were measured under its conditions.
        warn: Called with a warning if something may spoil the measurements.
    """
    return measure_network(
        source.network,
        space.input_shape,
        tables,
        precision=config.precision,
        models=models,
        host=host,
        gpu=gpu,
        pipeline=config.pipeline,
        engines=partial(_engines_for, source.search),
        on_warning=warn,
    )


def keep_measurements(
    source: Source,
    checks: Sequence[BudgetCheck],
    tables: Sequence[LatencyTable],
    precision: str,
    warn: Warn,
) -> None:
    """Keep the measurements in the folder of the search, where comparisons find them."""
    assert source.search is not None
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
            keep_measured(source.search.path, source.fingerprint, kept)
    except GoldnasError as error:  # the export is there, whatever became of this
        warn(f"the measurements are not kept: {error}")
