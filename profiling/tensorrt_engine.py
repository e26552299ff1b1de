"""An engine of TensorRT or TensorRT-RTX on the GPU: run, and timed layer by layer."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from goldnas.errors import MeasurementError

PROFILED_CALLS = 20


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
        self.call = device.capture(self._enqueue) if graphed else self._enqueue

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


def _profiler(trt: Any) -> Any:
    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.times_us: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times_us.setdefault(layer_name, []).append(1000 * ms)

    return Profiler()
