"""Functions to change an ONNX graph in place."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper

_NUMBERS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
"""Of a constant, by the attribute that holds them."""


def list_values(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Every value whose type can be worked out."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return [*graph.input, *graph.output, *graph.value_info]


def get_type(value: onnx.ValueInfoProto) -> int:
    """The type of a value's elements, as ``onnx.TensorProto`` numbers them."""
    return int(value.type.tensor_type.elem_type)


def count_dims(model: onnx.ModelProto) -> dict[str, int]:
    """How many dimensions each value has, by name."""
    return {value.name: len(value.type.tensor_type.shape.dim) for value in list_values(model)}


def find_opset(model: onnx.ModelProto, domain: str = "") -> int:
    """The version of a domain's operators; 0 if the model has none of them."""
    names = ("", "ai.onnx") if domain in ("", "ai.onnx") else (domain,)
    return max((o.version for o in model.opset_import if o.domain in names), default=0)


def list_subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs within a node: branches, or the body of a loop."""
    graphs = []
    for attribute in node.attribute:
        graphs += [attribute.g] if attribute.HasField("g") else []
        graphs += attribute.graphs
    return graphs


def turn_into(node: onnx.NodeProto, kind: str, inputs: list[str], **attributes: Any) -> None:
    """Make a node another one of the same name and output."""
    other = helper.make_node(kind, inputs, list(node.output), name=node.name, **attributes)
    node.CopyFrom(other)


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Give a graph other nodes, some of which may be its own."""
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def drop_indirections(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model with its functions in place, its constants as weights, and weights as no inputs.

    Older models list each weight as an input, too, which a caller may give in its place.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    graph = model.graph
    others = []
    for node in graph.node:
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            others.append(node)
            continue
        value = helper.get_attribute_value(node.attribute[0])
        if not isinstance(value, TensorProto):
            if node.attribute[0].name not in _NUMBERS:
                others.append(node)
                continue
            value = numpy_helper.from_array(np.array(value, _NUMBERS[node.attribute[0].name]))
        tensor = graph.initializer.add()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
    weights = {tensor.name for tensor in graph.initializer}
    entries = [entry for entry in graph.input if entry.name not in weights]
    if len(entries) < len(graph.input):
        copies = [onnx.ValueInfoProto.FromString(e.SerializeToString()) for e in entries]
        del graph.input[:]
        graph.input.extend(copies)
        model.ir_version = max(4, model.ir_version)  # the first that allows it
    if len(others) < len(graph.node):
        replace_nodes(graph, others)
    return model


def drop_unused(graph: onnx.GraphProto) -> None:
    """Drop weights that no node reads."""
    read = Counter(name for node in graph.node for name in node.input)
    kept = [tensor for tensor in graph.initializer if read[tensor.name]]
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del graph.initializer[:]
    graph.initializer.extend(copies)
