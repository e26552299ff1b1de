"""What is exported: a network of a search or of a training, and what was asked of it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goldnas.architecture import Architecture
    from goldnas.lut import LatencyTable
    from goldnas.network import CellNetwork
    from goldnas.retraining.config import TrainConfig
    from goldnas.search.config import SearchConfig
    from goldnas.search.run import SearchRun
    from goldnas.training.data import ImageData, Normalisation

CALIBRATION_IMAGES = 256
"""Training pictures that the ranges of an int8 network are taken from."""


@dataclass(frozen=True)
class Source:
    """A network with its weights."""

    architecture: "Architecture"
    network: "CellNetwork"
    gated: bool
    """Whether its operators are scaled by gates."""
    accuracy: str
    """For people: how often it is right."""
    config: "SearchConfig | TrainConfig"
    """Which pictures it learnt from."""
    search: "SearchRun | None"
    """Whose budgets and tables it is held against."""

    @property
    def fingerprint(self) -> str:
        """Of the architecture."""
        return self.architecture.fingerprint


def source_of(folder: Path, pick: str) -> Source:
    """The network that the folder of a search, or of a training, stands for.

    Args:
        folder: Of a search, or of a training; of a training in ``trained/`` of a search, the
            search is known too.
        pick: Which network of a search.

    Raises:
        GoldnasError: If there is none such, or a file of it is missing or damaged.
    """
    from goldnas.run_folder import is_training
    from goldnas.search.run import SearchRun

    if is_training(folder):
        return _trained(folder, pick)
    search = SearchRun.open(folder)
    chosen = search.front().pick(pick)
    right = "untrained, with the weights it began with"
    if chosen.accuracy is not None:
        right = f"{100 * chosen.accuracy:.2f} % of the held-out pictures right"
    return Source(
        architecture=search.architecture(chosen),
        network=search.network(chosen),
        gated=True,
        accuracy=right,
        config=search.config,
        search=search,
    )


def _trained(folder: Path, pick: str) -> Source:
    from goldnas.retraining.folder import TrainingFolder
    from goldnas.search.run import SearchRun

    if pick != "best":
        raise ConfigError(f"{folder} holds one network: leave out --pick {pick}")
    training = TrainingFolder.open(folder)
    network, result = training.network(), training.result()
    assert result is not None  # or there would be no network
    around = Path(os.path.realpath(folder)).parent
    in_search = around.name == "trained" and os.path.isfile(around.parent / "config.json")
    return Source(
        architecture=training.architecture,
        network=network,
        gated=training.config.warm,
        accuracy=f"{100 * result.test_accuracy:.2f} % of the test set right",
        config=training.config,
        search=SearchRun.open(around.parent) if in_search else None,
    )


def tables_for(search: "SearchRun | None", paths: "Sequence[Path]") -> "list[LatencyTable]":
    """The tables of a search, and more.

    Raises:
        ConfigError: If two have the same name.
    """
    from goldnas.search.run import read_tables

    more = read_tables(list(paths))
    if search is None:
        return more
    for table in more:
        if table.name in search.config.tables:
            raise ConfigError(
                f"the search has a latency table named {table.name!r} already; give "
                f"{table.path} another name"
            )
    return [*search.tables, *more]


def engines_for(search: "SearchRun | None", table: "LatencyTable") -> Path | None:
    """Where engines and caches for a table are kept: beside the user's own file of it.

    A search has a copy of the table, and its folder gets no engines by itself: those beside the
    file that was copied are used, and added to. None if that is gone.
    """
    from goldnas.profiling.backends import engines_of

    beside = engines_of(table.path)
    if search is None or all(table is not own for own in search.tables) or beside.is_dir():
        return beside
    file = search.table_file(table.name)
    return engines_of(file) if file is not None and os.path.isfile(file) else None


@dataclass(frozen=True)
class Pictures:
    """Of the data that a network learnt from."""

    calibration: Any
    """Some of the training pictures, normalised: float32 ``(N, C, H, W)``."""
    held_out: "ImageData"
    normalisation: "Normalisation"


def pictures_of(source: Source) -> Pictures:
    """The pictures that an int8 network takes its ranges from and is compared on.

    Raises:
        GoldnasError: If the data is gone or is of another kind now, or nothing was held out.
    """
    import torch

    from goldnas.retraining.config import TrainConfig
    from goldnas.search.setup import check_pictures
    from goldnas.spaces import space_of
    from goldnas.training.data import Normalisation, split_validation
    from goldnas.training.datasets import load_dataset

    config = source.config
    if config.validation_fraction == 0:
        raise ConfigError(
            "what int8 costs is found on held-out pictures, and this training held out none: "
            "train with a --validation-fraction, or export with --precision fp16"
        )
    dataset = load_dataset(
        config.data,
        data_dir=Path(config.data_dir) if config.data_dir else None,
        image_size=config.image_size,
    )
    check_pictures(
        space_of(source.architecture),
        dataset.train,
        network=source.fingerprint,
        data=config.data,
    )
    seed = config.split_seed if isinstance(config, TrainConfig) else config.seed
    train, held_out = split_validation(dataset.train, config.validation_fraction, seed)
    normalisation = Normalisation.of(train)
    shuffled = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    drawn = train.images[shuffled[:CALIBRATION_IMAGES]]
    return Pictures(normalisation.apply(drawn).numpy(), held_out, normalisation)
