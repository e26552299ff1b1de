"""Models in half precision: every float32 of theirs 16 bits long, in one of two formats."""

from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from goldnas.errors import ExportError
from goldnas.exporting.onnx_graph import replace_nodes

# ONNX's type, numpy's, and the largest number.
_HALVES: dict[str, tuple[int, Any, float]] = {
    "fp16": (TensorProto.FLOAT16, np.float16, 65504.0),
    "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16, 3.3895314e38),
}
_BFLOAT16_OPSET = 22
"""The first whose convolutions take bfloat16."""


def to_half(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Make every float32 of a model 16 bits long, between casts of its inputs and outputs."""
    if precision == "bf16" and _find_opset(model) < _BFLOAT16_OPSET:
        try:
            model = onnx.version_converter.convert_version(model, _BFLOAT16_OPSET)
        except (onnx.version_converter.ConvertError, RuntimeError) as error:
            raise ExportError(" ".join(str(error).split())) from None
    kind, dtype, largest = _HALVES[precision]

    def shorten(tensor: onnx.TensorProto) -> None:
        if tensor.data_type != TensorProto.FLOAT:
            return
        values = numpy_helper.to_array(tensor)
        # What is infinite already, such as a mask, stays so.
        reach = float(np.abs(values[~np.isinf(values)]).max(initial=0))
        if not reach <= largest:  # so that NaN is refused, too
            raise ExportError(
                f"{tensor.name} reaches {reach:.3g}, and {precision} ends at {largest:.3g}"
            )
        tensor.CopyFrom(numpy_helper.from_array(values.astype(dtype), tensor.name))

    graph = model.graph
    for tensor in graph.initializer:
        shorten(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            shorten(attribute.t)
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
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


def _find_opset(model: onnx.ModelProto) -> int:
    return max(
        (o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0
    )
