"""Models in half precision: every float32 becomes 16 bits long, in one of two formats.

Inputs that ONNX takes in float32 only, such as the scales of a ``Resize``, stay float32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from goldnas.errors import ExportError
from goldnas.exporting.onnx_graph import (
    drop_unused,
    find_opset,
    get_type,
    list_values,
    replace_nodes,
)

# ONNX's type, numpy's, and the largest number.
_HALVES: dict[str, tuple[int, Any, float]] = {
    "fp16": (TensorProto.FLOAT16, np.float16, 65504.0),
    "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16, 3.3895314e38),
}
_LARGEST = np.finfo(np.float32).max
_SINGLE = "/fp32"
"""Ends the name of what stays float32."""


def to_half(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Make every float32 of a model 16 bits long, between casts of its inputs and outputs."""
    kind, dtype, largest = _HALVES[precision]

    def shorten(tensor: onnx.TensorProto) -> None:
        if tensor.data_type != TensorProto.FLOAT:
            return
        values = numpy_helper.to_array(tensor)
        # What is infinite already, such as a mask, stays so; what is as large as can be, too.
        values = np.where(np.abs(values) == _LARGEST, np.sign(values) * largest, values)
        reach = float(np.abs(values[~np.isinf(values)]).max(initial=0))
        if not reach <= largest:  # so that NaN is refused, too
            raise ExportError(
                f"{tensor.name} reaches {reach:.3g}, but {precision} ends at {largest:.3g}"
            )
        tensor.CopyFrom(numpy_helper.from_array(values.astype(dtype), tensor.name))

    graph = model.graph
    _keep_single(model, kind)
    for tensor in graph.initializer:
        if not tensor.name.endswith(_SINGLE):
            shorten(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            shorten(attribute.t)
            is_own = any(name.endswith(_SINGLE) for name in node.output)
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT and not is_own:
                attribute.i = kind
    short: dict[str, str] = {}
    casts: dict[bool, list[onnx.NodeProto]] = {True: [], False: []}
    for values, is_input in ((graph.input, True), (graph.output, False)):
        for value in values:
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                name = short[value.name] = f"{value.name}/{precision}"
                ends = ([value.name], [name]) if is_input else ([name], [value.name])
                to = kind if is_input else TensorProto.FLOAT
                casts[is_input].append(helper.make_node("Cast", *ends, to=to))
    for node in graph.node:
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]
    replace_nodes(graph, [*casts[True], *graph.node, *casts[False]])
    del graph.value_info[:]  # they say float32
    return model


def _keep_single(model: onnx.ModelProto, kind: int) -> None:
    """Have nodes read and write float32 where ONNX lets them take nothing shorter.

    Weights that they read are kept a second time, other values cast before and after.
    """
    graph = model.graph
    singles = {v.name for v in list_values(model) if get_type(v) == TensorProto.FLOAT}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    singles |= {name for name, t in weights.items() if t.data_type == TensorProto.FLOAT}
    nodes: list[onnx.NodeProto] = []
    made: set[str] = set()
    for node in graph.node:
        takes, gives = _find_types(model, node, kind)
        after = []
        for place, name in enumerate(node.input):
            if name not in singles or takes(place):
                continue
            single = node.input[place] = f"{name}{_SINGLE}"
            if single not in made and name in weights:
                copy = graph.initializer.add()
                copy.CopyFrom(weights[name])
                copy.name = single
            elif single not in made:
                nodes.append(helper.make_node("Cast", [name], [single], to=TensorProto.FLOAT))
            made.add(single)
        for place, name in enumerate(node.output):
            if name in singles and not gives(place):
                single = node.output[place] = f"{name}{_SINGLE}"
                after.append(helper.make_node("Cast", [single], [name], to=kind))
                made.add(single)
        nodes += [node, *after]
    if made:
        replace_nodes(graph, nodes)
        drop_unused(graph)


def _find_types(
    model: onnx.ModelProto, node: onnx.NodeProto, kind: int
) -> tuple[Callable[[int], bool], Callable[[int], bool]]:
    """Whether a node takes a type at an input, by its place, and gives it at an output."""
    try:
        schema = onnx.defs.get_schema(node.op_type, find_opset(model, node.domain), node.domain)
    except onnx.defs.SchemaError:  # of a domain of its own: the runtime says
        return (lambda place: True), (lambda place: True)
    text = f"tensor({TensorProto.DataType.Name(kind).lower()})"

    def look(formal: Sequence[Any]) -> Callable[[int], bool]:
        # The last one may be repeated.
        return lambda place: text in formal[min(place, len(formal) - 1)].types

    return look(schema.inputs), look(schema.outputs)
