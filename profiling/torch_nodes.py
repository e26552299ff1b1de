"""What each ONNX node is in PyTorch: a function, and its arguments."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import TensorProto
from torch import Tensor, fx
from torch.nn import functional as F

from goldnas.errors import MeasurementError

DTYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}


@dataclass(frozen=True)
class Call:
    """One ONNX node, with what it reads."""

    graph: fx.Graph
    node: onnx.NodeProto
    inputs: Sequence[fx.Node | None]
    constants: Sequence[Tensor | None]
    attributes: dict[str, Any]

    def numbers(self, index: int, name: str = "") -> list[int] | None:
        """Whole numbers that are an attribute in some opsets and an input in others."""
        if name in self.attributes:
            return list(self.attributes[name])
        if index >= len(self.constants) or not self.node.input[index]:
            return None
        constant = self.constants[index]
        if constant is None:
            raise MeasurementError(f"{locate(self.node)}: {name or 'it'} is not constant")
        return [int(number) for number in constant.flatten().tolist()]

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute, or what it is where the node does not say it."""
        return self.attributes.get(name, default)

    def require(self, name: str, *allowed: Any) -> None:
        """Refuse an attribute with another value than these."""
        value = self.attributes.get(name, allowed[0])
        if value not in allowed:
            raise MeasurementError(f"{locate(self.node)}: {name} {value} is not supported")


def locate(node: onnx.NodeProto) -> str:
    """Name a node in a message: its type, and its name or what it puts out."""
    return f"node {node.op_type} {node.name or node.output[0]!r}"


Arguments = Callable[[Call], Iterator[Any]]


def _inputs(call: Call) -> Iterator[Any]:
    yield from call.inputs


def _padding(call: Call, sides: int) -> list[int]:
    pads = call.attribute("pads", [0] * 2 * sides)
    if pads[:sides] != pads[sides:]:
        raise MeasurementError(f"{locate(call.node)}: pads {pads} differ from side to side")
    return list(pads[:sides])


def _convolution(call: Call) -> Iterator[Any]:
    weight = call.constants[1]
    sides = 2 if weight is None else weight.dim() - 2
    x, pads = call.inputs[0], call.attribute("pads", [0] * 2 * sides)
    even = pads[:sides] == pads[sides:]
    if not even:
        amounts = [n for i in reversed(range(sides)) for n in (pads[i], pads[sides + i])]
        x = call.graph.call_function(F.pad, (x, amounts))
    yield x
    yield call.inputs[1]
    yield call.inputs[2] if len(call.inputs) > 2 else None
    yield list(call.attribute("strides", [1] * sides))
    yield list(pads[:sides]) if even else [0] * sides
    yield list(call.attribute("dilations", [1] * sides))
    yield call.attribute("group", 1)


def _linear(call: Call) -> Iterator[Any]:
    for name in ("alpha", "beta"):
        call.require(name, 1.0)
    call.require("transA", 0)
    yield call.inputs[0]
    yield call.inputs[1]
    yield call.inputs[2] if len(call.inputs) > 2 else None
    yield bool(call.attribute("transB", 0))


def _gemm(x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool) -> Tensor:
    return F.linear(x, weight if transposed else weight.t(), bias)


def _normalisation(call: Call) -> Iterator[Any]:
    call.require("training_mode", 0)
    x, weight, bias, mean, variance = call.inputs
    yield from (x, mean, variance, weight, bias, False, 0.0)
    yield call.attribute("epsilon", 1e-5)


def _clipped(call: Call) -> Iterator[Any]:
    yield call.inputs[0]
    for index in (1, 2):
        if index >= len(call.inputs) or not call.node.input[index]:
            yield None
            continue
        bound = call.constants[index]
        if bound is None:
            raise MeasurementError(f"{locate(call.node)}: its bounds are not constant")
        yield float(bound)  # here, since a tensor on a GPU would be waited for in every call


def _hard_sigmoid(call: Call) -> Iterator[Any]:
    alpha, beta = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) > 1e-6 or beta != 0.5:
        raise MeasurementError(
            f"{locate(call.node)}: alpha {alpha:g}, beta {beta:g} are not PyTorch's 1/6 and 0.5"
        )
    yield call.inputs[0]


def _max_pooling(call: Call) -> Iterator[Any]:
    kernel = list(call.attributes["kernel_shape"])
    yield call.inputs[0]
    yield kernel
    yield list(call.attribute("strides", [1] * len(kernel)))
    yield _padding(call, len(kernel))
    yield list(call.attribute("dilations", [1] * len(kernel)))
    yield bool(call.attribute("ceil_mode", 0))


