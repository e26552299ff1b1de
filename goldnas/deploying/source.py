"""The source of an export: a network of a search or of a training, and its budgets."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from goldnas.architecture import Architecture
from goldnas.data.examples import Examples, Normalisation
from goldnas.deploying.config import CALIBRATION_IMAGES
from goldnas.errors import ConfigError
from goldnas.exporting.onnx import describe_network
from goldnas.reference import name_items
from goldnas.searching.config import SearchConfig
from goldnas.searching.folder import SearchRun
from goldnas.searching.front import FrontNetwork
from goldnas.task import Task
from goldnas.training.config import TrainConfig
from goldnas.training.folder import TrainingFolder
from goldnas.training.split_data import load_split


@dataclass(frozen=True)
class Source:
    """A network with its weights."""

    architecture: Architecture
    network: nn.Module
    gated: bool
    """Whether its operators are scaled by gates."""
    figure: str
    """The accuracy, or the metric of the task, as text."""
    config: SearchConfig | TrainConfig
    """Settings of the training images."""
    search: SearchRun | None
    """The search whose budgets and tables apply."""
    folder: SearchRun | TrainingFolder
    """The folder of the network."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the architecture."""
        return self.architecture.fingerprint

    @property
    def promised(self) -> dict[str, float]:
        """The resources that the search recorded for the network; empty without a search."""
        if self.search is None or not self.search.has_front:
            return {}
        networks = self.search.front().networks
        found = (n.resources for n in networks if n.fingerprint == self.fingerprint)
        return next(found, {})

    def metadata(self) -> dict[str, str]:
        """The metadata of an exported file, with everything that using the network takes."""
        architecture = self.architecture.to_json().decode()
        return describe_network(architecture, self.folder.conditions)


def source_of_search(search: SearchRun, chosen: FrontNetwork) -> Source:
    """A network that a search recorded.

    Raises:
        UntrustedError: If its space is somebody else's function.
        RunError: If a file of it is missing or damaged.
    """
    right = "untrained, with its initial weights"
    if chosen.figure is not None:
        right = chosen.figure.on(f"the held-out {name_items(search.config.data)}")
    return Source(
        architecture=search.architecture(chosen),
        network=search.network(chosen),
        gated=True,
        figure=right,
        config=search.config,
        search=search,
        folder=search,
    )


def source_of_training(training: TrainingFolder) -> Source:
    """The network of a training; for one in ``trained/`` of a search, with its search.

    Raises:
        UntrustedError: If its space is somebody else's function.
        RunError: If the training is not done, or a file of it is missing or damaged.
    """
    search = find_search_around(training.path)
    network, result = training.network(), training.result()
    assert result is not None  # or there would be no network
    return Source(
        architecture=training.architecture,
        network=network,
        gated=training.config.warm,
        figure=result.test.on("the test set"),
        config=training.config,
        search=search,
        folder=training,
    )


def find_search_around(folder: Path) -> SearchRun | None:
    """The search whose network a training is of, if the training is in its folder."""
    around = Path(os.path.realpath(folder)).parent
    if around.name != "trained" or not os.path.isfile(around.parent / "config.json"):
        return None
    return SearchRun.open(around.parent)


@dataclass(frozen=True)
class Int8Data:
    """Images for the ranges of an int8 network, and for its comparison."""

    calibration: Any
    """Some of the training images, normalised: float32 ``(N, C, H, W)``."""
    held_out: Examples
    normalisation: Normalisation
    task: Task


def draw_int8_data(source: Source) -> Int8Data:
    """Draw the images from the training data of a network.

    Raises:
        GoldnasError: If the data is gone or is of another kind now, or nothing was held out.
    """
    config = source.config
    if config.validation_fraction == 0:
        raise ConfigError(
            "int8 needs held-out images to measure its accuracy, but this training held out "
            "none: train with a `validation_fraction`, or export with `precision='fp16'`"
        )
    source.folder.admit("data", "task")
    data = load_split(config, [source.architecture])
    assert data.held_out is not None
    generator = torch.Generator().manual_seed(config.split_seed)
    shuffled = torch.randperm(len(data.train), generator=generator)
    drawn, _ = data.train.batch(shuffled[:CALIBRATION_IMAGES], data.normalisation)
    return Int8Data(drawn.numpy(), data.held_out, data.normalisation, data.task)
