"""Starting a training, and going on with one."""

import dataclasses
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import asdict, replace
from torch import Tensor
from torch.nn import functional as F

from goldnas.architecture import Architecture
from goldnas.data.augmentation import Augmentation
from goldnas.data.datasets import load_dataset, resolved
from goldnas.data.examples import Dataset, Normalisation, split_validation
from goldnas.data.loader import TrainingLoader, default_workers
from goldnas.errors import ConfigError
from goldnas.genotypes import NAMED, read_genotype
from goldnas.loggers.listener import check_loggers
from goldnas.lut import LatencyTable
from goldnas.reference import is_function
from goldnas.resources import Latency
from goldnas.resources.costs import total_cost
from goldnas.searching.data import (
    check_data,
    check_no_augmentation,
    dataset_of,
    try_task,
)
from goldnas.searching.folder import SearchRun
from goldnas.searching.front import FrontNetwork
from goldnas.searching.setup import amp_named, conditions_of, device_named, inputs_of
from goldnas.spaces import import_space, space_of
from goldnas.spaces.mobile_networks import NETWORKS, published
from goldnas.task import task_named
from goldnas.training.config import TrainConfig
from goldnas.training.distributed import Ranks
from goldnas.training.folder import TrainingFolder
from goldnas.training.gradients import check_batch
from goldnas.training.network_training import Training, TrainingData
from goldnas.training.recipes import recipe_named
from goldnas.training.result import TrainResult

CUTOUT_IMAGE_SIZE = 32
"""Side, in pixels, of the images that the Cutout of recipes is made for."""

OF_CELLS = ("auxiliary_weight", "drop_path")
"""Settings of recipes that only networks of cells have a use for."""

WARM_SHARE = 0.1
"""Of a recipe's learning rate, for weights that have learnt already."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network to train, and on which data."""

    architecture: Architecture
    data: dict[str, Any]
    """Those fields of its :class:`TrainConfig` that say on which images it learns."""
    trainings: Path
    """The folder that its trainings go to."""
    tables: tuple[LatencyTable, ...] = ()
    """Of which its latencies are predicted."""
    weights: dict[str, Tensor] | None = None
    """With gates, to begin with; None for fresh ones without gates."""

    def folder(self, config: TrainConfig) -> Path:
        """Where a training goes unless something else is said."""
        name = (
            f"{self.architecture.fingerprint}-{config.recipe}-e{config.epochs}-s{config.seed}"
        )
        return self.trainings / (name + "-warm" * config.warm)


def subject_of(run: SearchRun, network: FrontNetwork, *, warm: bool = False) -> Subject:
    """A network of a search, on the data and with the split of the search.

    Args:
        run: The search.
        network: Of its front.
        warm: Whether to begin with the weights and gates that the search recorded.

    Raises:
        GoldnasError: If a file of it is missing or damaged, or there are no trained weights to
            begin with.
    """
    if warm and network.figure is None:
        raise ConfigError(
            f"nothing was trained in {run.path}: network {network.fingerprint} has the weights "
            "it began with; leave --warm out"
        )
    config, architecture = run.config, run.architecture(network)
    suits = _augmentation(config.data, architecture)
    given = {"crop_padding": config.crop_padding, "flip": config.flip}
    return Subject(
        architecture=architecture,
        data={
            "data": config.data,
            "task": config.task,
            "data_dir": config.data_dir,
            "image_size": config.image_size,
            **suits,
            **{name: value for name, value in given.items() if value is not None},
            "validation_fraction": config.validation_fraction,
            "split_seed": config.seed,
        },
        trainings=run.path / "trained",
        tables=tuple(run.tables),
        weights=run.network(network).state_dict() if warm else None,
    )


