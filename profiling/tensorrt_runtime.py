"""TensorRT and TensorRT-RTX: engines built from ONNX, and run.

One code path for both, and for TensorRT 10.12 to 11: networks are strongly typed, so the number
formats are those of the ONNX file, shapes are static, and no flag of the builder decides about
either. What differs is noted where it does.
"""

import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from torch import Tensor

from goldnas.errors import ExportError, MeasurementError
from goldnas.exporting.symmetric_int8 import make_symmetric
from goldnas.files import write_atomic
from goldnas.profiling.runtimes import (
    BACKENDS,
    FullError,
    MissingRuntimeError,
    own_folder,
)

AVERAGED_TIMINGS = 8
"""Runs of a tactic that the builder averages: by one of them it chooses by chance."""

PROFILED_CALLS = 20


class _Flavour(NamedTuple):
    title: str
    module: str
    oldest: tuple[int, int]
    below: int
    """Major version whose interface nobody has seen."""


_FLAVOURS = {
    "tensorrt": _Flavour("TensorRT", "tensorrt", (10, 12), 12),
    "tensorrt-rtx": _Flavour("TensorRT-RTX", "tensorrt_rtx", (1, 4), 2),
}


def module_of(name: str) -> Any:
    """Import a flavour.

    Raises:
        MissingRuntimeError: If it is not installed, cannot load its libraries, or has a
            version whose interface is not known here.
    """
    flavour, install = _FLAVOURS[name], BACKENDS[name].install
    try:
        trt = importlib.import_module(flavour.module)
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise MissingRuntimeError(
            f"{flavour.title} is not installed here ({reason}). Install it: {install}"
        ) from None
    try:
        version = tuple(int(number) for number in trt.__version__.split(".")[:2])
    except ValueError:
        version = (0, 0)
    if not flavour.oldest <= version < (flavour.below, 0):
        oldest = ".".join(map(str, flavour.oldest))
        raise MissingRuntimeError(
            f"{flavour.title} {trt.__version__} is not known to this goldnas, which knows "
            f"{oldest} to {flavour.below - 1}.x: interfaces change between major versions. "
            f"Install one of these: {install}"
        )
    return trt


