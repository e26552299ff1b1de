"""The backend that measures as a table was measured."""

import sys
from collections.abc import Callable
from pathlib import Path

from goldnas.errors import ConfigError
from goldnas.lut import Conditions
from goldnas.profiling.gpu_backend import GpuBackend
from goldnas.profiling.host import Host
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.processor_backend import ProcessorBackend
from goldnas.profiling.processor_runtimes import PROCESSOR_RUNTIMES
from goldnas.profiling.runner_backend import RunnerBackend
from goldnas.profiling.runtimes import BACKENDS


def match_backend(
    conditions: Conditions,
    *,
    host: Host,
    folder: Path | None = None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> RunnerBackend:
    """The backend with a table's settings; its conditions tell whether this is the device.

    Args:
        conditions: Conditions of the table.
        host: The machine that measures.
        folder: Folder of a GPU's engines and caches, see
            :func:`goldnas.profiling.gpu_backend.locate_engines`; by default a temporary folder.
        on_warning: Called with a warning if something may spoil the measurements.

    Raises:
        ConfigError: If the table is for a GPU, and the host is another machine or has a
            ``python`` or ``perf_test``; or if the table is for a processor, and the host is a
            GPU.
    """
    if host.is_gpu and conditions.gpu is None:
        raise ConfigError(
            f"`device='cuda'`: the table is for {conditions.device}, {conditions.machine}, not "
            "for a GPU. Leave `device` out, or give the address of that device"
        )
    on_a_processor = conditions.runtime in PROCESSOR_RUNTIMES
    if conditions.runtime not in BACKENDS and not on_a_processor:
        return OnnxruntimeBackend.like(conditions, host=host, on_warning=on_warning)
    if host.is_remote:
        machine = "the device" if on_a_processor else "the machine with the GPU"
        raise ConfigError(
            f"a table of {conditions.backend} is measured on {machine}, not through "
            f"{host.name}: run goldnas there"
        )
    if host.perf_test or host.python != sys.executable:
        setting = "perf_test" if host.perf_test else "python"
        raise ConfigError(
            f"`{setting}` does not go with a table of {conditions.backend}, which goldnas "
            "measures in its own interpreter: leave it out"
        )
    if on_a_processor:
        return ProcessorBackend.like(conditions, on_warning=on_warning)
    return GpuBackend.like(conditions, folder=folder, on_warning=on_warning)
