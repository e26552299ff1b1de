"""Which channels of a network can only be removed together.

Every output channel of a layer has a number. Sums make numbers equal, concatenations put them
side by side, layers read them. Tensors of an unknown function keep all their channels: nothing
is guessed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import fx, nn

from goldnas.channels.tracing import BATCH, BATCH_NORMS, FUNCTIONS, trace_graph
from goldnas.errors import ConfigError

Ids = npt.NDArray[np.int64]
Role = Literal["in", "out", "both"]
"""Role of a layer's channels: read, put out, or passed on one by one."""

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

_PASSED_ON = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus),
    *(nn.Softsign, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.Upsample, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d),
)
"""Layers without weights whose channels are those of their input."""

_ALIKE = {
    *("relu", "relu_", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish"),
    *("hardswish", "hardsigmoid", "hardtanh", "sigmoid", "tanh", "softplus", "dropout"),
    *("dropout2d", "contiguous", "clone", "float", "detach", "max_pool2d", "avg_pool2d"),
    *("adaptive_avg_pool2d", "adaptive_max_pool2d", "interpolate", "stochastic_depth"),
    *("neg", "abs", "exp", "sqrt", "square", "clamp"),
}
"""Functions and methods, by name, whose channels are those of their first argument."""

_ARITHMETIC = {
    *("add", "iadd", "add_", "sub", "isub", "sub_", "mul", "imul", "mul_", "truediv", "div"),
    *("maximum", "minimum"),
}


class _Channels(NamedTuple):
    """The channels of a tensor, and their axis."""

    axis: int
    ids: Ids


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of several layers that are removed together."""

    name: str
    """Path of the first layer that puts them out."""
    size: int
    """How many channels there are."""


@dataclass(frozen=True)
class LayerChannels:
    """The channels of a layer, in one role."""

    group: Ids
    """``(C,)``: the index of each channel's group; -1 if the channel must stay."""
    channel: Ids
    """``(C,)``: which channel of the group."""


@dataclass(frozen=True)
class Input:
    """Stands for a tensor among the arguments of a layer or a function."""

    index: int
    joined: bool
    """Whether its first axis has several parts of each image, such as windows."""


class Function(nn.Module):
    """A function or a method as a layer.

    Args:
        target: The function, or the name of a method of the first argument.
    """

    def __init__(self, target: Callable[..., Any] | str) -> None:
        super().__init__()
        self._target = target

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        if isinstance(self._target, str):
            return getattr(args[0], self._target)(*args[1:], **kwargs)
        return self._target(*args, **kwargs)


@dataclass(frozen=True)
class LayerCall:
    """How a network calls a layer, or a function that multiplies matrices."""

    inputs: tuple[tuple[int, ...], ...]
    """Shapes of the different tensors that it reads, for one image."""
    output: tuple[int, ...]
    """Shape of the output, or of its first tensor, for one image."""
    arguments: tuple[Any, Any]
    """By position and by name, with an :class:`Input` in place of each tensor."""
    function: Function | None = None
    """None for a layer of the network."""


@dataclass(frozen=True)
class Coupling:
    """The channels of a network."""

    groups: tuple[ChannelGroup, ...]
    layers: dict[str, dict[Role, LayerChannels]]
    """By path: convolutions, linear layers, normalisations."""
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    """By path: of input and output of those layers, without the batch."""
    others: dict[str, LayerCall]
    """By path: layers with weights that keep all their channels, and products in functions."""

    def restrict(self, kept: Mapping[str, Ids], removed: Iterable[str] = ()) -> "Coupling":
        """The channels of the remaining network; a group that no layer has gets none.

        Args:
            kept: The channels that each group keeps, in order, by name of the group.
            removed: Paths of removed branches.
        """
        gone = tuple(f"{path}." for path in removed)
        numbers = []
        for group in self.groups:
            number = np.full(group.size, -1)
            stay = kept.get(group.name, np.arange(group.size))
            number[stay] = np.arange(len(stay))
            numbers.append(number)
        layers: dict[str, dict[Role, LayerChannels]] = {}
        for path, roles in self.layers.items():
            if path.startswith(gone):
                continue
            for role, channels in roles.items():
                new = np.array(
                    [
                        numbers[g][c] if g >= 0 else 0
                        for g, c in zip(channels.group, channels.channel, strict=True)
                    ],
                    dtype=np.int64,
                )
                left = new >= 0
                of_role = LayerChannels(channels.group[left], new[left])
                layers.setdefault(path, {})[role] = of_role
        there = {
            int(group)
            for roles in layers.values()
            for channels in roles.values()
            for group in np.unique(channels.group)
        }
        groups = tuple(
            ChannelGroup(group.name, int((number >= 0).sum()) if index in there else 0)
            for index, (group, number) in enumerate(zip(self.groups, numbers, strict=True))
        )
        return Coupling(groups, layers, self.shapes, self.others)


def find_coupling(network: nn.Module, input_shape: Sequence[int]) -> Coupling:
    """Follow the channels of a network.

    Args:
        network: Is not changed.
        input_shape: ``(C, H, W)``.

    Raises:
        ConfigError: If the network's forward cannot be followed, if a layer with weights is
            called several times, or if layers share a weight.
    """
    _refuse_shared_weights(network)
    graph = trace_graph(network, input_shape)
    return _Follower(network, graph).follow()


def _is_joined(shape: Sequence[int]) -> bool:
    """Whether the first axis of a tensor has several parts of each image."""
    return len(shape) > 0 and shape[0] != BATCH and shape[0] % BATCH == 0


def _of_one_image(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a tensor for one image: with an axis for its parts, if it has several."""
    parts = (shape[0] // BATCH,) if _is_joined(shape) else ()
    return (*parts, *shape[1:])


def _refuse_shared_weights(network: nn.Module) -> None:
    owners: dict[int, str] = {}
    for path, module in network.named_modules():
        for name, weight in module.named_parameters(recurse=False):
            owner = owners.setdefault(id(weight), path)
            if owner != path:
                raise ConfigError(
                    f"layers {owner!r} and {path!r} share one {name}: it cannot become smaller "
                    "for one of them alone. Give each layer weights of its own"
                )


class _Follower:
    """Goes through a graph once, and notes which channel is which."""

    def __init__(self, network: nn.Module, graph: fx.Graph) -> None:
        self._modules = dict(network.named_modules(remove_duplicate=False))
        self._nodes = list(graph.nodes)
        self._equal = [0]
        """By number of a channel: one that it is equal to. 0 stays, and all that equal it."""
        self._values: dict[fx.Node, Any] = {}
        """The channels of each tensor; None where they have to stay, or there are none."""
        self._uses: dict[str, dict[Role, Ids]] = {}
        self._shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self._others: dict[str, LayerCall] = {}

    # -- numbers of channels -----------------------------------------------------------------

    def _fresh(self, count: int) -> Ids:
        start = len(self._equal)
        self._equal.extend(range(start, start + count))
        return np.arange(start, start + count)

    def _find(self, number: int) -> int:
        while self._equal[number] != number:
            self._equal[number] = self._equal[self._equal[number]]
            number = self._equal[number]
        return number

    def _unite(self, ones: Iterable[int], others: Iterable[int]) -> None:
        for one, other in zip(ones, others, strict=True):
            a, b = sorted((self._find(int(one)), self._find(int(other))))
            self._equal[b] = a

    def _keep(self, value: Any) -> None:
        """See that channels stay."""
        if isinstance(value, _Channels):
            self._unite(value.ids, [0] * len(value.ids))
        elif isinstance(value, list):
            for one in value:
                self._keep(one)

    # -- the graph ---------------------------------------------------------------------------

    def follow(self) -> Coupling:
        """The channels of the network."""
        calls = Counter(n.target for n in self._nodes if n.op == "call_module")
        for node in self._nodes:
            if node.op == "call_module":
                again = calls[node.target] > 1 and _has_weights(self._modules[node.target])
                known = not again and self._follow_layer(node)
            elif node.op in FUNCTIONS:
                known = self._follow_function(node)
            else:
                known = False
            if known:
                continue
            for one in node.all_input_nodes:
                self._keep(self._values.get(one))
            self._values[node] = None
            if node.op == "call_module":
                self._note_other(node, calls[node.target])
            elif node.meta["multiplies"]:
                inside = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
                path = ".".join([*inside[-1:], f"{node.name}()"])
                self._note_call(node, path, Function(node.target))
        return self._conclude()

    def _note_other(self, node: fx.Node, calls: int) -> None:
        """Note a layer that keeps its channels."""
        path = str(node.target)
        if not _has_weights(self._modules[path]):
            return
        if calls > 1:
            raise ConfigError(
                f"layer {path!r} has weights and is called {calls} times, but goldnas counts "
                "each layer once: make a layer for each call"
            )
        self._note_call(node, path)

    def _note_call(self, node: fx.Node, path: str, function: Function | None = None) -> None:
        """Note how a layer or a function is called."""
        shape = node.meta["value"]
        if isinstance(shape, list):
            shape = shape[0]
        tensors = [n for n in node.all_input_nodes if "constant" not in n.meta]
        if not all(isinstance(n.meta["value"], tuple) for n in tensors):
            raise ConfigError(
                f"{path!r} reads several tensors as one argument, and its cost alone is not "
                "known: pass them one by one"
            )

        def argument(of: fx.Node) -> Any:
            if of not in tensors:
                return of.meta["constant"]
            return Input(tensors.index(of), joined=_is_joined(of.meta["value"]))

        self._others[path] = LayerCall(
            tuple(_of_one_image(n.meta["value"]) for n in tensors),
            _of_one_image(shape or (0,)),
            fx.node.map_arg((node.args, node.kwargs), argument),
            function,
        )

    def _follow_layer(self, node: fx.Node) -> bool:
        """Follow the call of a layer; say whether it is one that is known."""
        path = str(node.target)
        layer = self._modules[path]
        if len(node.all_input_nodes) != 1 or not isinstance(node.meta["value"], tuple):
            return False
        before = self._values.get(node.all_input_nodes[0])
        shape = node.all_input_nodes[0].meta["value"]
        after: tuple[int, ...] = node.meta["value"]
        if type(layer) in _PASSED_ON or _is_one_slope(layer):
            if isinstance(before, _Channels) and _mixes(type(layer).__name__, before, shape):
                return False
            self._values[node] = before
            return True
        if isinstance(layer, nn.Flatten):
            return self._flatten(node, before, shape, after, layer.start_dim)
        axis = len(shape) - 1 if type(layer) in (nn.Linear, nn.LayerNorm) else 1
        if isinstance(layer, BATCH_NORMS) or type(layer) is nn.LayerNorm:
            if not isinstance(before, _Channels) or before.axis != axis:
                return False
            if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) != 1:
                return False
            self._note(path, shape, after, {"both": before.ids})
            self._values[node] = before
            return True
        if type(layer) not in (*CONVOLUTIONS, nn.Linear):
            return False
        if isinstance(before, _Channels) and before.axis != axis:
            return False
        ids = before.ids if isinstance(before, _Channels) else np.zeros(shape[axis], np.int64)
        groups = getattr(layer, "groups", 1)
        if groups > 1:
            if not groups == shape[1] == after[1]:
                return False
            self._note(path, shape, after, {"both": ids})
            self._values[node] = _Channels(1, ids)
            return True
        made = self._fresh(after[axis])
        self._note(path, shape, after, {"in": ids, "out": made})
        self._values[node] = _Channels(axis, made)
        return True

    def _note(
        self, path: str, shape: tuple[int, ...], after: tuple[int, ...], uses: dict[Role, Ids]
    ) -> None:
        self._uses[path] = uses
        if type(self._modules[path]) in (nn.Linear, nn.LayerNorm):
            self._shapes[path] = (_of_one_image(shape), _of_one_image(after))
        else:
            self._shapes[path] = (shape[1:], after[1:])

    def _flatten(
        self,
        node: fx.Node,
        before: Any,
        shape: tuple[int, ...],
        after: tuple[int, ...],
        start: int,
    ) -> bool:
        if not isinstance(before, _Channels):
            return False
        if start == 1 and before.axis == 1 and after == (shape[0], prod(shape[1:])):
            self._values[node] = _Channels(1, np.repeat(before.ids, prod(shape[2:])))
            return True
        if start > before.axis:
            self._values[node] = before
            return True
        return False

    def _follow_function(self, node: fx.Node) -> bool:
        """Follow a function or a method; say whether it is one that is known."""
        name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
        if not node.args or not isinstance(node.args[0], fx.Node | list | tuple):
            return name in _ARITHMETIC and self._follow_arithmetic(node)
        if name in _ARITHMETIC:
            return self._follow_arithmetic(node)
        if name in ("cat", "concat"):
            return self._concatenate(node)
        if not isinstance(node.args[0], fx.Node):
            return False
        before, shape = self._values.get(node.args[0]), node.args[0].meta["value"]
        if name == "getitem" and isinstance(before, list):
            self._values[node] = before[node.args[1]]  # type: ignore[index]
            return True
        after = node.meta["value"]
        if after is None:  # a size, an assertion: no channels come of it
            self._values[node] = None
            return True
        if not isinstance(before, _Channels) or not isinstance(shape, tuple):
            return False
        arguments: dict[Any, Any] = {**dict(enumerate(node.args[1:])), **node.kwargs}
        follow = _FUNCTIONS.get(str(name))
        if name in _ALIKE or (name == "pad" and _pads_no_channels(arguments, before, shape)):
            if after[before.axis] != shape[before.axis] or len(after) != len(shape):
                return False
            if name != "pad" and _mixes(str(name), before, shape):
                return False
            self._values[node] = before
            return True
        if name in ("flatten",):
            start = arguments.get(0, arguments.get("start_dim", 0))
            end = arguments.get(1, arguments.get("end_dim", -1))
            return end in (-1, len(shape) - 1) and self._flatten(
                node, before, shape, after, start
            )
        if name in ("view", "reshape"):
            if not _fits_any_width(arguments, before.axis if after == shape else -1):
                return False
            if after == shape:
                self._values[node] = before
                return True
            return self._flatten(node, before, shape, after, 1) and len(after) == 2
        if follow is None:
            return False
        if name == "chunk":
            self._unite_chunks(before, after, arguments)
        found = follow(before, shape, after, arguments)
        if found is None:
            return False
        self._values[node] = found
        return True

    def _unite_chunks(self, before: _Channels, after: Any, arguments: dict[Any, Any]) -> None:
        """See that equal parts stay equal; channels of parts that are not, stay."""
        if _find_along(arguments, after[0]) != before.axis:
            return
        if len(before.ids) % len(after):
            self._keep(before)
            return
        first, *others = np.split(before.ids, len(after))
        for ids in others:
            self._unite(first, ids)

    def _follow_arithmetic(self, node: fx.Node) -> bool:
        """Sums and products of tensors: what lies above each other is united."""
        after = node.meta["value"]
        if not isinstance(after, tuple):
            return False
        found: _Channels | None = None
        for one in (*node.args, *node.kwargs.values()):
            if not isinstance(one, fx.Node):
                continue
            shape = one.meta["value"]
            if not isinstance(shape, tuple) or prod(shape) == 1:
                continue  # a number
            value = self._values.get(one)
            if not isinstance(value, _Channels):
                return False
            axis = value.axis + len(after) - len(shape)
            if len(value.ids) != after[axis]:
                return False  # one channel for all of the other
            if found is None:
                found = _Channels(axis, value.ids)
            elif found.axis != axis:
                return False
            else:
                self._unite(found.ids, value.ids)
        self._values[node] = found
        return found is not None

    def _concatenate(self, node: fx.Node) -> bool:
        parts = node.args[0]
        if not isinstance(parts, list | tuple):
            return False
        along = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        values = [self._values.get(one) for one in parts]  # type: ignore[arg-type]
        shapes = [one.meta["value"] for one in parts]  # type: ignore[union-attr]
        axes = {value.axis for value in values if isinstance(value, _Channels)}
        if len(axes) != 1 or not isinstance(along, int):
            return False
        (axis,) = axes
        ids = [
            v.ids if isinstance(v, _Channels) else np.zeros(shape[axis], np.int64)
            for v, shape in zip(values, shapes, strict=True)
        ]
        if along % len(shapes[0]) == axis:
            self._values[node] = _Channels(axis, np.concatenate(ids))
            return True
        for other in ids[1:]:
            self._unite(ids[0], other)
        self._values[node] = _Channels(axis, ids[0])
        return True

    # -- the result --------------------------------------------------------------------------

    def _conclude(self) -> Coupling:
        """Put channels that are used alike into groups."""
        for node in self._nodes:
            if node.op == "output":
                for one in node.all_input_nodes:
                    self._keep(self._values.get(one))
        roots = {
            (path, role): np.array([self._find(int(i)) for i in ids], dtype=np.int64)
            for path, roles in self._uses.items()
            for role, ids in roles.items()
        }
        stays = self._find(0)
        where: dict[int, Counter[tuple[str, Role]]] = {}
        for use, numbers in roots.items():
            for number in numbers:
                if number != stays:
                    where.setdefault(int(number), Counter())[use] += 1
        together: dict[frozenset[Any], list[int]] = {}
        for number, uses in where.items():
            together.setdefault(frozenset(uses.items()), []).append(number)
        groups: list[ChannelGroup] = []
        place: dict[int, tuple[int, int]] = {}
        taken: Counter[str] = Counter()
        for alike in together.values():
            uses = where[alike[0]]
            made = [path for path, role in uses if role == "out"]
            if not made:
                continue
            name = made[0]
            taken[name] += 1
            if taken[name] > 1:
                name = f"{name}#{taken[name]}"
            for channel, number in enumerate(sorted(alike)):
                place[number] = (len(groups), channel)
            groups.append(ChannelGroup(name, len(alike)))
        layers: dict[str, dict[Role, LayerChannels]] = {}
        for (path, role), numbers in roots.items():
            pairs = [place.get(int(number), (-1, -1)) for number in numbers]
            table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
            layers.setdefault(path, {})[role] = LayerChannels(table[:, 0], table[:, 1])
        return Coupling(tuple(groups), layers, self._shapes, self._others)


def _has_weights(layer: nn.Module) -> bool:
    return any(True for _ in layer.parameters())


def _is_one_slope(layer: nn.Module) -> bool:
    return isinstance(layer, nn.PReLU) and layer.num_parameters == 1


def _mixes(name: str, before: _Channels, shape: tuple[int, ...]) -> bool:
    """Whether what pools, pads or resizes the last axes of a tensor has the channels there."""
    name = name.lower()
    if name in ("upsample", "interpolate"):
        return before.axis != 1
    if "pool" not in name and "pad" not in name:
        return False
    return before.axis >= len(shape) - int(name[-2])  # of 2d, two axes


def _fits_any_width(arguments: dict[Any, Any], place: int) -> bool:
    """Whether a view does not say how many channels there are.

    Args:
        arguments: Arguments of the view.
        place: Index of the size that has them.
    """
    sizes: Any = arguments.get("shape", arguments.get("size", arguments.get(0)))
    if not isinstance(sizes, list | tuple):
        sizes = [value for key, value in arguments.items() if isinstance(key, int)]
    return isinstance(sizes[place], fx.Node) or sizes[place] == -1


def _pads_no_channels(
    arguments: dict[Any, Any], before: _Channels, shape: tuple[int, ...]
) -> bool:
    padding = arguments.get(0, arguments.get("pad", ()))
    return len(padding) // 2 < len(shape) - before.axis


def _permute(
    before: _Channels, shape: tuple[int, ...], after: tuple[int, ...], arguments: dict[Any, Any]
) -> _Channels | None:
    dims: Any = arguments.get("dims", arguments.get(0))
    if isinstance(dims, int):
        dims = [arguments[i] for i in range(len(shape))]
    return _Channels([d % len(shape) for d in dims].index(before.axis), before.ids)


def _transpose(
    before: _Channels, shape: tuple[int, ...], after: tuple[int, ...], arguments: dict[Any, Any]
) -> _Channels | None:
    one, other = (d % len(shape) for d in (arguments[0], arguments[1]))
    axis = {one: other, other: one}.get(before.axis, before.axis)
    return _Channels(axis, before.ids)


def _mean(
    before: _Channels, shape: tuple[int, ...], after: tuple[int, ...], arguments: dict[Any, Any]
) -> _Channels | None:
    dims = arguments.get(0, arguments.get("dim"))
    if dims is None:
        return None
    gone = {d % len(shape) for d in ([dims] if isinstance(dims, int) else dims)}
    if before.axis in gone:
        return None
    if len(after) == len(shape):
        return before
    return _Channels(before.axis - sum(d < before.axis for d in gone), before.ids)


def _getitem(
    before: _Channels, shape: tuple[int, ...], after: tuple[int, ...], arguments: dict[Any, Any]
) -> _Channels | None:
    index = arguments[0] if isinstance(arguments[0], tuple) else (arguments[0],)
    if not all(isinstance(i, slice | int) for i in index):
        return None
    if any(isinstance(b, fx.Node) for i in index if isinstance(i, slice) for b in _bounds(i)):
        return None
    here = index[before.axis] if before.axis < len(index) else slice(None)
    if isinstance(here, int) or len(before.ids[here]) < len(before.ids):
        return None  # of fewer channels these would be others
    gone = sum(isinstance(i, int) for i in index[: before.axis])
    return _Channels(before.axis - gone, before.ids[here])


def _bounds(one: slice) -> tuple[Any, Any, Any]:
    return one.start, one.stop, one.step


def _squeeze(
    before: _Channels, shape: tuple[int, ...], after: tuple[int, ...], arguments: dict[Any, Any]
) -> _Channels | None:
    dim = arguments.get(0, arguments.get("dim"))
    if not isinstance(dim, int):
        return None
    gone = dim % len(shape)
    if gone == before.axis:
        return None
    return _Channels(before.axis - (gone < before.axis and shape[gone] == 1), before.ids)


def _unsqueeze(
    before: _Channels, shape: tuple[int, ...], after: tuple[int, ...], arguments: dict[Any, Any]
) -> _Channels | None:
    dim: int = arguments.get(0, arguments.get("dim", 0)) % len(after)
    return _Channels(before.axis + (dim <= before.axis), before.ids)


def _split(
    before: _Channels, shape: tuple[int, ...], after: Any, arguments: dict[Any, Any]
) -> list[_Channels] | None:
    if _find_along(arguments, shape) != before.axis:
        return [before for _ in after]
    return None  # whose sizes the forward says


def _chunk(
    before: _Channels, shape: tuple[int, ...], after: Any, arguments: dict[Any, Any]
) -> list[_Channels]:
    along = _find_along(arguments, shape)
    if along != before.axis:
        return [before for _ in after]
    ends = np.cumsum([one[along] for one in after])[:-1]
    return [_Channels(along, ids) for ids in np.split(before.ids, ends)]


def _find_along(arguments: dict[Any, Any], shape: tuple[int, ...]) -> int:
    along: int = arguments.get(1, arguments.get("dim", 0))
    return along % len(shape)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "permute": _permute,
    "transpose": _transpose,
    "mean": _mean,
    "sum": _mean,
    "getitem": _getitem,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "chunk": _chunk,
    "split": _split,
}
"""Where channels are after some functions and methods, by name."""
