"""Spaces of one's own: any module in which some places are choices, made by a function."""

import copy
import inspect
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import nn

from goldnas.architecture import Architecture
from goldnas.choice import Choice
from goldnas.errors import ConfigError
from goldnas.operators import Part, labelled, part_of
from goldnas.reference import described, file_of, where
from goldnas.site import AnySite, Shapes
from goldnas.spaces.reference import FUNCTIONS, SpaceFunction
from goldnas.spaces.space import Gate
from goldnas.spaces.tracing import traced

OF_DATA = ("input_shape", "classes")
"""Settings that a search takes from its data; a function need not have them."""


@dataclass(frozen=True, slots=True)
class ChoiceGate:
    """One candidate of one choice."""

    place: str
    """Path of the choice within the network."""
    key: str
    """Name of the candidate."""
    operator: str
    """Name of its row in latency tables."""
    site: AnySite

    @property
    def block(self) -> str:
        """The choice."""
        return self.place

    @property
    def name(self) -> str:
        """Name in logs: ``blocks.3.conv_3x3``."""
        return f"{self.place}.{self.key}"

    @property
    def node_id(self) -> str:
        """The candidates of one choice are summed."""
        return self.place

    @property
    def edge_id(self) -> str:
        """They compete, too."""
        return self.place


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
        self._function = function
        self._parameters = _parameters(name, function)
        self.settings = self._complete(settings)
        shape: Any = tuple(self.settings["input_shape"])
        self.input_shape: tuple[int, int, int] = shape  # or of other rank, for other data
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # its parts are measured: the same in every process
            network = self._network()
        try:
            found = traced(network, self.input_shape)
        except ConfigError as error:
            raise ConfigError(f"space {name} is not usable: {error}") from None
        except Exception as error:
            shape = "x".join(map(str, self.input_shape))
            raise ConfigError(
                f"the network of space {name} fails on an input of {shape}: "
                f"{described(error)} ({self._where(error)})"
            ) from error
        self.output_shape = found.output_shape
        self.classes = found.output_shape[0]
        self._parts: dict[Part, nn.Module] = {}
        """One module of each."""
        self._first: dict[Part, str] = {}
        """Where it is in the network."""
        self.fixed_parts = tuple(
            self._fixed(network.get_submodule(path), path, site) for path, site in found.fixed
        )
        called: dict[str, set[Part]] = {}
        for (path, _), part in zip(found.fixed, self.fixed_parts, strict=True):
            called.setdefault(path, set()).add(part)
        self._labels = {path: parts.pop() for path, parts in called.items() if len(parts) == 1}
        """Of the modules that are one part, however often they are called."""
        gates = []
        for place, site in found.choices.items():
            choice = network.get_submodule(place)
            assert isinstance(choice, Choice)
            for key, module in choice.operators.items():
                part = self._noted(module, key, f"{place}.{key}", site)
                gates.append(ChoiceGate(place, key, *part))
        self.gates: tuple[ChoiceGate, ...] = tuple(gates)

    @classmethod
    def of(cls, function: SpaceFunction, **settings: Any) -> "ChoiceSpace":
        """The space of a function, for programs; files that name it then find it.

        Args:
            function: Defined in a module, so that it can be named.
            settings: Its keyword arguments, and ``input_shape``.

        Raises:
            ConfigError: As the space itself.
        """
        name = f"{function.__module__}:{function.__qualname__}"
        FUNCTIONS[name] = function
        return choice_space(name, settings)

    def auxiliary_place(self, cells: Iterable[int]) -> None:
        """None: its networks have no cells."""

    def with_operators(self, operators: Iterable[str]) -> "ChoiceSpace":
        """The space itself."""
        return self

    # -- the function ------------------------------------------------------------------------

    def _complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with the defaults of the function, as JSON has them."""
        parameters = self._parameters
        settings = {
            name: parameter.default
            for name, parameter in parameters.items()
            if parameter.default is not parameter.empty and _is_json(parameter.default)
        }
        for name, value in given.items():
            if name not in parameters and name not in OF_DATA:
                takes = ", ".join(parameters) or "none"
                raise ConfigError(
                    f"space {self.name} takes no setting {name!r}; it takes: {takes}"
                )
            if not _is_json(value):
                raise ConfigError(
                    f"setting {name}={value!r} of space {self.name} cannot be written down; "
                    "give numbers, texts, true or false, and lists of them"
                )
            if name in parameters or name == "input_shape":
                settings[name] = value
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in settings:
                raise ConfigError(
                    f"space {self.name} needs a setting {name!r}: give it as --set {name}=VALUE"
                )
        shape = settings.get("input_shape")
        if shape is None:
            raise ConfigError(
                f"space {self.name} does not say what its input is: give --input, as in "
                "--input 3x32x32"
            )
        whole = isinstance(shape, list | tuple) and all(type(n) is int and n > 0 for n in shape)
        if not whole or not shape:
            raise ConfigError(
                f"input_shape of space {self.name} must be whole numbers from 1, got {shape!r}"
            )
        listed: dict[str, Any] = json.loads(json.dumps(settings))
        return listed

    def _network(self) -> nn.Module:
        """Call the function."""
        arguments = {k: _frozen(v) for k, v in self.settings.items() if k in self._parameters}
        try:
            # Whatever is asked for around: values of the function's own may be computed.
            with torch.device("cpu"):
                network = self._function(**arguments)
        except Exception as error:
            raise ConfigError(
                f"space {self.name} cannot be made: {described(error)} ({self._where(error)})"
            ) from error
        if not isinstance(network, nn.Module):
            raise ConfigError(
                f"space {self.name} returns a {type(network).__name__}, and has to return an "
                "nn.Module"
            )
        return network

    def _where(self, error: Exception) -> str:
        return where(error, file_of(self._function))

    # -- parts -------------------------------------------------------------------------------

    def _fixed(self, module: nn.Module, path: str, site: Shapes) -> Part:
        """Name a fixed part by its path; layers of torch that are alike have one row."""
        ours = part_of(module) is not None
        if not ours and all(
            type(m).__module__.startswith("torch.nn.") for m in module.modules()
        ):
            for part, known in self._parts.items():
                if part[1] == site and _structure(known) == _structure(module):
                    return part
        return self._noted(module, path, path, site)

    def _noted(self, module: nn.Module, name: str, path: str, site: Shapes) -> Part:
        """Name a part of the network, and keep it to be built again.

        Raises:
            ConfigError: If another has its name and its site.
        """
        own = part_of(module)
        if own is not None and own[1].input_shape != site.input_shape:
            raise ConfigError(
                f"{path} in space {self.name} is {own[0]} at {own[1]}, and maps {site}; build "
                "it for the site that it is at"
            )
        part = own or (f"{self.name}/{name}", site)
        known = self._parts.setdefault(part, module)
        first = self._first.setdefault(part, path)
        if _structure(known) != _structure(module):
            raise ConfigError(
                f"{first} and {path} in space {self.name} are both {part[0]} at {part[1]}, and "
                "are built differently; they would share one latency. Give one another name"
            )
        return part

    def build_part(self, operator: str, site: AnySite) -> nn.Module:
        """Build one of the parts, with the weights that it has in every process.

        Raises:
            ConfigError: If there is none such.
        """
        if (operator, site) not in self._parts:
            raise ConfigError(f"space {self.name} has no {operator} at {site}")
        return copy.deepcopy(self._parts[operator, site])

    def rows(self) -> tuple[Part, ...]:
        """The distinct parts of the space: what a latency table must hold."""
        return tuple(self._parts)

    # -- gates -------------------------------------------------------------------------------

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The gates of each choice, which keeps at least one."""
        groups: dict[str, list[int]] = {}
        for index, gate in enumerate(self.gates):
            groups.setdefault(gate.place, []).append(index)
        return tuple(map(tuple, groups.values()))

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
        kept = self._kept(architecture)
        return ChoicePlan(self.fixed_parts, tuple((g.operator, g.site) for g in kept))

    def build(self, architecture: Architecture, *, gated: bool = False) -> nn.Module:
        """Build an architecture with fresh weights.

        Args:
            architecture: Of this space.
            gated: Whether candidates are scaled by gates kept as buffers, as the weights of a
                search need.

        Raises:
            ConfigError: If the architecture is not of this space.
        """
        kept = {(gate.place, gate.key): gate for gate in self._kept(architecture)}
        network = self._network()
        for path, part in self._labels.items():
            labelled(network.get_submodule(path), part)
        for place in dict.fromkeys(place for place, _ in kept):
            choice = network.get_submodule(place)
            assert isinstance(choice, Choice)
            for key in list(choice.operators):
                if (place, key) not in kept:
                    del choice.operators[key]
                    continue
                gate = kept[place, key]
                labelled(choice.operators[key], (gate.operator, gate.site))
            choice.gates = torch.ones(len(choice.operators)) if gated else None
        return network

    def _kept(self, architecture: Architecture) -> list[ChoiceGate]:
        """The gates that an architecture keeps."""
        if architecture.space != self.name:
            raise ConfigError(
                f"the architecture is of space {architecture.space}, not of {self.name}"
            )
        candidates: dict[str, list[str]] = {}
        for gate in self.gates:
            candidates.setdefault(gate.place, []).append(gate.key)
        for place, keys in architecture.choices.items():
            if place not in candidates:
                raise ConfigError(
                    f"space {self.name} has no choice at {place!r}; it has them at "
                    f"{', '.join(candidates)}"
                )
            for key in keys:
                if key not in candidates[place]:
                    raise ConfigError(
                        f"the choice at {place} has no candidate {key!r}; it has "
                        f"{', '.join(candidates[place])}"
                    )
        for place in candidates:
            if not architecture.choices.get(place):
                raise ConfigError(
                    f"the architecture says nothing of the choice at {place}; each needs a "
                    "candidate"
                )
        return [gate for gate in self.gates if gate.key in architecture.choices[gate.place]]


