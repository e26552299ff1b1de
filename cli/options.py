"""Options that several commands share."""

from typing import TYPE_CHECKING, Annotated

import typer

from goldnas.cli.console import warn
from goldnas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from goldnas.profiling.gpu_backend import GpuBackend
    from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
    from goldnas.spaces import GoldSpace

_PANEL = "Search space"
_DEVICE_PANEL = "Device"

DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="Where to measure: cpu, which is this machine; cuda, its GPU; ssh://host, or "
        "ssh://user@host:port/folder; adb://SERIAL. The last two need only Python, numpy and "
        "onnxruntime there, or --perf-test.",
        rich_help_panel=_DEVICE_PANEL,
    ),
]
PythonOption = Annotated[
    str | None,
    typer.Option(
        "--python",
        metavar="PATH",
        help="Python there whose onnxruntime measures, such as that of an environment with "
        "onnxruntime-openvino.",
        rich_help_panel=_DEVICE_PANEL,
    ),
]
PerfTestOption = Annotated[
    str | None,
    typer.Option(
        "--perf-test",
        metavar="PATH",
        help="onnxruntime_perf_test there, which measures in place of a Python. For phones.",
        rich_help_panel=_DEVICE_PANEL,
    ),
]
ThreadsOption = Annotated[
    int,
    typer.Option(
        "--threads", min=1, help="Threads of the runtime.", rich_help_panel=_DEVICE_PANEL
    ),
]
CoresOption = Annotated[
    str,
    typer.Option(
        "--cores",
        metavar="N,...",
        help="Cores to run on, counted from 0, if not all.",
        rich_help_panel=_DEVICE_PANEL,
    ),
]
ProviderOption = Annotated[
    str,
    typer.Option(
        "--provider",
        help="What runs the models in onnxruntime: cpu, openvino, xnnpack, coreml, nnapi, qnn.",
        rich_help_panel=_DEVICE_PANEL,
    ),
]
ProviderOptionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--provider-option",
        metavar="NAME=VALUE",
        help="Option of the provider, in its own names, or of the backend: workspace_mib, "
        "optimization_level, cuda_graph, tf32. Repeat.",
        rich_help_panel=_DEVICE_PANEL,
    ),
]
BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend",
        help="What runs the models: onnxruntime (of cpu, ssh and adb); of cuda tensorrt, which "
        "is the default there, tensorrt-rtx, onnxruntime-cuda, torch, torch-graph, "
        "torch-compile.",
        rich_help_panel=_DEVICE_PANEL,
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        help="Number format of the models: fp32, fp16, bf16, int8.",
        rich_help_panel=_DEVICE_PANEL,
    ),
]

# What spaces say stands here once more, since --help loads no torch; a test compares.
SPACES_HELP = (
    "gold (14 cells, 36 channels, 3x32x32, 10 classes, skip_connect, sep_conv_3x3); "
    "gold-imagenet (as gold, behind a stem for large pictures; 48 channels, 3x224x224, "
    "1000 classes); gold-extended (as gold; max_pool_3x3, avg_pool_3x3, skip_connect, "
    "sep_conv_3x3, sep_conv_5x5, dil_conv_3x3, dil_conv_5x5)."
)

SpaceOption = Annotated[
    str,
    typer.Option(
        "--space",
        metavar="NAME",
        help=f"The search space, which decides what is not given: {SPACES_HELP} "
        "A search takes pictures and classes from its data.",
        rich_help_panel=_PANEL,
    ),
]
ChannelsOption = Annotated[
    int | None,
    typer.Option(
        "--channels",
        min=1,
        help="Channels of a node in the first stage; of the --space unless given.",
        rich_help_panel=_PANEL,
    ),
]
CellsOption = Annotated[
    int | None,
    typer.Option(
        "--cells",
        min=1,
        help="Cells of the network; of the --space unless given.",
        rich_help_panel=_PANEL,
    ),
]
InputOption = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="CxHxW",
        help="Channels, height and width of an image; of the --space unless given.",
        rich_help_panel=_PANEL,
    ),
]
ClassesOption = Annotated[
    int | None,
    typer.Option(
        "--classes",
        min=1,
        help="Classes to tell apart; of the --space unless given.",
        rich_help_panel=_PANEL,
    ),
]
OperatorsOption = Annotated[
    str | None,
    typer.Option(
        "--operators",
        metavar="NAME,...",
        help="Candidate operators of an edge, separated by commas; of the --space unless "
        "given.",
        rich_help_panel=_PANEL,
    ),
]


def parse_input(text: str) -> tuple[int, int, int]:
    """Read an image shape, ``3x32x32``: channels, height, width.

    Raises:
        ConfigError: If ``text`` is anything else.
    """
    sizes = text.split("x")
    if len(sizes) != 3 or not all(s.isascii() and s.isdigit() and int(s) > 0 for s in sizes):
        raise ConfigError(
            f"--input is channels x height x width, like 3x32x32, all positive; got {text!r}"
        )
    channels, height, width = map(int, sizes)
    return channels, height, width


def space_from(
    space: str,
    *,
    channels: int | None,
    cells: int | None,
    input_: str | None,
    classes: int | None,
    operators: str | None,
) -> "GoldSpace":
    """The search space that the options above describe; None for what the space says.

    Raises:
        ConfigError: If a name is unknown, or a value does not fit.
    """
    given = {
        "channels": channels,
        "cells": cells,
        "input_shape": None if input_ is None else parse_input(input_),
        "classes": classes,
        "operators": operator_names(operators),
    }
    from goldnas.spaces import space_named

    return space_named(space, **{name: v for name, v in given.items() if v is not None})


def operator_names(text: str | None) -> tuple[str, ...] | None:
    """Split the names of ``--operators``; None if it was not given."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


def gpu_backend_name(device: str | None, backend: str | None) -> str | None:
    """Which backend is to measure this machine's GPU; None if something else is measured.

    Args:
        device: Of ``--device``; None if it was not given.
        backend: Of ``--backend``; None if it was not given.

    Raises:
        ConfigError: If there is no such backend, or not for such a device.
    """
    from goldnas.profiling.runtimes import backend_named

    if backend in (None, "onnxruntime"):
        if device == "cuda" and backend is not None:
            raise ConfigError(
                "--backend onnxruntime measures processors. Of a GPU it is --backend "
                "onnxruntime-cuda"
            )
        return "tensorrt" if device == "cuda" else None
    assert backend is not None
    backend_named(backend)
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
    from goldnas.precision import PRECISIONS

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

    from goldnas.profiling.host import host_of
    from goldnas.profiling.onnxruntime_backend import (
        IN_CONTEXT,
        OnnxruntimeBackend,
        provider_named,
    )

    check_precision(precision)
    numbers = [core.strip() for core in cores.split(",")] if cores else []
    if not all(number.isdecimal() for number in numbers):
        raise ConfigError(f"--cores {cores!r}: give numbers from 0, as in --cores 0,1")
    return OnnxruntimeBackend(
        threads,
        host=host_of(device, python, perf_test),
        provider=provider_named(provider),
        provider_options=options_from(provider_options),
        precision=precision,
        cores=sorted({int(number) for number in numbers}),
        protocol=replace(IN_CONTEXT, target_percent=target_percent),
        on_warning=warn,
    )
