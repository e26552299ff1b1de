"""Many sizes of one network as ONNX: exported once, then cut.

PyTorch takes seconds for an export, and learning the costs of widths takes dozens of networks.
These networks differ in the sizes of their weights, and in their removed branches. So goldnas
exports the whole network once, and cuts the others out of this export.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from goldnas.channels import Role
from goldnas.exporting.onnx import to_onnx
from goldnas.spaces.shrunk import ShrunkSpace, Size

_FIRST_MARK = 2.0**70
"""A number that no network subtracts; the marks after it are further apart than rounding."""

_INNER = "branch"
"""Name of a branch within its mark."""


class Narrowed:
    """The networks of a space as ONNX, for measuring: their weights have no meaning.

    Args:
        space: Space of the networks.
        batch: Images per call.

    Raises:
        ExportError: If the whole network cannot be exported.
    """

    def __init__(self, space: ShrunkSpace, batch: int) -> None:
        self._space = space
        self._shape = (batch, *space.input_shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same model again after an interruption
            module = _unlike(space.build_whole())
        for number, path in enumerate(space.branches):
            module.set_submodule(path, _Marked(module.get_submodule(path), number))
        self._whole = onnx.load_model_from_string(to_onnx(module, self._shape))
        self._cuts_well = all(self._is_cut_well(size) for size in _extremes(space))
        """Whether what is cut is what would be exported."""

    def model(self, size: Size) -> bytes:
        """A network as ONNX, in evaluation mode.

        Raises:
            ExportError: If it cannot be exported.
        """
        if not self._cuts_well:
            return self._export(size)
        return bytes(self._cut(size).SerializeToString())

    def _cut(self, size: Size) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self._whole)
        _unmark(model.graph, size.branches)
        _cut_weights(model.graph, self._space, size)
        return model

    def _is_cut_well(self, size: Size) -> bool:
        exported = onnx.load_model_from_string(self._export(size))
        return _describe(self._cut(size).graph) == _describe(exported.graph)

    def _export(self, size: Size) -> bytes:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = self._space.build(self._space.describe(size))
            return to_onnx(_unlike(module), self._shape)


def _unlike(module: nn.Module) -> nn.Module:
    """A network whose normalisations differ.

    Equal weights are stored once, and cannot be cut apart.
    """
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            for tensor in (part.weight, part.bias, part.running_mean, part.running_var):
                if tensor is not None:
                    nn.init.uniform_(tensor, 0.5, 1.0)
    return module


class _Marked(nn.Module):
    """A branch whose input and output can be found again in a graph."""

    def __init__(self, branch: nn.Module, number: int) -> None:
        super().__init__()
        self.branch = branch
        self._marks = tuple(_FIRST_MARK * (1 + (2 * number + end) / 2**16) for end in (0, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map nothing of use: this is for the graph alone."""
        output: Tensor = self.branch(x - self._marks[0])
        return output - self._marks[1]


