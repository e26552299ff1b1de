"""A network with fewer channels, and without some of its branches."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goldnas.channels.coupling import Coupling, Ids, LayerChannels, Role
from goldnas.channels.layers import cut_layer


def cut(network: nn.Module, coupling: Coupling, kept: Mapping[str, Ids]) -> None:
    """Remove channels of some groups, in place.

    The weights of removed channels go in every layer. All other numbers stay unchanged.

    Args:
        network: The network of the coupling, with all its channels.
        coupling: The coupling of the network's channels.
        kept: The channels that each group keeps, in order, by name of the group.
    """
    masks = _masks(coupling, kept)
    if all(mask.all() for mask in masks):
        return
    for path, roles in coupling.layers.items():
        layer = network.get_submodule(path)
        stays = {role: _indices(channels, masks) for role, channels in roles.items()}
        cut_layer(layer, {role: torch.as_tensor(index) for role, index in stays.items()})


def find_kept(
    coupling: Coupling, kept: Mapping[str, Ids], role: Role
) -> Iterator[tuple[str, Ids]]:
    """Which channels each layer keeps, in one role, in order.

    Args:
        coupling: Of the channels of a network.
        kept: By name of a group, the channels that it keeps, in order.
        role: Layers without it are left out.
    """
    masks = _masks(coupling, kept)
    for path, roles in coupling.layers.items():
        if role in roles:
            yield path, _indices(roles[role], masks)


class _Removed(nn.Identity):
    """What takes the place of a branch: it passes on the first of its inputs.

    It has what the branch had besides modules and weights, for a network that asks for it.
    """

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        plain = {name: value for name, value in vars(branch).items() if name not in vars(self)}
        self.__dict__.update(plain)

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return input


def remove_branches(network: nn.Module, branches: Iterable[str]) -> None:
    """Put an identity in place of branches, by their paths."""
    for path in branches:
        network.set_submodule(path, _Removed(network.get_submodule(path)))


def _masks(coupling: Coupling, kept: Mapping[str, Ids]) -> list[np.ndarray]:
    """Of each group, which channels stay."""
    masks = []
    for group in coupling.groups:
        mask = np.ones(group.size, dtype=bool)
        if group.name in kept:
            mask[:] = False
            mask[kept[group.name]] = True
        masks.append(mask)
    return masks


def _indices(channels: LayerChannels, masks: list[np.ndarray]) -> Ids:
    """Which channels of a layer stay."""
    stay = np.ones(len(channels.group), dtype=bool)
    for index, mask in enumerate(masks):
        mine = channels.group == index
        stay[mine] = mask[channels.channel[mine]]
    return np.flatnonzero(stay)