def subject_from(
    target: str,
    *,
    data: str,
    task: str | None = None,
    data_dir: str | None = None,
    image_size: int | None = None,
    space: str = "gold",
    channels: int | None = None,
    cells: int | None = None,
) -> Subject:
    """A network from a file, on data of its own.

    Args:
        target: An architecture as JSON, a file with a genotype, or the name of a known genotype
            or a published mobile network.
        data: Name of a dataset, path of a folder, shards or an ``.npz``, or a function.
        task: The function that says what is learnt; None for classification.
        data_dir: Where named datasets are.
        image_size: Side to resize a folder's images to.
        space: Of a genotype: ``gold-imagenet`` for large images.
        channels: Of a genotype, of a node in the first stage; None for the space's.
        cells: Of a DARTS genotype; None for as many as DARTS evaluates with.

    Raises:
        GoldnasError: If there is no such network, or no such data.
    """
    if Path(target).suffix == ".json":
        import_space(space)
        architecture = Architecture.load(Path(target))
    else:
        text = target if target in NETWORKS else _genotype_text(target)
        dataset = load_dataset(
            data, data_dir=data_dir, image_size=image_size, labelled=task is None
        )
        shape, classes = _of_images(dataset), dataset.train.num_classes
        if target in NETWORKS:
            if classes is None:
                raise ConfigError(
                    f"{target} tells classes apart, and the targets of {data} are none; train "
                    "a network of a space of yours, from an architecture file"
                )
            architecture = published(target, input_shape=shape, classes=classes)
        else:
            architecture = read_genotype(
                text,
                space=space,
                channels=channels,
                cells=cells,
                input_shape=shape,
                classes=classes,
            )
    return Subject(
        architecture=architecture,
        data={
            "data": resolved(data),
            "task": task,
            "data_dir": data_dir and os.path.realpath(data_dir),
            "image_size": image_size,
            **_augmentation(resolved(data), architecture),
        },
        trainings=Path("trained"),
    )


def _augmentation(data: str, architecture: Architecture) -> dict[str, Any]:
    """The settings that say what is done to images; nothing to data of one's own."""
    if is_function(data):
        return {"augmentation": "none", "cutout": 0, "crop_padding": 0, "flip": False}
    suits = Augmentation.default_for(space_of(architecture).input_shape)
    return {"crop_padding": suits.crop_padding, "flip": suits.flip}


def _of_images(dataset: Dataset) -> tuple[int, int, int]:
    """The shape of the inputs, for a genotype.

    Raises:
        ConfigError: If they are no images.
    """
    shape = dataset.train.input_shape
    if len(shape) != 3:
        raise ConfigError(
            f"a genotype is for images, and the items of {dataset.name} are "
            f"{'x'.join(map(str, shape))}; use a --space of your own"
        )
    channels, height, width = shape
    return channels, height, width


def _genotype_text(target: str) -> str:
    if target in NAMED:
        return target
    try:
        return Path(target).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(
            f"cannot train {target!r}: {reason}. Give the folder of a search, an architecture "
            f"as .json, a file with a genotype, or one of {', '.join([*NAMED, *NETWORKS])}"
        ) from None


