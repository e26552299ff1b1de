"""From the settings of a search to what it learns from, and to a space of networks for it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, repeat
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from goldnas.data.augmentation import Augmentation
from goldnas.data.datasets import load_dataset
from goldnas.data.examples import (
    Batch,
    Dataset,
    Examples,
    ImageData,
    Normalisation,
    split_validation,
)
from goldnas.data.loader import TrainingLoader, choose_workers
from goldnas.errors import ConfigError
from goldnas.searching.config import SearchConfig
from goldnas.spaces import SearchSpace, import_space, make_space
from goldnas.task import Task, load_task
from goldnas.training.distributed import Ranks


@dataclass(frozen=True)
class SearchData:
    """The space and the data of a search; the test set is not among them."""

    space: SearchSpace
    task: Task
    loader: TrainingLoader
    validation: Examples
    """Scores networks; taken from the training data."""
    check: Examples
    """A part of it, which scores a network before and after each pruning."""
    normalisation: Normalisation
    gate_loader: TrainingLoader | None = None
    """Of the images that the gates learn from, where they have their own."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, ...]]:
        """Images and labels for the weights, and a batch for gates that have their own.

        Args:
            epoch: Counted from 0.
            start: Its first step.
        """
        for_weights = self.loader.epoch(epoch, start=start)
        for_gates: Iterator[Batch | None] = repeat(None)
        if self.gate_loader is not None:
            for_gates = _endless(self.gate_loader, epoch * len(self.loader) + start)
        pairs = zip(for_weights, for_gates, strict=False)
        return ((*batch, others) for batch, others in pairs)

    def batches_from(self, step: int) -> Iterator[tuple[Any, ...]]:
        """The batches from a step on, through as many epochs as it takes."""
        epoch, done = divmod(step, len(self.loader))
        later = chain.from_iterable(map(self.batches, count(epoch + 1)))
        return chain(self.batches(epoch, start=done), later)


def _endless(loader: TrainingLoader, step: int) -> Iterator[Batch]:
    """The batches from a step on, counted over all epochs, without an end."""
    epoch, done = divmod(step, len(loader))
    later = chain.from_iterable(map(loader.epoch, count(epoch + 1)))
    return chain(loader.epoch(epoch, start=done), later)


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


def dataset_of(config: DataSettings) -> Dataset:
    """Load the dataset of a search or a training, training and test parts.

    Raises:
        DataError: If it is missing or corrupt.
        ConfigError: If it is a function that cannot be imported, or fails.
    """
    return load_dataset(
        config.data,
        data_dir=config.data_dir,
        image_size=config.image_size,
        labelled=config.task is None,
    )


def search_data(
    config: SearchConfig,
    dataset: Dataset,
    device: torch.device,
    *,
    workers: int | None = None,
    ranks: Ranks | None = None,
) -> SearchData:
    """Split, augment and load the training part of a dataset, and fit the space to it.

    Args:
        config: Settings.
        dataset: Its test part is not used.
        device: That the images will go to.
        workers: Loading processes, in place of those of the settings.
        ranks: Of which each loads its part of every batch.

    Raises:
        ConfigError: If a setting does not suit the data.
    """
    train, validation = split_validation(dataset.train, config.validation_fraction, config.seed)
    augmentation = _augmentation(config, train)
    normalisation = Normalisation.measure(train)
    ranks = ranks or Ranks()
    default = choose_workers(train, ranks.local_count)
    choices = (workers, config.workers, default)

    def loader(part: Examples) -> TrainingLoader:
        return TrainingLoader(
            part,
            augmentation,
            normalisation,
            batch_size=config.batch_size,
            seed=config.seed,
            workers=next(w for w in choices if w is not None),
            device=device,
            shard=(ranks.index, ranks.count),
        )

    for_weights, for_gates = train, None
    if config.levels == 2:
        for_weights, for_gates = split_validation(train, 0.5, config.seed)
    spread = np.linspace(0, len(validation) - 1, min(config.check_images, len(validation)))
    space, task = space_for(config, train), load_task(config.task)
    if config.task is not None:
        try_task(task, space, train)
    return SearchData(
        space=space,
        task=task,
        loader=loader(for_weights),
        gate_loader=None if for_gates is None else loader(for_gates),
        validation=validation,
        check=validation.subset(torch.as_tensor(spread.round().astype(int))),
        normalisation=normalisation,
    )


def _augmentation(config: SearchConfig, train: Examples) -> Augmentation:
    """What is done to the images; nothing to data of one's own."""
    if isinstance(train, ImageData):
        suits = Augmentation.default_for(train.input_shape)
        padding, flip = config.crop_padding, config.flip
        return Augmentation(
            crop_padding=suits.crop_padding if padding is None else padding,
            flip=suits.flip if flip is None else flip,
            cutout=config.cutout,
            autoaugment=config.autoaugment,
        )
    asked = {
        "crop_padding": config.crop_padding,
        "flip": config.flip,
        "cutout": config.cutout,
        "autoaugment": config.autoaugment,
    }
    check_no_augmentation(config.data, [name for name, value in asked.items() if value])
    return Augmentation(crop_padding=0)


def check_no_augmentation(data: str, settings: Sequence[str]) -> None:
    """Refuse augmentation of what may be no images.

    Raises:
        ConfigError: If some settings ask for it.
    """
    if settings:
        named = ", ".join(f"`{setting}`" for setting in settings)
        raise ConfigError(
            f"{named} changes images that goldnas reads itself, and the items of {data} are "
            "used as they are; leave it out, and augment in that dataset"
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


def space_for(config: SearchConfig, data: Examples) -> SearchSpace:
    """The space of a search, of networks that fit its data.

    Raises:
        ConfigError: If a setting does not suit the data, or the space.
    """
    import_space(config.space)
    given = {name: getattr(config, name) for name in ("cells", "channels", "operators")}
    of_data = {"input_shape": data.input_shape, "classes": data.num_classes}
    chosen = {name: v for name, v in (given | of_data).items() if v is not None}
    space = make_space(config.space, **(config.settings | chosen))
    if config.task is None:
        check_classes(space, data.num_classes, config.data)
    if space.cell_layout is None:
        for setting, asked in {
            "edge_rule": config.edge_rule,
            "checkpointing": config.checkpointing,
        }.items():
            if asked:
                raise ConfigError(
                    f"`{setting}` is for spaces of cells, and {space.name} is none; leave it "
                    "out"
                )
    return space


def check_classes(space: SearchSpace, classes: int | None, data: str) -> None:
    """Refuse networks that do not tell apart the classes of some data.

    Raises:
        ConfigError: If they put out something else.
    """
    if space.output_shape == (classes,):
        return
    shape = "x".join(map(str, space.output_shape))
    advice = "let the function take classes=, and use it"
    if len(space.output_shape) > 1:
        advice = "end it in one number for each class, or give the `task` that it is for"
    raise ConfigError(
        f"networks of space {space.name} put out {shape} numbers, and {data} has {classes} "
        f"classes; {advice}"
    )


def check_data(
    space: SearchSpace, data: Examples, config: DataSettings, *, network: str
) -> None:
    """Refuse data that a network is not for: what it says of it would mean nothing.

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
            f"network {network} is for {things} of {of_network}, those of {config.data} are "
            f"{of_data}; use data that it is for"
        )
