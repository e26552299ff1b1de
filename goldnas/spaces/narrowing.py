"""Parts of a network at several widths: those around a tensor that a Width narrows."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, product
from typing import Any

import numpy as np
import torch
from torch import nn

from goldnas.channels import Coupling, cut, find_coupling
from goldnas.errors import ConfigError
from goldnas.mobile_block import find_expansion, parse_block
from goldnas.operators import Part, build_operator, find_builder
from goldnas.site import AnySite, Shapes, Site
from goldnas.spaces.space import Combination
from goldnas.spaces.wiring import INPUT, Node


@dataclass(frozen=True)
class SizedPart:
    """A part at each of the widths that its input and its output may have."""

    reads: str | None
    """The place of the Width that narrows its input; None where none does."""
    writes: str | None
    """The place of the Width that narrows its output."""
    parts: Mapping[tuple[int | None, int | None], Part]
    """By the channels of input and output; None for the end that no Width narrows."""

    def at(self, widths: Mapping[str, int]) -> Part:
        """The part at some widths, by place."""
        return self.parts[self.channels(widths)]

    def channels(self, widths: Mapping[str, int]) -> tuple[int | None, int | None]:
        """Channels of input and output at some widths, where a Width narrows them."""
        ends = (self.reads, self.writes)
        one, other = (None if place is None else widths[place] for place in ends)
        return one, other

    @property
    def places(self) -> tuple[str, ...]:
        """The places of its widths, each once."""
        return tuple(dict.fromkeys(p for p in (self.reads, self.writes) if p is not None))


# -- one part --------------------------------------------------------------------------------


class Follower:
    """Follows the channels of a part from its input to its output.

    Args:
        module: The part.
        path: Of the part within the network, for errors.
        site: Its shapes.
    """

    def __init__(self, module: nn.Module, path: str, site: AnySite) -> None:
        self.module, self._path, self._site = module, path, site
        if len(site.input_shapes) > 1:
            raise ConfigError(
                f"{path} reads several tensors, and a Width narrows one: put no Width next to it"
            )
        try:
            self._coupling = find_coupling(self._around(module), site.input_shapes[0])
        except ConfigError as error:
            raise ConfigError(f"no Width can be next to {path}: {error}") from None
        self._input = _group(self._coupling, "before", "out")
        self._output = _group(self._coupling, "after", "in")
        self.linked = self._input is not None and self._input == self._output
        """Whether its output has the channels of its input, as that of a ReLU has."""

    def check(self, reads: str | None, writes: str | None) -> None:
        """Refuse a part that cannot have the widths.

        Raises:
            ConfigError: Saying why.
        """
        for place, group, end in (
            (reads, self._input, "reads"),
            (writes, self._output, "writes"),
        ):
            if place is not None and group is None:
                raise ConfigError(
                    f"{self._path} {end} what the Width {place} narrows, but needs all of the "
                    "channels; put the Width elsewhere"
                )
        if self.linked and reads != writes:
            raise ConfigError(
                f"{self._path} passes on the channels of its input, but only one end of it has "
                f"a Width ({reads or writes}), or the two differ: put a Width of one `shared` "
                "name before and after it"
            )

    def cut(self, module: nn.Module, reads: int | None, writes: int | None) -> nn.Module:
        """Take the first channels of the part; the module may change, and is returned.

        Args:
            module: One of the same layers as that of the follower.
            reads: Channels of the input; None for all.
            writes: Channels of the output; None for all.
        """
        around = self._around(module)
        pairs = ((self._input, reads), (self._output, writes))
        kept = {group: np.arange(count) for group, count in pairs if group and count}
        cut(around, self._coupling, kept)
        return around.get_submodule("part")

    def _around(self, module: nn.Module) -> nn.Module:
        layers = {
            "before": _layer(self._site.input_shapes[0]),
            "part": module,
            "after": _layer(self._site.output_shape),
        }
        return nn.Sequential(OrderedDict(layers))


def _layer(shape: Sequence[int]) -> nn.Module:
    """A layer that can be made narrower, and keeps a shape."""
    if len(shape) == 1:
        return nn.Linear(shape[0], shape[0])
    kinds: dict[int, Any] = {2: nn.Conv1d, 3: nn.Conv2d, 4: nn.Conv3d}
    if len(shape) not in kinds:
        raise ConfigError(f"a Width takes tensors of two to five dimensions, got {shape}")
    layer: nn.Module = kinds[len(shape)](shape[0], shape[0], 1)
    return layer


def _group(coupling: Coupling, path: str, role: Any) -> str | None:
    """The group of all channels of a layer, in order; None if they have to stay."""
    channels = coupling.layers[path][role]
    (first, *others), count = np.unique(channels.group), len(channels.group)
    if others or first < 0 or (channels.channel != np.arange(count)).any():
        return None
    return coupling.groups[int(first)].name


def name_part(space: str, part: Part, narrow: nn.Module, reads: int, writes: int) -> Part:
    """Name a part that was made narrower: by what it is now, if an operator is just that.

    Args:
        space: Name of the space.
        part: As it was.
        narrow: The module.
        reads: Channels of its input.
        writes: Channels of its output.
    """
    operator, site = part
    shapes = Shapes(
        (reads, *site.input_shapes[0][1:]), (writes, *site.output_shape[1:])
    )
    if isinstance(site, Site):
        here = replace(site, in_channels=reads, out_channels=writes)
        for name in _names(operator, site.in_channels, reads):
            with torch.device("meta"):
                like = build_operator(name, here)
            if structure(like) == structure(narrow):
                return name, here
        operator = f"{space}/{operator}"
    # What is inside depends on the width that it was made for.
    whole = f"{site.input_shapes[0][0]}x{site.output_shape[0]}"
    return f"{operator}_of_{whole}", shapes


def _names(operator: str, in_channels: int, reads: int) -> Iterator[str]:
    """Names that an operator may have with fewer channels."""
    yield operator
    block = parse_block(operator)
    if block is not None:
        expansion = find_expansion(reads, block.inner_channels(in_channels))
        if expansion is not None:
            yield replace(block, expansion=expansion).name


def structure(module: nn.Module) -> tuple[str, dict[str, tuple[int, ...]]]:
    """What two modules are compared by: their text, and the shapes of what they hold."""
    state = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    return repr(module), state


# -- all parts -------------------------------------------------------------------------------


def find_ends(
    nodes: Sequence[Node],
    output: Iterable[int],
    places: Mapping[str, str],
    linked: Callable[[Node], bool],
) -> dict[int, tuple[str | None, str | None]]:
    """Which Width narrows the input, and which the output, of each node.

    Args:
        nodes: Of the network.
        output: Those that the network puts out.
        places: The place of each Width, by its path.
        linked: Whether the output of a fixed part has the channels of its input.

    Raises:
        ConfigError: If a tensor is narrowed in one place, and whole in another.
    """
    read_by: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        for source in node.reads:
            read_by[source].append(index)
    after: dict[int, str] = {}
    """Behind a Width: their other channels are zeros in a search."""
    for index, node in enumerate(nodes):
        behind = {after.get(source) for source in node.reads}
        (place,) = behind if len(behind) == 1 else (None,)
        if node.path in places:
            after[index] = places[node.path]
        elif place is not None and not node.keys and linked(node):
            after[index] = place
    before: dict[int, str] = {}
    """Only read by a Width."""
    for index in reversed(range(len(nodes))):
        if index in after:
            continue
        readers = [nodes[r] for r in read_by[index]]
        wanted: dict[str | None, str] = {None: "the output"} if index in output else {}
        for reader, number in zip(readers, read_by[index], strict=True):
            place = places.get(reader.path)
            if place is None and number in before and not reader.keys and linked(reader):
                place = before[number]
            wanted[place] = reader.path
        if len(wanted) > 1:
            names = " and ".join(map(repr, wanted.values()))
            raise ConfigError(
                f"{_named(nodes[index])} is read by {names}, with different widths: put the "
                "Width right behind it, and let all others read the Width"
            )
        (place,) = wanted or (None,)
        if place is not None:
            if index == INPUT:
                raise ConfigError(
                    f"the Width {place} would narrow the input of the network; put it behind a "
                    "layer"
                )
            before[index] = place
    for index in output:
        if index in after:
            raise ConfigError(
                f"the network puts out what the Width {after[index]} narrows; put a layer "
                "behind it"
            )
    ends: dict[int, tuple[str | None, str | None]] = {}
    for index, node in enumerate(nodes):
        writes = after.get(index, before.get(index))
        through = node.path in places or (index in before and not node.keys and linked(node))
        coming = {
            after.get(r, before.get(r) if through else None) for r in node.reads
        }
        if len(coming) > 1 or (through and coming != {writes}):
            names = ", ".join(repr(_named(nodes[r])) for r in sorted(node.reads))
            raise ConfigError(
                f"{node.path!r} reads {names} together, with different widths: give every "
                "tensor that is added a Width of one `shared` name"
            )
        (reads,) = coming or (None,)
        ends[index] = (reads, writes)
    return ends


def _named(node: Node) -> str:
    return node.path or "the input"


def list_combinations(
    owned: Iterable[tuple[int | None, SizedPart]],
    widths: Mapping[str, Sequence[int]],
    gates: Mapping[tuple[str, int], int],
) -> Iterator[Combination]:
    """What each set of gates costs together: differences between sizes of parts.

    Args:
        owned: Each part, with the gate of its candidate; None for a fixed one.
        widths: Of each place.
        gates: By place and width.
    """
    found: dict[tuple[int, ...], tuple[list[Part], list[Part]]] = {}
    for owner, sized in owned:
        lists = [widths[place] for place in sized.places]
        for steps in product(*(range(len(one)) for one in lists)):
            raised = [axis for axis, step in enumerate(steps) if step]
            own = [gates[sized.places[axis], lists[axis][steps[axis]]] for axis in raised]
            together = tuple(sorted([*own, *([] if owner is None else [owner])]))
            if not raised:
                continue
            more, less = found.setdefault(together, ([], []))
            for lowered in _subsets(raised):
                at = {
                    place: lists[axis][steps[axis] - (axis in lowered)]
                    for axis, place in enumerate(sized.places)
                }
                (less if len(lowered) % 2 else more).append(sized.at(at))
    for together, (more, less) in found.items():
        if sorted(map(str, more)) != sorted(map(str, less)):
            yield Combination(together, tuple(more), tuple(less))


def _subsets(members: Sequence[int]) -> Iterable[tuple[int, ...]]:
    return chain.from_iterable(combinations(members, n) for n in range(len(members) + 1))


def is_registered(part: Part) -> bool:
    """Whether a part is an operator that its name alone describes."""
    return find_builder(part[0]) is not None


def shorten(
    state: Mapping[str, torch.Tensor], like: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The first numbers of tensors, as many as others have along each dimension."""
    return {
        name: state[name][tuple(slice(size) for size in value.shape)].clone()
        for name, value in like.items()
    }


def make_meta(module: nn.Module) -> nn.Module:
    """A copy without numbers."""
    return copy.deepcopy(module).to("meta")
