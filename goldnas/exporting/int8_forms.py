"""Nodes that no runtime computes in integers, written as equal ones that they do."""

import numpy as np
import onnx
from onnx import numpy_helper

from goldnas.exporting.onnx_graph import count_dims, drop_unused, replace_nodes, turn_into


def use_integer_forms(model: onnx.ModelProto) -> None:
    """Replace nodes that no runtime computes in integers by equal ones.

    A normalisation becomes a 1x1 convolution of each channel by itself, and the mean over
    height and width a pooling. ReLU6 becomes ReLU: integers end at the largest value of the
    tensor that they stand for, which is never above 6.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    ranks = count_dims(model)
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            known = len(node.output) == 1 and all(n in constants for n in node.input[1:])
            rank = ranks.get(node.input[0], 0)
            if not known or rank < 3:
                continue
            scale, offset, mean, variance = (
                numpy_helper.to_array(constants[name]).astype(np.float64)
                for name in node.input[1:]
            )
            epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
            factor = scale / np.sqrt(variance + epsilon)
            out = node.output[0]
            for name, values in (
                (f"{out}/factor", factor.reshape(-1, *[1] * (rank - 1))),
                (f"{out}/offset", offset - mean * factor),
            ):
                tensor = numpy_helper.from_array(values.astype(np.float32), name)
                graph.initializer.append(tensor)
            turn_into(
                node,
                "Conv",
                [node.input[0], f"{out}/factor", f"{out}/offset"],
                group=len(factor),
                kernel_shape=[1] * (rank - 2),
            )
        elif node.op_type == "ReduceMean" and len(node.input) == 2:
            axes = constants.get(node.input[1])
            rank = ranks.get(node.input[0], 0)
            keeps = all(a.i == 1 for a in node.attribute if a.name == "keepdims")
            if axes is None or rank < 3 or not keeps:
                continue
            if {a % rank for a in numpy_helper.to_array(axes).tolist()} == set(range(2, rank)):
                turn_into(node, "GlobalAveragePool", [node.input[0]])
        elif node.op_type == "Clip" and _is_rectifier(node, constants):
            turn_into(node, "Relu", [node.input[0]])
    drop_unused(graph)


def _is_rectifier(clip: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether a clip is from 0 on, to any constant above it or to none."""
    bounds = [numpy_helper.to_array(constants[n]) for n in clip.input[1:] if n in constants]
    if not bounds or not clip.input[1] or len(bounds) < sum(map(bool, clip.input[1:])):
        return False
    return bool(bounds[0] == 0) and all(bool(bound > 0) for bound in bounds[1:])


def merge_repetitions(graph: onnx.GraphProto) -> None:
    """Compute equal things once, as runtimes do, while it can be told that they are equal.

    Networks with made-up and with measured ranges would differ in what a runtime merges.
    """
    outputs = {value.name for value in graph.output}
    constants: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    first: dict[bytes, onnx.NodeProto] = {}
    same: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for tensor in graph.initializer:
        content = numpy_helper.to_array(tensor).tobytes()
        key = (tensor.data_type, tuple(tensor.dims), content)
        same[tensor.name] = constants.setdefault(key, tensor.name)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        nameless = onnx.NodeProto()
        nameless.CopyFrom(node)
        nameless.ClearField("name")
        nameless.ClearField("output")
        other = first.setdefault(nameless.SerializeToString(deterministic=True), node)
        random = node.op_type.startswith(("Random", "Bernoulli", "Multinomial"))
        if other is node or random or outputs & set(node.output):
            kept.append(node)
        else:
            same |= dict(zip(node.output, other.output, strict=True))
    replace_nodes(graph, kept)
