"""Backends with the settings of a table."""

from collections.abc import Callable

from goldnas.errors import ConfigError
from goldnas.lut import Conditions
from goldnas.profiling.gpu_backend import GpuBackend
from goldnas.profiling.host import Host
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.runner_backend import RunnerBackend
from goldnas.profiling.runtimes import BACKENDS


def backend_like(
    conditions: Conditions,
    *,
    host: Host,
    on_warning: Callable[[str], None] = lambda text: None,
) -> RunnerBackend:
    """What measures as a table was measured; whether it is on that device it has to say.

    Args:
        conditions: Of the table.
        host: Where.
        on_warning: Told what may spoil the measurements.

    Raises:
        ConfigError: If the table is of a GPU, and the host another machine.
    """
    if conditions.backend.split(" ")[0] not in BACKENDS:
        return OnnxruntimeBackend.like(conditions, host=host, on_warning=on_warning)
    if host.is_remote:
        raise ConfigError(
            f"a table of {conditions.backend} is measured where its GPU is, and not by way of "
            f"{host.name}: run goldnas there"
        )
    return GpuBackend.like(conditions, on_warning=on_warning)
