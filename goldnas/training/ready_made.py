"""A network without choices made ready for some data: size of images, classes, weights."""

from pathlib import Path

import torch
from torch import nn

from goldnas.architecture import Architecture
from goldnas.data.datasets import reaches_size
from goldnas.data.examples import Dataset
from goldnas.errors import ConfigError, GoldnasError, read_message
from goldnas.resources import count_flops
from goldnas.spaces import find_space
from goldnas.spaces.single import SingleSpace
from goldnas.spaces.zoo import ZooSpace, describe_ready_made
from goldnas.training.pretrained import Pretrained, load_pretrained
from goldnas.zoo.networks import PREFIX, find_network
from goldnas.zoo.pretrained import find_image_size, resolve_weights

MOMENTUM = 0.1
"""Share of each batch in the running statistics, as in all other networks of goldnas."""


def choose_image_size(
    network: str, data: str, weights: str | Path | None, notes: list[str]
) -> int | None:
    """The default side in pixels to which images on disk are resized for a network.

    It is the image size of the published weights. Smaller images are not enlarged, except for a
    network that takes only one size.

    Args:
        network: Its name.
        data: Name of a dataset, or path.
        weights: Whose images they are, if they were published; else the default ones'.
        notes: Takes what is to be said.

    Returns:
        None where images are used as large as they are.
    """
    ready_made = find_network(network)
    published = None if weights is None else resolve_weights(network, str(weights))
    size = find_image_size(network, published)
    if size is None or not reaches_size(data, size if ready_made.any_size else 0):
        return None
    notes.append(
        f"images are resized to {size}x{size} pixels, the size of the published weights of "
        f"{ready_made.name}; `image_size` sets another size"
    )
    return size


def describe_for(network: str, dataset: Dataset, data: str) -> Architecture:
    """A ready-made network for the images and classes of some data.

    Raises:
        ConfigError: If they are no images, or have no classes.
    """
    name = find_network(network).name
    return describe_ready_made(
        name,
        input_shape=shape_of_images(dataset, name),
        classes=need_classes(dataset.train.num_classes, name, data),
    )


def shape_of_images(dataset: Dataset, network: str) -> tuple[int, int, int]:
    """The shape of the inputs, for a network that is for images.

    Raises:
        ConfigError: If they are no images.
    """
    shape = dataset.train.input_shape
    if len(shape) != 3:
        raise ConfigError(
            f"{network} is for images, and the items of {dataset.name} are "
            f"{'x'.join(map(str, shape))}; use a `space` of your own"
        )
    channels, height, width = shape
    return channels, height, width


def need_classes(classes: int | None, network: str, data: str) -> int:
    """The number of classes of some data.

    Raises:
        ConfigError: If there are none.
    """
    if classes is None:
        raise ConfigError(
            f"{network} is for classification, and the targets of {data} are not classes; "
            "train a network of a space of yours, from an architecture file"
        )
    return classes


def find_first_weights(
    architecture: Architecture, weights: str | Path | None, notes: list[str]
) -> Pretrained | None:
    """The weights that a network begins with; None for fresh ones.

    Args:
        architecture: Of any space.
        weights: A file, or the name of published ones.
        notes: Takes what is to be said.

    Raises:
        ConfigError: If the network is neither a ready-made one nor that of a function, does not
            take images of this size, or does not fit the weights.
    """
    space = find_space(architecture)
    if not isinstance(space, SingleSpace):
        if weights is not None:
            raise ConfigError(
                f"`weights` {weights} are for a ready-made network, {PREFIX}NAME, or that of a "
                f"function, and {architecture.fingerprint} is of space {architecture.space}; "
                "leave it out"
            )
        return None
    pretrained = None if weights is None else load_pretrained(weights, space)
    if isinstance(space, ZooSpace):
        _try_size(space)
    if pretrained is None:
        notes.append(
            f"{space.network} starts from fresh weights; give `weights` to start from others"
        )
    elif pretrained.new_classifier:
        notes.append(
            f"{space.network} starts from the weights of {pretrained.name}; its classifier is "
            f"new, for {space.classes} classes"
        )
    else:
        notes.append(f"{space.network} starts from the weights of {pretrained.name}")
    return pretrained


def quicken_statistics(network: nn.Module) -> None:
    """Let running statistics follow the weights within hundreds of steps.

    Some networks were published with a momentum for millions of steps, MNASNet with 0.0003.
    Until the statistics have followed, such a network is right by chance alone.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
            module.momentum = max(module.momentum, MOMENTUM)


def _try_size(space: ZooSpace) -> None:
    """Compute a network once, and count what it computes, as is done at the end.

    Raises:
        ConfigError: If it does not take images of this size, or cannot be counted.
    """
    with torch.random.fork_rng(devices=[]):
        network = space.build(space.architecture(()))
        try:
            count_flops(network, space.input_shape)
        except GoldnasError:
            raise
        except Exception as error:  # of a module of others: nearly any
            shape = "x".join(map(str, space.input_shape))
            size = find_image_size(space.network)
            advice = "images of another size" if size is None else f"images of {size} pixels"
            raise ConfigError(
                f"{space.network} does not take images of {shape}: "
                f"{read_message(error)[:200].rstrip('.')}. Give {advice}; `image_size` resizes "
                "those of a folder"
            ) from None