def _average_pooling(call: Call) -> Iterator[Any]:
    kernel = list(call.attributes["kernel_shape"])
    yield call.inputs[0]
    yield kernel
    yield list(call.attribute("strides", [1] * len(kernel)))
    yield _padding(call, len(kernel))
    yield bool(call.attribute("ceil_mode", 0))
    yield bool(call.attribute("count_include_pad", 0))


def _mean(call: Call) -> Iterator[Any]:
    yield call.inputs[0]
    yield call.numbers(1, "axes")
    yield bool(call.attribute("keepdims", 1))


def _spatial_mean(x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


def _joined(call: Call) -> Iterator[Any]:
    yield list(call.inputs)
    yield call.attributes["axis"]


def _sliced(call: Call) -> Iterator[Any]:
    starts, ends = call.numbers(1, "starts") or [], call.numbers(2, "ends") or []
    axes = call.numbers(3, "axes") or list(range(len(starts)))
    yield call.inputs[0]
    yield list(zip(axes, starts, ends, call.numbers(4) or [1] * len(starts), strict=True))


def _slice(x: Tensor, slices: list[tuple[int, int, int, int]]) -> Tensor:
    for axis, start, end, step in slices:
        x = torch.ops.aten.slice.Tensor(x, axis, start, end, step)
    return x


def _padded(call: Call) -> Iterator[Any]:
    call.require("mode", b"constant")
    pads = call.numbers(1, "pads") or []
    half = len(pads) // 2
    yield call.inputs[0]
    yield list(zip(pads[:half], pads[half:], strict=True))
    yield call.numbers(3) or list(range(half))
    if len(call.inputs) <= 2 or not call.node.input[2]:
        yield 0.0
        return
    value = call.constants[2]
    if value is None:
        raise MeasurementError(f"{locate(call.node)}: its value is not constant")
    yield float(value)  # here, since a tensor on a GPU would be waited for in every call


def _pad(x: Tensor, pads: list[tuple[int, int]], axes: list[int], value: float) -> Tensor:
    amounts = [0] * 2 * x.dim()
    for axis, (before, after) in zip(axes, pads, strict=True):
        last = x.dim() - 1 - axis % x.dim()  # PyTorch begins with the last axis
        amounts[2 * last], amounts[2 * last + 1] = before, after
    return F.pad(x, amounts, value=value)


def _shaped(call: Call) -> Iterator[Any]:
    yield call.inputs[0]
    yield call.numbers(1, "shape")
    yield bool(call.attribute("allowzero", 0))


def _reshape(x: Tensor, shape: list[int], allow_zero: bool) -> Tensor:
    if allow_zero:
        return x.reshape(shape)
    return x.reshape([size or x.shape[axis] for axis, size in enumerate(shape)])


def _flattened(call: Call) -> Iterator[Any]:
    yield call.inputs[0]
    yield call.attribute("axis", 1)


def _flatten(x: Tensor, axis: int) -> Tensor:
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _cast(call: Call) -> Iterator[Any]:
    yield call.inputs[0]
    yield DTYPES[call.attributes["to"]]


def _to(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype)


def _same(x: Tensor) -> Tensor:
    return x


KNOWN: dict[str, tuple[Callable[..., Any], Arguments]] = {
    "Add": (torch.add, _inputs),
    "AveragePool": (F.avg_pool2d, _average_pooling),
    "BatchNormalization": (F.batch_norm, _normalisation),
    "Cast": (_to, _cast),
    "Clip": (torch.clamp, _clipped),
    "Concat": (torch.cat, _joined),
    "Conv": (torch.conv2d, _convolution),
    "Flatten": (_flatten, _flattened),
    "Gemm": (_gemm, _linear),
    "GlobalAveragePool": (_spatial_mean, _inputs),
    "HardSigmoid": (F.hardsigmoid, _hard_sigmoid),
    "HardSwish": (F.hardswish, _inputs),
    "Identity": (_same, _inputs),
    "MatMul": (torch.matmul, _inputs),
    "MaxPool": (torch.max_pool2d, _max_pooling),
    "Mul": (torch.mul, _inputs),
    "Pad": (_pad, _padded),
    "ReduceMean": (torch.mean, _mean),
    "Relu": (torch.relu, _inputs),
    "Reshape": (_reshape, _shaped),
    "Sigmoid": (torch.sigmoid, _inputs),
    "Slice": (_slice, _sliced),
    "Sub": (torch.sub, _inputs),
}
"""By ONNX's name of a node: the function of PyTorch, and its arguments."""