def config_for(
    subject: Subject, recipe_name: str, *, seed: int = 0, **given: Any
) -> TrainConfig:
    """The settings of a training: of the recipe, the network's data, and what was given.

    Cutout of a recipe is made for images of 32 pixels: of smaller ones it takes half the
    side. Data of one's own is used as it is, and a task of one's own smooths no labels.
    Weights that have learnt already go on at a tenth of a recipe's learning rate. A
    network without cells has no auxiliary head, and drops no paths.

    Args:
        subject: The network.
        recipe_name: Of a recipe.
        seed: Of the training.
        given: Fields of :class:`TrainConfig`; None for what the recipe says.

    Raises:
        ConfigError: If there is no such recipe, or a value is out of range.
    """
    recipe = recipe_named(recipe_name)
    warm = subject.weights is not None
    space = space_of(subject.architecture)
    suited: dict[str, Any] = {
        "learning_rate": recipe.learning_rate * (WARM_SHARE if warm else 1)
    }
    if is_function(subject.data["data"]):
        check_no_augmentation(subject.data["data"], ["--cutout"] if given.get("cutout") else [])
    elif (side := min(space.input_shape[1:])) < CUTOUT_IMAGE_SIZE:
        suited["cutout"] = min(recipe.cutout, side // 2)
    if subject.data["task"] is not None:
        if given.get("label_smoothing"):
            raise ConfigError(
                "label_smoothing is for classification, and not for a --task; leave it out"
            )
        suited["label_smoothing"] = 0.0
    if space.cell_layout is None:
        for name in OF_CELLS:
            if given.get(name):
                raise ConfigError(
                    f"{name} is for networks of cells, and those of {space.name} have none; "
                    "leave it out"
                )
        suited |= dict.fromkeys(OF_CELLS, 0.0)
    settings = asdict(recipe) | suited | subject.data
    settings |= {name: value for name, value in given.items() if value is not None}
    return TrainConfig(recipe=recipe_name, seed=seed, warm=warm, **settings)


def prepare(
    subject: Subject, config: TrainConfig, path: Path, ranks: Ranks | None = None
) -> Training | TrainResult:
    """A training that is ready to start or to go on; its result, if it is done.

    Args:
        subject: The network.
        config: Settings.
        path: The folder: of a training that began with these settings, or to be made.
        ranks: The processes that train together; each prepares. With another number of them
            than the training had, the threads are chosen anew.

    Raises:
        GoldnasError: If the data, the device or the settings do not allow the training, or
            the folder is damaged or holds something else.
    """
    ranks = ranks or Ranks()
    ranks.broadcast(lambda: check_loggers(config.loggers))
    named = ranks.on_all(lambda: device_named(config.train_device))
    device = ranks.on_all(lambda: ranks.device(named))
    amp = ranks.on_all(lambda: amp_named(config.amp, device))
    config = replace(config, train_device=str(named), amp=amp)
    architecture = subject.architecture
    found = ranks.broadcast(lambda: TrainingFolder.find(path, architecture, config))
    threads = None
    if found is not None:
        if (result := ranks.broadcast(found.result)) is not None:
            return result
        ranks.broadcast(found.clear_leftovers)
        threads = ranks.broadcast(lambda: found.threads_for(ranks.count))
    if threads or config.threads:
        torch.set_num_threads(threads or config.threads or 1)
    dataset = ranks.first_of_machine(lambda: dataset_of(config))
    data = ranks.on_all(lambda: _training_data(architecture, config, dataset, device, ranks))
    num_images = data.loader.images_per_batch
    ranks.on_all(lambda: check_batch(num_images, ranks.count, accumulate=1))
    predicted = ranks.on_all(lambda: _predicted(subject))
    conditions = conditions_of(device, ranks.count)
    conditions |= inputs_of(data.normalisation, dataset.classes)
    folder = found or ranks.broadcast(
        lambda: TrainingFolder.create(path, architecture, config, conditions)
    )
    training = Training(
        *(folder, architecture, config, data, device, ranks),
        weights=subject.weights,
        predicted=predicted,
    )
    training.resume()
    return training


def _training_data(
    architecture: Architecture,
    config: TrainConfig,
    dataset: Dataset,
    device: torch.device,
    ranks: Ranks,
) -> TrainingData:
    space, train, validation = space_of(architecture), dataset.train, None
    check_data(space, train, config, network=architecture.fingerprint)
    task = task_named(config.task)
    if config.task is not None:
        try_task(task, space, train)
    elif config.label_smoothing:
        smoothed = partial(F.cross_entropy, label_smoothing=config.label_smoothing)
        task = dataclasses.replace(task, loss=smoothed)
    if config.validation_fraction > 0:
        fraction, seed = config.validation_fraction, config.split_seed
        train, validation = split_validation(train, fraction, seed)
    normalisation = Normalisation.of(train)
    default = default_workers(train, ranks.local_count)
    whole = config.augmentation == "resized-crop"
    loader = TrainingLoader(
        train,
        Augmentation(
            crop_padding=0 if whole else config.crop_padding,
            flip=config.flip,
            cutout=config.cutout,
            randaugment=config.augmentation == "randaugment",
            resized_crop=whole,
            colour_jitter=whole,
        ),
        normalisation,
        batch_size=config.batch_size,
        seed=config.seed,
        workers=default if config.workers is None else config.workers,
        device=device,
        shard=(ranks.index, ranks.count),
    )
    return TrainingData(task, loader, validation, dataset.test, normalisation)


def _predicted(subject: Subject) -> dict[str, float]:
    """Microseconds by ``latency@`` and the name of a table."""
    space = space_of(subject.architecture)
    parts = tuple(space.plan(subject.architecture).parts())
    latencies = [Latency(table, space) for table in subject.tables]
    return {latency.name: total_cost(latency, parts) for latency in latencies}
