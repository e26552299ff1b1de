"""The data that a task is learnt from: loading, and checks that networks fit."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from goldnas import trust
from goldnas.data.datasets import load_dataset
from goldnas.data.examples import Dataset, Examples, ImageData, Normalisation
from goldnas.errors import ConfigError
from goldnas.reference import is_function
from goldnas.spaces import SearchSpace
from goldnas.task import Task


class DataSettings(Protocol):
    """What the settings of a search and of a training both say of their data."""

    @property
    def data(self) -> str:
        """Name of a dataset, path, or function."""

    @property
    def data_dir(self) -> str | None:
        """Where named datasets are."""

    @property
    def image_size(self) -> int | None:
        """Side that the images of a folder are resized to."""

    @property
    def task(self) -> str | None:
        """The function that says what is learnt; None for classification."""


def load_data(config: DataSettings) -> Dataset:
    """Load the dataset of a search or a training, training and test parts.

    Raises:
        DataError: If it is missing or corrupt.
        UntrustedError: If it is a function that only a file names.
        ConfigError: If it is a function that cannot be imported, or fails.
    """
    if is_function(config.data):
        trust.check_allowed(config.data)
    return load_dataset(
        config.data,
        data_dir=config.data_dir,
        image_size=config.image_size,
        labelled=config.task is None,
    )


def check_no_augmentation(data: str, settings: Sequence[str]) -> None:
    """Refuse augmentation of data that may not be images.

    Raises:
        ConfigError: If some settings ask for it.
    """
    if settings:
        named = ", ".join(f"`{setting}`" for setting in settings)
        raise ConfigError(
            f"{named} changes images that goldnas reads itself, and goldnas does not change "
            f"the items of {data}; leave it out, and augment in that dataset"
        )


def try_task(task: Task, space: SearchSpace, data: Examples) -> None:
    """Try a task of one's own on what networks of a space put out.

    Raises:
        ConfigError: If it fails, or returns something else than it should.
    """
    some = torch.arange(min(2, len(data)))
    _, targets = data.batch(some, Normalisation.measure(data.subset(some)))
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(len(some), *space.output_shape, generator=generator)
    task.check(outputs, targets)


def blank_loss(task: Task, data: Examples) -> Callable[[Tensor], Tensor]:
    """The loss of some outputs, as if all targets were zeros."""

    def loss(outputs: Tensor) -> Tensor:
        return task.compute_loss(outputs, data.blank_targets(len(outputs)).to(outputs.device))

    return loss


def check_classes(space: SearchSpace, classes: int | None, data: str) -> None:
    """Refuse networks with other classes than the data.

    Raises:
        ConfigError: If they put out something else.
    """
    if space.output_shape == (classes,):
        return
    shape = "x".join(map(str, space.output_shape))
    advice = "let the function take classes=, and use it"
    if len(space.output_shape) > 1:
        advice = "let it return one number for each class, or give the `task` that it is for"
    raise ConfigError(
        f"networks of space {space.name} return {shape} numbers, and {data} has {classes} "
        f"classes; {advice}"
    )


def check_data(
    space: SearchSpace, data: Examples, config: DataSettings, *, network: str
) -> None:
    """Refuse data that a network is not for: its outputs would mean nothing.

    Args:
        space: Of the network.
        data: To learn from, or to be scored on.
        config: That named the data.
        network: Its fingerprint.

    Raises:
        ConfigError: If they differ in size or in their number of classes.
    """
    of_network, of_data = ("x".join(map(str, s.input_shape)) for s in (space, data))
    if config.task is None:
        if len(space.output_shape) > 1:
            check_classes(space, data.num_classes, config.data)
        of_network += f" of {space.classes} classes"
        of_data += f" of {data.num_classes} classes"
    if of_network != of_data:
        things = "images" if isinstance(data, ImageData) else "items"
        raise ConfigError(
            f"network {network} is for {things} of {of_network}, and {config.data} has "
            f"{of_data}; use data that fits the network"
        )
