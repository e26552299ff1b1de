"""OpenVINO on a processor. It reads ONNX itself."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from goldnas.errors import MeasurementError
from goldnas.profiling.processor_runtimes import Array

_BOUND_BIASES = "/WithoutBiases"
"""What OpenVINO adds to the name of a node whose bias it takes apart."""


class OpenVino:
    """Compiles models for one stream of calls, in exact fp32 where they are fp32.

    Args:
        threads: Threads for one operator.
        folder: Keeps compiled models.
        nodes: Whether to count times of nodes.
    """

    def __init__(self, threads: int, folder: Path, *, nodes: bool) -> None:
        self.version = openvino.__version__.split("-")[0]
        # Unless told, it computes in bf16 where the processor has it.
        self.options: Mapping[str, str] = {
            "inference_precision": "f32",
            "performance_hint": "latency",
            "streams": "1",
        }
        self._core = openvino.Core()
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # `cores` says where to run
            "CACHE_DIR": str(folder),
            "PERF_COUNT": nodes,
        }

    def prepare(self, model: bytes) -> "Compiled":
        """See :meth:`Runtime.prepare`.

        Raises:
            MeasurementError: If OpenVINO rejects it; with the nodes that it does not know.
        """
        try:
            read = self._core.read_model(model=model)
            return Compiled(self._core.compile_model(read, "CPU", self._settings), model)
        except RuntimeError as error:
            raise MeasurementError(_explain(str(error), model)) from None


class Compiled:
    """A compiled model with its inputs."""

    def __init__(self, compiled: Any, model: bytes) -> None:
        self._compiled, self._model = compiled, model
        self._request = compiled.create_infer_request()
        self.call = self._request.infer

    def feed(self, inputs: Sequence[Array]) -> None:
        """See :meth:`Model.feed`."""
        for index, value in enumerate(inputs):
            self._request.set_input_tensor(index, openvino.Tensor(value.copy()))

    def outputs(self) -> list[Array]:
        """See :meth:`Model.outputs`."""
        return [tensor.data.copy() for tensor in self._request.output_tensors]

    def nodes(self, calls: int) -> list[dict[str, Any]]:
        """See :meth:`Model.nodes`. Whole microseconds: the mean of the faster half."""
        times_us: dict[str, list[float]] = {}
        types: dict[str, str] = {}
        for _ in range(calls):
            self.call()
            for node in self._request.profiling_info:
                if node.status == openvino.ProfilingInfo.Status.EXECUTED:
                    us = node.real_time.total_seconds() * 1e6
                    times_us.setdefault(node.node_name, []).append(us)
                    types[node.node_name] = node.node_type
        shapes = {
            op.get_friendly_name(): list(op.output(0).shape)
            for op in self._compiled.get_runtime_model().get_ordered_ops()
            if op.get_output_size()
        }
        known = _list_types(self._model)
        found = []
        for name, us in times_us.items():
            own = name.removesuffix(_BOUND_BIASES)
            found.append(
                {
                    "node": own,
                    "operator": known.get(own, types[name]),
                    "provider": "openvino",
                    "output": "x".join(map(str, shapes.get(name, []))),
                    "latency_us": float(np.mean(np.sort(us)[: (len(us) + 1) // 2])),
                }
            )
        return found


def _explain(said: str, model: bytes) -> str:
    """Why OpenVINO rejects a model, without lines of its code."""
    if unknown := re.search(r"No conversion rule found for operations: (.+)", said):
        import onnx

        types = {name.rpartition("-")[0] for name in unknown[1].split(", ")}
        nodes = [
            f"{node.op_type} (node {node.name or node.output[0]})"
            for node in onnx.load_model_from_string(model).graph.node
            if node.op_type in types
        ]
        return f"OpenVINO does not know {', '.join(nodes) or unknown[1]}"
    return re.sub(r"(Exception from|Check .* failed at) \S+:\d+:", "", said)


def _list_types(model: bytes) -> dict[str, str]:
    """Types of ONNX nodes by what OpenVINO calls the nodes: by their names or outputs."""
    import onnx

    graph = onnx.load_model_from_string(model).graph
    return {name: node.op_type for node in graph.node for name in (*node.output, node.name)}
