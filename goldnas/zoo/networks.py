"""The ready-made networks of torchvision and timm, by name.

A name begins with the library: ``torchvision/resnet18`` or ``timm/efficientnet_lite0``. A bare
name such as ``resnet18`` is of torchvision. A name in a file can only run code of these two
libraries.
"""

import importlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import nn

from goldnas.errors import ConfigError, read_message

PREFIX = "zoo:"
"""Begins the name of a ready-made network where files and others could be meant."""

TORCHVISION, TIMM = "torchvision", "timm"
SOURCES = (TORCHVISION, TIMM)

_WITH_AUXILIARY = ("googlenet", "inception_v3")
"""Networks of torchvision that put out more than classes, unless they are told not to."""

_WITH_SIZE = ("vit_",)
"""Networks of torchvision that are built for one image size."""


@dataclass(frozen=True)
class Weights:
    """Weights that were published for a network."""

    name: str
    accuracy_percent: float
    """Published accuracy on ImageNet's validation images."""
    image_size: int
    """Side of the images of this accuracy, in pixels."""


@dataclass(frozen=True)
class ReadyMade:
    """A network that others have made."""

    name: str
    """``torchvision/resnet18``."""
    weights: tuple[Weights, ...]
    """Published weights; empty if no accuracy is known."""
    any_size: bool = True
    """Whether the network takes images of other sizes than its weights."""
    smallest: int = 1
    """Side of the smallest images that the network takes, in pixels."""

    def takes(self, image_size: int) -> bool:
        """Whether the network takes images of this side."""
        if self.any_size:
            return image_size >= self.smallest
        return image_size in self.sizes

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the images of its weights."""
        return tuple(dict.fromkeys(weights.image_size for weights in self.weights))


def qualify(name: str) -> str:
    """The full name of a network: ``torchvision/resnet18`` for ``zoo:resnet18``."""
    bare = name.removeprefix(PREFIX)
    return bare if "/" in bare else f"{TORCHVISION}/{bare}"


def list_networks(source: str) -> tuple[ReadyMade, ...]:
    """The classification networks of a library.

    Networks of timm have no weights here: timm publishes their accuracies in a file.

    Raises:
        ConfigError: If the library is unknown or missing.
    """
    if source == TORCHVISION:
        return tuple(_of_torchvision().values())
    if source == TIMM:
        return tuple(ReadyMade(f"{TIMM}/{name}", ()) for name in _import_timm().list_models())
    raise ConfigError(f"unknown zoo {source!r}; known: {', '.join(SOURCES)}")


def find_network(name: str) -> ReadyMade:
    """The network of a name.

    Raises:
        ConfigError: If there is no such network.
    """
    full = qualify(name)
    source, _, bare = full.partition("/")
    if source == TIMM:
        if bare not in _import_timm().list_models():
            raise _unknown(full, (f"{TIMM}/{known}" for known in _import_timm().list_models()))
        return ReadyMade(full, ())
    known = _of_torchvision()
    if full not in known:
        raise _unknown(full, known)
    return known[full]


def build_network(name: str, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build a network with fresh weights, for any images and number of classes.

    Args:
        name: Name of the network.
        input_shape: ``(C, H, W)``. If C is not 3, the first convolution is replaced.
        classes: Number of classes.

    Raises:
        ConfigError: If there is no such network, or it does not take such images.
    """
    network = find_network(name)
    source, _, bare = network.name.partition("/")
    channels, height, width = input_shape
    try:
        if source == TIMM:
            module = _import_timm().create_model(
                bare, pretrained=False, num_classes=classes, in_chans=channels
            )
        else:
            from torchvision import models

            options: dict[str, Any] = {"num_classes": classes}
            if bare in _WITH_AUXILIARY:
                options |= {"aux_logits": False, "init_weights": False}
            if bare.startswith(_WITH_SIZE):
                options["image_size"] = height
            module = models.get_model(bare, weights=None, **options)
            if isinstance(module, models.MNASNet):
                # Drawn for a thousand classes: of three, its outputs would begin in the tens.
                module.classifier[-1].reset_parameters()
    except Exception as error:  # of the library, which says no more than that
        raise ConfigError(
            f"{network.name} cannot be built for images of {channels}x{height}x{width}: "
            f"{read_message(error)}"
        ) from None
    assert isinstance(module, nn.Module)
    if source == TORCHVISION and channels != 3:
        _change_channels(module, channels)
    return module


def build_without_numbers(
    name: str, input_shape: tuple[int, int, int], classes: int
) -> nn.Module:
    """Build a network on the device ``meta``, which takes no memory and little time.

    Raises:
        ConfigError: As for :func:`build_network`.
    """
    try:
        with torch.device("meta"):
            return build_network(name, input_shape, classes)
    except ConfigError:  # some compute their widths with tensors
        return build_network(name, input_shape, classes).to("meta")


def _change_channels(module: nn.Module, channels: int) -> None:
    """Replace the first convolution by one for images of other channels."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            settings: dict[str, Any] = {
                "kernel_size": part.kernel_size,
                "stride": part.stride,
                "padding": part.padding,
                "bias": part.bias is not None,
            }
            module.set_submodule(name, nn.Conv2d(channels, part.out_channels, **settings))
            return


@cache
def _of_torchvision() -> dict[str, ReadyMade]:
    """By full name."""
    from torchvision import models

    found = {}
    for bare in models.list_models(module=models):
        weights, smallest = [], 1
        for entry in models.get_model_weights(bare):
            metrics = entry.meta["_metrics"].get("ImageNet-1K", {})
            accuracy = metrics.get("acc@1", math.nan)
            if math.isfinite(accuracy):  # that of vgg16's features is none
                size = entry.transforms.keywords["crop_size"]
                weights.append(Weights(entry.name, accuracy, size))
                smallest = max(smallest, *entry.meta.get("min_size", (1, 1)))
        sizes = [one.image_size for one in weights]
        # What was written down as the smallest is the only size of a network of patches.
        fixed = bool(sizes) and smallest >= min(sizes)
        name = f"{TORCHVISION}/{bare}"
        found[name] = ReadyMade(name, tuple(weights), not fixed, 1 if fixed else smallest)
    return found


def _import_timm() -> ModuleType:
    try:
        return importlib.import_module("timm")
    except ImportError:
        raise ConfigError(
            "networks of timm need the package timm, which is not installed: "
            "pip install 'goldnas[timm]'"
        ) from None


def _unknown(name: str, known: Iterable[str]) -> ConfigError:
    listed = list(known)
    near = get_close_matches(name, listed, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return ConfigError(
        f"there is no ready-made network {name}{meant} `list_zoo()` lists all names"
    )
