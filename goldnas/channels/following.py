"""Follow the channels of a network through its graph.

Every output channel of a layer has a number. Sums make numbers equal, concatenations put them
side by side, layers read them. Tensors of an unknown function keep all their channels: nothing
is guessed.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from goldnas.channels.coupling import (
    ChannelGroup,
    Coupling,
    Function,
    Ids,
    Input,
    LayerCall,
    LayerChannels,
    LayerShapes,
    Role,
)
from goldnas.channels.functions import (
    ALIKE,
    ARITHMETIC,
    FUNCTIONS_OF_CHANNELS,
    PASSED_ON,
    Channels,
    Width,
    find_along,
    find_place,
    has_fixed_bounds,
    mixes,
    pads_no_channels,
)
from goldnas.channels.layers import CHANNELWISE, CONVOLUTIONS, LAYERS, find_channel_axis
from goldnas.channels.tracing import BATCH, FUNCTIONS, trace_graph
from goldnas.errors import ConfigError


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
    if shape[0] % BATCH and len(shape) > 2 and shape[1] == BATCH:  # places come first
        return (shape[0], *shape[2:])
    parts = (shape[0] // BATCH,) if _is_joined(shape) else ()
    return (*parts, *shape[1:])


def _for_one_image(constant: Any) -> Any:
    """What is the same for all images, without the others."""
    if isinstance(constant, Tensor) and constant.shape[:1] == (BATCH,):
        first, *others = constant
        if all(torch.equal(first, other) for other in others):
            return constant[:1]
    return constant


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


_NAMES = {"axis": "dim", "axes": "dims", "dim0": 0, "dim1": 1, "axis0": 0, "axis1": 1}
"""Other names of arguments, and places of those that have one in :mod:`functions`."""


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
        self._shapes: dict[str, LayerShapes] = {}
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
        if isinstance(value, Channels | Width):
            self._unite(value.ids, [0] * len(value.ids))
        elif isinstance(value, list):
            for one in value:
                self._keep(one)

    # -- the graph ---------------------------------------------------------------------------

    def follow(self) -> Coupling:
        """The channels of the network."""
        calls = Counter(n.target for n in self._nodes if n.op == "call_module")
        weights = (str(n.target) for n in self._nodes if n.op == "get_attr" and n.users)
        read = {path.rpartition(".")[0] for path in weights}
        for node in self._nodes:
            if node.op == "call_module":
                layer = self._modules[node.target]
                shared = node.target in read or calls[node.target] > 1
                own = _has_weights(layer) or isinstance(layer, LAYERS)
                known = not (shared and own) and self._follow_layer(node)
            elif node.op in FUNCTIONS:
                known = self._follow_function(node)
            else:
                known = False
            if node.meta["decides"]:  # the forward goes by this number of channels
                self._keep(self._values.get(node))
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
                return _for_one_image(of.meta["constant"])
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
        if "constant" in node.meta and node.meta["value"][0] != BATCH:
            return False  # it computes once, for all images together
        before = self._values.get(node.all_input_nodes[0])
        shape = node.all_input_nodes[0].meta["value"]
        after: tuple[int, ...] = node.meta["value"]
        if type(layer) in PASSED_ON or _is_one_slope(layer):
            if isinstance(before, Channels) and mixes(type(layer).__name__, before, shape):
                return False
            self._values[node] = before
            return True
        if isinstance(layer, nn.Flatten):
            return self._flatten(node, before, shape, after)
        channel_axis = find_channel_axis(layer)
        if channel_axis is None:
            return False
        axis = channel_axis % len(shape)
        if isinstance(before, Channels) and before.axis != axis:
            return False
        if isinstance(layer, CHANNELWISE):
            if not isinstance(before, Channels):
                return False
        elif isinstance(layer, CONVOLUTIONS) and _is_joined(shape):
            return False  # it is counted as it is called
        ids = before.ids if isinstance(before, Channels) else np.zeros(shape[axis], np.int64)
        if isinstance(layer, CHANNELWISE) or getattr(layer, "groups", 1) > 1:
            self._note(path, shape, after, channel_axis, {"both": ids})
            self._values[node] = Channels(axis, ids)
            return True
        made = self._fresh(after[axis])
        self._note(path, shape, after, channel_axis, {"in": ids, "out": made})
        self._values[node] = Channels(axis, made)
        return True

    def _note(
        self,
        path: str,
        shape: tuple[int, ...],
        after: tuple[int, ...],
        axis: int,
        uses: dict[Role, Ids],
    ) -> None:
        self._uses[path] = uses
        if axis < 0:  # any further axes have places, or parts of an image
            shape, after = _of_one_image(shape), _of_one_image(after)
            self._shapes[path] = LayerShapes(shape, after, len(shape) + axis)
        else:
            self._shapes[path] = LayerShapes(shape[1:], after[1:], axis - 1)

    def _flatten(
        self, node: fx.Node, before: Any, shape: tuple[int, ...], after: tuple[int, ...]
    ) -> bool:
        """Follow channels into a tensor of the same numbers and another shape."""
        if not isinstance(before, Channels):
            return False
        place = find_place(before.axis, shape, after)
        if place is not None:
            self._values[node] = Channels(place, before.ids)
        elif before.axis == 1 and after == (shape[0], prod(shape[1:])):
            self._values[node] = Channels(1, np.repeat(before.ids, prod(shape[2:])))
        else:
            return False
        return True

    def _follow_function(self, node: fx.Node) -> bool:
        """Follow a function or a method; say whether it is one that is known."""
        try:
            return self._follow_known_function(node)
        except (TypeError, KeyError, IndexError):
            return False  # it is called in a way that goldnas does not know

    def _follow_known_function(self, node: fx.Node) -> bool:
        name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
        after = node.meta["value"]
        if after is None:
            return self._follow_number(node, str(name))
        if name in ("view", "reshape"):
            return self._follow_view(node)
        if any(isinstance(self._values.get(one), Width) for one in node.all_input_nodes):
            return False
        if not node.args or not isinstance(node.args[0], fx.Node | list | tuple):
            return name in ARITHMETIC and self._follow_arithmetic(node)
        if name in ARITHMETIC:
            return self._follow_arithmetic(node)
        if name in ("cat", "concat"):
            return self._concatenate(node)
        if not isinstance(node.args[0], fx.Node):
            return False
        before, shape = self._values.get(node.args[0]), node.args[0].meta["value"]
        if name == "getitem" and isinstance(before, list):
            self._values[node] = before[node.args[1]]  # type: ignore[index]
            return True
        if not isinstance(before, Channels) or not isinstance(shape, tuple):
            return False
        arguments = self._read_arguments(node)
        follow = FUNCTIONS_OF_CHANNELS.get(str(name))
        if name in ALIKE or (name == "pad" and pads_no_channels(arguments, before, shape)):
            if after[before.axis] != shape[before.axis] or len(after) != len(shape):
                return False
            others = [n for n in node.all_input_nodes[1:] if n.meta["value"] is not None]
            if others or (name != "pad" and mixes(str(name), before, shape)):
                return False
            self._values[node] = before
            return True
        if name == "flatten":
            return self._flatten(node, before, shape, after)
        if follow is None:
            return False
        if name == "chunk":
            self._unite_chunks(before, after, arguments)
        found = follow(before, shape, after, arguments)
        if found is None:
            return False
        self._values[node] = found
        return True

    def _read_arguments(self, node: fx.Node) -> dict[Any, Any]:
        """Arguments but the first, by place or by the name that PyTorch has for them.

        Numbers that do not follow from a width are what they are.
        """

        def known(one: fx.Node) -> Any:
            number = one.meta.get("constant")
            of_width = isinstance(self._values.get(one), Width)
            return number if isinstance(number, int) and not of_width else one

        args, kwargs = fx.node.map_arg((node.args[1:], node.kwargs), known)
        named = {_NAMES.get(name, name): value for name, value in kwargs.items()}
        return {**dict(enumerate(args)), **named}

    def _follow_number(self, node: fx.Node, name: str) -> bool:
        """Follow what puts out no tensor; say whether it is known."""
        source = node.args[0] if node.args else None
        before = self._values.get(source) if isinstance(source, fx.Node) else None
        found: Width | None = None
        if isinstance(before, Channels):
            dims = len(source.meta["value"])  # type: ignore[union-attr]
            arguments = self._read_arguments(node)
            dim = arguments.get(0, arguments.get("dim"))
            if name == "size" and dim is not None:
                here = dim in (before.axis, before.axis - dims)
                found = Width(before.ids) if here else None
            elif name == "size" or (name == "getattr" and dim == "shape"):
                found = Width(before.ids, before.axis)
            elif name in ("numel", "nelement", "stride"):
                found = Width(before.ids, times=None)
            elif name not in ("getattr", "dim", "ndimension"):
                return False
        elif isinstance(before, Width) and before.axis is not None and name == "getitem":
            index: Any = node.args[1]
            if not isinstance(index, int) and not has_fixed_bounds(index):
                return False
            places = range(len(source.meta["constant"]))[index]  # type: ignore[union-attr]
            if places == before.axis:
                found = Width(before.ids)
            elif isinstance(places, range) and before.axis in places:
                found = Width(before.ids, places.index(before.axis))
        else:
            values = [self._values.get(one) for one in node.all_input_nodes]
            if name == "_assert" or any(isinstance(v, Channels | list) for v in values):
                return False
            widths = [value for value in values if isinstance(value, Width)]
            compares = name in ("eq", "ne") and len(widths) == len(node.args)
            if widths and not (compares and self._are_equal(widths)):
                found = Width(np.concatenate([width.ids for width in widths]), times=None)
                if name == "mul" and len(widths) == 1 and len(node.all_input_nodes) == 1:
                    found = widths[0]._replace(times=self._find_times(node, widths[0]))
        self._values[node] = found
        return True

    def _are_equal(self, widths: Sequence[Width]) -> bool:
        """Whether numbers or sizes are of the same channels, also when some have gone."""
        first, *others = ([self._find(int(i)) for i in width.ids] for width in widths)
        return all(ids == first for ids in others)

    def _find_times(self, node: fx.Node, width: Width) -> int | None:
        """How many times the number of channels a product of a width and a number is."""
        numbers = [one for one in node.args if isinstance(one, int)]
        return width.times * numbers[0] if width.times and numbers else None

    def _follow_view(self, node: fx.Node) -> bool:
        """Follow a view that does not say how many channels there are."""
        source: Any = node.args[0]
        before, shape = self._values.get(source), source.meta["value"]
        if not isinstance(before, Channels):
            return False
        after: tuple[int, ...] = node.meta["value"]
        place = find_place(before.axis, shape, after)
        arguments = self._read_arguments(node)
        sizes: Any = arguments.get("shape", arguments.get("size", arguments.get(0)))
        if not isinstance(sizes, list | tuple):
            sizes = [value for key, value in arguments.items() if isinstance(key, int)]
        widths = [self._values.get(one) if isinstance(one, fx.Node) else one for one in sizes]
        of = widths[0]
        if len(widths) == 1 and isinstance(of, Width) and of.axis is not None:
            if of.axis != place:  # the shape of another tensor
                return False
        else:
            of = widths.pop(-1 if place is None else place)
            for width in widths:
                self._keep(width)
        if isinstance(of, Width):
            times = 1 if place is not None else prod(shape[2:])
            if of.times != times or len(of.ids) != len(before.ids):
                return False
            self._unite(of.ids, before.ids)
        elif of != -1:
            return False
        return self._flatten(node, before, shape, after)

    def _unite_chunks(self, before: Channels, after: Any, arguments: dict[Any, Any]) -> None:
        """See that equal parts stay equal; channels of parts that are not, stay."""
        if find_along(arguments, after[0]) != before.axis:
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
        found: Channels | None = None
        for one in (*node.args, *node.kwargs.values()):
            if not isinstance(one, fx.Node):
                continue
            shape = one.meta["value"]
            if not isinstance(shape, tuple) or prod(shape) == 1:
                continue  # a number
            value = self._values.get(one)
            if not isinstance(value, Channels):
                return False
            axis = value.axis + len(after) - len(shape)
            if len(value.ids) == 1:  # for all channels of the other
                self._keep(value)
                continue
            if len(value.ids) != after[axis]:
                return False
            if found is None:
                found = Channels(axis, value.ids)
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
        arguments = self._read_arguments(node)
        along = arguments.get(0, arguments.get("dim", 0))
        values = [self._values.get(one) for one in parts]  # type: ignore[arg-type]
        shapes = [one.meta["value"] for one in parts]  # type: ignore[union-attr]
        axes = {value.axis for value in values if isinstance(value, Channels)}
        if len(axes) != 1 or not isinstance(along, int):
            return False
        (axis,) = axes
        ids = [
            v.ids if isinstance(v, Channels) else np.zeros(shape[axis], np.int64)
            for v, shape in zip(values, shapes, strict=True)
        ]
        if along % len(shapes[0]) == axis:
            self._values[node] = Channels(axis, np.concatenate(ids))
            return True
        for other in ids[1:]:
            self._unite(ids[0], other)
        self._values[node] = Channels(axis, ids[0])
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
