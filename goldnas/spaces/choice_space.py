"""Spaces of one's own: any module in which some places are choices, made by a function."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from goldnas.architecture import Architecture
from goldnas.choice import Choice
from goldnas.errors import ConfigError
from goldnas.operators import Part, label_part
from goldnas.site import AnySite, Shapes
from goldnas.spaces.choice_gate import ChoiceGate, group_by_choice, select_gates
from goldnas.spaces.network_function import NetworkFunction
from goldnas.spaces.part_catalogue import PartCatalogue
from goldnas.spaces.reference import SpaceFunction
from goldnas.spaces.space import Gate
from goldnas.spaces.tracing import Trace, trace_network


@dataclass(frozen=True, slots=True)
class ChoicePlan:
    """The parts of one network."""

    fixed: tuple[Part, ...]
    candidates: tuple[Part, ...]

    def parts(self) -> tuple[Part, ...]:
        """Every part, repeats included."""
        return (*self.fixed, *self.candidates)


class ChoiceSpace:
    """The networks that a function makes, with some of the candidates of each choice.

    The function is called, and its network computed once, when the space is made; later it is
    called again for every network that is built.

    Args:
        name: Of the space in files: ``package.module:function``, or a shorter one.
        function: Returns a module with choices.
        settings: Its keyword arguments, in plain JSON values, of which lists reach it as
            tuples; and ``input_shape``, which it need not take.

    Raises:
        ConfigError: If the function does not take the settings, fails, or does not return a
            network that is made of choices and parts.
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
        self.classes = found.output_shape[0]
        self._catalogue = PartCatalogue(name)
        self.fixed_parts = tuple(
            self._catalogue.add_fixed(network.get_submodule(path), path, site)
            for path, site in found.fixed
        )
        called: dict[str, set[Part]] = {}
        for (path, _), part in zip(found.fixed, self.fixed_parts, strict=True):
            called.setdefault(path, set()).add(part)
        self._labels = {path: parts.pop() for path, parts in called.items() if len(parts) == 1}
        """Of the modules that are one part, however often they are called."""
        self.gates = tuple(self._find_gates(network, found.choices))

    def _find_gates(
        self, network: nn.Module, sites: Mapping[str, Shapes]
    ) -> Iterator[ChoiceGate]:
        """The candidates of every decision, in the order of the network."""
        for place, paths in self._find_decisions(network, sites).items():
            choices = {path: _choice_at(network, path).operators for path in paths}
            for key in choices[paths[0]]:
                parts = (
                    self._catalogue.add(operators[key], key, f"{path}.{key}", sites[path])
                    for path, operators in choices.items()
                )
                yield ChoiceGate(place, key, tuple(paths), tuple(parts))

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
                    f"space {self.name} is not usable: a choice is at {path!r}, and others "
                    "share that name; give one of them another"
                )
            theirs, ours = list(known.operators), list(choice.operators)
            if ours != theirs:
                raise ConfigError(
                    f"space {self.name} is not usable: the choices at {first} and {path} are "
                    f"shared as {choice.shared!r}, and have the candidates {', '.join(theirs)} "
                    f"and {', '.join(ours)}; give both the same, in the same order"
                )
            if path != first:
                decisions[choice.shared or path].append(path)
        return decisions

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
        """Build one of the parts, with the weights that it has in every process.

        Raises:
            ConfigError: If there is none such.
        """
        return self._catalogue.build(operator, site)

    def rows(self) -> tuple[Part, ...]:
        """The distinct parts of the space: what a latency table must hold."""
        return self._catalogue.parts

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The gates of each choice, which keeps at least one."""
        return tuple(map(tuple, group_by_choice(self.gates).values()))

    @property
    def call(self) -> str:
        """The call that makes the space again."""
        settings = {"input_shape": self.input_shape} | {
            name: value for name, value in self.settings.items() if name != "input_shape"
        }
        return f"space({self.name!r}, {', '.join(f'{k}={v!r}' for k, v in settings.items())})"

    def log10_size(self) -> float:
        """Logarithm of the number of networks: non-empty subsets of candidates per choice."""
        return sum(math.log10(2 ** len(group) - 1) for group in self.groups)

    # -- architectures -----------------------------------------------------------------------

    def architecture(self, kept: Iterable[Gate]) -> Architecture:
        """The architecture that keeps these gates' operators."""
        choices: dict[str, tuple[str, ...]] = {}
        for gate in kept:
            choices[gate.place] = (*choices.get(gate.place, ()), gate.key)
        return Architecture(space=self.name, settings=self.settings, choices=choices)

    def plan(self, architecture: Architecture) -> ChoicePlan:
        """The parts of a network.

        Raises:
            ConfigError: If the architecture is not of this space.
        """
        kept = select_gates(self.gates, architecture, space=self.name)
        return ChoicePlan(self.fixed_parts, tuple(part for g in kept for part in g.parts))

    def build(self, architecture: Architecture, *, gated: bool = False) -> nn.Module:
        """Build an architecture with fresh weights.

        Args:
            architecture: Of this space.
            gated: Whether candidates are scaled by gates kept as buffers, as the weights of a
                search need.

        Raises:
            ConfigError: If the architecture is not of this space.
        """
        selected = select_gates(self.gates, architecture, space=self.name)
        kept = {
            (path, gate.key): part
            for gate in selected
            for path, part in zip(gate.blocks, gate.parts, strict=True)
        }
        network = self._function.call(self.settings)
        for path, part in self._labels.items():
            label_part(network.get_submodule(path), part)
        for path in dict.fromkeys(path for path, _ in kept):
            choice = _choice_at(network, path)
            for key in list(choice.operators):
                if (path, key) in kept:
                    label_part(choice.operators[key], kept[path, key])
                else:
                    del choice.operators[key]
            choice.gates = torch.ones(len(choice.operators)) if gated else None
        return network


def _choice_at(network: nn.Module, place: str) -> Choice:
    choice = network.get_submodule(place)
    assert isinstance(choice, Choice)
    return choice
