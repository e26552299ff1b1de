"""What is trained, and on which data: a network of a search, of a file, or a published one."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from goldnas.architecture import Architecture
from goldnas.bounded import read_bounded
from goldnas.data.augmentation import Augmentation
from goldnas.data.datasets import load_dataset, resolve_data
from goldnas.errors import ConfigError
from goldnas.genotypes import NAMED, read_genotype
from goldnas.lut import LatencyTable
from goldnas.reference import is_function
from goldnas.spaces import find_space, import_space
from goldnas.spaces.mobile_networks import NETWORKS, read_published
from goldnas.spaces.reference import FUNCTIONS
from goldnas.spaces.single import make_function_space
from goldnas.training.config import TrainConfig
from goldnas.training.pretrained import Pretrained
from goldnas.training.ready_made import (
    choose_image_size,
    describe_for,
    find_first_weights,
    need_classes,
    shape_of_images,
)
from goldnas.training.teacher import Teacher
from goldnas.trust import allow
from goldnas.zoo.networks import PREFIX

_MOST_BYTES = 2**20
"""Of a genotype."""


@dataclass(frozen=True, kw_only=True)
class TrainTarget:
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
    pretrained: Pretrained | None = None
    """Of a ready-made network or that of a function, to begin with; None for fresh ones."""
    teacher: Teacher | None = None
    """That it also learns from."""
    notes: tuple[str, ...] = ()
    """What else to say when a training begins."""
    functions: tuple[str, ...] = ()
    """That are its space, its data and its task; their code may run."""

    def folder(self, config: TrainConfig) -> Path:
        """Where a training goes unless something else is said."""
        name = (
            f"{self.architecture.fingerprint}-{config.recipe}-e{config.epochs}-s{config.seed}"
        )
        if config.weights_sha256 is not None:
            name += f"-w{config.weights_sha256[:8]}"  # others begin another training
        if config.teacher_sha256 is not None:
            sha256, share, heat = (
                config.teacher_sha256,
                config.teacher_share,
                config.temperature,
            )
            name += f"-t{sha256[:8]}-{share:g}-{heat:g}"
        return self.trainings / (name + "-warm" * config.warm)


def target_of_file(
    target: Architecture | str | Path,
    *,
    data: str,
    task: str | None = None,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    space: str = "gold",
    channels: int | None = None,
    cells: int | None = None,
    weights: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> TrainTarget:
    """A network from a file, on data of its own.

    Args:
        target: An architecture or its JSON file, a file with a genotype, or the name of a known
            genotype or a published mobile network; or ``zoo:`` and that of a ready-made one; or
            a function that makes the network.
        data: Name of a dataset, path of a folder, shards or an ``.npz``, or a function.
        task: The function that says what is learnt; None for classification.
        data_dir: Where named datasets are.
        image_size: Side to resize a folder's images to.
        space: Of a genotype: ``gold-imagenet`` for large images.
        channels: Of a genotype, of a node in the first stage; None for the space's.
        cells: Of a DARTS genotype; None for as many as DARTS evaluates with.
        weights: That a ready-made network, or that of a function, begins with; see
            :func:`load_pretrained`.
        settings: Arguments of the function, besides ``input_shape`` and ``classes``.

    Raises:
        GoldnasError: If there is no such network, or no such data.
    """
    function = ""
    if isinstance(target, str) and not target.startswith(PREFIX):
        # Those without a name of their own have one that this program alone knows.
        function = target if is_function(target) or target in FUNCTIONS else ""
    named = tuple(filter(is_function, (function or space, data, task or "")))
    allow(*named)
    notes: list[str] = []
    if settings and not function:
        raise ConfigError("`settings` is for a function that makes the network; leave it out")
    if isinstance(target, Architecture):
        architecture = target
    elif Path(target).suffix == ".json":
        import_space(space)
        architecture = Architecture.load(Path(target))
    elif function:
        import_space(function)
        dataset = load_dataset(
            data, data_dir=data_dir, image_size=image_size, labelled=task is None
        )
        architecture = make_function_space(
            function,
            settings or {},
            input_shape=dataset.train.input_shape,
            classes=dataset.train.num_classes,
        ).architecture(())
    elif str(target).startswith(PREFIX):
        if image_size is None:
            image_size = choose_image_size(str(target), data, weights, notes)
        dataset = load_dataset(
            data, data_dir=data_dir, image_size=image_size, labelled=task is None
        )
        architecture = describe_for(str(target), dataset, data)
    else:
        target = str(target)
        text = target if target in NETWORKS else _genotype_text(target)
        dataset = load_dataset(
            data, data_dir=data_dir, image_size=image_size, labelled=task is None
        )
        shape, classes = shape_of_images(dataset, "a genotype"), dataset.train.num_classes
        if target in NETWORKS:
            architecture = read_published(
                target, input_shape=shape, classes=need_classes(classes, target, data)
            )
        else:
            architecture = read_genotype(
                text,
                space=space,
                channels=channels,
                cells=cells,
                input_shape=shape,
                classes=classes,
            )
    pretrained = find_first_weights(architecture, weights, notes)
    return TrainTarget(
        architecture=architecture,
        pretrained=pretrained,
        notes=tuple(notes),
        data={
            "data": resolve_data(data),
            "task": task,
            "data_dir": data_dir and os.path.realpath(data_dir),
            "image_size": image_size,
            **suit_augmentation(resolve_data(data), architecture),
        },
        trainings=Path("trained"),
        functions=named,
    )


def suit_augmentation(data: str, architecture: Architecture) -> dict[str, Any]:
    """The settings of augmentation; off for data of one's own."""
    if is_function(data):
        return {"augmentation": "none", "cutout": 0, "crop_padding": 0, "flip": False}
    suits = Augmentation.default_for(find_space(architecture).input_shape)
    return {"crop_padding": suits.crop_padding, "flip": suits.flip}


def _genotype_text(target: str) -> str:
    if target in NAMED:
        return target
    try:
        return read_bounded(Path(target), _MOST_BYTES).decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise ConfigError(
            f"cannot train {target!r}: {reason}. Give the folder of a search, an architecture "
            f"as .json, a file with a genotype, {PREFIX} and the name of a ready-made network, "
            "a function that makes one (my_nets:small), or one of "
            f"{', '.join([*NAMED, *NETWORKS])}"
        ) from None
