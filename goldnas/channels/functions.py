"""Where the channels of tensors are after functions and layers without weights."""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np
from torch import fx, nn

from goldnas.channels.coupling import Ids

PASSED_ON = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign),
    *(nn.LogSigmoid, nn.Softshrink, nn.Hardshrink, nn.Tanhshrink, nn.Threshold, nn.Identity),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, nn.ConstantPad2d),
    *(nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d),
)
"""Layers without weights whose channels are those of their input."""

ALIKE = {
    *("relu", "relu_", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish"),
    *("hardswish", "hardsigmoid", "hardtanh", "sigmoid", "tanh", "softplus", "dropout"),
    *("logsigmoid", "softsign", "threshold", "dropout1d", "dropout2d", "dropout3d"),
    *("contiguous", "clone", "float", "to", "type_as", "detach", "interpolate"),
    *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "stochastic_depth"),
    *("neg", "abs", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "square", "reciprocal"),
    *("sin", "cos", "erf", "sign", "round", "floor", "ceil", "clamp", "clip"),
    *("clamp_min", "clamp_max"),
}
"""Functions and methods, by name, whose channels are those of their first argument."""

ARITHMETIC = {
    *("add", "iadd", "add_", "sub", "isub", "sub_", "mul", "imul", "mul_", "truediv", "div"),
    *("maximum", "minimum", "pow", "where", "expand_as", "gt", "ge", "lt", "le"),
}


class Channels(NamedTuple):
    """The channels of a tensor, and their axis."""

    axis: int
    ids: Ids


class Width(NamedTuple):
    """A number that follows from how many channels there are, or sizes with such a number."""

    ids: Ids
    axis: int | None = None
    """Of the sizes of a tensor, which one it is."""
    times: int | None = 1
    """How many times the number of channels it is; None if that is not known."""


def mixes(name: str, before: Channels, shape: tuple[int, ...]) -> bool:
    """Whether what pools, pads or resizes the last axes of a tensor has the channels there."""
    name = name.lower()
    if name == "interpolate" or name.startswith("upsampl"):
        return before.axis != 1
    if "pool" not in name and "pad" not in name:
        return False
    return before.axis >= len(shape) - int(name[-2])  # of 2d, two axes


def find_place(axis: int, shape: tuple[int, ...], after: tuple[int, ...]) -> int | None:
    """Where an axis is in a view of a tensor; None if it is part of another."""
    ahead = prod(shape[:axis])
    places = (i for i, size in enumerate(after) if size == shape[axis])
    return next((i for i in places if prod(after[:i]) == ahead), None)


def pads_no_channels(
    arguments: dict[Any, Any], before: Channels, shape: tuple[int, ...]
) -> bool:
    """Whether padding leaves the axis of the channels alone."""
    padding = arguments.get(0, arguments.get("pad", ()))
    return len(padding) // 2 < len(shape) - before.axis


def _permute(
    before: Channels, shape: tuple[int, ...], after: tuple[int, ...], arguments: dict[Any, Any]
) -> Channels | None:
    dims: Any = arguments.get("dims", arguments.get(0))
    if isinstance(dims, int):
        dims = [arguments[i] for i in range(len(shape))]
    return Channels([d % len(shape) for d in dims].index(before.axis), before.ids)


def _transpose(
    before: Channels, shape: tuple[int, ...], after: tuple[int, ...], arguments: dict[Any, Any]
) -> Channels | None:
    one, other = (d % len(shape) for d in (arguments[0], arguments[1]))
    axis = {one: other, other: one}.get(before.axis, before.axis)
    return Channels(axis, before.ids)


def _reduce(
    before: Channels, shape: tuple[int, ...], after: tuple[int, ...], arguments: dict[Any, Any]
) -> Channels | None:
    dims = arguments.get(0, arguments.get("dim"))
    if dims is None:
        return None
    gone = {d % len(shape) for d in ([dims] if isinstance(dims, int) else dims)}
    if before.axis in gone:
        return None
    if len(after) == len(shape):
        return before
    return Channels(before.axis - sum(d < before.axis for d in gone), before.ids)


