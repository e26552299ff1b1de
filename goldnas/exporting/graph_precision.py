"""The number format of a model, read from its graph."""

from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod

import onnx
from onnx import TensorProto

from goldnas.exporting.onnx_graph import list_subgraphs

_FORMATS: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.DOUBLE: "fp64",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
}
# By how the names of types begin; integers count where something scales them.
_SCALED = {"FLOAT8": "fp8", "FLOAT4": "fp4", "INT8": "int8", "INT4": "int4", "INT2": "int2"}

_QUANTISING = {
    *("ConvInteger", "DequantizeLinear", "DynamicQuantizeMatMul", "GatherBlockQuantized"),
    *("MatMulInteger", "MatMulIntegerToFloat", "QAttention", "QGemm", "QLinearConv"),
    *("QEmbedLayerNormalization", "QLinearMatMul", "QuantizeLinear"),
}
"""Operators whose integers stand for numbers: each for a scale times itself."""
_PACKED = {"MatMulNBits", "MatMulBnb4", "QMoE"}
"""Of onnxruntime: weights of few bits, several in a byte."""


def find_precision(model: onnx.ModelProto) -> str:
    """The number format of most of a model's weights: ``fp32``, ``fp16``, ``int8``, ``int4``...

    Quantised weights count in their stored format, even if a runtime computes in a longer one.
    A model without weights has the format of its first float input; ``fp32`` if it has none.
    """
    counts: Counter[str] = Counter()
    functions = [function.node for function in model.functions]
    for nodes, weights in (*((nodes, {}) for nodes in functions), *_graphs(model.graph)):
        _count(nodes, weights, counts)
    if counts:
        return counts.most_common(1)[0][0]
    kinds = (value.type.tensor_type.elem_type for value in model.graph.input)
    return next((_FORMATS[kind] for kind in kinds if kind in _FORMATS), "fp32")


def _graphs(
    graph: onnx.GraphProto, outer: dict[str, TensorProto] | None = None
) -> Iterator[tuple[Iterable[onnx.NodeProto], dict[str, TensorProto]]]:
    """Nodes of a graph and of those within, each with the weights that they can read."""
    weights = {**(outer or {}), **{tensor.name: tensor for tensor in graph.initializer}}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                weights[node.output[0]] = attribute.t
    yield graph.node, weights
    for node in graph.node:
        for inner in list_subgraphs(node):
            yield from _graphs(inner, weights)


def _count(
    nodes: Iterable[onnx.NodeProto], weights: dict[str, TensorProto], counts: Counter[str]
) -> None:
    """Add how many numbers nodes read in each format; a weight for each node that reads it."""
    for node in nodes:
        if node.op_type in _PACKED:
            told = {attribute.name: attribute.i for attribute in node.attribute}
            bits = told.get("bits") or told.get("expert_weight_bits") or 4
            packed = [weights[name] for name in node.input if name in weights]
            size = sum(prod(t.dims) for t in packed if t.data_type == TensorProto.UINT8)
            counts[f"int{bits}"] += size * 8 // bits
            continue
        for name in node.input:
            tensor = weights.get(name)
            if tensor is None:
                continue
            size = prod(tensor.dims)
            kind = TensorProto.DataType.Name(tensor.data_type).removeprefix("U")
            if tensor.data_type in _FORMATS:
                # Weights that the runtime will quantise are as good as quantised.
                will_be = node.op_type == "QuantizeLinear" and name == node.input[0]
                counts["int8" if will_be else _FORMATS[tensor.data_type]] += size
            elif node.op_type in _QUANTISING:
                for start, held in _SCALED.items():
                    if kind.startswith(start):
                        counts[held] += size
