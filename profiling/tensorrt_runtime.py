"""TensorRT and TensorRT-RTX: engines built from ONNX, and run.

One code path for both, and for TensorRT 10.12 to 11: networks are strongly typed, so the number
formats are those of the ONNX file, shapes are static, and no flag of the builder decides about
either. What differs is noted where it does.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from goldnas.errors import ExportError, MeasurementError
from goldnas.exporting.symmetric_int8 import make_symmetric
from goldnas.files import write_atomic
from goldnas.profiling.input_tensors import read_tensors
from goldnas.profiling.runtimes import FullError, make_own_folder
from goldnas.profiling.tensorrt_engine import Engine
from goldnas.profiling.tensorrt_import import FLAVOURS, import_tensorrt

AVERAGED_TIMINGS = 8
"""Runs of a tactic that the builder averages: by one of them it chooses by chance."""


class TensorRT:
    """Builds engines, keeps them, and makes them ready.

    Args:
        name: The flavour: ``tensorrt`` or ``tensorrt-rtx``.
        options: ``workspace_mib``, ``optimization_level`` (of TensorRT), ``cuda_graph`` and
            ``tf32``, all of them.
        device: A ``CudaDevice``. Building for TensorRT-RTX needs none.
        folder: See :func:`load_runtime`. It gets engines, and what makes building another one
            faster.

    Raises:
        MissingRuntimeError: See :func:`import_tensorrt`.
    """

    def __init__(
        self, name: str, options: Mapping[str, str], device: Any, folder: Path | None
    ) -> None:
        self._trt = trt = import_tensorrt(name)
        self.version: str = trt.__version__
        self._name = name
        self._title = FLAVOURS[name].title
        self._is_rtx = name == "tensorrt-rtx"
        self._options = dict(options)
        self._device = device
        self._folder = make_own_folder(folder, device, name, self.version)
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
                f"({log.last() or error}): it needs an NVIDIA GPU, a new enough driver, and "
                "its library for this GPU. Check the GPU and the driver with nvidia-smi"
            ) from None
        network = builder.create_network(
            1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        )
        parser = trt.OnnxParser(network, log)
        if not parser.parse(_parsable(model)):
            raise MeasurementError(_first_error(parser) or log.last() or "not an ONNX model")
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

    def prepare(self, model: bytes) -> Engine:
        """See :meth:`Runtime.prepare`.

        Raises:
            FullError: If the GPU has no memory for it.
            MeasurementError: As for :meth:`build`, or if the engine does not run here.
        """
        engine = self.load(self.engine(model))
        for name, tensor in read_tensors(model).items():
            if name in engine.inputs:  # one that nothing reads is not in the engine
                engine.inputs[name].copy_(tensor)
        return engine

    def engine(self, model: bytes) -> bytes:
        """The engine of a model, from the folder if it has been built before."""
        content = json.dumps(self._options, sort_keys=True).encode() + model
        name = f"{hashlib.sha256(content).hexdigest()}.engine"
        engine = self._kept(name)
        if not engine:
            engine = self.build(model)
            self._keep(name, engine)
        return engine

    def load(self, engine: bytes) -> Engine:
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
            reason = log.last() or "no message"
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
            return FullError(f"{self._title} cannot build the engine: {log.last()}")
        if log.tells_of("workspace", "insufficient memory"):
            allowed = {"workspace_mib": str(4 * mib)}
            return MeasurementError(
                f"{self._title} cannot run the model within a workspace of {mib} MiB: "
                f"{log.last()}. Allow more: "
                f"`provider_options={allowed}`"
            )
        return MeasurementError(
            f"{self._title} cannot build the engine: {log.last() or 'no message'}"
        )

    def _kept(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes() if self._folder else b""
        except OSError:
            return b""

    def _keep(self, name: str, content: bytes) -> None:
        if self._folder:
            write_atomic(self._folder / name, content)


def _parsable(model: bytes) -> bytes:
    """A model as TensorRT takes it: integers are symmetric around zero there."""
    try:
        return make_symmetric(model)
    except (DecodeError, ExportError, onnx.checker.ValidationError) as error:
        raise MeasurementError(" ".join(f"not an ONNX model: {error}".split())) from None


def _first_error(parser: Any) -> str:
    """What the parser rejects, with the node; empty if it does not say."""
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        place = " ".join(
            str(read()) for read in (error.node_operator, error.node_name) if str(read())
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
