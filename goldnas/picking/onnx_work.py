"""The work of a network that is an ONNX file."""

import math

import onnx
from onnx import shape_inference

from goldnas.zoo.work import Work

_MATRIX = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")
_CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv")
_VIEWS = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Constant", "Shape")


def count_onnx_work(model: onnx.ModelProto) -> Work:
    """Count the work of a model for one call, as far as its shapes can be inferred.

    Work that cannot be counted is left out: such a model seems faster, and is measured.

    Args:
        model: With fixed shapes.
    """
    try:
        inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # of many kinds; a runtime may take the model all the same
        inferred = model.graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    shapes = {value.name: _shape(value) for value in values}
    shapes |= {weight.name: tuple(weight.dims) for weight in inferred.initializer}
    dense = grouped = matrix = elements = operators = 0.0
    for node in inferred.node:
        if node.op_type in _VIEWS:
            continue
        operators += 1
        put_out = math.prod(shapes.get(node.output[0], (0,))) if node.output else 0
        elements += put_out
        place = 3 if node.op_type == "QLinearConv" else 1
        weight = shapes.get(node.input[place], ()) if len(node.input) > place else ()
        if node.op_type in _CONVOLUTIONS and weight:
            products = put_out * math.prod(weight[1:])
            if _attribute(node, "group", 1) > 1:
                grouped += products
            else:
                dense += products
        elif node.op_type in _MATRIX and node.input and (read := shapes.get(node.input[0])):
            transposed = _attribute(node, "transA", 0)
            matrix += put_out * (read[0] if transposed else read[-1])
    parameters = sum(
        math.prod(weight.dims)
        for weight in inferred.initializer
        if weight.data_type != onnx.TensorProto.INT64  # shapes and axes
    )
    return Work(dense, grouped, matrix, elements, float(parameters), operators)


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(max(0, size.dim_value) for size in value.type.tensor_type.shape.dim)


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((one.i for one in node.attribute if one.name == name), default)
