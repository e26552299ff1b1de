"""Removing the zeros that a network adds where a choice keeps nothing."""

import math
from collections import Counter

import numpy as np
import onnx
from onnx import helper, numpy_helper

from goldnas.exporting.onnx_graph import drop_unused, replace_nodes

_ZEROS = "ConstantOfShape"


def drop_zeros(model: onnx.ModelProto) -> None:
    """Take sums with zeros out of a graph, in place, and make other zeros constants.

    Args:
        model: An exported model, with the shapes of its values. A model without such zeros does
            not change.
    """
    graph = model.graph
    zeros = {node.output[0] for node in graph.node if _makes_zeros(node)}
    if not zeros:
        return
    shapes = {
        value.name: [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output, *graph.value_info)
    }
    put_out = {value.name for value in graph.output}
    same: dict[str, str] = {}
    """The other terms of sums with zeros."""
    left: list[onnx.NodeProto] = []
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        terms = sorted(node.input, key=lambda name: name in zeros)  # zeros last
        total = node.output[0]
        adds_nothing = node.op_type == "Add" and terms[-1] in zeros
        shaped_alike = terms and shapes.get(terms[0]) == shapes.get(total) is not None
        if adds_nothing and shaped_alike and total not in put_out:
            same[total] = terms[0]
        else:
            left.append(node)
    for node in left:
        if node.output[0] in zeros and all(map(_is_known, shapes.get(node.output[0], [""]))):
            _make_constant(graph, node, shapes[node.output[0]])
            left = [other for other in left if other is not node]
    replace_nodes(graph, _drop_unread(left, put_out))
    drop_unused(graph)


def _makes_zeros(node: onnx.NodeProto) -> bool:
    if node.op_type != _ZEROS:
        return False
    values = [numpy_helper.to_array(helper.get_attribute_value(a)) for a in node.attribute]
    return not np.any(values)


def _is_known(size: int | str) -> bool:
    return isinstance(size, int) and size > 0


def _make_constant(graph: onnx.GraphProto, node: onnx.NodeProto, shape: list[int]) -> None:
    values = [helper.get_attribute_value(attribute) for attribute in node.attribute]
    kind = values[0].data_type if values else onnx.TensorProto.FLOAT
    size = math.prod(shape) * np.dtype(helper.tensor_dtype_to_np_dtype(kind)).itemsize
    graph.initializer.append(
        helper.make_tensor(node.output[0], kind, shape, bytes(size), raw=True)
    )


def _drop_unread(nodes: list[onnx.NodeProto], put_out: set[str]) -> list[onnx.NodeProto]:
    """The nodes without those that made what is no longer read."""
    while True:
        read = Counter(name for node in nodes for name in node.input)
        kept = [n for n in nodes if any(read[name] or name in put_out for name in n.output)]
        if len(kept) == len(nodes):
            return kept
        nodes = kept
