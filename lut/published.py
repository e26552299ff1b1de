"""Networks that other projects publish as files, as rows of a latency table.

ProxylessNAS and Once-for-All write a network as JSON: its layers, block after block. Their
normalisation is learnt, so their blocks are at sites that end in ``/affine``.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from goldnas.errors import ConfigError
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
    """Of its file."""
    side: int
    """Of its images, in pixels."""
    parts: tuple[tuple[str, AnySite], ...]
    """Operator and site of each part, as a latency table has them."""


def is_published(path: Path) -> bool:
    """Whether a file is one of these; whoever reads it says why it cannot be read."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("name") in _KNOWN


def read_published(path: Path, side: int | None = None) -> PublishedNetwork:
    """Read a network.

    Args:
        path: Its ``.config`` file.
        side: Height and width of an image; unless given what ``run.config`` beside the file
            says, or 224.

    Raises:
        ConfigError: If the file cannot be read, or a layer has no operator here.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if side is None:
            beside = path.with_name("run.config")
            run = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
            side = int(run.get("image_size", 224))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"cannot read {path} and what is beside it: {error}") from None
    try:
        parts = tuple(_parts(content, side))
    except _UnknownLayerError as error:
        raise ConfigError(f"{path}: {error}, which goldnas has no operator for") from None
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ConfigError(f"{path} is no whole network: {error!r}") from None
    for (_, site), (operator, after) in pairwise(parts):
        if site.output_shape != after.input_shape:
            raise ConfigError(
                f"{path}: {operator} takes {after.input_shape}, and what is before it puts out "
                f"{site.output_shape}"
            )
    return PublishedNetwork(path.name, side, parts)


class _UnknownLayerError(Exception):
    """A layer that no operator is."""


def _parts(content: Mapping[str, Any], side: int) -> Iterator[tuple[str, Site]]:
    stem = content["first_conv"]
    site = Site(stem["in_channels"], stem["out_channels"], side, side, stem["stride"])
    yield _convolution(stem), site
    for block in content["blocks"]:
        layer = block["mobile_inverted_conv"]
        if not layer or "kernel_size" not in layer:  # a block that was left out
            continue
        site = Site(
            layer["in_channels"],
            layer["out_channels"],
            site.out_height,
            site.out_width,
            layer["stride"],
            affine=True,
        )
        yield _block(layer, site, bool(block["shortcut"])), site
    last, mixed = content.get("final_expand_layer"), content["feature_mix_layer"]
    for layer in filter(None, [last, None if last else mixed]):
        channels = layer["in_channels"], layer["out_channels"]
        site = Site(*channels, site.out_height, site.out_width, layer["stride"])
        yield _convolution(layer), site
    classes = content["classifier"]["out_features"]
    operator = f"classifier_{mixed['out_channels']}_{_activation(mixed)}"
    site = Site(site.out_channels, classes, site.out_height, site.out_width)
    yield (operator if last else "classifier"), site


def _convolution(layer: Mapping[str, Any]) -> str:
    kernel, groups, dilation = (
        layer.get(name, 1) for name in ("kernel_size", "groups", "dilation")
    )
    operator = f"conv_{kernel}x{kernel}_bn_{_activation(layer)}"
    if (groups, dilation) != (1, 1) or not parse_convolution(operator):
        raise _UnknownLayerError(
            f"a convolution of kernel {kernel}, {groups} groups and dilation {dilation}"
        )
    return operator


def _block(layer: Mapping[str, Any], site: Site, adds_input: bool) -> str:
    if adds_input != (site.stride == 1 and site.in_channels == site.out_channels):
        raise _UnknownLayerError(f"a block {site} that adds its input where others do not")
    inner = layer.get("mid_channels")
    ratio = find_expansion(site.in_channels, inner) if inner else float(layer["expand_ratio"])
    if ratio is None:
        raise _UnknownLayerError(f"a block {site} with {inner} channels inside")
    squeeze = "se" if layer.get("use_se") else "none"
    block = MobileBlock(layer["kernel_size"], ratio, squeeze, _activation(layer))
    if parse_block(block.name) != block:
        raise _UnknownLayerError(f"a block {block.name}")
    return block.name


def _activation(layer: Mapping[str, Any]) -> str:
    name = layer.get("act_func", "relu6")
    if name not in _ACTIVATIONS:
        raise _UnknownLayerError(f"the activation {name!r}")
    return _ACTIVATIONS[name]
