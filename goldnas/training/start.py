"""Starting a training, and going on with one."""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import asdict, replace
from torch.nn import functional as F

from goldnas.architecture import Architecture
from goldnas.data.augmentation import Augmentation
from goldnas.data.examples import Dataset, Normalisation, split_validation
from goldnas.data.loader import TrainingLoader, choose_workers
from goldnas.errors import BusyError, ConfigError
from goldnas.locks import take_lock
from goldnas.loggers.listener import check_loggers
from goldnas.reference import is_function
from goldnas.resources import predict_by
from goldnas.resources.costs import sum_costs
from goldnas.run_folder import is_training
from goldnas.settings import make_settings
from goldnas.spaces import find_space
from goldnas.spaces.single import SingleSpace
from goldnas.task import load_task
from goldnas.training.config import TrainConfig
from goldnas.training.distributed import Ranks
from goldnas.training.folder import TrainingFolder
from goldnas.training.gradients import check_batch
from goldnas.training.loop import TrainingLoop
from goldnas.training.machine import (
    choose_amp,
    choose_device,
    describe_inputs,
    describe_machine,
    set_threads,
)
from goldnas.training.network_training import NetworkTraining, TrainingData
from goldnas.training.recipes import recipe_named
from goldnas.training.result import TrainResult
from goldnas.training.target import TrainTarget
from goldnas.training.task_data import check_data, check_no_augmentation, load_data, try_task

CUTOUT_IMAGE_SIZE = 32
"""Side, in pixels, of the images that the Cutout of recipes is made for."""

OF_CELLS = ("auxiliary_weight", "drop_path")
"""Settings of recipes that only networks of cells have a use for."""

WARM_SHARE = 0.1
"""Of a recipe's learning rate, for weights that have learnt already."""

NetworkLoop = TrainingLoop[TrainResult]


