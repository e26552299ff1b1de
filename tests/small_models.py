"""ONNX models of a few nodes, as others export them, and how the runner runs a model."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from goldnas.profiling import runner
from goldnas.profiling.backend import CPU
from goldnas.profiling.onnx_file import OnnxFile

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Inputs = Mapping[str, tuple[int, Sequence[int | str | None] | None]]


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, name=f"the {kind}", **attributes)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: Inputs | list[onnx.ValueInfoProto],
    outputs: Mapping[str, int] | list[onnx.ValueInfoProto],
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 18,
) -> Path:
    """A model in a file."""
    if isinstance(inputs, Mapping):
        inputs = [helper.make_tensor_value_info(n, *told) for n, told in inputs.items()]
    if isinstance(outputs, Mapping):
        outputs = [helper.make_tensor_value_info(n, k, None) for n, k in outputs.items()]
    kept = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "model", inputs, outputs, kept)
    domains = {node.domain for node in nodes if node.domain}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def multiplied(kind: Any, nodes: list[onnx.NodeProto] | None = None, **more: Any) -> Any:
    """A model that multiplies by a weight of a type; in its own way, if nodes are given."""
    weight = np.ones((64, 64), np.float32).astype(kind)
    weights = {"weight": weight, **more}
    graph = helper.make_graph(
        nodes or [node("MatMul", ["x", "weight"], ["y"])],
        "model",
        [helper.make_tensor_value_info("x", FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run(file: OnnxFile, folder: Path) -> list[Any]:
    """Outputs of the first form of a model that onnxruntime takes, as the runner runs it."""
    errors = []
    for form in file.forms():
        path = folder / "form.onnx"
        path.write_bytes(form.model)
        told = {"path": str(path), "sha256": hashlib.sha256(form.model).hexdigest()}
        job = {"provider": CPU, "provider_options": {}, "threads": 1}
        try:
            session, binding = runner.load(told, job)
            runner.visit(session, binding, 0, 0, 2)
            return [value.numpy() for value in binding.get_outputs()]
        except Exception as error:  # onnxruntime's own classes share no base
            errors.append(str(error))
    raise AssertionError(errors)
