"""Published network files of other projects, as rows of a latency table.

ProxylessNAS and Once-for-All write a network as JSON: its layers, block after block. Their
normalisation is learnt, so the sites of their blocks end in ``/affine``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from goldnas.bounded import open_regular, read_bounded
from goldnas.errors import ConfigError, read_message
from goldnas.mobile_block import (
    MobileBlock,
    find_expansion,
    parse_block,
    parse_convolution,
)
from goldnas.site import AnySite, Site

_ACTIVATIONS = {"relu6": "relu6", "relu": "relu", "h_swish": "hswish"}
_KNOWN = ("ProxylessNASNets", "MobileNetV3")
"""What the files say they are."""


@dataclass(frozen=True)
class PublishedNetwork:
    """A network of another project."""

    name: str
    """Path of the file."""
    side: int
    """Side of the images, in pixels."""
    parts: tuple[tuple[str, AnySite], ...]
    """Operator and site of each part, as a latency table has them."""


def is_published(path: Path) -> bool:
    """Whether a file is one of these; whoever reads it says why it cannot be read."""
    try:
        with open_regular(path) as file:  # what comes out of a pipe is there once
            content = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("name") in _KNOWN


def read_published(path: Path, side: int | None = None) -> PublishedNetwork:
    """Read a network.

    Args:
        path: The ``.config`` file.
        side: Height and width of an image; by default that of ``run.config`` beside the file,
            or else 224.

    Raises:
        ConfigError: If the file cannot be read, or goldnas has no operator for a layer.
    """
    content = _read(path, _Network)
    if side is None:
        beside = path.with_name("run.config")
        side = (_read(beside, _Run) if beside.exists() else _Run()).image_size
    try:
        parts = tuple(_parts(content, side))
    except _UnknownLayerError as error:
        raise ConfigError(f"{path}: goldnas has no operator for {error}") from None
    for (_, site), (operator, after) in pairwise(parts):
        if site.output_shape != after.input_shape:
            raise ConfigError(
                f"{path}: {operator} takes {after.input_shape}, but the layer before it puts "
                f"out {site.output_shape}"
            )
    return PublishedNetwork(path.name, side, parts)


_MOST_BYTES = 4 * 2**20

_Size = Annotated[int, msgspec.Meta(ge=1, le=10**6)]
"""Of channels, kernels, strides, images and so on."""


class _Convolution(msgspec.Struct, frozen=True):
    in_channels: _Size
    out_channels: _Size
    stride: _Size
    kernel_size: _Size = 1
    groups: _Size = 1
    dilation: _Size = 1
    act_func: str | None = "relu6"


class _Mobile(msgspec.Struct, frozen=True):
    """An inverted residual block; without a kernel, one that was left out."""

    in_channels: _Size = 1
    out_channels: _Size = 1
    stride: _Size = 1
    kernel_size: _Size | None = None
    mid_channels: Annotated[int, msgspec.Meta(ge=0, le=10**6)] | None = None
    expand_ratio: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None
    use_se: bool | None = None
    act_func: str | None = "relu6"


class _Block(msgspec.Struct, frozen=True):
    mobile_inverted_conv: _Mobile | None = None
    shortcut: dict[str, Any] | None = None


class _Classifier(msgspec.Struct, frozen=True):
    out_features: _Size


class _Network(msgspec.Struct, frozen=True):
    """What is read of a network's file."""

    first_conv: _Convolution
    blocks: Annotated[tuple[_Block, ...], msgspec.Meta(max_length=1000)]
    feature_mix_layer: _Convolution
    classifier: _Classifier
    final_expand_layer: _Convolution | None = None


class _Run(msgspec.Struct, frozen=True):
    """What is read of ``run.config``."""

    image_size: _Size = 224


_Content = TypeVar("_Content")


def _read(path: Path, kind: type[_Content]) -> _Content:
    """A file as a record.

    Raises:
        ConfigError: If it cannot be read, or holds another one.
    """
    try:
        return msgspec.json.decode(read_bounded(path, _MOST_BYTES), type=kind)
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}. Give the net.config of a network"
        ) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not a whole network: {read_message(error)}") from None


class _UnknownLayerError(Exception):
    """A layer that no operator is."""


def _parts(network: _Network, side: int) -> Iterator[tuple[str, Site]]:
    stem = network.first_conv
    site = Site(stem.in_channels, stem.out_channels, side, side, stem.stride)
    yield _convolution(stem), site
    for block in network.blocks:
        layer = block.mobile_inverted_conv
        if layer is None or layer.kernel_size is None:  # a block that was left out
            continue
        channels = layer.in_channels, layer.out_channels
        site = Site(*channels, site.out_height, site.out_width, layer.stride, affine=True)
        yield _block(layer, layer.kernel_size, site, bool(block.shortcut)), site
    last, mixed = network.final_expand_layer, network.feature_mix_layer
    for expanding in filter(None, [last, None if last else mixed]):
        channels = expanding.in_channels, expanding.out_channels
        site = Site(*channels, site.out_height, site.out_width, expanding.stride)
        yield _convolution(expanding), site
    classes = network.classifier.out_features
    operator = f"classifier_{mixed.out_channels}_{_activation(mixed.act_func)}"
    site = Site(site.out_channels, classes, site.out_height, site.out_width)
    yield (operator if last else "classifier"), site


def _convolution(layer: _Convolution) -> str:
    kernel, groups, dilation = layer.kernel_size, layer.groups, layer.dilation
    operator = f"conv_{kernel}x{kernel}_bn_{_activation(layer.act_func)}"
    if (groups, dilation) != (1, 1) or not parse_convolution(operator):
        raise _UnknownLayerError(
            f"a convolution of kernel {kernel}, {groups} groups and dilation {dilation}"
        )
    return operator


def _block(layer: _Mobile, kernel: int, site: Site, adds_input: bool) -> str:
    if adds_input != (site.stride == 1 and site.in_channels == site.out_channels):
        adds = "with" if adds_input else "without"
        raise _UnknownLayerError(f"a block {site} {adds} the addition of its input")
    inner = layer.mid_channels
    ratio = find_expansion(site.in_channels, inner) if inner else layer.expand_ratio
    if ratio is None:
        raise _UnknownLayerError(f"a block {site} with {inner or 'unknown'} inner channels")
    squeeze = "se" if layer.use_se else "none"
    block = MobileBlock(kernel, float(ratio), squeeze, _activation(layer.act_func))
    if parse_block(block.name) != block:
        raise _UnknownLayerError(f"a block {block.name}")
    return block.name


def _activation(name: str | None) -> str:
    if name not in _ACTIVATIONS:
        raise _UnknownLayerError(f"the activation {name!r}")
    return _ACTIVATIONS[name]
