"""The data of a search or a training, to score its networks afterwards."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from goldnas.architecture import Architecture
from goldnas.data.examples import Examples, Normalisation, split_validation
from goldnas.metric import Metric
from goldnas.spaces import find_space
from goldnas.task import Task, load_task
from goldnas.training.evaluate import score
from goldnas.training.task_data import DataSettings, check_data, load_data


class SplitSettings(DataSettings, Protocol):
    """What the settings of a search and of a training both say of what is held out."""

    @property
    def validation_fraction(self) -> float:
        """Share of the training data that is."""

    @property
    def split_seed(self) -> int:
        """Decides which."""


@dataclass(frozen=True)
class SplitData:
    """A dataset, split as in the search or training, and its task."""

    train: Examples
    held_out: Examples | None
    """None if nothing was."""
    test: Examples
    normalisation: Normalisation
    task: Task

    def score_test(self, network: nn.Module, device: torch.device) -> Metric:
        """The metric of a network on the test set."""
        placed = network.to(device)
        value = score(placed, self.test, self.normalisation, device, self.task)
        return self.task.metric_kind.with_value(value)

    @property
    def test_key(self) -> str:
        """The name of this metric in files."""
        return f"test_{self.task.metric_kind.key}"


def load_split(config: SplitSettings, architectures: Iterable[Architecture]) -> SplitData:
    """Load and split them.

    Args:
        config: Of the search or the training.
        architectures: Of the networks that are looked at.

    Raises:
        GoldnasError: If the data is gone, or is no longer what a network is for.
    """
    dataset, task = load_data(config), load_task(config.task)
    train, held_out = dataset.train, None
    for network in architectures:
        check_data(find_space(network), train, config, network=network.fingerprint)
    if config.validation_fraction > 0:
        train, held_out = split_validation(train, config.validation_fraction, config.split_seed)
    return SplitData(train, held_out, dataset.test, Normalisation.measure(train), task)
