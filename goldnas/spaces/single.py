"""Spaces of one network without choices.

No search takes such a space. With it, goldnas can train, measure, shrink and export the network
like any other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from goldnas.architecture import Architecture
from goldnas.choice import has_choice
from goldnas.errors import ConfigError, name_type
from goldnas.operators import Part, label_part
from goldnas.site import AnySite, Shapes
from goldnas.spaces.network_function import NetworkFunction
from goldnas.spaces.reference import FUNCTIONS, SpaceFunction
from goldnas.spaces.space import AuxiliaryPlace, Combination, Gate


@dataclass(frozen=True)
class SinglePlan:
    """A network that is one part."""

    part: Part

    def parts(self) -> tuple[Part, ...]:
        """The part."""
        return (self.part,)


class SingleSpace:
    """One network.

    Args:
        name: Name of the space in architectures.
        network: Name of the network.
        settings: Settings of the space in architectures.
        input_shape: ``(C, H, W)``.
        output_shape: Shape of the output for one input.
    """

    operators: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    wiring = None
    cell_layout = None
    combinations: tuple[Combination, ...] = ()
    search_settings: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        name: str,
        network: str,
        settings: dict[str, Any],
        input_shape: tuple[int, int, int],
        output_shape: tuple[int, ...],
    ) -> None:
        self.name = name
        self.network = network
        self.settings = settings
        self.input_shape = input_shape
        self.output_shape = output_shape
        self.classes = output_shape[0]

    @cached_property
    def fixed_parts(self) -> tuple[Part, ...]:
        """The whole network."""
        return ((self.network, Shapes(self.input_shape, self.output_shape)),)

    def rows(self) -> tuple[Part, ...]:
        """The whole network: what a latency table must hold."""
        return self.fixed_parts

    @property
    def call(self) -> str:
        """What measures the network."""
        return self.network

    def log10_size(self) -> float:
        """Logarithm of the number of networks: 0."""
        return 0.0

    def place_auxiliary(self, cells: Iterable[int]) -> AuxiliaryPlace | None:
        """None: it has no cells."""
        return None

    def with_operators(self, operators: Iterable[str]) -> "SingleSpace":
        """The space itself."""
        return self

    def architecture(self, kept: Iterable[Gate]) -> Architecture:
        """The network."""
        return Architecture(space=self.name, settings=self.settings, choices={})

    def plan(self, architecture: Architecture) -> SinglePlan:
        """The network as one part.

        Raises:
            ConfigError: If the architecture is of another space, or chooses something.
        """
        if architecture.space != self.name or architecture.choices:
            raise ConfigError(
                f"{self.network} is one network without choices; leave out `choices`"
            )
        return SinglePlan(self.fixed_parts[0])

    def make(self) -> nn.Module:
        """The network with fresh weights."""
        raise NotImplementedError

    def find_classifier(self) -> frozenset[str]:
        """The weights whose shapes depend on the number of classes, by name.

        Empty if they are unknown.
        """
        raise NotImplementedError

    def build_part(self, operator: str, site: AnySite) -> nn.Module:
        """Build the network with fresh weights.

        Raises:
            ConfigError: If the part is not of this space, or the network does not take inputs
                of this shape.
        """
        if (operator, site) != self.fixed_parts[0]:
            raise ConfigError(f"{self.network} has no {operator} at {site}")
        return self.make()

    def build(self, architecture: Architecture, *, gated: bool = False) -> nn.Module:
        """Build the network with fresh weights.

        Raises:
            ConfigError: As for :meth:`plan` and :meth:`build_part`.
        """
        (part,) = self.plan(architecture).parts()
        return label_part(self.build_part(*part), part)


class FunctionSpace(SingleSpace):
    """The network that a function makes, which has no choices.

    Args:
        name: Name of the function.
        function: Returns the network.
        settings: Keyword arguments of the function, and ``input_shape``, which the function
            need not take.

    Raises:
        ConfigError: If the function or its network fails.
    """

    def __init__(self, name: str, function: SpaceFunction, settings: Mapping[str, Any]) -> None:
        self._function = NetworkFunction(name, function)
        complete = self._function.complete(settings)
        shape: Any = tuple(complete["input_shape"])
        with torch.random.fork_rng(devices=[]):
            network = self._function.call(complete).eval()
            _check_state(name, network)
            try:
                with torch.no_grad():
                    output = network(torch.zeros(2, *shape))
            except Exception as error:
                told = "x".join(map(str, shape))
                raise ConfigError(
                    f"the network of {name} fails on an input of {told}: "
                    f"{self._function.describe(error)}"
                ) from error
        if not isinstance(output, Tensor):
            raise ConfigError(
                f"the network of {name} returns {name_type(output)}: let it return one tensor"
            )
        output_shape = tuple(map(int, output.shape[1:]))
        super().__init__(name, name, complete, shape, output_shape or (1,))

    def make(self) -> nn.Module:
        """The network with fresh weights."""
        return self._function.call(self.settings)

    def find_classifier(self) -> frozenset[str]:
        """The weights whose shapes depend on the number of classes, by name.

        Empty if the function does not take ``classes``, or fails with one class more.
        """
        classes = self.settings.get("classes")
        if type(classes) is not int:
            return frozenset()
        with torch.random.fork_rng(devices=[]):
            try:
                other = self._function.call({**self.settings, "classes": classes + 1})
            except ConfigError:
                return frozenset()
            return find_different(self.make(), other)


def _check_state(name: str, network: nn.Module) -> None:
    """Refuse a network whose weights cannot be kept and loaded again.

    Raises:
        ConfigError: Naming what is no tensor, or has no shape before the first input.
    """
    for key, value in network.state_dict().items():
        if not isinstance(value, Tensor):
            raise ConfigError(
                f"the network of {name} keeps {key} beside its weights, which is no tensor: "
                "leave out its get_extra_state"
            )
        if is_lazy(value):
            raise ConfigError(
                f"{key} of the network of {name} has no shape before the first input: give the "
                "layer its sizes, in place of a lazy one"
            )


def find_different(network: nn.Module, other: nn.Module) -> frozenset[str]:
    """The weights of a network that have other shapes in another one, by name."""
    mine, others = network.state_dict(), other.state_dict()
    return frozenset(n for n in mine if n not in others or mine[n].shape != others[n].shape)


def make_function_space(
    name: str, settings: Mapping[str, Any], *, input_shape: Sequence[int], classes: int | None
) -> FunctionSpace:
    """The space of the one network that a function makes for some data.

    Args:
        name: Of the function, which was imported.
        settings: Arguments of the function, besides those of the data.
        input_shape: Of one item.
        classes: None if the targets are not classes.

    Raises:
        ConfigError: If the function does not make a network for the data, or one with choices.
    """
    of_data = {"input_shape": input_shape, "classes": classes}
    if theirs := [key for key in of_data if key in settings]:
        raise ConfigError(
            f"{' and '.join(theirs)} of {name} follow from the data: leave them out of "
            "`settings`"
        )
    given = {key: value for key, value in of_data.items() if value is not None}
    space = FunctionSpace(name, FUNCTIONS[name], given | dict(settings))
    if has_choice(space.make()):
        raise ConfigError(
            f"the network of {name} has choices: search among them, and train the network that "
            "is found"
        )
    return space
