"""Custom spaces: functions that return any module with choices in some places."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import msgspec
import torch
from torch import nn

from goldnas.architecture import Architecture
from goldnas.choice import Choice, Width, Zero, has_choice
from goldnas.errors import ConfigError
from goldnas.operators import Part, label_part
from goldnas.site import AnySite, Shapes
from goldnas.spaces.choice_gate import ChoiceGate, group_by_choice, select_gates
from goldnas.spaces.narrowed import Narrowed
from goldnas.spaces.narrowing import computes_the_same
from goldnas.spaces.nesting import Group, Nesting
from goldnas.spaces.network_function import NetworkFunction
from goldnas.spaces.part_catalogue import PartCatalogue
from goldnas.spaces.reference import SpaceFunction
from goldnas.spaces.space import Combination, Gate
from goldnas.spaces.tracing import Trace, find_owner, trace_network
from goldnas.spaces.wiring import Wiring


@dataclass(frozen=True, slots=True)
class ChoicePlan:
    """The parts of one network."""

    fixed: tuple[Part, ...]
    candidates: tuple[Part, ...]

    def parts(self) -> tuple[Part, ...]:
        """Every part, repeats included."""
        return (*self.fixed, *self.candidates)


class ChoiceSpace:
    """The networks of a function, each with some of the candidates of each choice.

    Making the space calls the function, and runs its network once. Building a network calls
    the function again.

    Args:
        name: Name of the space in files: ``package.module:function``, or a shorter one.
        function: Returns a module with choices.
        settings: Keyword arguments of the function, as plain JSON values (lists become tuples),
            and ``input_shape``, which the function need not take.

    Raises:
        ConfigError: If the function does not take the settings, fails, or returns something
            other than a network of choices and parts.
    """

    operators: tuple[str, ...] = ()
    """None besides those that the function has in its choices."""

    cell_layout = None
    """Its networks are no stacks of cells, so they have neither edges nor auxiliary heads."""

    search_settings: ClassVar[dict[str, Any]] = {}
    """None: the settings are those of the function."""

    def __init__(self, name: str, function: SpaceFunction, settings: Mapping[str, Any]) -> None:
        self.name = name
        self._function = NetworkFunction(name, function)
        self.settings = self._function.complete(settings)
        shape: Any = tuple(self.settings["input_shape"])
        self.input_shape: tuple[int, int, int] = shape  # or of other rank, for other data
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # its parts are measured: the same in every process
            network = self._function.call(self.settings)
        found = self._trace(network)
        self.output_shape = found.output_shape
        self._changed = found.changed
        self.classes = found.output_shape[0]
        self._catalogue = PartCatalogue(name)
        owned: dict[tuple[str, str] | None, list[tuple[str, Part]]] = {}
        for path, site in found.fixed:
            part = self._catalogue.add_fixed(network.get_submodule(path), path, site)
            owned.setdefault(find_owner(path, found.choices), []).append((path, part))
        self._fixed = tuple(owned.get(None, ()))
        """Parts of every network, by their paths."""
        self.fixed_parts = tuple(part for _, part in self._fixed)
        called: dict[str, set[Part]] = {}
        for path, part in (pair for pairs in owned.values() for pair in pairs):
            called.setdefault(path, set()).add(part)
        self._labels = {path: parts.pop() for path, parts in called.items() if len(parts) == 1}
        """Of the modules that are one part, however often they are called."""
        decisions = self._find_decisions(network, found.choices)
        self.gates = tuple(self._find_gates(network, decisions, found.choices, owned))
        self._labels |= {path: part for g in self.gates for path, part in _parts_of(g)}
        self._widths = {
            place: choice.widths
            for place, paths in decisions.items()
            if isinstance(choice := _choice_at(network, paths[0]), Width)
        }
        """The numbers of channels of each Width, by its place."""
        self._narrowed: Narrowed | None = None
        self.combinations: tuple[Combination, ...] = ()
        self._output_shapes = {
            **{path: site.output_shape for path, site in found.fixed},
            **{path: site.output_shape for path, site in found.choices.items()},
        }
        first = {place: _choice_at(network, paths[0]) for place, paths in decisions.items()}
        self._optional = {place for place, choice in first.items() if choice.optional}
        owners = {place: find_owner(place, found.choices) for place in decisions}
        self._owners = {place: owner for place, owner in owners.items() if owner is not None}
        self.wiring = self._connect(found, network)
        if self._widths:
            self._narrowed = self._narrow(network, found, decisions)
            self.combinations = self._narrowed.combinations
            self._check_narrow(self._narrowed)

    def _connect(self, found: Trace, network: nn.Module) -> Wiring:
        """Which parts read which.

        Raises:
            ConfigError: If a choice decides nothing, because no part reads it.
        """
        index = {(gate.place, gate.key): number for number, gate in enumerate(self.gates)}
        groups: list[Group] = []
        for place, gates in group_by_choice(self.gates).items():
            if place in self._widths:  # each block of channels is within the one before it
                for before, number in zip((None, *gates), gates, strict=False):
                    groups.append(Group((number,), before, before is not None, ordered=True))
                continue
            owner = index[self._owners[place]] if place in self._owners else None
            groups.append(Group(tuple(gates), owner, place in self._optional))
        wiring = Wiring(
            found.nodes,
            found.output,
            {
                f"{block}.operators.{gate.key}": number
                for number, gate in enumerate(self.gates)
                for block in gate.blocks
            },
            Nesting(tuple(groups), len(self.gates)),
            silent={path for path in found.choices if _may_be_silent(network, path)},
        )
        unread = wiring.unread(range(len(self.gates)))
        for gate in self.gates:
            for path in unread.intersection(f"{b}.operators.{gate.key}" for b in gate.blocks):
                raise ConfigError(
                    f"space {self.name} is not usable: the output of the network never depends "
                    f"on {path}; let the forward use it, or leave it out"
                )
        return wiring

    def _find_gates(
        self,
        network: nn.Module,
        decisions: Mapping[str, Sequence[str]],
        sites: Mapping[str, Shapes],
        owned: Mapping[tuple[str, str] | None, Sequence[tuple[str, Part]]],
    ) -> Iterator[ChoiceGate]:
        """The candidates of every decision, in the order of the network."""
        for place, blocks in decisions.items():
            for key in _choice_at(network, blocks[0]).operators:
                parts: list[tuple[str, Part]] = []
                for block in blocks:
                    choice = _choice_at(network, block)
                    candidate = choice.operators[key]
                    if isinstance(choice, Width):
                        continue  # what it costs is in the parts around
                    if has_choice(candidate):
                        parts += owned.get((block, key), ())
                    elif not isinstance(candidate, Zero):  # which is no part of a network
                        part = self._catalogue.add(
                            candidate, key, f"{block}.{key}", sites[block]
                        )
                        parts.append((f"{block}.operators.{key}", part))
                paths, theirs = zip(*parts, strict=True) if parts else ((), ())
                yield ChoiceGate(place, key, tuple(blocks), paths, theirs)

    def _find_decisions(self, network: nn.Module, paths: Iterable[str]) -> dict[str, list[str]]:
        """The choices of each decision, by its name.

        Raises:
            ConfigError: If choices that share a name do not have the same candidates.
        """
        decisions: dict[str, list[str]] = {}
        for path in paths:
            choice = _choice_at(network, path)
            first, *_ = decisions.setdefault(choice.shared or path, [path])
            known = _choice_at(network, first)
            if known.shared != choice.shared:
                raise ConfigError(
                    f"space {self.name} is not usable: {path!r} is the path of a choice, and a "
                    "name that other choices share; rename one of them"
                )
            if known.optional != choice.optional:
                raise ConfigError(
                    f"space {self.name} is not usable: the choices at {first} and {path} are "
                    f"shared as {choice.shared!r}, but only one of them is optional; make both "
                    "optional, or none"
                )
            theirs, ours = list(known.operators), list(choice.operators)
            if ours != theirs:
                raise ConfigError(
                    f"space {self.name} is not usable: the choices at {first} and {path} are "
                    f"shared as {choice.shared!r}, but have the candidates {', '.join(theirs)} "
                    f"and {', '.join(ours)}; give both the same candidates, in the same order"
                )
            if path != first:
                decisions[choice.shared or path].append(path)
        return decisions

    # -- widths ------------------------------------------------------------------------------

    def _narrow(
        self, network: nn.Module, found: Trace, decisions: Mapping[str, Sequence[str]]
    ) -> Narrowed:
        """Find the parts around Widths, and take the gates' at the least widths.

        Raises:
            ConfigError: If a Width is where it cannot be.
        """
        refuse = f"space {self.name} is not usable: "
        if self._owners:
            raise ConfigError(
                f"{refuse}it has a Width, and a choice within a candidate at "
                f"{next(iter(self._owners))}: Widths do not go together with such choices"
            )
        for path in found.choices:
            if _may_be_silent(network, path):
                raise ConfigError(
                    f"{refuse}it has a Width, and the choice at {path} may be empty: Widths go "
                    "together with neither `optional` nor Zero"
                )
        try:
            narrowed = Narrowed(
                self.name,
                network,
                found,
                widths=self._widths,
                places={path: place for place in self._widths for path in decisions[place]},
                fixed=self._fixed,
                gates=self.gates,
                add=self._catalogue.add_named,
            )
        except ConfigError as error:
            raise ConfigError(f"{refuse}{error}") from None
        least = narrowed.least
        self.fixed_parts = tuple(narrowed.at(*pair, least) for pair in self._fixed)
        self.gates = tuple(
            replace(g, parts=tuple(narrowed.at(*pair, least) for pair in _parts_of(g)))
            for g in self.gates
        )
        return narrowed

    def _check_narrow(self, narrowed: Narrowed) -> None:
        """See that the narrowest network computes what a search computes for it.

        Raises:
            ConfigError: If channels that are zero in a search would count.
        """
        every = self.architecture(self.gates)
        fewer = {place: (f"w{channels}",) for place, channels in narrowed.least.items()}
        narrow = msgspec.structs.replace(every, choices={**every.choices, **fewer})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            whole, small = self.build(every), self.build(narrow)
            for module in whole.modules():
                if isinstance(module, Width):
                    module.gates = torch.eye(len(module.operators))[0]
            try:
                if computes_the_same(whole, small, self.input_shape):
                    return
            except RuntimeError as error:
                raise ConfigError(
                    f"space {self.name} is not usable: at the least widths its network fails: "
                    f"{self._function.describe(error)}"
                ) from None
            culprit = narrowed.find_culprit() or "a function between modules"
        raise ConfigError(
            f"space {self.name} is not usable: {culprit} makes something else of the channels "
            "that a Width takes away than zeros, which count in a search and are missing in "
            "the network; put a convolution or a linear layer right behind the Width"
        )

    def _trace(self, network: nn.Module) -> Trace:
        try:
            return trace_network(network, self.input_shape)
        except ConfigError as error:
            raise ConfigError(f"space {self.name} is not usable: {error}") from None
        except Exception as error:
            shape = "x".join(map(str, self.input_shape))
            raise ConfigError(
                f"the network of space {self.name} fails on an input of {shape}: "
                f"{self._function.describe(error)}"
            ) from error

    def place_auxiliary(self, cells: Iterable[int]) -> None:
        """None: its networks have no cells."""

    def with_operators(self, operators: Iterable[str]) -> "ChoiceSpace":
        """The space itself."""
        return self

    # -- parts and gates ---------------------------------------------------------------------

    def build_part(self, operator: str, site: AnySite) -> nn.Module:
        """Build one of the parts; its weights are the same in every process.

        Raises:
            ConfigError: If the space has no such part.
        """
        return self._catalogue.build(operator, site)

    def rows(self) -> tuple[Part, ...]:
        """The distinct parts of the space: what a latency table must hold."""
        return self._catalogue.parts

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The gates of each choice that keeps at least one in every network."""
        return tuple(
            tuple(group[:1] if place in self._widths else group)
            for place, group in group_by_choice(self.gates).items()
            if place not in self._optional and place not in self._owners
        )

    @property
    def call(self) -> str:
        """The call that makes the space again."""
        settings = {"input_shape": self.input_shape} | {
            name: value for name, value in self.settings.items() if name != "input_shape"
        }
        return f"space({self.name!r}, {', '.join(f'{k}={v!r}' for k, v in settings.items())})"

    def log10_size(self) -> float:
        """Logarithm of the number of networks: subsets of the candidates of each choice.

        The empty one is among them where a choice is optional.
        """
        return math.log10(self.wiring.nesting.count())

    # -- architectures -----------------------------------------------------------------------

    def architecture(self, kept: Iterable[Gate]) -> Architecture:
        """The architecture that keeps these gates' operators."""
        choices: dict[str, tuple[str, ...]] = {}
        for gate in kept:
            choices[gate.place] = (*choices.get(gate.place, ()), gate.key)
        for place in choices.keys() & self._widths.keys():  # the widest says it all
            choices[place] = (max(choices[place], key=_channels),)
        return Architecture(space=self.name, settings=self.settings, choices=choices)

    def plan(self, architecture: Architecture) -> ChoicePlan:
        """The parts of a network that reach its output.

        Raises:
            ConfigError: If the architecture is not of this space, or its output does not
                depend on its input.
        """
        selected, unread = self._select(architecture)
        widths = self._widths_of(selected)
        return ChoicePlan(
            tuple(self._at(*pair, widths) for pair in self._fixed if pair[0] not in unread),
            tuple(
                self._at(*pair, widths)
                for g in selected
                for pair in self._whole_parts(g)
                if pair[0] not in unread
            ),
        )

    def _whole_parts(self, gate: ChoiceGate) -> Iterator[tuple[str, Part]]:
        """The parts of a gate with all channels, by their paths."""
        return ((path, self._labels[path]) for path in gate.paths)

    def _at(self, path: str, part: Part, widths: Mapping[str, int]) -> Part:
        """What a part with all channels is at some widths."""
        return part if self._narrowed is None else self._narrowed.at(path, part, widths)

    def _widths_of(self, selected: Iterable[ChoiceGate]) -> dict[str, int]:
        """The channels of each Width in a network of some gates."""
        return {g.place: _channels(g.key) for g in selected if g.place in self._widths}

    def build(self, architecture: Architecture, *, gated: bool = False) -> nn.Module:
        """Build an architecture with fresh weights.

        Parts that do not reach the output are left out, or replaced by zeros.

        Args:
            architecture: An architecture of this space.
            gated: Whether candidates are scaled by gates kept as buffers, as the weights of a
                search need.

        Raises:
            ConfigError: If the architecture is not of this space, or its output does not
                depend on its input.
        """
        selected, unread = self._select(architecture)
        kept = {(block, gate.key) for gate in selected for block in gate.blocks}
        network = self._function.call(self.settings)
        gone: list[str] = []
        for name, module in list(network.named_modules(remove_duplicate=False)):
            if any(name.startswith(path) for path in gone):
                continue
            if name in unread and name in self._output_shapes:
                network.set_submodule(name, Zero(self._output_shapes[name]))
            elif isinstance(module, Choice):
                for key in list(module.operators):
                    if (name, key) not in kept or f"{name}.operators.{key}" in unread:
                        del module.operators[key]
                        gone.append(f"{name}.operators.{key}.")
                _prepare(module, self._output_shapes[name], gated)
                module.copying = name in self._changed
        widths = self._widths_of(selected)
        if self._narrowed is not None:
            with torch.device("cpu"):  # as the function makes the rest
                self._narrowed.fit(network, widths)
        for name, module in network.named_modules(remove_duplicate=False):
            if name in self._labels and name not in unread:
                label_part(module, self._at(name, self._labels[name], widths))
        return network

    def _select(self, architecture: Architecture) -> tuple[list[ChoiceGate], frozenset[str]]:
        """The gates of an architecture, and the modules that no part then reads."""
        if self._widths:
            architecture = self._with_blocks(architecture)
        selected = select_gates(
            self.gates,
            architecture,
            space=self.name,
            optional=self._optional,
            owners=self._owners,
        )
        names = {(gate.place, gate.key) for gate in selected}
        kept = {i for i, gate in enumerate(self.gates) if (gate.place, gate.key) in names}
        if not self.wiring.is_linked(kept):
            raise ConfigError(
                f"the output of space {self.name} would not depend on its input: on one path "
                "from input to output, keep an operator other than a Zero at each choice"
            )
        return selected, self.wiring.unread(kept)

    def _with_blocks(self, architecture: Architecture) -> Architecture:
        """An architecture that names all blocks of channels of its widths.

        Raises:
            ConfigError: If it names several widths at a place.
        """
        choices = dict(architecture.choices)
        for place, widths in self._widths.items():
            keys = choices.get(place, ())
            if len(keys) > 1:
                raise ConfigError(
                    f"the architecture keeps {len(keys)} widths at {place}: "
                    f"{', '.join(keys)}; name one"
                )
            if keys and keys[0] in (names := [f"w{n}" for n in widths]):
                choices[place] = tuple(names[: names.index(keys[0]) + 1])
        return msgspec.structs.replace(architecture, choices=choices)


def _channels(key: str) -> int:
    """Channels of a width by its name."""
    return int(key.removeprefix("w"))


def _prepare(choice: Choice, output_shape: tuple[int, ...], gated: bool) -> None:
    """Tell a choice what it has to know of itself."""
    choice.output_shape = output_shape
    for operator in choice.operators.values():
        if isinstance(operator, Zero):
            operator.output_shape = output_shape
    choice.gates = torch.ones(len(choice.operators)) if gated else None


def _parts_of(gate: ChoiceGate) -> Iterator[tuple[str, Part]]:
    """The parts of a gate, by their paths."""
    return zip(gate.paths, gate.parts, strict=True)


def _may_be_silent(network: nn.Module, path: str) -> bool:
    """Whether a choice may pass nothing on."""
    choice = _choice_at(network, path)
    return choice.optional or any(isinstance(m, Zero) for m in choice.operators.values())


def _choice_at(network: nn.Module, place: str) -> Choice:
    choice = network.get_submodule(place)
    assert isinstance(choice, Choice)
    return choice
