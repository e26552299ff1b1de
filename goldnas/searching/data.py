"""From the settings of a search to what it learns from, and to a space of networks for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count, repeat
from typing import Any

import numpy as np
import torch

from goldnas.architecture import find_origin
from goldnas.data.augmentation import Augmentation
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
from goldnas.training.task_data import check_classes, check_no_augmentation, try_task

TYPICAL = 4096
"""Images, at most, that statistics are taken from."""


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
    typical: Examples
    """Some training images, from which networks take the statistics of their normalisations."""
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
    random = torch.Generator().manual_seed(config.seed)
    typical = torch.randperm(len(for_weights), generator=random)[:TYPICAL]
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
        typical=for_weights.subset(typical),
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


def space_for(config: SearchConfig, data: Examples) -> SearchSpace:
    """The space of a search, of networks that fit its data.

    Raises:
        ConfigError: If a setting does not suit the data, or the space.
    """
    import_space(find_origin(config.space, config.settings))
    given = {name: getattr(config, name) for name in ("cells", "channels", "operators")}
    of_data = {"input_shape": data.input_shape, "classes": data.num_classes}
    chosen = {name: v for name, v in (given | of_data).items() if v is not None}
    space = make_space(config.space, **(config.settings | chosen))
    if config.task is None:
        check_classes(space, data.num_classes, config.data)
    if space.cell_layout is None and config.edge_rule:
        raise ConfigError(
            f"`edge_rule` is for spaces of cells, and {space.name} has no cells; leave it out"
        )
    return space
