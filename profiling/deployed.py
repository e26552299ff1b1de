"""One finished network, measured as a whole on the devices of latency tables."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from msgspec.structs import replace
from torch import nn

from goldnas.errors import ConfigError, MeasurementError, NoisyMachineError
from goldnas.exporting.onnx import TOLERANCES, check_outputs, run_module, to_onnx
from goldnas.lut import Conditions, LatencyTable
from goldnas.profiling.calls import LoopTimes, measure_calls
from goldnas.profiling.config import CALLS
from goldnas.profiling.gpu_backend import GpuBackend, forget_engines, locate_engines
from goldnas.profiling.host import Host
from goldnas.profiling.match_backend import match_backend
from goldnas.profiling.measuring import Estimate
from goldnas.profiling.processor_backend import ProcessorBackend
from goldnas.profiling.session import Session
from goldnas.resource_names import ENERGY


@dataclass(frozen=True)
class DeviceLatency:
    """The latency of one network under the conditions of a table."""

    latency_us: float
    """The undisturbed latency; in a loop, p50. With a pipeline, of all that a call does."""
    loop: LoopTimes | None = None
    """The single calls in the table's loop; None if that is hot."""

    def find(self, quantile: str) -> tuple[float, tuple[float, float] | None]:
        """A quantile of the calls, p50 if none is named, and its limits, which loops have."""
        for name, one in self.loop.quantiles.items() if self.loop else ():
            if name == (quantile or "p50"):
                return one.latency_us, (one.low_us, one.high_us)
        return self.latency_us, None

    def find_around(self, quantile: str) -> float | None:
        """A quantile of what calls take besides the network; None without a pipeline."""
        for name, one in self.loop.around.items() if self.loop else ():
            if name == (quantile or "p50"):
                return one.latency_us
        return None


def measure_network(
    network: nn.Module,
    input_shape: tuple[int, ...],
    tables: Sequence[LatencyTable],
    *,
    precision: str = "fp32",
    models: Mapping[int, bytes] | None = None,
    host: Host | None = None,
    gpu: GpuBackend | None = None,
    pipeline: str | None = None,
    engines: Callable[[LatencyTable], Path | None] = lambda table: locate_engines(table.path),
    on_warning: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, DeviceLatency], dict[str, str]]:
    """Measure a network under the conditions of each table that belongs to this machine.

    For a table with a loop, these are single calls in that loop.

    Args:
        network: With its weights.
        input_shape: ``(C, H, W)``.
        tables: Latency tables.
        precision: Number format of the network.
        models: Models that are already exported, by the number of images.
        host: The machine that measures; by default this one.
        gpu: The backend for tables that were measured under its conditions.
        pipeline: The function that returns what is timed with each call in a loop. For a table
            that is hot nothing is measured then.
        engines: Folders for engines and caches of a GPU's table; None to keep none.
        on_warning: Called with a warning if something may spoil the measurements.

    Returns:
        Latencies by the name of the table; and for each other table the reason for its
        absence.

    Raises:
        ExportError: If another runtime than onnxruntime computes something else than PyTorch.
        MeasurementError: If the network cannot be measured.
    """
    host = host or Host()
    exported = dict(models or {})
    measured: dict[str, DeviceLatency] = {}
    unverified: dict[str, str] = {}
    for table in tables:
        theirs = table.conditions
        if table.kind == ENERGY:
            unverified[table.name] = (
                "goldnas cannot measure energy, so this is only the prediction of the table; "
                "measure the exported network with a power meter"
            )
            continue
        if theirs.precision not in (precision, "unknown"):
            unverified[table.name] = (
                f"the table is for {theirs.precision}, the network is {precision}"
            )
            continue
        if pipeline is not None and theirs.called.is_hot:
            unverified[table.name] = "`pipeline` is timed in a loop, and the table is hot"
            continue
        same = replace(theirs, precision=precision)
        if theirs.gpu is not None and host.is_remote:
            unverified[table.name] = f"the table is for a GPU, not for {host.name}"
            continue
        folder = engines(table)
        try:
            backend = match_backend(same, host=host, folder=folder, on_warning=on_warning)
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
                on_warning(explain_no_caches(table))
            backend.pipeline = pipeline
            if theirs.batch not in exported:
                exported[theirs.batch] = to_onnx(network, (theirs.batch, *input_shape))
            try:
                if isinstance(backend, ProcessorBackend) and precision in TOLERANCES:
                    images, expected = run_module(network, (theirs.batch, *input_shape))
                    outputs = backend.run(exported[theirs.batch], images.numpy())
                    check_outputs(torch.from_numpy(outputs), expected, precision=precision)
                session = Session(backend, batch=theirs.batch, on_warning=on_warning)
                measured[table.name] = _measure(session, exported[theirs.batch])
                if backend is not gpu:
                    forget_engines(backend)
            except NoisyMachineError as error:
                unverified[table.name] = str(error)
            except MeasurementError as error:
                raise MeasurementError(
                    f"the network cannot be measured on {host.name}: {error}; "
                    "no file was written"
                ) from None
    return measured, unverified


def _measure(session: Session, model: bytes) -> DeviceLatency:
    """Measure one model in the loop of a table, or hot.

    Raises:
        MeasurementError: If it cannot be measured.
    """
    if not session.conditions.called.is_hot:
        times = measure_calls(session, model, calls=CALLS)
        return DeviceLatency(times.quantiles["p50"].latency_us, times)
    estimate = Estimate({"network": 1.0})
    return DeviceLatency(estimate.latency_us(session.measure({"network": model}, [estimate])))


def explain_no_caches(table: LatencyTable) -> str:
    """The warning that engines for a table are built again."""
    return (
        f"the original of {table.path} and the folder engines beside it are gone, or need "
        "`trust=True` because the search is somebody else's: goldnas builds engines again and "
        "does not keep them, perhaps with other tactics than the table's. Copy that folder "
        f"to {table.path.with_name('engines')} to use it"
    )


def _unlike(theirs: Conditions, here: Conditions, name: str) -> str:
    """Why a measurement here says nothing about a table; empty if it does."""
    if "unknown" in (theirs.machine, here.machine):
        return "the system does not report which processor this is"
    if theirs.machine != here.machine:
        return f"the table is for {theirs.machine}, {name} is {here.machine}"
    if differences := theirs.differences(here):
        return f"the table and {name} differ in {'; '.join(differences)}"
    return ""
