"""The data that a search or a training had, for who looks at its networks afterwards."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from torch import nn

    from goldnas.architecture import Architecture
    from goldnas.data.examples import Examples, Normalisation
    from goldnas.metric import Metric
    from goldnas.searching.config import SearchConfig
    from goldnas.task import Task
    from goldnas.training.config import TrainConfig


@dataclass(frozen=True)
class SplitData:
    """A dataset, of images or of whatever else, split as it was; and what was learnt."""

    train: "Examples"
    held_out: "Examples | None"
    """None if nothing was."""
    test: "Examples"
    normalisation: "Normalisation"
    task: "Task"

    def score_test(self, network: "nn.Module", device: "torch.device") -> "Metric":
        """What a network is worth on the test set."""
        from goldnas.training.evaluate import score

        placed = network.to(device)
        value = score(placed, self.test, self.normalisation, device, self.task)
        return self.task.metric_kind.with_value(value)

    @property
    def test_key(self) -> str:
        """What files call that."""
        return f"test_{self.task.metric_kind.key}"


def find_split_seed(config: "SearchConfig | TrainConfig") -> int:
    """The seed that decided which images are held out."""
    from goldnas.searching.config import SearchConfig

    return config.seed if isinstance(config, SearchConfig) else config.split_seed


def load_split(
    config: "SearchConfig | TrainConfig", architectures: "Iterable[Architecture]"
) -> SplitData:
    """Load and split them.

    Args:
        config: Of the search or the training.
        architectures: Of the networks that are looked at.

    Raises:
        GoldnasError: If the data is gone, or is no longer what a network is for.
    """
    from goldnas.data.examples import Normalisation, split_validation
    from goldnas.searching.data import check_data, dataset_of
    from goldnas.spaces import find_space
    from goldnas.task import load_task

    dataset, task = dataset_of(config), load_task(config.task)
    train, held_out = dataset.train, None
    for network in architectures:
        check_data(find_space(network), train, config, network=network.fingerprint)
    if config.validation_fraction > 0:
        fraction, seed = config.validation_fraction, find_split_seed(config)
        train, held_out = split_validation(train, fraction, seed)
    return SplitData(train, held_out, dataset.test, Normalisation.measure(train), task)
