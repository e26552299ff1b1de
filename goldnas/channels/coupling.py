"""Which channels of a network can only be removed together."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import nn

Ids = npt.NDArray[np.int64]
Role = Literal["in", "out", "both"]
"""Role of a layer's channels: read, put out, or passed on one by one."""


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


class LayerShapes(NamedTuple):
    """What a layer reads and puts out, for one image."""

    input: tuple[int, ...]
    output: tuple[int, ...]
    axis: int
    """Of the channels in both."""


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
    shapes: dict[str, LayerShapes]
    """By path, of those layers."""
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