def _roll(
    before: Channels, shape: tuple[int, ...], after: tuple[int, ...], arguments: dict[Any, Any]
) -> Channels | None:
    dims = arguments.get(1, arguments.get("dims"))
    along = [dims] if isinstance(dims, int) else dims or [before.axis]
    return None if before.axis in {d % len(shape) for d in along} else before


def _getitem(
    before: Channels, shape: tuple[int, ...], after: tuple[int, ...], arguments: dict[Any, Any]
) -> Channels | None:
    index = list(arguments[0]) if isinstance(arguments[0], tuple) else [arguments[0]]
    if ... in index:
        at = index.index(...)
        left = len(shape) - sum(one is not None for one in index) + 1
        index[at : at + 1] = [slice(None)] * left
    index += [slice(None)] * (len(shape) - sum(one is not None for one in index))
    axis = place = place_of_channels = 0
    here: Any = None
    for one in index:
        if one is not None and axis == before.axis:
            here, place_of_channels = one, place
        if not (one is None or isinstance(one, slice) or _is_number(one)):
            return None
        axis += one is not None
        place += one is None or isinstance(one, slice)
    if not has_fixed_bounds(here) or len(before.ids[here]) < len(before.ids):
        return None  # of fewer channels these would be others
    return Channels(place_of_channels, before.ids[here])


def has_fixed_bounds(index: Any) -> bool:
    """Whether an index is a slice that goes by no tensor."""
    return isinstance(index, slice) and not any(
        isinstance(bound, fx.Node) for bound in (index.start, index.stop, index.step)
    )


def _is_number(index: Any) -> bool:
    return isinstance(index.meta.get("constant") if isinstance(index, fx.Node) else index, int)


def _squeeze(
    before: Channels, shape: tuple[int, ...], after: tuple[int, ...], arguments: dict[Any, Any]
) -> Channels | None:
    dim = arguments.get(0, arguments.get("dim"))
    if not isinstance(dim, int):
        return None
    gone = dim % len(shape)
    if gone == before.axis:
        return None
    return Channels(before.axis - (gone < before.axis and shape[gone] == 1), before.ids)


def _unsqueeze(
    before: Channels, shape: tuple[int, ...], after: tuple[int, ...], arguments: dict[Any, Any]
) -> Channels | None:
    dim: int = arguments.get(0, arguments.get("dim", 0)) % len(after)
    return Channels(before.axis + (dim <= before.axis), before.ids)


def _split(
    before: Channels, shape: tuple[int, ...], after: Any, arguments: dict[Any, Any]
) -> list[Channels] | None:
    if find_along(arguments, shape) != before.axis:
        return [before for _ in after]
    return None  # whose sizes the forward says


def _chunk(
    before: Channels, shape: tuple[int, ...], after: Any, arguments: dict[Any, Any]
) -> list[Channels]:
    along = find_along(arguments, shape)
    if along != before.axis:
        return [before for _ in after]
    ends = np.cumsum([one[along] for one in after])[:-1]
    return [Channels(along, ids) for ids in np.split(before.ids, ends)]


def find_along(arguments: dict[Any, Any], shape: tuple[int, ...]) -> int:
    """The axis that a tensor is split along."""
    along: int = arguments.get(1, arguments.get("dim", 0))
    return along % len(shape)


FUNCTIONS_OF_CHANNELS: dict[str, Callable[..., Any]] = {
    "permute": _permute,
    "transpose": _transpose,
    "mean": _reduce,
    **dict.fromkeys(("sum", "amax", "amin", "var", "std", "logsumexp"), _reduce),
    "roll": _roll,
    "getitem": _getitem,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "chunk": _chunk,
    "split": _split,
}
"""Where channels are after some functions and methods, by name."""
