"""Models in integers of 8 bits.

A network in integers holds a tensor as ``q``, for ``scale * (q - zero_point)``, and
each output channel of a weight likewise, with a zero point of 0 (arXiv:1712.05877). The model
says so with ``QuantizeLinear`` and ``DequantizeLinear`` behind each operator, in the form of
``onnxruntime.quantization``. Its own quantiser takes half a minute for a network of 400
operators, since it searches all nodes for each tensor. Runtimes put the three together and
compute in integers.
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from goldnas.exporting.int8_forms import merge_repetitions, use_integer_forms
from goldnas.exporting.int8_ranges import Images, invent_ranges, measure_ranges
from goldnas.exporting.onnx_graph import (
    drop_unused,
    get_type,
    list_values,
    replace_nodes,
)

_WEIGHTED = {"Conv", "Gemm"}
# These put out values of another range than they read.
_COMPUTING = {*_WEIGHTED, "Add", "AveragePool", "Concat", "GlobalAveragePool", "Relu"}
# These put out values that they read.
_MOVING = {"Flatten", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
QUANTISED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
"""Nodes that tell a model in integers."""


def to_int8(model: onnx.ModelProto, images: Images | None) -> None:
    """Put a quantisation behind every operator that runtimes can compute in integers.

    Other operators stay float32, between a dequantisation and a quantisation.
    """
    graph = model.graph
    exact = onnx.ModelProto()
    exact.CopyFrom(model)
    use_integer_forms(model)
    merge_repetitions(graph)
    quantised, sources = _choose_tensors(model)
    asked = list(dict.fromkeys(sources.values()))
    positive = {node.output[0] for node in graph.node if node.op_type == "Relu"}
    ranges = (
        invent_ranges(asked, positive)
        if images is None
        else measure_ranges(exact, asked, images)
    )
    scales: dict[str, tuple[str, str, float]] = {}
    for name in asked:
        low, high = min(ranges[name][0], 0.0), max(ranges[name][1], 0.0)
        scale = np.float32((high - low) / 255 or 1.0)
        zero_point = np.uint8(np.clip(round(-low / scale), 0, 255))
        names = f"{name}/scale", f"{name}/zero_point"
        graph.initializer.append(numpy_helper.from_array(np.array(scale), names[0]))
        graph.initializer.append(numpy_helper.from_array(np.array(zero_point), names[1]))
        scales[name] = (*names, float(scale))

    weights = {tensor.name: tensor for tensor in graph.initializer}
    inputs = {value.name for value in graph.input}
    nodes: list[onnx.NodeProto] = []

    def quantise(name: str, before: str, after: str) -> None:
        scale, zero_point, _ = scales[sources[name]]
        held = f"{name}/int8"
        for kind, ends in (
            ("QuantizeLinear", (before, held)),
            ("DequantizeLinear", (held, after)),
        ):
            made = helper.make_node(kind, [ends[0], scale, zero_point], [ends[1]])
            made.name = f"{name}/{kind}"
            nodes.append(made)

    for name in sorted(inputs & quantised):
        quantise(name, name, f"{name}/again")
    for node in graph.node:
        reads = [f"{name}/again" if name in inputs & quantised else name for name in node.input]
        if (
            node.op_type in _WEIGHTED
            and node.input[0] in quantised
            and _is_exact(node, weights)
        ):
            source_scale = scales[sources[node.input[0]]][2]
            made = _round_weights(graph, node, weights, source_scale)
            nodes += made
            reads[1:] = [dequantised.output[0] for dequantised in made]
        node.input[:] = reads
        (name, *others) = node.output
        nodes.append(node)
        if name in quantised and not others:
            node.output[0] = f"{name}/float"
            quantise(name, f"{name}/float", name)
    replace_nodes(graph, nodes)
    drop_unused(graph)
    del graph.value_info[:]


def _choose_tensors(model: onnx.ModelProto) -> tuple[set[str], dict[str, str]]:
    """The tensors to hold in integers, and for each the one whose range it has."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    floats = {
        value.name for value in list_values(model) if get_type(value) == TensorProto.FLOAT
    } - constants.keys()
    readers: dict[str, set[str]] = {value.name: {"output"} for value in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    quantised: set[str] = set()
    sources: dict[str, str] = {}

    def add(name: str, source: str) -> None:
        if name not in quantised:
            quantised.add(name)
            sources[name] = source

    for node in graph.node:
        if not _has_integer_form(node, constants, floats):
            continue
        several = node.op_type in ("Add", "Concat")
        # What a ReLU reads may be of any form: it is part of the quantisation behind it.
        reads = () if node.op_type == "Relu" else node.input if several else node.input[:1]
        for name in reads:
            add(name, name)
        out = node.output[0]
        if node.op_type in _MOVING:
            add(out, sources[node.input[0]])
        elif node.op_type != "Gemm" and readers.get(out) != {"Relu"}:
            # A linear layer puts its sums out as they are: they rank the classes.
            add(out, out)
    return quantised, sources


def _has_integer_form(
    node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], floats: Collection[str]
) -> bool:
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return False
    if node.op_type in _WEIGHTED:
        return node.input[0] in floats and _is_exact(node, constants)
    if node.op_type in ("Add", "Concat"):
        return all(name in floats for name in node.input)
    return node.op_type in _COMPUTING | _MOVING and node.input[0] in floats


def _is_exact(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether a convolution or linear layer is one of constant weights, without factors."""
    known = all(
        name in constants and constants[name].data_type == TensorProto.FLOAT
        for name in node.input[1:]
    )
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    factors = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return known and all(factors.get(name, value) == value for name, value in plain.items())


def _round_weights(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
    source_scale: float,
) -> list[onnx.NodeProto]:
    """Round weights to 8 bits and biases to 32; the nodes that read them.

    A bias has the scale of the sums that it is added to.
    """
    weight = numpy_helper.to_array(constants[node.input[1]])
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    axis = 1 if node.op_type == "Gemm" and not transposed else 0
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scales = np.abs(weight).max(axis=others).astype(np.float64) / 127
    bias: npt.NDArray[np.float32] = np.zeros(len(scales), np.float32)
    if len(node.input) > 2:
        bias = np.broadcast_to(numpy_helper.to_array(constants[node.input[2]]), scales.shape)
        # Else the bias of a channel with next to no weights would leave its 32 bits.
        scales = np.maximum(scales, np.abs(bias) / (source_scale * 2**30))
    scales = np.where(scales > 1e-30, scales, 1.0).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    rounded = np.clip(np.rint(weight / scales.reshape(shape)), -127, 127).astype(np.int8)
    sums = scales.astype(np.float64) * source_scale
    made = [("weight", rounded, scales, axis)]
    if len(node.input) > 2:
        made.append(("bias", np.rint(bias / sums).astype(np.int32), sums.astype(np.float32), 0))
    nodes = []
    for role, integers, of_channel, channel_axis in made:
        name = f"{node.output[0]}/{role}"
        parts = [f"{name}/int", f"{name}/scale", f"{name}/zero_point"]
        zeros = np.zeros(of_channel.shape, integers.dtype)
        for part, values in zip(parts, (integers, of_channel, zeros), strict=True):
            graph.initializer.append(numpy_helper.from_array(values, part))
        read = helper.make_node("DequantizeLinear", parts, [name], axis=channel_axis)
        read.name = f"{name}/DequantizeLinear"
        nodes.append(read)
    return nodes
