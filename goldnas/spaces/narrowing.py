"""One part of a network with fewer channels, as a Width next to it has it."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from goldnas.channels import Coupling, cut, find_coupling
from goldnas.errors import ConfigError
from goldnas.mobile_block import find_expansion, parse_block
from goldnas.operators import Part, build_operator, find_builder
from goldnas.site import AnySite, Shapes, Site


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
                f"{path} reads several tensors, and a Width narrows one: put no Width next to "
                "it"
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
    shapes = Shapes((reads, *site.input_shapes[0][1:]), (writes, *site.output_shape[1:]))
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
    whole += "_affine" if isinstance(site, Site) and site.affine else ""
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


def computes_the_same(
    whole: nn.Module,
    narrow: nn.Module,
    input_shape: Sequence[int],
    reads: int | None = None,
    writes: int | None = None,
    zeros: bool = False,
) -> bool:
    """Whether a module computes with zeros what a narrower one computes without them.

    They are compared as they train: what a layer makes of zeros may be constant, if a
    normalisation behind it takes constants away. Both modules change.

    Args:
        whole: The module with all channels.
        narrow: The same with fewer.
        input_shape: Of the whole one.
        reads: Channels of its input that are no zeros; None for all.
        writes: Channels of its output that are compared; None for all.
        zeros: Whether the other channels of its output have to be zeros.
    """
    for module in (whole, narrow):
        module.double().train()
        for layer in module.modules():
            if isinstance(layer, nn.modules.dropout._DropoutNd):
                layer.eval()
    with torch.no_grad():
        for weight in whole.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        narrow.load_state_dict(shorten(whole.state_dict(), narrow.state_dict()))
        x = torch.randn(4, *input_shape).double()
        if reads is not None:
            x[:, reads:] = 0
        wanted, got = whole(x), narrow(x[:, :reads])
    if zeros and writes is not None and bool(wanted[:, writes:].any()):
        return False
    return torch.allclose(wanted[:, :writes], got, rtol=1e-3, atol=1e-5)
