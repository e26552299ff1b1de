"""The backend that measures as a table was measured."""

import sys
from collections.abc import Callable
from pathlib import Path

from goldnas.errors import ConfigError
from goldnas.lut import Conditions
from goldnas.profiling.gpu_backend import GpuBackend
from goldnas.profiling.host import Host
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.runner_backend import RunnerBackend
from goldnas.profiling.runtimes import BACKENDS


def match_backend(
    conditions: Conditions,
    *,
    host: Host,
    folder: Path | None = None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> RunnerBackend:
    """What measures as a table was measured; whether it is on that device it has to say.

    Args:
        conditions: Of the table.
        host: Where.
        folder: Where a GPU's engines and caches are kept, see
            :func:`goldnas.profiling.gpu_backend.locate_engines`; a temporary one if not given.
        on_warning: Told what may spoil the measurements.

    Raises:
        ConfigError: If the table is of a GPU, and the host another machine or an interpreter or
            program of its own; or it is of a processor, and the host's GPU is meant.
    """
    if host.is_gpu and conditions.gpu is None:
        raise ConfigError(
            f"`device='cuda'`: the table is of {conditions.device}, {conditions.machine}, and "
            "not of a GPU. Leave `device` out, or say where that is"
        )
    if conditions.runtime not in BACKENDS:
        return OnnxruntimeBackend.like(conditions, host=host, on_warning=on_warning)
    if host.is_remote:
        raise ConfigError(
            f"a table of {conditions.backend} is measured where its GPU is, and not by way of "
            f"{host.name}: run goldnas there"
        )
    if host.perf_test or host.python != sys.executable:
        setting = "perf_test" if host.perf_test else "python"
        raise ConfigError(
            f"`{setting}` does not go with a table of {conditions.backend}, which goldnas "
            "measures in its own interpreter: leave it out"
        )
    return GpuBackend.like(conditions, folder=folder, on_warning=on_warning)
