"""The space of ready-made networks: each is one part, and nothing of it is chosen.

No search takes it. It lets a network of torchvision or timm be trained, measured and exported
as any other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from torch import nn

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.operators import Part, label_part
from goldnas.site import AnySite, Shapes
from goldnas.spaces.limits import MOST_CLASSES, MOST_INPUTS, check_whole
from goldnas.spaces.space import AuxiliaryPlace, Gate
from goldnas.zoo.networks import build_network, find_network

ZOO = "zoo"
"""Name of the space in an architecture."""


def describe_ready_made(
    name: str, *, input_shape: Sequence[int] = (3, 224, 224), classes: int = 1000
) -> Architecture:
    """A ready-made network as an architecture.

    Args:
        name: ``resnet18`` or ``zoo:resnet18`` of torchvision, or ``timm/efficientnet_lite0``.
        input_shape: ``(C, H, W)``.
        classes: To tell apart.

    Raises:
        ConfigError: If there is no such network.
    """
    return Architecture(
        space=ZOO,
        settings={
            "network": find_network(name).name,
            "input_shape": list(input_shape),
            "classes": classes,
        },
        choices={},
    )


@dataclass(frozen=True)
class ReadyMadePlan:
    """A network that is one part."""

    part: Part

    def parts(self) -> tuple[Part, ...]:
        """The part."""
        return (self.part,)


class ZooSpace:
    """One ready-made network.

    Args:
        network: Its name.
        input_shape: ``(C, H, W)``.
        classes: To tell apart.

    Raises:
        ConfigError: If there is no such network, or a setting is out of range.
    """

    name = ZOO
    operators: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    wiring = None
    cell_layout = None
    search_settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, *, network: str, input_shape: Sequence[int], classes: int) -> None:
        if not isinstance(network, str):
            raise ConfigError(f"the name of a ready-made network is a text, got {network!r}")
        self.network = find_network(network).name
        if not isinstance(input_shape, list | tuple) or len(input_shape) != 3:
            raise ConfigError(
                f"input_shape must be channels, height, width, got {input_shape!r}"
            )
        for size in input_shape:
            check_whole("each size of input_shape", size, most=MOST_INPUTS)
        check_whole("classes", classes, most=MOST_CLASSES)
        channels, height, width = input_shape
        self.input_shape: tuple[int, int, int] = (channels, height, width)
        self.classes = classes
        self.output_shape = (classes,)
        self.settings: dict[str, Any] = {
            "network": self.network,
            "input_shape": list(input_shape),
            "classes": classes,
        }

    @cached_property
    def fixed_parts(self) -> tuple[Part, ...]:
        """The whole network."""
        return ((f"{ZOO}/{self.network}", Shapes(self.input_shape, self.output_shape)),)

    def rows(self) -> tuple[Part, ...]:
        """The whole network: what a latency table must hold."""
        return self.fixed_parts

    @property
    def call(self) -> str:
        """What measures the network."""
        return f"zoo:{self.network}"

    def log10_size(self) -> float:
        """Of one network: 0."""
        return 0.0

    def place_auxiliary(self, cells: Iterable[int]) -> AuxiliaryPlace | None:
        """None: it has no cells."""
        return None

    def with_operators(self, operators: Iterable[str]) -> "ZooSpace":
        """The space itself."""
        return self

    def architecture(self, kept: Iterable[Gate]) -> Architecture:
        """The network."""
        return Architecture(space=ZOO, settings=self.settings, choices={})

    def plan(self, architecture: Architecture) -> ReadyMadePlan:
        """The network as one part.

        Raises:
            ConfigError: If the architecture is of another space, or chooses something.
        """
        if architecture.space != ZOO or architecture.choices:
            raise ConfigError(
                f"{self.network} is a ready-made network, of which nothing is chosen; leave "
                "out `choices`"
            )
        return ReadyMadePlan(self.fixed_parts[0])

    def build_part(self, operator: str, site: AnySite) -> nn.Module:
        """Build the network with fresh weights.

        Raises:
            ConfigError: If the part is not of this space, or the network does not take images
                of this size.
        """
        if (operator, site) != self.fixed_parts[0]:
            raise ConfigError(f"{self.network} has no {operator} at {site}")
        return build_network(self.network, self.input_shape, self.classes)

    def build(self, architecture: Architecture, *, gated: bool = False) -> nn.Module:
        """Build the network with fresh weights.

        Raises:
            ConfigError: As for :meth:`plan` and :meth:`build_part`.
        """
        (part,) = self.plan(architecture).parts()
        return label_part(self.build_part(*part), part)
