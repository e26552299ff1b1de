"""The pictures that a search or a training had, for who looks at its networks afterwards."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from goldnas.architecture import Architecture
    from goldnas.retraining.config import TrainConfig
    from goldnas.search.config import SearchConfig
    from goldnas.training.data import ImageData, Normalisation


@dataclass(frozen=True)
class Pictures:
    """A dataset, split as it was."""

    train: "ImageData"
    held_out: "ImageData | None"
    """None if nothing was."""
    test: "ImageData"
    normalisation: "Normalisation"


def split_seed_of(config: "SearchConfig | TrainConfig") -> int:
    """The seed that decided which pictures are held out."""
    from goldnas.search.config import SearchConfig

    return config.seed if isinstance(config, SearchConfig) else config.split_seed


def pictures_of(
    config: "SearchConfig | TrainConfig", architectures: "Iterable[Architecture]"
) -> Pictures:
    """Load and split them.

    Args:
        config: Of the search or the training.
        architectures: Of the networks that are looked at.

    Raises:
        GoldnasError: If the data is gone, or is no longer what a network is for.
    """
    from goldnas.search.setup import check_pictures
    from goldnas.spaces import space_of
    from goldnas.training.data import Normalisation, split_validation
    from goldnas.training.datasets import load_dataset

    dataset = load_dataset(config.data, data_dir=config.data_dir, image_size=config.image_size)
    train, held_out = dataset.train, None
    for network in architectures:
        check_pictures(space_of(network), train, network=network.fingerprint, data=config.data)
    if config.validation_fraction > 0:
        fraction, seed = config.validation_fraction, split_seed_of(config)
        train, held_out = split_validation(train, fraction, seed)
    return Pictures(train, held_out, dataset.test, Normalisation.of(train))