def resolve_config(
    target: TrainTarget, recipe_name: str, *, seed: int = 0, **given: Any
) -> TrainConfig:
    """The settings of a training: of the recipe, the network's data, and what was given.

    Cutout of a recipe is made for images of 32 pixels; in smaller images it takes at most half
    the side. Data of one's own is not augmented, and a task of one's own smooths no labels.
    With a warm start, the learning rate is a tenth of the recipe's. A network without cells has
    no auxiliary head, and drops no paths. If all weights are fresh, all learn at the same rate.

    Args:
        target: The network.
        recipe_name: Of a recipe.
        seed: Of the training.
        given: Fields of :class:`TrainConfig`; None for what the recipe says.

    Raises:
        ConfigError: If there is no such recipe, or a value is out of range.
    """
    recipe = recipe_named(recipe_name)
    warm = target.weights is not None
    space = find_space(target.architecture)
    suited: dict[str, Any] = {
        "learning_rate": recipe.learning_rate * (WARM_SHARE if warm else 1)
    }
    if is_function(target.data["data"]):
        check_no_augmentation(target.data["data"], ["cutout"] if given.get("cutout") else [])
    elif (side := min(space.input_shape[1:])) < CUTOUT_IMAGE_SIZE:
        suited["cutout"] = min(recipe.cutout, side // 2)
    if target.data["task"] is not None:
        if given.get("label_smoothing"):
            raise ConfigError(
                "`label_smoothing` is for classification, not for a `task`; leave it out"
            )
        suited["label_smoothing"] = 0.0
    if space.cell_layout is None:
        for name in OF_CELLS:
            if given.get(name):
                raise ConfigError(
                    f"`{name}` is for networks of cells, and networks of {space.name} have "
                    "none; leave it out"
                )
        suited |= dict.fromkeys(OF_CELLS, 0.0)
    pretrained = target.pretrained
    for name in ("weights", "teacher"):
        if given.get(f"{name}_sha256") is not None:
            raise ConfigError(f"`{name}_sha256` follows from `{name}`; leave it out")
    if pretrained is None or not (isinstance(space, SingleSpace) and space.find_classifier()):
        if given.get("body_rate") is not None:
            raise ConfigError(
                "`body_rate` is for a network that begins with `weights`, and whose classifier "
                "depends on the number of classes; leave it out"
            )
        suited["body_rate"] = 1.0
    if (teacher := target.teacher) is None:
        for name in ("teacher_share", "temperature"):
            if given.get(name) is not None:
                raise ConfigError(f"`{name}` is for a training with a `teacher`; leave it out")
    elif target.data["task"] is not None:
        raise ConfigError("a `teacher` is for classification, not for a `task`; leave it out")
    settings = asdict(recipe) | suited | target.data
    settings |= {name: value for name, value in given.items() if value is not None}
    settings |= {"recipe": recipe_name, "seed": seed, "warm": warm}
    if pretrained is not None:
        settings |= {"weights": pretrained.name, "weights_sha256": pretrained.sha256}
    if teacher is not None:
        settings |= {"teacher": teacher.name, "teacher_sha256": teacher.sha256}
    return make_settings(TrainConfig, "a training", settings)


def find_place(
    target: TrainTarget, config: TrainConfig, out: Path | None
) -> tuple[Path, TrainConfig]:
    """The folder of a training; and its settings, with what is known of its weights there.

    A training that has begun goes on without the weights that it began with.

    Args:
        target: The network.
        config: Settings.
        out: The folder; None for the usual one.

    Raises:
        ConfigError: If the weights cannot be had, and no such training has begun.
        RunError: If the folder of one is damaged.
    """
    pretrained = target.pretrained
    if pretrained is None or pretrained.weights is not None:
        return out or target.folder(config), config
    usual = target.folder(replace(config, weights_sha256="*"))
    begun: list[TrainingFolder] = []
    for path in filter(is_training, [out] if out else sorted(usual.parent.glob(usual.name))):
        folder = TrainingFolder.open(path)
        if folder.has_begun and folder.config.weights == pretrained.name:
            begun.append(folder)
    if len(begun) > 1:
        raise ConfigError(
            f"{pretrained.reason}. {' and '.join(str(one.path) for one in begun)} began with "
            "files of this name: give one of them as `out`"
        )
    if not begun:
        raise ConfigError(pretrained.reason)
    return begun[0].path, replace(config, weights_sha256=begun[0].config.weights_sha256)


def prepare(
    target: TrainTarget,
    config: TrainConfig,
    path: Path,
    ranks: Ranks | None = None,
    *,
    texts: Mapping[str, str] | None = None,
    wait: bool = False,
    tell: Callable[[str], object] = lambda text: None,
) -> NetworkLoop | TrainResult:
    """A training that is ready to start or to go on; its result, if it is done.

    This process holds the lock of its folder then, which is to be released at the end.

    Args:
        target: The network.
        config: Settings.
        path: The folder: of a training that began with these settings, or to be made.
        ranks: The processes that train together; each prepares. With another number of them
            than the training had, the threads are chosen anew.
        texts: Other files that a new folder begins with, by name.
        wait: Whether to wait while another process trains there.
        tell: Told whom we wait for.

    Raises:
        BusyError: If another process trains there, and we do not wait.
        GoldnasError: If the data, the device or the settings do not allow the training, or
            the folder is damaged or holds something else.
    """
    ranks = ranks or Ranks()
    ranks.broadcast(lambda: check_loggers(config.loggers))
    named = ranks.on_all(lambda: choose_device(config.train_device))
    device = ranks.on_all(lambda: ranks.device(named))
    amp = ranks.on_all(lambda: choose_amp(config.amp, device))
    config = replace(config, train_device=str(named), amp=amp)
    architecture = target.architecture
    found = ranks.broadcast(lambda: TrainingFolder.find(path, architecture, config))
    with ExitStack() as on_failure:
        threads = None
        if found is not None:
            if (result := ranks.broadcast(found.result)) is not None:
                ranks.broadcast(found.sweep)
                return result
            take_lock(
                lambda: ranks.broadcast(found.take_lock),
                path,
                wait=wait,
                tell=tell,
                common=ranks.common,
            )
            on_failure.callback(found.release)
            if (result := ranks.broadcast(found.result)) is not None:  # whom we waited for
                return result
            threads = ranks.broadcast(lambda: found.choose_threads(ranks.count))
        ranks.on_all(lambda: set_threads(threads or config.threads))
        dataset = ranks.first_of_machine(lambda: load_data(config))
        if target.teacher is not None:
            pupil = dataset.train.input_shape, dataset.train.num_classes, dataset.classes
            ranks.on_all(partial(target.teacher.check, *pupil))
        data = ranks.on_all(
            lambda: _training_data(architecture, config, dataset, device, ranks)
        )
        num_images = data.loader.images_per_batch
        ranks.on_all(lambda: check_batch(num_images, ranks.count, accumulate=1))
        predicted = ranks.on_all(lambda: _predicted(target))
        conditions = describe_machine(device, ranks.count)
        conditions |= describe_inputs(data.normalisation, dataset.classes)
        try:
            folder = found or ranks.broadcast(
                lambda: TrainingFolder.create(path, architecture, config, conditions, texts)
            )
        except BusyError:
            if not wait or ranks.count > 1:  # of whom the others have ended
                raise
            return prepare(target, config, path, ranks, texts=texts, wait=True, tell=tell)
        if not found:
            on_failure.callback(folder.remove)
        loop = NetworkLoop(
            *(folder, config, data, device, ranks),
            lambda loop: NetworkTraining(
                *(loop, folder, architecture, config, data),
                weights=target.weights,
                pretrained=target.pretrained.weights if target.pretrained else None,
                teacher=target.teacher,
                predicted=predicted,
            ),
        )
        loop.checkpoints.resume()
        on_failure.pop_all()
    return loop


def _training_data(
    architecture: Architecture,
    config: TrainConfig,
    dataset: Dataset,
    device: torch.device,
    ranks: Ranks,
) -> TrainingData:
    space, train, validation = find_space(architecture), dataset.train, None
    check_data(space, train, config, network=architecture.fingerprint)
    task = load_task(config.task)
    if config.task is not None:
        try_task(task, space, train)
    elif config.label_smoothing:
        smoothed = partial(F.cross_entropy, label_smoothing=config.label_smoothing)
        task = dataclasses.replace(task, loss=smoothed)
    if config.validation_fraction > 0:
        fraction, seed = config.validation_fraction, config.split_seed
        train, validation = split_validation(train, fraction, seed)
    normalisation = Normalisation.measure(train)
    default = choose_workers(train, ranks.local_count)
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


def _predicted(target: TrainTarget) -> dict[str, float]:
    """Microseconds by ``latency@`` and the name of a table; microjoules by ``energy@``."""
    space = find_space(target.architecture)
    parts = tuple(space.plan(target.architecture).parts())
    predicted = [predict_by(table, space) for table in target.tables]
    return {one.name: sum_costs(one, parts) for one in predicted}