def choice_space(name: str, settings: Mapping[str, Any]) -> ChoiceSpace:
    """The space of a function that is known by a name, made once.

    Raises:
        ConfigError: If the name was not imported, or the space cannot be made.
    """
    if name not in FUNCTIONS:
        raise ConfigError(
            f"space {name} is a function, which no file gets run: name it yourself, with "
            f"--space {name}, if you trust it"
        )
    settings = {k: v for k, v in settings.items() if v is not None}
    if not _is_json(settings):
        return ChoiceSpace(name, FUNCTIONS[name], settings)  # which says what is wrong
    return _made(name, FUNCTIONS[name], json.dumps(settings, sort_keys=True))


@lru_cache(maxsize=16)
def _made(name: str, function: SpaceFunction, settings: str) -> ChoiceSpace:
    return ChoiceSpace(name, function, json.loads(settings))


def _parameters(name: str, function: SpaceFunction) -> dict[str, inspect.Parameter]:
    """What a function can be called with, by keyword."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise ConfigError(
            f"space {name} does not say what it takes; name a function written in Python"
        ) from None
    return {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def _structure(module: nn.Module) -> tuple[str, dict[str, tuple[int, ...]]]:
    """What two modules are compared by: their text, and the shapes of what they hold."""
    state = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    return repr(module), state


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _frozen(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
