"""ONNX models put together from copies of exported operators.

PyTorch takes half a second to export an operator, and half a minute for a large network. So
goldnas exports each operator once, and joins copies of it to chains, branches and whole
networks. Every copy has its own weights, because runtimes compute equal operators only once.
"""

import math
import operator as python_operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import fx, nn
from torch.nn import functional

from goldnas.choice import Choice, Zero
from goldnas.errors import ExportError
from goldnas.exporting.onnx import OPSET
from goldnas.operators import Part, find_part

Weights = np.ndarray[Any, np.dtype[np.float32]]

_SUMS = (python_operator.add, python_operator.iadd, torch.add)


class CompositionError(ExportError):
    """A network that does more than join parts: it can only be exported as a whole."""


class Composition:
    """A model under construction; values are named by the text that methods return.

    Args:
        input_shape: ``(B, C, H, W)`` of the model's input, whose value is ``"input"``; or of
            any number of dimensions, the batch and the channels first.
        seed: Seed of the weights.
    """

    def __init__(self, input_shape: Sequence[int], *, seed: int = 0) -> None:
        self._input_shape = input_shape
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._zeros: set[str] = set()
        self._copies = 0

    def apply(self, operator: onnx.ModelProto, *values: str) -> str:
        """Add a copy of an operator with fresh weights, and return its output.

        Args:
            operator: From ``input`` to ``output``, as ``to_onnx`` makes it.
            values: Inputs of the operator, in order.
        """
        prefix = f"copy{self._copies}/"
        self._copies += 1
        graph = operator.graph
        inputs = (entry.name for entry in graph.input)
        names: dict[str, str] = {"": "", **dict(zip(inputs, values, strict=True))}
        for tensor in graph.initializer:
            names[tensor.name] = prefix + tensor.name
            fresh = onnx.TensorProto()
            fresh.CopyFrom(self._fresh(tensor))
            fresh.name = names[tensor.name]
            self._initializers.append(fresh)
        for original in graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(original)
            node.name = prefix + original.name
            names |= {name: prefix + name for name in original.output if name}
            node.input[:] = [names[name] for name in original.input]
            node.output[:] = [names[name] for name in original.output]
            self._nodes.append(node)
        return names["output"]

    def convolve(self, value: str, in_channels: int, out_channels: int) -> str:
        """Add a 1x1 convolution with bias; without a width, it is a matrix multiplication."""
        window = [1] * (len(self._input_shape) - 2)
        weight = self._initializer(self._weights((out_channels, in_channels, *window)))
        bias = self._initializer(self._offsets((out_channels,)))
        if not window:
            return self._node("Gemm", [value, weight, bias], transB=1)
        return self._node("Conv", [value, weight, bias], kernel_shape=window)

    def add(self, one: str, other: str) -> str:
        """Add two values of one shape; nothing is computed for zeros."""
        if one in self._zeros:
            return other
        return one if other in self._zeros else self._node("Add", [one, other])

    def concat(self, values: Sequence[str]) -> str:
        """Join values along their channels; one alone stays as it is."""
        if len(values) == 1:
            return values[0]
        return self._node("Concat", list(values), axis=1)

    def zeros(self, shape: Sequence[int]) -> str:
        """Zeros ``(B, *shape)``."""
        name = self._initializer(np.zeros((self._input_shape[0], *shape), np.float32))
        self._zeros.add(name)
        return name

    def flatten(self, value: str) -> str:
        """Put all numbers of an image in a row."""
        return self._node("Flatten", [value], axis=1)

    def to_onnx(self, output: str) -> bytes:
        """The model that puts a value out."""
        self._nodes.append(helper.make_node("Identity", [output], ["output"]))
        graph = helper.make_graph(
            self._nodes,
            "composition",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self._input_shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
            self._initializers,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
        return bytes(model.SerializeToString())

    def _node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _initializer(self, values: Weights) -> str:
        name = f"weight{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(values, name))
        return name

    def _fresh(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """Draw weights anew; shapes, paddings, bounds and other single numbers stay."""
        if tensor.data_type != TensorProto.FLOAT or not tensor.dims:
            return tensor
        if len(tensor.dims) >= 2:
            return numpy_helper.from_array(self._weights(tuple(tensor.dims)))
        old = numpy_helper.to_array(tensor)
        return numpy_helper.from_array((old + self._offsets(old.shape)).astype(np.float32))

    def _weights(self, shape: tuple[int, ...]) -> Weights:
        # He's scale: without it deep chains end in denormal numbers, which are slow.
        scale = math.sqrt(2 / math.prod(shape[1:]))
        drawn: Weights = scale * self._random.standard_normal(shape, dtype=np.float32)
        return drawn

    def _offsets(self, shape: tuple[int, ...]) -> Weights:
        drawn: Weights = np.float32(0.01) * self._random.random(shape, dtype=np.float32)
        return drawn


def compose_network(
    network: nn.Module,
    operators: Callable[[Part], onnx.ModelProto],
    input_shape: Sequence[int],
    *,
    seed: int = 0,
) -> bytes:
    """Put a whole network together from its parts, with fresh weights.

    Args:
        network: Its forward joins parts, as ``build_operator`` made them, by sums and by
            concatenation along the channels.
        operators: Exports a part.
        input_shape: ``(B, C, H, W)``.
        seed: Seed of the weights.

    Raises:
        CompositionError: If the network does something else besides.
        ExportError: If a part cannot be exported.
    """
    composition = Composition(input_shape, seed=seed)
    values: dict[fx.Node, str] = {}
    modules = dict(network.named_modules())
    for node in _trace(network):
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "placeholder":
            values[node] = "input"
        elif node.op == "call_module":
            module = modules[node.target]
            part, silent_shape = find_part(module), _silent_shape(module)
            if silent_shape is not None:
                values[node] = composition.zeros(silent_shape)
            else:
                assert part is not None  # else the tracer would have gone into it
                values[node] = composition.apply(operators(part), *args)
        elif node.op == "output":
            return composition.to_onnx(*args)
        elif (joined := _joined(composition, node.target, args, kwargs)) is not None:
            values[node] = joined
        else:
            raise CompositionError(
                f"cannot build {type(network).__name__} from its operators: it also calls "
                f"{node.target}. Use only sums and torch.cat between operators"
            )
    raise CompositionError(f"{type(network).__name__} has no output")


def _joined(
    composition: Composition, target: object, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str | None:
    """The value that joins others; None if what is called does more."""
    value, *rest = (*args, *kwargs.values())
    if target in _SUMS and len(rest) == 1 and isinstance(rest[0], str):
        return composition.add(value, rest[0])
    if target is torch.cat and rest == [1]:
        return composition.concat(value)
    if target in ("flatten", torch.flatten) and rest in ([1], [1, -1]):
        return composition.flatten(value)
    return str(value) if target is functional.dropout else None


def _trace(network: nn.Module) -> Iterable[Any]:
    try:
        return _PartTracer().trace(network).nodes
    except Exception as error:  # of any kind: it is somebody's forward that is followed
        raise CompositionError(
            f"cannot follow what {type(network).__name__} computes: "
            f"{' '.join(str(error).split())}"
        ) from error


class _PartTracer(fx.Tracer):
    """Follows a network's forward down to its parts."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return find_part(m) is not None or _silent_shape(m) is not None


def _silent_shape(module: nn.Module) -> tuple[int, ...] | None:
    """Of the zeros that a module of a network puts out; None of one that puts out more."""
    if isinstance(module, Choice):
        silent = all(isinstance(operator, Zero) for operator in module.operators.values())
        return module.output_shape if silent else None
    return module.output_shape if isinstance(module, Zero) else None
