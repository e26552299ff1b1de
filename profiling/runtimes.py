"""The backends for a GPU and their options. This module imports no runtime."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from goldnas.errors import ConfigError, MeasurementError

if TYPE_CHECKING:
    from torch import Tensor

YES_NO = ("yes", "no")


@dataclass(frozen=True)
class Backend:
    """A runtime that runs models on a GPU."""

    install: str
    """The command that installs the runtime."""
    provider: str
    """The provider that must run every node."""
    options: Mapping[str, str]
    """Options with their defaults; a table records all of them as conditions."""
    precisions: Sequence[str]


_TENSORRT = {
    "workspace_mib": "1024",
    "optimization_level": "3",
    "cuda_graph": "yes",
    "tf32": "no",
}
_FLOATS = ("fp32", "fp16", "bf16")
_ALL = (*_FLOATS, "int8")
BACKENDS = {
    "tensorrt": Backend(
        "pip install 'tensorrt>=10.12,<12', which takes libraries from its vendor's index",
        "tensorrt",
        _TENSORRT,
        _ALL,
    ),
    # Its builder neither tries tactics nor has levels of trying.
    "tensorrt-rtx": Backend(
        "pip install 'tensorrt_rtx>=1.4,<2'",
        "tensorrt-rtx",
        {name: value for name, value in _TENSORRT.items() if name != "optimization_level"},
        _ALL,
    ),
    "onnxruntime-cuda": Backend(
        "pip uninstall onnxruntime, then pip install onnxruntime-gpu",
        "CUDAExecutionProvider",
        {"cuda_graph": "yes", "tf32": "no"},
        _ALL,
    ),
    "torch": Backend("pip install torch", "torch", {"tf32": "no"}, _FLOATS),
    "torch-graph": Backend("pip install torch", "torch", {"tf32": "no"}, _FLOATS),
    "torch-compile": Backend("pip install torch", "torch", {"tf32": "no"}, _FLOATS),
}


class MissingRuntimeError(MeasurementError):
    """A runtime is not installed, or is not one that is known here."""


class FullError(MeasurementError):
    """The GPU has no memory for one more model."""


class Model(Protocol):
    """A model that is ready to run on a device."""

    @property
    def inputs(self) -> "Mapping[str, Tensor]":
        """On the device; what is written into them is read by the next call."""

    @property
    def outputs(self) -> "Mapping[str, Tensor]":
        """Outputs of the last call."""

    @property
    def call(self) -> Callable[[], object]:
        """Puts one run into the device's stream, and does not wait for it."""

    def nodes(self) -> list[dict[str, Any]]:
        """Nodes in the order they run: fields of :class:`NodeTime`."""


class Runtime(Protocol):
    """Makes models ready."""

    version: str

    def prepare(self, model: bytes) -> Model:
        """Make a serialized ONNX model ready.

        Raises:
            FullError: If the GPU has no memory for it.
            MeasurementError: If the runtime rejects it.
        """


def find_backend(name: str) -> Backend:
    """The backend of a name.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name not in BACKENDS:
        from goldnas.profiling.processor_runtimes import PROCESSOR_RUNTIMES

        known = ", ".join(["onnxruntime", *PROCESSOR_RUNTIMES, *BACKENDS])
        raise ConfigError(f"unknown `backend` {name!r}; known: {known}")
    return BACKENDS[name]


def complete_options(name: str, given: Mapping[str, str]) -> dict[str, str]:
    """All options of a backend: as given, else as they are by default.

    Raises:
        ConfigError: If there is no such option, or it cannot have such a value.
    """
    defaults = find_backend(name).options
    for option, value in given.items():
        shown = {option: value}
        text = f"`provider_options={shown}`"
        if option not in defaults:
            raise ConfigError(f"{text}: {name} has no such option, only {', '.join(defaults)}")
        if defaults[option] in YES_NO and value not in YES_NO:
            raise ConfigError(f"{text}: the value must be yes or no")
        low, high = (0, 5) if option == "optimization_level" else (1, 2**20)
        if defaults[option] not in YES_NO and not (
            value.isdecimal() and low <= int(value) <= high
        ):
            raise ConfigError(f"{text}: the value must be a whole number from {low} to {high}")
    return {**defaults, **given}


def load_runtime(
    name: str, options: Mapping[str, str], device: Any, folder: Path | None
) -> Runtime:
    """Load a runtime.

    Args:
        name: One of ``BACKENDS``.
        options: All of them.
        device: Device of ``cuda_device.py`` that runs the models.
        folder: Holds one of each GPU, version and driver, for what makes a second time faster;
            None keeps nothing.

    Raises:
        MissingRuntimeError: If it is not installed, or is one that is not known here.
    """
    if name.startswith("tensorrt"):
        from goldnas.profiling.tensorrt_runtime import TensorRT

        return TensorRT(name, options, device, folder)
    if name == "onnxruntime-cuda":
        from goldnas.profiling.onnxruntime_cuda import OnnxruntimeCuda

        return OnnxruntimeCuda(options, device)
    from goldnas.profiling.torch_runtime import Torch

    return Torch(name, options, device, folder)


def make_own_folder(parent: Path | None, device: Any, name: str, version: str) -> Path | None:
    """The folder of files that only fit one GPU, version and driver.

    Args:
        parent: Holds such folders; None keeps nothing.
        device: Device with the GPU; without a GPU nothing is kept.
        name: Name of the backend.
        version: Version of the runtime.
    """
    if parent is None or device is None or device.gpu is None:
        return None
    named = "_".join([device.gpu.name, name, version, device.gpu.driver])
    folder = parent / re.sub(r"[^a-z0-9_.]+", "-", named.lower())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def list_working() -> list[str]:
    """The backends that are installed and could run here, given a GPU."""
    works = []
    for name in BACKENDS:
        try:
            if name.startswith("tensorrt"):
                from goldnas.profiling.tensorrt_import import import_tensorrt

                import_tensorrt(name)
            elif name == "onnxruntime-cuda":
                from goldnas.profiling.onnxruntime_cuda import check_provider

                check_provider()
        except MissingRuntimeError:
            continue
        works.append(name)
    return works
