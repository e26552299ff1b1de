"""Integers as TensorRT takes them: signed, around a zero point of 0."""

import numpy as np
import onnx
from onnx import numpy_helper

from goldnas.exporting.int8 import QUANTISED
from goldnas.exporting.onnx_graph import drop_unused, replace_nodes


def make_symmetric(model: bytes) -> bytes:
    """Write the integers of a model as TensorRT takes them: signed, around a zero point of 0.

    The range of every tensor becomes ``-r`` to ``r``, so a tensor without negative values has
    half as many steps. Biases become float32 again. A model without integers does not change.

    Args:
        model: A model from :func:`to_precision`, or any other ONNX model.
    """
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    if not any(node.op_type in QUANTISED for node in graph.node):
        return model
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made: set[str] = set()
    kept = []
    for node in graph.node:
        if node.op_type not in QUANTISED or len(node.input) < 3:
            kept.append(node)
            continue
        read, scale, zero_point = node.input[:3]
        scales, zeros = constants.get(scale), constants.get(zero_point)
        if scales is None or zeros is None:
            kept.append(node)
        elif zeros.dtype == np.int32 and read in constants:
            values = (constants[read] * scales.astype(np.float64)).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        else:
            if zeros.dtype == np.uint8:
                reach = np.maximum(zeros, 255 - zeros.astype(np.int64)) * scales / 127
                named = [f"{scale}/{zero_point}/symmetric", f"{zero_point}/symmetric"]
                node.input[1:] = named
                zero = np.zeros(zeros.shape, np.int8)
                pair = zip(named, (reach.astype(np.float32), zero), strict=True)
                for name, content in pair:
                    if name not in made:
                        graph.initializer.append(numpy_helper.from_array(content, name))
                    made.add(name)
            kept.append(node)
    replace_nodes(graph, kept)
    drop_unused(graph)
    del graph.value_info[:]
    return bytes(proto.SerializeToString(deterministic=True))
