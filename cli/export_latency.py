"""The latencies of what is exported: measured on the devices of the tables, and kept."""

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from goldnas.cli.console import warn
from goldnas.errors import ConfigError, GoldnasError, MeasurementError, NoisyMachineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from goldnas.lut import Conditions, LatencyTable
    from goldnas.profiling.gpu_backend import GpuBackend
    from goldnas.profiling.host import Host
    from goldnas.search.run import SearchRun
    from goldnas.verify import Promise


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
    from goldnas.profiling.gpu_backend import GpuBackend

    fitting = _fitting(backend, precision, tables)
    if fitting:
        folder = _engines_for(search, fitting[0])
        if folder is None:
            _warn_of_no_caches(fitting[0])
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


def _warn_of_no_caches(table: "LatencyTable") -> None:
    warn(
        f"the file that {table.path} was copied from is gone, and the folder engines beside "
        "it: engines are built anew and not kept, perhaps of other tactics than those of the "
        f"table. Copy that folder to {table.path.with_name('engines')} to use it"
    )


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

    ``models`` holds what is exported already, by batch, and is added to. ``search`` has some of
    the tables. ``gpu`` measures for those whose conditions it has.
    """
    from msgspec.structs import replace

    from goldnas.export import to_onnx
    from goldnas.profiling.backends import backend_like, forget_engines
    from goldnas.profiling.measuring import Estimate
    from goldnas.profiling.session import Session

    measured_us: dict[str, float] = {}
    unverified: dict[str, str] = {}
    for table in tables:
        theirs = table.conditions
        if theirs.precision not in (precision, "unknown"):
            unverified[table.name] = (
                f"the table is of {theirs.precision}, the network is {precision}"
            )
            continue
        same = replace(theirs, precision=precision)
        if theirs.gpu is not None and host.is_remote:
            unverified[table.name] = f"the table is of a GPU, and {host.name} is measured"
            continue
        folder = _engines_for(search, table)
        try:
            backend = backend_like(same, host=host, folder=folder, on_warning=warn)
            if (
                gpu is not None
                and theirs.gpu is not None
                and not theirs.differences(gpu.conditions(batch=theirs.batch))
            ):
                backend = gpu
        except ConfigError as error:  # such as an imported table's, of a device of its own kind
            unverified[table.name] = str(error)
            continue
        with closing(backend):
            try:
                here = backend.conditions(batch=theirs.batch)
            except MeasurementError as error:
                unverified[table.name] = str(error)
                continue
            if reason := _unlike(theirs, here, host.name):
                unverified[table.name] = reason
                continue
            if theirs.gpu is not None and folder is None and backend is not gpu:
                _warn_of_no_caches(table)
            if theirs.batch not in models:
                models[theirs.batch] = to_onnx(network, (theirs.batch, *input_shape))
            estimate = Estimate({"network": 1.0})
            try:
                session = Session(backend, batch=theirs.batch, on_warning=warn)
                found = session.measure({"network": models[theirs.batch]}, [estimate])
                measured_us[table.name] = estimate.latency_us(found)
                if backend is not gpu:
                    forget_engines(backend)
            except NoisyMachineError as error:
                unverified[table.name] = str(error)
            except MeasurementError as error:
                raise MeasurementError(
                    f"the network cannot be measured on {host.name}: {error}; "
                    "no file was written"
                ) from None
    return measured_us, unverified


def _unlike(theirs: "Conditions", here: "Conditions", name: str) -> str:
    """Why what is measured here says nothing of a table; empty if it does."""
    if "unknown" in (theirs.machine, here.machine):
        return "the system does not tell which processor this is"
    if theirs.machine != here.machine:
        return f"the table is of {theirs.machine}, {name} is {here.machine}"
    if differences := theirs.differences(here):
        return f"the table and {name} differ in {'; '.join(differences)}"
    return ""


def keep(
    search: "SearchRun",
    fingerprint: str,
    promises: "Sequence[Promise]",
    tables: "Sequence[LatencyTable]",
    precision: str,
) -> None:
    """Keep what was measured in the search's folder, for goldnas compare."""
    import datetime

    from goldnas.search.measured import Measurement, keep_measured

    machines = {f"latency@{table.name}": table.conditions.machine for table in tables}
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    kept = {
        promise.resource.removeprefix("latency@"): Measurement(
            predicted_us=promise.predicted,
            measured_us=promise.measured,
            precision=precision,
            machine=machines[promise.resource],
            measured_at=now,
        )
        for promise in promises
        if promise.resource in machines and promise.measured is not None
    }
    try:
        if kept:
            keep_measured(search.path, fingerprint, kept)
    except GoldnasError as error:  # the export is there, whatever became of this
        warn(f"what was measured is not kept: {error}")
