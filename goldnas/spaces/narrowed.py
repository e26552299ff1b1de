"""The parts of a network around its Widths, at every width that they may have."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product

from torch import nn

from goldnas.errors import ConfigError
from goldnas.operators import Part, build_operator
from goldnas.site import AnySite
from goldnas.spaces.choice_gate import ChoiceGate
from goldnas.spaces.narrowing import Follower, computes_the_same, is_registered, name_part
from goldnas.spaces.space import Combination
from goldnas.spaces.tracing import Trace
from goldnas.spaces.wiring import INPUT, Node

Ends = tuple[str | None, str | None]
"""The places of the Widths that narrow what a part reads, and what it writes; or None."""


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


class Narrowed:
    """What Widths do to the parts of a network.

    Args:
        space: Name of the space.
        network: With all channels.
        found: Of the network.
        widths: The numbers of channels of each Width, by its place.
        places: The place of each Width, by its path.
        fixed: The fixed parts with all channels, by their paths.
        gates: With their parts, which have all channels.
        add: Adds a part, which has rows in tables: its name, itself, its path.

    Raises:
        ConfigError: If a Width is where it cannot be.
    """

    def __init__(
        self,
        space: str,
        network: nn.Module,
        found: Trace,
        *,
        widths: Mapping[str, Sequence[int]],
        places: Mapping[str, str],
        fixed: Sequence[tuple[str, Part]],
        gates: Sequence[ChoiceGate],
        add: Callable[[Part, nn.Module, str], None],
    ) -> None:
        self._space, self._network, self._widths, self._add = space, network, widths, add
        self.least = {place: channels[0] for place, channels in widths.items()}
        """The least channels of each Width."""
        self._followers: dict[str, Follower] = {}
        self._sized: dict[tuple[str, Part], SizedPart] = {}
        """The parts next to Widths, by their paths and what they are with all channels."""
        sites = {**dict(found.fixed), **found.passing}

        def is_linked(node: Node) -> bool:
            return self._follow(node.path, node.path, sites[node.path]).linked

        ends = find_ends(found.nodes, found.output, places, is_linked)
        of_path: dict[str, Ends] = {}
        for index, node in enumerate(found.nodes):
            if of_path.setdefault(node.path, ends[index]) != ends[index]:
                raise ConfigError(
                    f"{node.path} is called several times, at different widths; make a module "
                    "for each call"
                )
        for path, part in dict.fromkeys(fixed):
            self._size(path, path, part, of_path[path])
        for gate in gates:
            for block, path, part in zip(gate.blocks, gate.paths, gate.parts, strict=False):
                shown = f"candidate {gate.key!r} of the choice at {block}"
                self._size(path, shown, part, of_path[block])
        owned = [(None, pair) for pair in fixed] + [
            (number, pair)
            for number, gate in enumerate(gates)
            for pair in zip(gate.paths, gate.parts, strict=True)
        ]
        index_of = {(gate.place, gate.key): number for number, gate in enumerate(gates)}
        self.combinations = tuple(
            list_combinations(
                [(gate, self._sized[pair]) for gate, pair in owned if pair in self._sized],
                widths,
                {(p, n): index_of[p, f"w{n}"] for p, some in widths.items() for n in some},
            )
        )
        """What each set of gates costs together."""

    def at(self, path: str, part: Part, widths: Mapping[str, int]) -> Part:
        """A part at some widths.

        Args:
            path: Of the part.
            part: What it is with all channels.
            widths: Channels of each Width, by its place.
        """
        sized = self._sized.get((path, part))
        return part if sized is None else sized.at(widths)

    def fit(self, network: nn.Module, widths: Mapping[str, int]) -> None:
        """Make the parts of a network as narrow as its widths.

        Args:
            network: With all channels; it need not have all candidates.
            widths: Channels of each Width, by its place.
        """
        there = {path for path, _ in network.named_modules(remove_duplicate=False)}
        for (path, part), sized in self._sized.items():
            narrow = sized.at(widths)
            if path not in there or narrow == part:
                continue
            if is_registered(narrow):
                module = build_operator(*narrow)
            else:
                module = network.get_submodule(path)
                module = self._followers[path].cut(module, *sized.channels(widths))
            network.set_submodule(path, module)

    def find_culprit(self) -> str | None:
        """A part that computes something else with zeros than without those channels."""
        for zeros in (False, True):
            for (path, part), sized in self._sized.items():
                follower, pair = self._followers[path], sized.channels(self.least)
                whole = copy.deepcopy(follower.module)
                narrow = follower.cut(copy.deepcopy(whole), *pair)
                shape, passes = part[1].input_shapes[0], zeros and follower.linked
                if not computes_the_same(whole, narrow, shape, *pair, zeros=passes):
                    return path
        return None

    def _follow(self, path: str, shown: str, site: AnySite) -> Follower:
        if path not in self._followers:
            self._followers[path] = Follower(self._network.get_submodule(path), shown, site)
        return self._followers[path]

    def _size(self, path: str, shown: str, part: Part, ends: Ends) -> None:
        """Note what a part is at each of its widths; these parts have rows."""
        if ends == (None, None):
            return
        follower = self._follow(path, shown, part[1])
        follower.check(*ends)
        whole = part[1].input_shapes[0][0], part[1].output_shape[0]
        for place, channels in zip(ends, whole, strict=True):
            if place is not None and self._widths[place][-1] != channels:
                raise ConfigError(
                    f"{shown} has {channels} channels, but the Width {place} next to it has "
                    f"{self._widths[place][-1]}: let nothing between them change the channels"
                )
        coming, going = (self._widths[p] if p is not None else (None,) for p in ends)
        parts: dict[tuple[int | None, int | None], Part] = {}
        for pair in product(coming, going):
            if ends[0] == ends[1] and pair[0] != pair[1]:
                continue
            sizes = pair[0] or whole[0], pair[1] or whole[1]
            if sizes == whole:
                parts[pair] = part
                continue
            module = follower.cut(copy.deepcopy(follower.module).to("meta"), *pair)
            parts[pair] = name_part(self._space, part, module, *sizes)
            if not is_registered(parts[pair]):
                module = follower.cut(copy.deepcopy(follower.module), *pair)
            self._add(parts[pair], module, path)
        self._sized[path, part] = SizedPart(*ends, parts)


def find_ends(
    nodes: Sequence[Node],
    output: Iterable[int],
    places: Mapping[str, str],
    linked: Callable[[Node], bool],
) -> dict[int, Ends]:
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
    ends: dict[int, Ends] = {}
    for index, node in enumerate(nodes):
        writes = after.get(index, before.get(index))
        through = node.path in places or (index in before and not node.keys and linked(node))
        coming = {after.get(r, before.get(r) if through else None) for r in node.reads}
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