def _unmark(graph: onnx.GraphProto, there: Sequence[bool]) -> None:
    """Take the marks out, and the branches that are not there."""
    constants = _constants(graph)
    instead: dict[str, str] = {}
    starts: dict[int, str] = {}
    marks = []
    for node in graph.node:
        mark = constants.get(node.input[1], 0.0) if node.op_type == "Sub" else 0.0
        if mark < _FIRST_MARK:
            continue
        number, end = divmod(round((mark / _FIRST_MARK - 1) * 2**16), 2)
        marks.append(node)
        instead[node.output[0]] = node.input[0]
        if not end:
            starts[number] = node.input[0]
        elif not there[number]:
            instead[node.output[0]] = starts[number]

    def resolve(name: str) -> str:
        while name in instead:
            name = instead[name]
        return name

    for mark in marks:
        graph.node.remove(mark)
    for node in graph.node:
        node.input[:] = [resolve(name) for name in node.input]
    last = resolve(graph.output[0].name)
    if last != graph.output[0].name:  # the last branch was marked
        for node in graph.node:
            node.input[:] = [graph.output[0].name if n == last else n for n in node.input]
            node.output[:] = [graph.output[0].name if n == last else n for n in node.output]
    _drop_unread(graph)


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Take out what nobody reads."""
    read = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            kept.append(node)
            read.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    del graph.value_info[:]  # whose shapes are those of the whole network


def _cut_weights(graph: onnx.GraphProto, space: ShrunkSpace, size: Size) -> None:
    """Leave the first channels of each layer."""
    stays: dict[str, dict[Role, np.ndarray]] = {}
    for path, roles in space.coupling.layers.items():
        for role, channels in roles.items():
            widths = np.array([*size.widths, 1])[channels.group]
            stay = (channels.group < 0) | (channels.channel < widths)
            if not stay.all():
                stays.setdefault(path, {})[role] = np.flatnonzero(stay)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    inner = {f"{path}.{_INNER}": path for path in space.branches}

    def path_of(weight: str) -> str:
        path = weight.removesuffix(".weight")
        for marked, branch in inner.items():
            if path.startswith(f"{marked}."):
                return branch + path.removeprefix(marked)
        return path

    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            path = path_of(node.input[1])
            if path in stays:
                _cut_weight(tensors, node, stays[path])
        elif node.op_type == "BatchNormalization":
            path = path_of(node.input[1])
            for name in node.input[1:] if path in stays else ():
                _take(tensors[name], {0: stays[path]["both"]})
        elif node.op_type == "Reshape" and (shape := tensors.get(node.input[1])) is not None:
            values = numpy_helper.to_array(shape)
            if len(values) == 2 and (values > 0).all():  # what follows are as many as are left
                fresh = np.array([values[0], -1], values.dtype)
                shape.CopyFrom(numpy_helper.from_array(fresh, shape.name))


def _cut_weight(
    tensors: Mapping[str, onnx.TensorProto],
    node: onnx.NodeProto,
    stays: Mapping[Role, np.ndarray],
) -> None:
    weight, *bias = (tensors[name] for name in node.input[1:])
    if "both" in stays:
        for tensor in (weight, *bias):
            _take(tensor, {0: stays["both"]})
        for attribute in node.attribute:
            if attribute.name == "group":
                attribute.i = len(stays["both"])
        return
    _take(weight, {axis: stays[role] for axis, role in _AXES if role in stays})
    for tensor in bias if "out" in stays else ():
        _take(tensor, {0: stays["out"]})


_AXES: tuple[tuple[int, Role], ...] = ((0, "out"), (1, "in"))


def _take(tensor: onnx.TensorProto, stays: Mapping[int, np.ndarray]) -> None:
    values = numpy_helper.to_array(tensor)
    for axis, index in stays.items():
        if len(index) and index[-1] < values.shape[axis]:
            values = values.take(index, axis)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def _constants(graph: onnx.GraphProto) -> dict[str, float]:
    """The single numbers of a graph."""
    return {
        tensor.name: float(numpy_helper.to_array(tensor).item())
        for tensor in graph.initializer
        if not tensor.dims and tensor.data_type == onnx.TensorProto.FLOAT
    }


def _extremes(space: ShrunkSpace) -> list[Size]:
    """Networks in which everything differs from the whole one: if these are right, all are."""
    smallest = space.smallest
    if not space.branches:
        return [smallest]
    widths = tuple(space.widths(group)[0] for group in range(len(smallest.widths)))
    return [smallest, Size(widths, (True,) * len(space.branches))]


def _describe(graph: onnx.GraphProto) -> list[tuple[str, list[tuple[int, ...]]]]:
    """What two graphs have in common that take the same time."""
    shapes = {
        tensor.name: tuple(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT  # others are shapes themselves
    }
    return sorted(
        (node.op_type, [shapes[name] for name in node.input if name in shapes])
        for node in graph.node
    )
