"""An exported network in the runtimes of this machine: how long it takes in each."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from goldnas.deploying.config import BEST
from goldnas.errors import ConfigError, ExportError, MeasurementError
from goldnas.exporting.onnx import TOLERANCES, check_outputs, run_module, run_onnx
from goldnas.lut import Conditions, LatencyTable
from goldnas.profiling import onnxruntime_backend
from goldnas.profiling.measuring import Estimate
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.processor_backend import ProcessorBackend
from goldnas.profiling.processor_runtimes import (
    PROCESSOR_RUNTIMES,
    check_installed,
    list_installed,
)
from goldnas.profiling.runner import read_cpu_model
from goldnas.profiling.session import Session


@dataclass(frozen=True)
class RuntimeLatency:
    """A network in one runtime for the processor of this machine.

    Example:
        >>> from goldnas.deploying.runtimes import RuntimeLatency
        >>> RuntimeLatency("openvino", refused="openvino has no fp16").latency_us is None
        True
    """

    runtime: str
    backend: str = ""
    """The runtime and its version; empty if it was not reached."""
    latency_us: float | None = None
    interval_us: float | None = None
    """Half-width of the 95 % confidence interval."""
    difference: float | None = None
    """Largest absolute difference between its outputs and those of PyTorch in fp32."""
    refused: str = ""
    """Why it was not measured."""


def choose_runtimes(name: str) -> list[str]:
    """The runtimes to measure.

    Args:
        name: ``best`` for all that are installed, or one of them.

    Raises:
        MeasurementError: If it is not installed; with the command that installs it.
    """
    if name == BEST:
        return list_installed()
    if name in PROCESSOR_RUNTIMES:
        check_installed(name)
    return [name]


def measure_runtimes(
    network: nn.Module,
    model: bytes,
    input_shape: tuple[int, ...],
    runtimes: Sequence[str],
    tables: Sequence[LatencyTable],
    *,
    precision: str,
    on_warning: Callable[[str], None],
) -> tuple[RuntimeLatency, ...]:
    """Measure a network in several runtimes on this machine, and compare its outputs.

    Args:
        network: The network in PyTorch, with its weights.
        model: The network as ONNX, for a batch of one.
        input_shape: ``(C, H, W)``.
        runtimes: Their names; none to measure nothing.
        tables: The first one of this machine's processor gives threads and cores.
        precision: Number format of the model.
        on_warning: Called with a warning if something may spoil the measurements.

    Returns:
        The measured ones, the fastest first, and then those that refuse the network.

    Raises:
        ExportError: If the only runtime computes something else than PyTorch.
        MeasurementError: If the only runtime refuses the network.
    """
    if not runtimes:
        return ()
    here = read_cpu_model()
    theirs = [t.conditions for t in tables if t.conditions.gpu is None]
    like = next((c for c in theirs if c.cpu_model == here), None)
    images, expected = run_module(network, (1, *input_shape))
    found = []
    for name in runtimes:
        try:
            with closing(_make_backend(name, like, precision, on_warning)) as backend:
                difference = _compare(backend, model, images, expected, precision)
                found.append(_measure(backend, name, model, difference, on_warning))
        except (ConfigError, ExportError, MeasurementError) as error:
            if len(runtimes) == 1:
                raise
            found.append(RuntimeLatency(name, refused=str(error)))
    return tuple(sorted(found, key=lambda one: one.latency_us or math.inf))


def _make_backend(
    name: str, like: Conditions | None, precision: str, warn: Callable[[str], None]
) -> OnnxruntimeBackend | ProcessorBackend:
    """The backend of a runtime, with the threads and cores of a table.

    Raises:
        ConfigError: If the runtime has no such number format.
    """
    threads, cores = (like.threads, like.cores) if like is not None else (1, [])
    if name in PROCESSOR_RUNTIMES:
        return ProcessorBackend(
            name,
            threads,
            precision=precision,
            cores=cores,
            protocol=onnxruntime_backend.IN_CONTEXT,
            on_warning=warn,
        )
    return OnnxruntimeBackend(
        threads,
        precision=precision,
        cores=cores,
        protocol=onnxruntime_backend.IN_CONTEXT,
        on_warning=warn,
    )


def _compare(
    backend: OnnxruntimeBackend | ProcessorBackend,
    model: bytes,
    images: Tensor,
    expected: Tensor,
    precision: str,
) -> float:
    """The largest difference of outputs from those of PyTorch.

    Raises:
        ExportError: If they differ by more than rounding. In int8 they may.
        MeasurementError: If the runtime rejects the network.
    """
    if isinstance(backend, ProcessorBackend):
        actual = torch.from_numpy(backend.run(model, images.numpy()))
    else:
        actual = run_onnx(model, images)
    if precision not in TOLERANCES:
        return float((actual - expected).abs().max())
    return check_outputs(actual, expected, precision=precision)


def _measure(
    backend: OnnxruntimeBackend | ProcessorBackend,
    name: str,
    model: bytes,
    difference: float,
    warn: Callable[[str], None],
) -> RuntimeLatency:
    session = Session(backend, on_warning=warn)
    estimate = Estimate({"network": 1.0})
    results = session.measure({"network": model}, [estimate])
    return RuntimeLatency(
        name,
        backend=session.conditions.backend,
        latency_us=estimate.latency_us(results),
        interval_us=estimate.interval_us(results),
        difference=difference,
    )


def describe_fastest(found: Sequence[RuntimeLatency]) -> str:
    """The fastest runtime in one line, and by how much it is faster than the next."""
    measured = [(one, one.latency_us) for one in found if one.latency_us is not None]
    if not measured:
        return "no runtime measured the network"
    (first, first_us), *others = measured
    took = f"{first.backend}, {first_us / 1000:.4g} ms"
    if not others:
        return f"measured: {took}"
    second, second_us = others[0]
    return f"fastest: {took}; {second.backend} takes {second_us / first_us:.2f} times as long"
