"""The trained network that is shrunk: of the zoo, of a training, of a search, of a function."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from goldnas.architecture import SHRUNK, Architecture
from goldnas.data.examples import Dataset
from goldnas.errors import ConfigError, read_message
from goldnas.searching.folder import SearchRun
from goldnas.searching.front import FrontNetwork
from goldnas.spaces import find_space
from goldnas.spaces.single import SingleSpace, make_function_space
from goldnas.spaces.zoo import ZooSpace
from goldnas.training.folder import TrainingFolder
from goldnas.training.pretrained import load_pretrained
from goldnas.training.ready_made import describe_for


@dataclass(frozen=True)
class Whole:
    """A trained network."""

    architecture: Architecture
    weights: dict[str, Tensor]
    gated: bool = False
    """Whether its operators are scaled by gates, which are among the weights."""
    notes: tuple[str, ...] = ()
    """What is good to know."""

    def at(self, image_size: int) -> "Whole":
        """The same network for images of another side.

        Args:
            image_size: In pixels.

        Raises:
            ConfigError: If the network has other weights there.
        """
        architecture = _at(self.architecture, image_size)
        if architecture == self.architecture:
            return self
        with torch.random.fork_rng(devices=[]):
            module = find_space(architecture).build(architecture, gated=self.gated)
        try:
            module.load_state_dict(self.weights)
        except RuntimeError as error:
            raise ConfigError(
                f"the network that learnt from other images has no weights for those of "
                f"{image_size} pixels: {read_message(error)[:300]}. Leave `image_size` out"
            ) from None
        return replace(self, architecture=architecture)


def _at(architecture: Architecture, image_size: int) -> Architecture:
    """An architecture for images of another side; of a shrunk network, its original as well."""
    settings = dict(architecture.settings)
    channels = settings["input_shape"][0]
    settings["input_shape"] = [channels, image_size, image_size]
    if architecture.space == SHRUNK:
        whole = Architecture.from_json(msgspec.json.encode(settings["network"]))
        settings["network"] = msgspec.json.decode(_at(whole, image_size).to_json())
    return msgspec.structs.replace(architecture, settings=settings)


OF_DATA = ("data", "task", "data_dir", "image_size", "validation_fraction")
"""Settings of its data that the folder of a network says."""


def data_of(folder: SearchRun | TrainingFolder) -> dict[str, Any]:
    """The data that a network learnt from, as settings of a search.

    The seed decides which items are held out: the network learnt from all others.
    """
    config = folder.config
    said = {name: getattr(config, name) for name in OF_DATA} | {"seed": config.split_seed}
    if not said["validation_fraction"]:
        del said["validation_fraction"]
    return said


def whole_of_training(folder: TrainingFolder) -> Whole:
    """The network of a training.

    Raises:
        UntrustedError: If its space is somebody else's function.
        RunError: If the training is not done, or a file is damaged.
    """
    network = folder.network()
    return _whole(folder.architecture, network.state_dict(), gated=folder.config.warm)


def whole_of_search(run: SearchRun, network: FrontNetwork) -> Whole:
    """A network that a search recorded, with its gates.

    Raises:
        UntrustedError: If its space is somebody else's function.
        ConfigError: If nothing was trained.
        RunError: If a file is missing or damaged.
    """
    if network.figure is None:
        raise ConfigError(
            f"nothing was trained in {run.path}: train one of its networks, and shrink that "
            "training"
        )
    module = run.network(network)
    return _whole(run.architecture(network), module.state_dict(), gated=True)


def whole_of_zoo(name: str, weights: str | Path | None, dataset: Dataset, data: str) -> Whole:
    """A ready-made network with weights of a file, or published ones.

    Raises:
        ConfigError: If there is no such network, or the weights do not fit it.
    """
    space = ZooSpace(**describe_for(name, dataset, data).settings)
    return _with_weights(
        *(name, space, weights, data), "a file, `weights='default'` for published weights"
    )


def whole_of_function(
    name: str, settings: dict[str, Any], weights: str | Path | None, dataset: Dataset, data: str
) -> Whole:
    """A network that a function makes, with weights of a file.

    Args:
        name: Of the function, which was imported.
        settings: That it takes besides those of the data.
        weights: The file.
        dataset: Whose shapes it is made for.
        data: Its name.

    Raises:
        ConfigError: If the function does not make a network for the data, or the file does not
            fit it.
    """
    space = make_function_space(
        name,
        settings,
        input_shape=dataset.train.input_shape,
        classes=dataset.train.num_classes,
    )
    return _with_weights(
        *(name, space, weights, data),
        "the file of its state_dict, as torch.save or safetensors wrote it",
    )


def _with_weights(
    name: str, space: SingleSpace, weights: str | Path | None, data: str, wanted: str
) -> Whole:
    if weights is None:
        raise ConfigError(
            f"{name} needs `weights` to shrink: give {wanted}, or the folder of a training of "
            f"{name}"
        )
    found = load_pretrained(weights, space)
    if found.weights is None:
        raise ConfigError(found.reason)
    if found.new_classifier:
        raise ConfigError(
            f"the weights {found.name} have no classifier for the {space.classes} classes of "
            f"{data}: train {name} on {data} first, with these `weights` and "
            "`recipe='fine-tune'`, and shrink that training"
        )
    return Whole(space.architecture(()), dict(found.weights))


def _whole(architecture: Architecture, weights: dict[str, Tensor], *, gated: bool) -> Whole:
    gated = gated and architecture.space != SHRUNK  # whose networks have none
    return Whole(architecture, dict(weights), gated=gated)