class TensorRT:
    """Builds engines, keeps them, and makes them ready.

    Args:
        name: The flavour: ``tensorrt`` or ``tensorrt-rtx``.
        options: ``workspace_mib``, ``optimization_level`` (of TensorRT), ``cuda_graph`` and
            ``tf32``, all of them.
        device: A ``CudaDevice``. Building for TensorRT-RTX needs none.
        folder: See :func:`runtime_named`. It gets engines, and what makes building another one
            faster.

    Raises:
        MissingRuntimeError: See :func:`module_of`.
    """

    def __init__(
        self, name: str, options: Mapping[str, str], device: Any, folder: Path | None
    ) -> None:
        self._trt = trt = module_of(name)
        self.version: str = trt.__version__
        self._name = name
        self._title = _FLAVOURS[name].title
        self._is_rtx = name == "tensorrt-rtx"
        self._options = dict(options)
        self._device = device
        self._folder = own_folder(folder, device, name, self.version)
        self._log = _log(trt)
        self._runtime: Any = None
        self._kernels: Any = None

    def build(self, model: bytes) -> bytes:
        """Build an engine.

        Raises:
            FullError: If the GPU has no memory for building it.
            MeasurementError: If the parser rejects the model (it names the node), there is no
                way to run a node within the workspace, or the builder cannot start.
        """
        trt, log = self._trt, self._log
        log.said.clear()
        try:
            builder = trt.Builder(log)
        except (TypeError, RuntimeError) as error:
            # Without a usable GPU the binding says that a factory returned a null pointer.
            raise MeasurementError(
                f"{self._title} {self.version} cannot start its builder "
                f"({log.last() or error}): it needs an NVIDIA GPU, a driver that is new enough "
                "for it, and its library for this GPU. See what nvidia-smi says"
            ) from None
        network = builder.create_network(
            1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        )
        parser = trt.OnnxParser(network, log)
        if not parser.parse(_parsable(model)):
            raise MeasurementError(_first_error(parser) or log.last() or "no ONNX model")
        config = builder.create_builder_config()
        if self._options["tf32"] == "no":
            config.clear_flag(trt.BuilderFlag.TF32)
        mib = int(self._options["workspace_mib"])
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, mib << 20)
        timings: Any = None
        if self._is_rtx and self._compute_capability() == "7.5":
            # Else engines are for 8.0 and later.
            config.num_compute_capabilities = 1
            config.set_compute_capability(trt.ComputeCapability.SM75, 0)
        if not self._is_rtx:  # which tries nothing out, so there is nothing to remember
            config.builder_optimization_level = int(self._options["optimization_level"])
            config.avg_timing_iterations = AVERAGED_TIMINGS
            timings = config.create_timing_cache(self._kept("timing.cache"))
            config.set_timing_cache(timings, False)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise self._unbuilt(mib)
        if timings is not None:
            self._keep("timing.cache", bytes(config.get_timing_cache().serialize()))
        return bytes(engine)

    def prepare(self, model: bytes) -> "Engine":
        """See :meth:`Runtime.prepare`.

        Raises:
            FullError: If the GPU has no memory for it.
            MeasurementError: As for :meth:`build`, or if the engine does not run here.
        """
        return self.load(self.engine(model))

    def engine(self, model: bytes) -> bytes:
        """The engine of a model, from the folder if it has been built before."""
        content = json.dumps(self._options, sort_keys=True).encode() + model
        name = f"{hashlib.sha256(content).hexdigest()}.engine"
        engine = self._kept(name)
        if not engine:
            engine = self.build(model)
            self._keep(name, engine)
        return engine

    def load(self, engine: bytes) -> "Engine":
        """Make an engine ready.

        Raises:
            FullError: If the GPU has no memory for it.
            MeasurementError: If it does not run here.
        """
        trt, log = self._trt, self._log
        log.said.clear()
        try:
            self._runtime = self._runtime or trt.Runtime(log)
        except (TypeError, RuntimeError) as error:
            raise MeasurementError(
                f"{self._title} cannot start on this GPU: {log.last() or error}"
            ) from None
        loaded = self._runtime.deserialize_cuda_engine(engine)
        config = self._config(loaded) if loaded is not None else None
        context = None
        if loaded is not None:
            # With TensorRT-RTX, kernels are compiled now, unless they are in its cache.
            context = loaded.create_execution_context(*([config] if config else []))
        if context is None:
            if log.tells_of("out of memory", "outofmemory"):
                raise FullError(log.last())
            reason = log.last() or "it says nothing more"
            if hasattr(self._runtime, "get_engine_validity"):
                reason += f"; validity: {self._runtime.get_engine_validity(engine)}"
            raise MeasurementError(f"{self._title} cannot run its engine on this GPU: {reason}")
        graphed = self._options["cuda_graph"] == "yes"
        made = Engine(self._name, trt, loaded, context, self._device, graphed)
        made.config = config
        return made

    def _config(self, engine: Any) -> Any:
        """How TensorRT-RTX is to run an engine; None for TensorRT.

        All engines share one cache of kernels, which has to outlive their contexts.
        """
        if not self._is_rtx:
            return None
        config = engine.create_runtime_config()
        if self._kernels is None:
            self._kernels = config.create_runtime_cache()
            if kept := self._kept("runtime.cache"):
                self._kernels.deserialize(kept)
        config.set_runtime_cache(self._kernels)
        return config

    def keep_kernels(self) -> None:
        """Write what TensorRT-RTX compiled, once all models are ready."""
        content = self._kernels.serialize() if self._kernels is not None else None
        if content is not None:
            self._keep("runtime.cache", bytes(content))

    def _compute_capability(self) -> str:
        gpu = getattr(self._device, "gpu", None)
        return gpu.compute_capability if gpu else ""

    def _unbuilt(self, mib: int) -> MeasurementError:
        log = self._log
        if log.tells_of("out of memory", "outofmemory"):
            return FullError(f"{self._title} cannot build it: {log.last()}")
        if log.tells_of("workspace", "insufficient memory"):
            return MeasurementError(
                f"{self._title} finds no way to run it within a workspace of {mib} MiB: "
                f"{log.last()}. Allow more: --provider-option workspace_mib={4 * mib}"
            )
        return MeasurementError(
            f"{self._title} cannot build it: {log.last() or 'it says nothing more'}"
        )

    def _kept(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes() if self._folder else b""
        except OSError:
            return b""

    def _keep(self, name: str, content: bytes) -> None:
        if self._folder:
            write_atomic(self._folder / name, content)


class Engine:
    """An engine with its inputs and outputs on the GPU."""

    def __init__(
        self, name: str, trt: Any, engine: Any, context: Any, device: Any, graphed: bool
    ) -> None:
        self._name = name
        self._trt = trt
        self._engine = engine
        self._context = context
        self._device = device
        self.config: Any = None  # kept for as long as the context
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        generator = torch.Generator(device.torch_device).manual_seed(0)
        for index in range(engine.num_io_tensors):
            tensor_name = engine.get_tensor_name(index)
            numbers = np.dtype(trt.nptype(engine.get_tensor_dtype(tensor_name)))
            dtype = getattr(torch, numbers.name)
            shape = tuple(engine.get_tensor_shape(tensor_name))
            tensor = torch.zeros(shape, dtype=dtype, device=device.torch_device)
            is_input = engine.get_tensor_mode(tensor_name) == trt.TensorIOMode.INPUT
            if is_input and dtype.is_floating_point:
                tensor.normal_(generator=generator)
            (self.inputs if is_input else self.outputs)[tensor_name] = tensor
            context.set_tensor_address(tensor_name, tensor.data_ptr())
        device.synchronize()
        self.call = device.captured(self._enqueue) if graphed else self._enqueue

    def _enqueue(self) -> None:
        # The current stream, since a graph is captured from one of its own.
        stream = torch.cuda.current_stream().cuda_stream
        if not self._context.execute_async_v3(stream):
            raise MeasurementError("the engine does not run")

    def nodes(self) -> list[dict[str, Any]]:
        """Layers as the engine has them, fused, in the order they run.

        Names and times are TensorRT's own. It does not tell a layer's operator and shape in one
        way for all versions, so an operator is told by what stands in its name.
        """
        profiler = _profiler(self._trt)
        self._context.profiler = profiler
        for _ in range(PROFILED_CALLS):
            self._enqueue()
            self._device.synchronize()
        return [
            {
                "node": name,
                "operator": "layer",
                "provider": self._name,
                "output": "",
                "latency_us": float(np.quantile(times_us, 0.1)),
            }
            for name, times_us in profiler.times_us.items()
        ]


def _parsable(model: bytes) -> bytes:
    """A model as TensorRT takes it: integers are symmetric around zero there."""
    try:
        return make_symmetric(model)
    except (DecodeError, ExportError, onnx.checker.ValidationError) as error:
        raise MeasurementError(" ".join(f"no ONNX model: {error}".split())) from None


def _first_error(parser: Any) -> str:
    """What the parser rejects, with the node; empty if it does not say."""
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        place = " ".join(
            str(told()) for told in (error.node_operator, error.node_name) if str(told())
        )
        return " ".join(f"node {place or error.node()}: {error.desc()}".split())
    return ""


def _log(trt: Any) -> Any:
    """A logger that keeps what went wrong; the binding wants a subclass of its own."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.said: list[tuple[bool, str]] = []

        def log(self, severity: Any, msg: str) -> None:
            is_error = severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)
            if is_error or severity == trt.ILogger.WARNING:
                self.said.append((is_error, " ".join(msg.split())))

        def last(self) -> str:
            errors = [message for is_error, message in self.said if is_error]
            return errors[-1] if errors else ""

        def tells_of(self, *words: str) -> bool:
            return any(w in message.lower() for _, message in self.said for w in words)

    return Log()


def _profiler(trt: Any) -> Any:
    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.times_us: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times_us.setdefault(layer_name, []).append(1000 * ms)

    return Profiler()
