"""Peak activation memory of an exported network: what its tensors take at once, at most.

The nodes run in the order of the graph, on one image. A tensor lives from the node that makes
it to the last node that reads it; the input lives from the start, and the output to the end.
While a node runs, its inputs and its outputs are there, so nothing is computed in place.
Weights do not count. In int8 kernels compute with integers: a tensor that is only put into
integers, or made from them, is not stored besides them.

This is a definition, not a measurement. A runtime that fuses nodes or computes in place needs
less, and one that packs tensors badly, or copies them into another layout, needs more.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence

import onnx

from goldnas.exporting.onnx_graph import get_type, list_values

_ACTIVATIONS = {"Clip", "Relu"}

Step = tuple[Sequence[Hashable], Sequence[Hashable]]
"""The tensors that a node reads, and those that it makes."""


def find_peak(
    steps: Sequence[Step],
    sizes: Mapping[Hashable, int],
    inputs: Iterable[Hashable],
    outputs: Iterable[Hashable],
) -> int:
    """The most that the tensors of a schedule take at once.

    Args:
        steps: What runs, in order.
        sizes: Bytes of each tensor that counts; others are weights.
        inputs: Tensors that are there from the start.
        outputs: Tensors that stay to the end.
    """
    last = {
        name: step for step, (reads, makes) in enumerate(steps) for name in (*makes, *reads)
    }
    last |= dict.fromkeys(outputs, len(steps))
    ends: list[list[Hashable]] = [[] for _ in range(len(steps) + 1)]
    for name, step in last.items():
        ends[step].append(name)
    live = set(inputs)
    now = peak = sum(sizes[name] for name in live)
    for step, (_, makes) in enumerate(steps):
        new = [name for name in makes if name in sizes and name not in live]
        live.update(new)
        now += sum(sizes[name] for name in new)
        peak = max(peak, now)
        gone = live.intersection(ends[step])
        live -= gone
        now -= sum(sizes[name] for name in gone)
    return peak


def peak_activation_bytes(model: bytes) -> int:
    """The peak activation memory of an ONNX model, in bytes, for the batch that it is made for.

    Args:
        model: With fixed shapes; an open batch counts as 1.
    """
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    weights = {tensor.name for tensor in graph.initializer}
    sizes: dict[Hashable, int] = {
        value.name: _count_bytes(value)
        for value in list_values(proto)
        if value.name not in weights
    }
    same = _find_integers(graph, weights)
    steps = [
        ([same.get(n, n) for n in node.input], [same.get(n, n) for n in node.output])
        for node in graph.node
    ]
    steps = [(reads, makes) for reads, makes in steps if not set(makes) <= set(reads)]
    inputs = [value.name for value in graph.input if value.name not in weights]
    outputs = [same.get(value.name, value.name) for value in graph.output]
    return find_peak(steps, sizes, inputs, outputs)


def _find_integers(graph: onnx.GraphProto, weights: set[str]) -> dict[str, str]:
    """The integers that stand for tensors which a kernel for integers never stores."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    kept = {value.name for value in (*graph.input, *graph.output)} | weights
    same: dict[str, str] = {}
    for node in graph.node:
        read, made = node.input[0] if node.input else "", node.output[0]
        if node.op_type == "DequantizeLinear" and made not in kept:
            same[made] = read
        elif node.op_type == "QuantizeLinear" and read not in kept and len(readers[read]) == 1:
            same[read] = made
    for node in graph.node:  # with the convolution before it, one kernel
        read, made = node.input[0] if node.input else "", node.output[0]
        if node.op_type in _ACTIVATIONS and made in same and len(readers.get(read, ())) == 1:
            same.setdefault(read, made)
    return {name: _follow(same, name) for name in same}


def _follow(same: Mapping[str, str], name: str) -> str:
    while name in same:
        name = same[name]
    return name


def _count_bytes(value: onnx.ValueInfoProto) -> int:
    dims = (dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)
    bits = 8 * onnx.helper.tensor_dtype_to_np_dtype(get_type(value)).itemsize
    return math.prod(dims) * bits // 8
