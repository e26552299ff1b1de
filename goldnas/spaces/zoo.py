"""The space of ready-made networks: each is one part without choices.

No search takes this space. With it, goldnas can train, measure and export a network of
torchvision or timm like any other.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import nn

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.operators import Part
from goldnas.site import Shapes
from goldnas.spaces.limits import MOST_CLASSES, MOST_INPUTS, check_whole
from goldnas.spaces.single import SingleSpace, find_different
from goldnas.zoo.networks import build_network, build_without_numbers, find_network

ZOO = "zoo"
"""Name of the space in an architecture."""


def describe_ready_made(
    name: str, *, input_shape: Sequence[int] = (3, 224, 224), classes: int = 1000
) -> Architecture:
    """A ready-made network as an architecture.

    Args:
        name: ``resnet18`` or ``zoo:resnet18`` of torchvision, or ``timm/efficientnet_lite0``.
        input_shape: ``(C, H, W)``.
        classes: Number of classes.

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


class ZooSpace(SingleSpace):
    """One ready-made network.

    Args:
        network: Name of the network.
        input_shape: ``(C, H, W)``.
        classes: Number of classes.

    Raises:
        ConfigError: If there is no such network, or a setting is out of range.
    """

    def __init__(self, *, network: str, input_shape: Sequence[int], classes: int) -> None:
        if not isinstance(network, str):
            raise ConfigError(f"the name of a ready-made network must be text, got {network!r}")
        found = find_network(network).name
        if not isinstance(input_shape, list | tuple) or len(input_shape) != 3:
            raise ConfigError(
                f"input_shape must be channels, height, width, got {input_shape!r}"
            )
        for size in input_shape:
            check_whole("each size of input_shape", size, most=MOST_INPUTS)
        check_whole("classes", classes, most=MOST_CLASSES)
        channels, height, width = input_shape
        settings = {"network": found, "input_shape": list(input_shape), "classes": classes}
        super().__init__(ZOO, found, settings, (channels, height, width), (classes,))

    @cached_property
    def fixed_parts(self) -> tuple[Part, ...]:
        """The whole network."""
        return ((f"{ZOO}/{self.network}", Shapes(self.input_shape, self.output_shape)),)

    @property
    def call(self) -> str:
        """What measures the network."""
        return f"zoo:{self.network}"

    def make(self) -> nn.Module:
        """The network with fresh weights.

        Raises:
            ConfigError: If it does not take images of this size.
        """
        return build_network(self.network, self.input_shape, self.classes)

    def find_classifier(self) -> frozenset[str]:
        """The weights whose shapes depend on the number of classes, by name."""
        with torch.random.fork_rng(devices=[]):
            mine, other = (
                build_without_numbers(self.network, self.input_shape, classes)
                for classes in (self.classes, self.classes + 1)
            )
        return find_different(mine, other)
