"""The runtimes for a processor besides onnxruntime. This module imports none of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from goldnas.profiling.runtimes import MissingRuntimeError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ProcessorRuntime:
    """A runtime that runs ONNX models on a processor, after a conversion if it needs one."""

    packages: Sequence[str]
    """Packages to install; the first one is the runtime."""
    precisions: Sequence[str]
    has_profiler: bool
    """Whether it tells the times of single nodes."""

    @property
    def install(self) -> str:
        """The command that installs the runtime."""
        return f"pip install {' '.join(self.packages)}"


PROCESSOR_RUNTIMES = {
    "openvino": ProcessorRuntime(["openvino"], ["fp32", "int8"], has_profiler=True),
    # Its int8 needs tables that its own programs make from images.
    "ncnn": ProcessorRuntime(["ncnn", "pnnx"], ["fp32"], has_profiler=False),
    "litert": ProcessorRuntime(
        ["ai-edge-litert", "litert-torch"], ["fp32"], has_profiler=False
    ),
}


class Model(Protocol):
    """A model that is ready to run."""

    def feed(self, inputs: Sequence[Array]) -> None:
        """Set what the next calls read, in the order of the model's inputs."""

    def call(self) -> object:
        """Run once."""

    def outputs(self) -> list[Array]:
        """Outputs of the last call, in order."""

    def nodes(self, calls: int) -> list[dict[str, Any]]:
        """Nodes in the order they run: fields of :class:`NodeTime`.

        Args:
            calls: Calls to take the times from.
        """


class Runtime(Protocol):
    """Makes models ready."""

    version: str
    options: Mapping[str, str]
    """What it is told; a table records it as conditions."""

    def prepare(self, model: bytes) -> Model:
        """Make a serialized ONNX model ready.

        Raises:
            MeasurementError: If the runtime or its converter rejects the model.
            RuntimeError: As well.
        """


def load_runtime(name: str, *, threads: int, folder: Path, nodes: bool) -> Runtime:
    """Load a runtime.

    Args:
        name: One of ``PROCESSOR_RUNTIMES``.
        threads: Threads for one operator.
        folder: Keeps converted models, which are found there the next time.
        nodes: Whether the times of nodes are wanted, which cost time.

    Raises:
        MissingRuntimeError: If it is not installed.
    """
    check_installed(name)
    try:
        if name == "openvino":
            from goldnas.profiling.openvino_runtime import OpenVino

            return OpenVino(threads, folder, nodes=nodes)
        if name == "ncnn":
            from goldnas.profiling.ncnn_runtime import Ncnn

            return Ncnn(threads, folder)
        from goldnas.profiling.litert_runtime import LiteRt

        return LiteRt(threads, folder)
    except ImportError as error:
        raise MissingRuntimeError(
            f"{name} is installed but does not load: {' '.join(str(error).split())}"
        ) from None


def check_installed(name: str) -> None:
    """Check that a runtime and its converter are installed, without loading them.

    Raises:
        MissingRuntimeError: If one is not; with the command that installs them.
    """
    runtime = PROCESSOR_RUNTIMES[name]
    for package in runtime.packages:
        try:
            version(package)
        except PackageNotFoundError:
            raise MissingRuntimeError(
                f"{package} is not installed: {runtime.install}"
            ) from None


def list_installed() -> list[str]:
    """The runtimes for a processor that are installed here, onnxruntime first."""
    found = ["onnxruntime"]
    for name in PROCESSOR_RUNTIMES:
        try:
            check_installed(name)
        except MissingRuntimeError:
            continue
        found.append(name)
    return found
