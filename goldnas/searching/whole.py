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
from goldnas.spaces.single import make_function_space
from goldnas.spaces.zoo import ZooSpace
from goldnas.tensor_file import check_like
from goldnas.training.folder import TrainingFolder
from goldnas.training.pretrained import load_pretrained
from goldnas.training.ready_made import describe_for
from goldnas.weights_file import ENDINGS, read_weights, unwrap


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
    architecture = describe_for(name, dataset, data)
    if weights is None:
        raise ConfigError(
            f"{name} needs `weights` to shrink: give a file, `weights='default'` for published "
            f"weights, or the folder of a training of {name}"
        )
    space = ZooSpace(**architecture.settings)
    found = load_pretrained(weights, space)
    if found.weights is None:
        raise ConfigError(found.reason)
    if found.new_classifier:
        raise ConfigError(
            f"the weights {found.name} are not for the {space.classes} classes of {data}: "
            f"train {name} on {data} first, with these `weights` and `recipe='fine-tune'`, and "
            "shrink that training"
        )
    return Whole(architecture, dict(found.weights))


def whole_of_function(
    name: str, settings: dict[str, Any], dataset: Dataset, weights: str | Path | None
) -> Whole:
    """A network that a function makes, with weights of a file.

    Args:
        name: Of the function, which was imported.
        settings: That it takes besides those of the data.
        dataset: Whose shapes it is made for.
        weights: The file.

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
    architecture = space.architecture(())
    if weights is None:
        raise ConfigError(
            f"{name} needs `weights` to shrink: give the file of its state_dict, as torch.save "
            "or safetensors wrote it"
        )
    path = Path(weights)
    with torch.random.fork_rng(devices=[]):
        own = space.build(architecture).state_dict()
    try:
        if path.suffix not in ENDINGS:
            raise ValueError(f"its name must end in one of {', '.join(ENDINGS)}")
        content, _ = read_weights(path, 8 * sum(t.nbytes for t in own.values()) + 2**26)
        found = unwrap(content, own)
        check_like(found, own)
        if lacking := own.keys() - found.keys():
            raise ValueError(f"it has no {min(lacking)}")
    except OSError as error:
        raise ConfigError(
            f"cannot read `weights` {path}: {error.strerror}. Give the file of the network's "
            "own state_dict"
        ) from None
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"`weights` {path} do not fit {name}: {read_message(error)[:300]}. Give the file "
            "of the network's own state_dict"
        ) from None
    return Whole(architecture, dict(found))


def _whole(architecture: Architecture, weights: dict[str, Tensor], *, gated: bool) -> Whole:
    gated = gated and architecture.space != SHRUNK  # whose networks have none
    return Whole(architecture, dict(weights), gated=gated)
