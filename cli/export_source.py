"""What is exported: a network of a search or of a training, and what was asked of it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas.cli.metric_text import things
from goldnas.cli.split_data import images_of, split_seed_of
from goldnas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from goldnas.architecture import Architecture
    from goldnas.data.examples import Examples, Normalisation
    from goldnas.lut import LatencyTable
    from goldnas.searching.config import SearchConfig
    from goldnas.searching.folder import SearchRun
    from goldnas.task import Task
    from goldnas.training.config import TrainConfig

CALIBRATION_IMAGES = 256
"""Training images that the ranges of an int8 network are taken from."""


@dataclass(frozen=True)
class Source:
    """A network with its weights."""

    architecture: "Architecture"
    network: "nn.Module"
    gated: bool
    """Whether its operators are scaled by gates."""
    figure: str
    """For people: how often it is right, or what the metric of its task is."""
    config: "SearchConfig | TrainConfig"
    """Which images it learnt from."""
    search: "SearchRun | None"
    """Whose budgets and tables it is held against."""
    conditions: "Mapping[str, Any]"
    """Of the folder: what the network takes, and what it tells apart."""

    @property
    def fingerprint(self) -> str:
        """Of the architecture."""
        return self.architecture.fingerprint

    def told(self) -> dict[str, str]:
        """The metadata of an exported file: who has nothing else can use the network."""
        from goldnas.exporting.onnx import ARCHITECTURE, CLASSES, INPUTS

        told = {ARCHITECTURE: self.architecture.to_json().decode()}
        for key, name in ((INPUTS, "inputs"), (CLASSES, "classes")):
            if known := self.conditions.get(name):  # earlier folders do not have it
                told[key] = json.dumps(known)
        return told


def source_of(folder: Path, pick: str, space: str = "") -> Source:
    """The network that the folder of a search, or of a training, stands for.

    Args:
        folder: Of a search, or of a training; of a training in ``trained/`` of a search, the
            search is known too.
        pick: Which network of a search.
        space: The function that a training without a search names.

    Raises:
        GoldnasError: If there is none such, or a file of it is missing or damaged.
    """
    from goldnas.run_folder import is_training
    from goldnas.searching.folder import SearchRun

    if is_training(folder):
        return _trained(folder, pick, space)
    search = SearchRun.open(folder)
    chosen = search.front().pick(pick)
    right = "untrained, with the weights it began with"
    if chosen.figure is not None:
        right = chosen.figure.on(f"the held-out {things(search.config.data)}")
    return Source(
        architecture=search.architecture(chosen),
        network=search.network(chosen),
        gated=True,
        figure=right,
        config=search.config,
        search=search,
        conditions=search.conditions,
    )


def search_around(folder: Path, space: str) -> "SearchRun | None":
    """The search whose network a training is of, if it is in its folder.

    The function that its space is, or else the one that is named here, gets imported.
    """
    from goldnas.searching.folder import SearchRun
    from goldnas.spaces import import_space

    around = Path(os.path.realpath(folder)).parent
    if around.name != "trained" or not os.path.isfile(around.parent / "config.json"):
        import_space(space)
        return None
    search = SearchRun.open(around.parent)
    import_space(search.config.space)
    return search


def _trained(folder: Path, pick: str, space: str) -> Source:
    from goldnas.training.folder import TrainingFolder

    if pick != "best":
        raise ConfigError(f"{folder} holds one network: leave out --pick {pick}")
    training, search = TrainingFolder.open(folder), search_around(folder, space)
    network, result = training.network(), training.result()
    assert result is not None  # or there would be no network
    return Source(
        architecture=training.architecture,
        network=network,
        gated=training.config.warm,
        figure=result.test.on("the test set"),
        config=training.config,
        search=search,
        conditions=training.conditions,
    )


def tables_for(search: "SearchRun | None", paths: "Sequence[Path]") -> "list[LatencyTable]":
    """The tables of a search, and more.

    Raises:
        ConfigError: If two have the same name.
    """
    from goldnas.searching.folder import read_tables

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


@dataclass(frozen=True)
class Int8Data:
    """What an int8 network takes its ranges from, and is compared on."""

    calibration: Any
    """Some of the training images, normalised: float32 ``(N, C, H, W)``."""
    held_out: "Examples"
    normalisation: "Normalisation"
    task: "Task"


def int8_data_of(source: Source) -> Int8Data:
    """Draw them from the data that a network learnt from.

    Raises:
        GoldnasError: If the data is gone or is of another kind now, or nothing was held out.
    """
    import torch

    config = source.config
    if config.validation_fraction == 0:
        raise ConfigError(
            "what int8 costs is found on held-out images, and this training held out none: "
            "train with a --validation-fraction, or export with --precision fp16"
        )
    images = images_of(config, [source.architecture])
    assert images.held_out is not None
    generator = torch.Generator().manual_seed(split_seed_of(config))
    shuffled = torch.randperm(len(images.train), generator=generator)
    drawn, _ = images.train.batch(shuffled[:CALIBRATION_IMAGES], images.normalisation)
    return Int8Data(drawn.numpy(), images.held_out, images.normalisation, images.task)
