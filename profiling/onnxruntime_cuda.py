"""onnxruntime's CUDA provider, with inputs and outputs that stay on the GPU."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from goldnas.errors import MeasurementError
from goldnas.profiling.input_tensors import read_tensors
from goldnas.profiling.runtimes import BACKENDS, FullError, MissingRuntimeError
from goldnas.scratch import scratch_folder

PROVIDER = BACKENDS["onnxruntime-cuda"].provider

_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(int8)": torch.int8,
    "tensor(uint8)": torch.uint8,
    "tensor(int16)": torch.int16,
    "tensor(uint16)": torch.uint16,
    "tensor(uint32)": torch.uint32,
    "tensor(uint64)": torch.uint64,
    "tensor(int32)": torch.int32,
    "tensor(int64)": torch.int64,
    "tensor(bool)": torch.bool,
}


def check_provider() -> None:
    """Refuse an onnxruntime without CUDA.

    Raises:
        MissingRuntimeError: With what to install.
    """
    import onnxruntime as ort

    available = ort.get_available_providers()
    if PROVIDER not in available:
        raise MissingRuntimeError(
            f"onnxruntime {ort.__version__} here has no {PROVIDER}, only "
            f"{', '.join(available)}. Install one with this provider: "
            f"{BACKENDS['onnxruntime-cuda'].install}"
        )


class OnnxruntimeCuda:
    """Makes ONNX models ready in onnxruntime.

    Args:
        options: ``cuda_graph`` and ``tf32``.
        device: A ``CudaDevice``.

    Raises:
        MissingRuntimeError: See :func:`check_provider`.
    """

    def __init__(self, options: Mapping[str, str], device: Any) -> None:
        check_provider()
        import onnxruntime as ort

        ort.preload_dlls()  # CUDA's libraries are those that came with PyTorch
        ort.set_default_logger_severity(4)
        self.version: str = ort.__version__
        self._device = device
        self._provider_options = {
            "device_id": "0",
            "user_compute_stream": str(device.stream.cuda_stream),
            "enable_cuda_graph": "1" if options["cuda_graph"] == "yes" else "0",
            "use_tf32": "1" if options["tf32"] == "yes" else "0",
            "cudnn_conv_algo_search": "EXHAUSTIVE",
        }

    def prepare(self, model: bytes) -> "BoundSession":
        """See :meth:`Runtime.prepare`.

        Raises:
            FullError: If the GPU has no memory for it.
            MeasurementError: If onnxruntime rejects it, or it cannot be a CUDA graph.
        """
        try:
            return BoundSession(model, self._provider_options, self._device)
        except MeasurementError:
            raise
        except Exception as error:  # onnxruntime's own classes share no base
            reason = " ".join(str(error).split())
            if "out of memory" in reason.lower() or "Failed to allocate memory" in reason:
                raise FullError(reason) from None
            if "graph" in reason.lower() and self._provider_options["enable_cuda_graph"] == "1":
                reason += ". Without a graph: `provider_options={'cuda_graph': 'no'}`"
            raise MeasurementError(reason) from None


class BoundSession:
    """A session with its inputs and outputs bound."""

    def __init__(self, model: bytes, provider_options: dict[str, str], device: Any) -> None:
        import onnxruntime as ort

        self._model = model
        self._device = device
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 4
        self._session = ort.InferenceSession(
            model, options, providers=[(PROVIDER, provider_options)]
        )
        if self._session.get_providers()[0] != PROVIDER:
            took = self._session.get_providers()[0]
            raise MeasurementError(
                f"{PROVIDER} did not start; {took} would run it. Install a wheel for the CUDA "
                f"that PyTorch has here, {torch.version.cuda}, and cuDNN 9"
            )
        self._run_options = ort.RunOptions()
        # Else every run would wait for the GPU.
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._binding = self._session.io_binding()
        self._given = read_tensors(model)
        self.inputs = {
            e.name: self._bound(e, is_input=True) for e in self._session.get_inputs()
        }
        self.outputs = {
            e.name: self._bound(e, is_input=False) for e in self._session.get_outputs()
        }
        device.synchronize()
        for _ in range(3):  # onnxruntime captures its graph in one of the first runs
            self.call()
        device.synchronize()

    def call(self) -> None:
        """See :meth:`Model.call`."""
        self._session.run_with_iobinding(self._binding, self._run_options)

    def nodes(self) -> list[dict[str, Any]]:
        """Nodes as onnxruntime's profiler has them.

        Which provider has a node is certain; its time is what the host takes to launch it.
        """
        from goldnas.profiling.runner import profile_nodes

        with scratch_folder() as folder:
            path = folder / "model.onnx"
            path.write_bytes(self._model)
            place = {"path": str(path), "sha256": hashlib.sha256(self._model).hexdigest()}
            job = {
                "provider": PROVIDER,
                "provider_options": {},
                "threads": 1,
                "warmup_ms": 4,
                "visit_ms": 20,
                "min_calls": 7,
            }
            return profile_nodes(place, job)

    def _bound(self, entry: Any, *, is_input: bool) -> Tensor:
        dtype = _TYPES.get(entry.type)
        given = self._given.get(entry.name) if is_input else None
        shape = list(entry.shape if given is None else given.shape)
        if dtype is None or not all(isinstance(size, int) for size in shape):
            raise MeasurementError(
                f"{entry.name!r} is {entry.type} of shape {entry.shape}; only numbers of a "
                "fixed shape can be measured"
            )
        tensor = torch.zeros(shape, dtype=dtype, device=self._device.torch_device)
        if given is not None:
            tensor.copy_(given)
        elif is_input and dtype.is_floating_point:
            generator = torch.Generator(self._device.torch_device).manual_seed(0)
            tensor.normal_(generator=generator)
        bind = self._binding.bind_input if is_input else self._binding.bind_output
        numbers = torch.empty(0, dtype=dtype).numpy().dtype.type
        bind(entry.name, "cuda", 0, numbers, shape, tensor.data_ptr())
        return tensor
