"""PyTorch as it is, as a CUDA graph, and compiled: three backends of different speeds."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from goldnas.errors import MeasurementError
from goldnas.profiling.input_tensors import read_tensors
from goldnas.profiling.runtimes import FullError, make_own_folder
from goldnas.profiling.torch_module import ONNX_NODE, to_torch

PROFILED_CALLS = 20


class Torch:
    """Makes ONNX models ready as PyTorch modules.

    Args:
        name: ``torch``, ``torch-graph`` or ``torch-compile``; the last is captured as a graph,
            too, since its kernels would be launched one by one.
        options: ``tf32``.
        device: Of ``cuda_device.py``.
        folder: See :func:`load_runtime`. It gets compiled kernels.
    """

    def __init__(
        self, name: str, options: Mapping[str, str], device: Any, folder: Path | None
    ) -> None:
        self.version = str(torch.__version__)
        self._name = name
        self._device = device
        if own := make_own_folder(folder, device, name, self.version):
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(own)
        torch.backends.cudnn.allow_tf32 = options["tf32"] == "yes"
        torch.backends.cuda.matmul.allow_tf32 = options["tf32"] == "yes"
        torch.backends.cudnn.benchmark = True  # shapes are fixed, so the fastest can be found

    def prepare(self, model: bytes) -> "Module":
        """See :meth:`Runtime.prepare`.

        Raises:
            FullError: If the GPU has no memory for it.
            MeasurementError: If it has a node that is not known here, or PyTorch fails.
        """
        module = to_torch(model)
        try:
            given = read_tensors(model)
            return Module(module, list_inputs(model), given, self._device, self._name)
        except torch.OutOfMemoryError as error:
            raise FullError(str(error).splitlines()[0]) from None
        except (RuntimeError, ValueError) as error:
            raise MeasurementError(" ".join(str(error).split())[:300]) from None


class Module:
    """A module with its inputs on a device."""

    def __init__(
        self,
        module: fx.GraphModule,
        inputs: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
        given: Mapping[str, Tensor],
        device: Any,
        name: str,
    ) -> None:
        self._module = module.to(device.torch_device)
        self._device = device
        generator = torch.Generator(device.torch_device).manual_seed(0)
        self.inputs: dict[str, Tensor] = {}
        for key, (shape, dtype) in inputs.items():
            tensor = torch.zeros(shape, dtype=dtype, device=device.torch_device)
            if key in given:
                tensor.copy_(given[key])
            elif dtype.is_floating_point:
                tensor.normal_(generator=generator)
            self.inputs[key] = tensor
        self._forward: Any = self._module
        if name == "torch-compile":
            self._forward = torch.compile(self._module, dynamic=False, fullgraph=True)
        self._result: Any = None
        device.synchronize()
        self._enqueue()
        self.call = self._enqueue if name == "torch" else device.capture(self._enqueue)

    @property
    def outputs(self) -> dict[str, Tensor]:
        """Outputs of the last call, in order."""
        results = self._result if isinstance(self._result, tuple) else (self._result,)
        return {str(index): result for index, result in enumerate(results)}

    def _enqueue(self) -> None:
        self._result = self._forward(*self.inputs.values())

    def nodes(self) -> list[dict[str, Any]]:
        """The ONNX model's nodes, each run as PyTorch runs it by itself."""
        timed = _Timed(self._module, self._device)
        for _ in range(PROFILED_CALLS):
            timed.run(*self.inputs.values())
        return [
            {
                "node": node,
                "operator": operator,
                "provider": "torch",
                "output": shape,
                "latency_us": float(np.quantile(times_us, 0.1)),
            }
            for (node, operator, shape), times_us in timed.times_us.items()
        ]


class _Timed(fx.Interpreter):
    """Runs a module node by node, with events around each."""

    def __init__(self, module: fx.GraphModule, device: Any) -> None:
        super().__init__(module)
        self._device = device
        self.times_us: dict[tuple[str, str, str], list[float]] = {}

    def run_node(self, n: fx.Node) -> Any:
        if ONNX_NODE not in n.meta:
            return super().run_node(n)
        start = self._device.record()
        result = super().run_node(n)
        us = self._device.elapsed_us(start, self._device.record())
        shape = "x".join(map(str, result.shape))
        self.times_us.setdefault((*n.meta[ONNX_NODE], shape), []).append(us)
        return result


def list_inputs(model: bytes) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shapes and types of a model's inputs.

    Raises:
        MeasurementError: If one is open.
    """
    import onnx

    from goldnas.profiling.torch_nodes import DTYPES

    graph = onnx.load_model_from_string(model).graph
    weights = {tensor.name for tensor in graph.initializer}
    found = {}
    for entry in graph.input:
        if entry.name in weights:
            continue
        tensor = entry.type.tensor_type
        shape = tuple(dim.dim_value for dim in tensor.shape.dim)
        is_open = not all(dim.HasField("dim_value") for dim in tensor.shape.dim)
        if is_open or not tensor.HasField("shape") or tensor.elem_type not in DTYPES:
            raise MeasurementError(
                f"input {entry.name!r} has shape {shape}; only numbers of a fixed shape can be "
                "measured"
            )
        found[entry.name] = (shape, DTYPES[tensor.elem_type])
    return found
