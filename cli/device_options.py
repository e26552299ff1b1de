"""Options that say what to measure on, and what they stand for."""

from typing import TYPE_CHECKING, Annotated

import typer

from goldnas.cli import completion
from goldnas.cli.console import warn
from goldnas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from goldnas.profiling.gpu_backend import GpuBackend
    from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend

_PANEL = "Device"

DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="Where to measure: cpu, which is this machine; cuda, its GPU; ssh://host, or "
        "ssh://user@host:port/folder; adb://SERIAL. The last two need only Python, numpy and "
        "onnxruntime there, or --perf-test.",
        autocompletion=completion.offering(completion.devices),
        rich_help_panel=_PANEL,
    ),
]
PythonOption = Annotated[
    str | None,
    typer.Option(
        "--python",
        metavar="PATH",
        help="Python there whose onnxruntime measures, such as that of an environment with "
        "onnxruntime-openvino.",
        rich_help_panel=_PANEL,
    ),
]
PerfTestOption = Annotated[
    str | None,
    typer.Option(
        "--perf-test",
        metavar="PATH",
        help="onnxruntime_perf_test there, which measures in place of a Python. For phones.",
        rich_help_panel=_PANEL,
    ),
]
ThreadsOption = Annotated[
    int,
    typer.Option("--threads", min=1, help="Threads of the runtime.", rich_help_panel=_PANEL),
]
CoresOption = Annotated[
    str,
    typer.Option(
        "--cores",
        metavar="N,...",
        help="Cores to run on, counted from 0, if not all.",
        rich_help_panel=_PANEL,
    ),
]
ProviderOption = Annotated[
    str,
    typer.Option(
        "--provider",
        help="What runs the models in onnxruntime: cpu, openvino, xnnpack, coreml, nnapi, qnn.",
        autocompletion=completion.offering(completion.providers),
        rich_help_panel=_PANEL,
    ),
]
ProviderOptionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--provider-option",
        metavar="NAME=VALUE",
        help="Option of the provider, in its own names, or of the backend: workspace_mib, "
        "optimization_level, cuda_graph, tf32. Repeat.",
        rich_help_panel=_PANEL,
    ),
]
BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend",
        help="What runs the models: onnxruntime (of cpu, ssh and adb); of cuda tensorrt, which "
        "is the default there, tensorrt-rtx, onnxruntime-cuda, torch, torch-graph, "
        "torch-compile.",
        autocompletion=completion.offering(completion.backends),
        rich_help_panel=_PANEL,
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        help="Number format of the models: fp32, fp16, bf16, int8.",
        autocompletion=completion.offering(completion.precisions),
        rich_help_panel=_PANEL,
    ),
]


def gpu_backend_name(device: str | None, backend: str | None) -> str | None:
    """Which backend is to measure this machine's GPU; None if something else is measured.

    Args:
        device: Of ``--device``; None if it was not given.
        backend: Of ``--backend``; None if it was not given.

    Raises:
        ConfigError: If there is no such backend, or not for such a device.
    """
    from goldnas.profiling.runtimes import find_backend

    if backend in (None, "onnxruntime"):
        if device == "cuda" and backend is not None:
            raise ConfigError(
                "--backend onnxruntime measures processors. Of a GPU it is --backend "
                "onnxruntime-cuda"
            )
        return "tensorrt" if device == "cuda" else None
    assert backend is not None
    find_backend(backend)
    if device not in (None, "cuda"):
        raise ConfigError(
            f"--backend {backend} measures the GPU of this machine, and --device {device} is "
            "something else: leave one of the two out"
        )
    return backend


def options_from(provider_options: "Sequence[str]") -> dict[str, str]:
    """What ``--provider-option`` says.

    Raises:
        ConfigError: If one is not NAME=VALUE.
    """
    options = dict(option.partition("=")[::2] for option in provider_options)
    if not all(name and value for name, value in options.items()):
        raise ConfigError(f"--provider-option {provider_options}: give NAME=VALUE")
    return options


def gpu_backend_from(
    name: str,
    *,
    options: "Sequence[str]",
    precision: str,
    target_percent: float,
    folder: "Path | None",
) -> "GpuBackend":
    """What measures this machine's GPU, as the options say.

    Raises:
        ConfigError: If an option does not make sense.
    """
    from msgspec.structs import replace

    from goldnas.profiling.gpu_backend import ON_A_GPU, GpuBackend

    check_precision(precision)
    return GpuBackend(
        name,
        options=options_from(options),
        precision=precision,
        protocol=replace(ON_A_GPU, target_percent=target_percent),
        folder=folder,
        on_warning=warn,
    )


def check_precision(precision: str) -> None:
    """Refuse a number format that there is not.

    Raises:
        ConfigError: With those that there are.
    """
    from goldnas.exporting.precision import PRECISIONS

    if precision not in PRECISIONS:
        raise ConfigError(f"unknown --precision {precision!r}; known: {', '.join(PRECISIONS)}")


def backend_from(
    device: str,
    *,
    python: str | None,
    perf_test: str | None,
    threads: int,
    cores: str,
    provider: str,
    provider_options: "Sequence[str]",
    precision: str,
    target_percent: float,
) -> "OnnxruntimeBackend":
    """What measures, as the options say.

    Raises:
        ConfigError: If an option does not make sense.
    """
    from msgspec.structs import replace

    from goldnas.profiling.host import find_host
    from goldnas.profiling.onnxruntime_backend import (
        IN_CONTEXT,
        OnnxruntimeBackend,
        find_provider,
    )

    check_precision(precision)
    numbers = [core.strip() for core in cores.split(",")] if cores else []
    if not all(number.isdecimal() for number in numbers):
        raise ConfigError(f"--cores {cores!r}: give numbers from 0, as in --cores 0,1")
    return OnnxruntimeBackend(
        threads,
        host=find_host(device, python, perf_test),
        provider=find_provider(provider),
        provider_options=options_from(provider_options),
        precision=precision,
        cores=sorted({int(number) for number in numbers}),
        protocol=replace(IN_CONTEXT, target_percent=target_percent),
        on_warning=warn,
    )
