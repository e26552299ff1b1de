"""ONNX models as PyTorch modules, so that PyTorch is measured on what other runtimes run.

The models here are put together from exported operators, so there is no module to go back to.
The module is generated code, as ``torch.fx`` writes it, without a loop over nodes that would
be measured as well.
"""

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, fx, nn

from goldnas.errors import MeasurementError
from goldnas.profiling.torch_nodes import KNOWN, Call, locate

ONNX_NODE = "onnx"
"""Key of a generated node's notes under which the name and the type of its ONNX node are."""


def to_torch(model: bytes) -> fx.GraphModule:
    """Generate the module that computes what an ONNX model computes.

    Args:
        model: Serialized, of fixed shapes.

    Raises:
        MeasurementError: If it is none, or has a node that is not known here.
    """
    try:
        graph = onnx.load_model_from_string(model).graph
    except DecodeError as error:
        raise MeasurementError(f"not an ONNX model: {error}") from None
    return _Builder(graph).build()


class _Builder:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._onnx = graph
        self._graph = fx.Graph()
        self._root = nn.Module()
        self._constants = {t.name: _tensor(t) for t in graph.initializer}
        self._values: dict[str, fx.Node] = {}

    def build(self) -> fx.GraphModule:
        for entry in self._onnx.input:
            if entry.name not in self._constants:
                self._values[entry.name] = self._graph.placeholder(f"x{len(self._values)}")
        for node in self._onnx.node:
            if node.op_type == "Constant":
                (attribute,) = node.attribute
                content = helper.get_attribute_value(attribute)
                is_tensor = isinstance(content, onnx.TensorProto)
                self._constants[node.output[0]] = (
                    _tensor(content) if is_tensor else torch.tensor(content)
                )
                continue
            known = KNOWN.get(node.op_type)
            if known is None or node.domain not in ("", "ai.onnx") or len(node.output) > 1:
                raise MeasurementError(
                    f"goldnas knows no PyTorch function for {locate(node)}; known: "
                    f"{', '.join(KNOWN)}"
                )
            function, arguments = known
            call = Call(
                self._graph,
                node,
                [self._value(name) if name else None for name in node.input],
                [self._constants.get(name) for name in node.input],
                {a.name: helper.get_attribute_value(a) for a in node.attribute},
            )
            call.require("auto_pad", b"NOTSET", b"VALID")
            made = self._graph.call_function(function, tuple(arguments(call)))
            made.meta[ONNX_NODE] = (node.name or node.output[0], node.op_type)
            self._values[node.output[0]] = made
        outputs = tuple(self._value(entry.name) for entry in self._onnx.output)
        self._graph.output(outputs[0] if len(outputs) == 1 else outputs)
        self._graph.eliminate_dead_code()  # constants that were only looked at
        module = fx.GraphModule(self._root, self._graph)
        return module.eval().requires_grad_(False)

    def _value(self, name: str) -> fx.Node:
        if name not in self._values:
            if name not in self._constants:
                raise MeasurementError(f"a node reads {name!r}, but no node puts it out")
            constant = self._constants[name]
            place = f"constant{len(self._values)}"
            self._root.register_buffer(place, constant)
            self._values[name] = self._graph.get_attr(place)
        return self._values[name]


def _tensor(tensor: onnx.TensorProto) -> Tensor:
    values = numpy_helper.to_array(tensor)
    if tensor.data_type == TensorProto.BFLOAT16:  # numpy has it from elsewhere
        return torch.from_numpy(values.astype(np.float32)).bfloat16()
    return torch.from_numpy(values.copy())
