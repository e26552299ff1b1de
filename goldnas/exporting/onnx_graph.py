"""What ONNX lacks for changing a graph in place."""

from collections import Counter
from typing import Any

import onnx
from onnx import helper


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


def drop_unused(graph: onnx.GraphProto) -> None:
    """Drop weights that no node reads."""
    read = Counter(name for node in graph.node for name in node.input)
    kept = [tensor for tensor in graph.initializer if read[tensor.name]]
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del graph.initializer[:]
    graph.initializer.extend(copies)
