"""The parts of shrunk networks: blocks of layers, built on their own to be counted."""

import copy
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.node import map_aggregate

from goldnas.channels import CHANNELWISE, Input, LayerCall, cut_layer
from goldnas.errors import ConfigError
from goldnas.reference import describe_error
from goldnas.site import AnySite, Shapes

CALLS, OUTPUTS, WEIGHTS = "calls", "outputs", "weights"
"""Kinds of work besides multiply-adds."""


def with_size(shape: Sequence[int], axis: int, size: int) -> tuple[int, ...]:
    """A shape with another size along one axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])


def make_nothing(site: AnySite) -> nn.Module:
    """What neither multiplies nor learns."""
    return nn.Identity()


def work_of(layer: nn.Module, site: Shapes) -> dict[str, float]:
    """What a block of a layer does that takes time."""
    if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return {}
    axis = len(site.input_shape) - 1 if isinstance(layer, nn.Linear) else 0
    each = 1 if getattr(layer, "groups", 1) > 1 else site.input_shape[axis]
    window = 1 if isinstance(layer, nn.Linear) else prod(layer.kernel_size)
    weights = float(each * window * site.output_shape[axis])
    kind = type(layer).__name__
    if not isinstance(layer, nn.Linear):
        kind += f" {'x'.join(map(str, layer.kernel_size))}" + " depthwise" * (layer.groups > 1)
    places = prod(site.output_shape) / site.output_shape[axis]
    return {kind: weights * places, WEIGHTS: weights}


def make_like(layer: nn.Module, axis: int) -> Callable[[AnySite], nn.Module]:
    """What makes a layer of fewer channels, without an offset."""
    passes_on = isinstance(layer, CHANNELWISE) or getattr(layer, "groups", 1) > 1

    def make(site: AnySite) -> nn.Module:
        made: Any = copy.deepcopy(layer)
        reads, writes = (
            torch.arange(shape[axis]) for shape in (site.input_shapes[0], site.output_shape)
        )
        cut_layer(made, {"both": reads} if passes_on else {"in": reads, "out": writes})
        if not passes_on:
            made.bias = None
        return made  # type: ignore[no-any-return]

    return make


class _Offset(nn.Module):
    """What a layer adds to each of its channels, or nothing."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size)) if size else None

    def forward(self, x: Tensor) -> Tensor:
        """Map any tensor to itself."""
        return x


def make_offset(has_bias: bool, axis: int) -> Callable[[AnySite], nn.Module]:
    """What makes the offset of a layer, or nothing."""
    return lambda site: _Offset(site.output_shape[axis] if has_bias else 0)


def make_holder(size: int) -> Callable[[AnySite], nn.Module]:
    """What makes a module that only has parameters."""
    return lambda site: _Offset(size)


class _Called(nn.Module):
    """A layer that is called as its network calls it."""

    def __init__(self, layer: nn.Module, path: str, call: LayerCall) -> None:
        super().__init__()
        self.layer = layer
        self._path = path
        self._call = call

    def forward(self, *inputs: Tensor) -> Any:
        """Map the layer's different inputs to its output."""
        args, kwargs = map_aggregate(
            self._call.arguments, lambda a: _given(a, inputs) if isinstance(a, Input) else a
        )
        try:
            return self.layer(*args, **kwargs)
        except Exception as error:
            raise ConfigError(
                f"layer {self._path!r} cannot be called on its own, so its cost is not known: "
                f"{describe_error(error)}. Let it take any float32 numbers of its input's shape"
            ) from error


def _given(argument: Input, inputs: Sequence[Tensor]) -> Tensor:
    given = inputs[argument.index]
    return given.flatten(0, 1) if argument.joined else given


def make_called(layer: nn.Module, path: str, call: LayerCall) -> Callable[[AnySite], nn.Module]:
    """What makes a layer again, which is called as its network calls it."""
    return lambda site: _Called(copy.deepcopy(layer), path, call)
