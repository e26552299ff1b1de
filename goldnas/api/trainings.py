"""``goldnas.train``: one network, from scratch or from what a search left."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas.api.networks import Network, ReadyMadeNetwork, TrainedNetwork
from goldnas.api.runs import Run, load_run
from goldnas.api.telling import watch
from goldnas.api.together import (
    alone,
    check_own,
    join_ranks,
    name_space,
    name_task,
    refuse_arguments,
)
from goldnas.architecture import Architecture, find_origin
from goldnas.errors import ConfigError, name_type
from goldnas.trust import allow

if TYPE_CHECKING:
    from goldnas.task import Task
    from goldnas.training.distributed import Ranks
    from goldnas.training.events import Observer
    from goldnas.training.target import TrainTarget
    from goldnas.training.teacher import Teacher


def train(
    network: Network | ReadyMadeNetwork | Run | Architecture | Callable[..., Any] | str | Path,
    *,
    recipe: str = "short",
    warm: bool = False,
    out: str | Path | None = None,
    data: Any = None,
    task: "Task | Callable[[], Task] | str | None" = None,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    space: "str | Callable[..., Any] | None" = None,
    channels: int | None = None,
    cells: int | None = None,
    weights: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    teacher: "TrainedNetwork | Network | Run | str | Path | None" = None,
    on_event: "Observer" = watch,
    stop_signal: Callable[[], int] = lambda: 0,
    wait: bool = False,
    ranks: "Ranks | None" = None,
    **others: Any,
) -> TrainedNetwork:
    """Train one network, and score it on the test set once, after the last epoch.

    If the training was stopped, the same call continues it. If the training is finished, the
    call returns its result.

    Args:
        network: A network of a search, or one of ``run.ready_made``: these use the data of the
            search. Or a search or its folder, for its best network. Or an architecture, its
            file, or a file with a genotype. Or the name of a published network: ``DARTS_V1``,
            ``DARTS_V2``, ``mobilenet_v2``, ``mobilenet_v3_large``, ``proxylessnas_mobile``,
            ``mnasnet_a1``. Or ``zoo:`` and the name of a ready-made network of torchvision,
            ``zoo:mobilenet_v3_small``, or of timm, ``zoo:timm/efficientnet_lite0``. Or a
            function that makes the network, or its ``module:name``.
        recipe: Name of a recipe: ``short``, ``modern``, ``fine-tune``, ``darts-cifar`` ...
        warm: Whether to start from the weights and gates of the search.
        out: Folder of the training. Unless given, one in ``trained/``, in the folder of the
            search.
        data: The data, for a network that is not of a search; see :func:`goldnas.search`.
        task: The task, for such a network.
        data_dir: Folder of named datasets, for such a network.
        image_size: Side in pixels that images of a folder are resized to, for such a network.
            Unless given, a ready-made network takes the size of its published weights, if not
            all images are smaller.
        space: The space of a genotype; or the function that an architecture's file names.
        channels: Channels of a node in the first stage, for a genotype.
        cells: Number of cells, for a DARTS genotype.
        weights: First weights of a ready-made network, or of that of a function: a file
            ``.safetensors``, ``.pt`` or ``.pth``. For a ready-made one also the name of
            published weights, such as ``IMAGENET1K_V1`` or ``default``. A classifier for other
            classes starts from fresh weights.
        settings: Arguments of the function, besides ``input_shape`` and ``classes``.
        teacher: A trained network to learn from as well, on the same classes and images
            (arXiv:1503.02531). It is what :func:`train` returned, a network of a search with
            its weights, or the folder of either. ``teacher_share`` and ``temperature`` go with
            it.
        on_event: Called with the name of each event and its fields, as in
            :func:`goldnas.search`.
        stop_signal: As for :func:`goldnas.search`.
        wait: Whether to wait while another process trains in the same folder.
        ranks: As for :func:`goldnas.search`.
        others: Fields of :class:`goldnas.TrainConfig` in place of the recipe's: ``epochs``,
            ``seed``, ``batch_size``, ``learning_rate``, ``validation_fraction`` and so on.

    Returns:
        The network with its weights after the last epoch.

    Raises:
        BusyError: If another process trains in the same folder.
        ConfigError: If a setting is wrong, or does not go with the network.
        DataError: If the data is missing or unreadable.
        RunError: If ``out`` holds something else, or training diverges repeatedly.
        WriteError: If a file cannot be written.

    Example:
        >>> again = goldnas.train(run.best, recipe="short", epochs=2)
        >>> again.fingerprint == run.best.fingerprint
        True
    """
    from goldnas.training.config import TrainConfig

    refuse_arguments(network, others, TrainConfig.__struct_fields__)
    of_data = {
        "data": data,
        "task": task,
        "data_dir": data_dir,
        "image_size": image_size,
        "space": space,
        "channels": channels,
        "cells": cells,
        "weights": weights,
        "settings": settings,
    }
    given = {name: value for name, value in of_data.items() if value is not None}
    with join_ranks(ranks) as joined:
        target = joined.broadcast(lambda: find_target(network, warm=warm, **given))
        return train_target(
            target,
            recipe=recipe,
            out=out,
            on_event=on_event,
            stop_signal=stop_signal,
            wait=wait,
            ranks=joined,
            teacher=teacher,
            **others,
        )


def train_target(
    target: "TrainTarget",
    *,
    recipe: str = "short",
    out: str | Path | None = None,
    on_event: "Observer" = watch,
    stop_signal: Callable[[], int] = lambda: 0,
    wait: bool = False,
    texts: Mapping[str, str] | None = None,
    ranks: "Ranks",
    teacher: "TrainedNetwork | Network | Run | str | Path | None" = None,
    trust: bool = False,
    **settings: Any,
) -> TrainedNetwork:
    """Train what :func:`find_target` has found; see :func:`train`.

    A new folder begins with these texts, too, each by the name of its file. With ``trust`` the
    code of the teacher's space may run, whoever made its folder.
    """
    from goldnas.spaces import import_space
    from goldnas.training.folder import TrainingFolder
    from goldnas.training.result import TrainResult
    from goldnas.training.start import find_place, prepare, resolve_config

    allow(*target.functions)
    origin = find_origin(target.architecture.space, target.architecture.settings)
    if origin in target.functions:
        ranks.on_all(lambda: import_space(origin))
    if teacher is not None:
        found = ranks.on_all(lambda: find_teacher(teacher, trust=trust))
        target = replace(target, teacher=found)
        if found.data != target.data["data"]:
            told = (
                f"the teacher was trained on {found.data}, and this network is trained on "
                f"{target.data['data']}: check that the classes are the same"
            )
            target = replace(target, notes=(*target.notes, told))
    config = ranks.on_all(lambda: resolve_config(target, recipe, **settings))
    allow(*config.loggers)
    place = Path(out) if out is not None else None
    folder, config = ranks.broadcast(lambda: find_place(target, config, place))
    if target.pretrained is not None and target.pretrained.weights is None:
        told = (
            f"{target.pretrained.reason}. This is the training in {folder}, which began with a "
            "file of this name"
        )
        on_event("note", {"text": told})
    with alone():
        loop = prepare(
            *(target, config, folder, ranks),
            texts=texts,
            wait=wait,
            tell=lambda text: on_event("waiting", {"text": text}),
        )
        if isinstance(loop, TrainResult):
            on_event("done", {"folder": folder})
            return TrainedNetwork(TrainingFolder.open(folder), loop)
        loop.events.observer = on_event
        loop.stop_signal = stop_signal
        try:
            loop.events.emit_unlogged("begin", loop=loop, folder=folder)
            if not loop.step:
                for text in target.notes:
                    loop.events.emit_unlogged("note", text=text)
            result = loop.train()
        finally:
            loop.run.release()
    return TrainedNetwork(TrainingFolder.open(folder), result)


def find_teacher(
    teacher: "TrainedNetwork | Network | Run | str | Path", *, trust: bool = False
) -> "Teacher":
    """Read the trained network that another network learns from.

    Args:
        teacher: See :func:`train`.
        trust: Whether the code of its space may run, whoever made the folder.

    Raises:
        ConfigError: If it is no trained network.
        UntrustedError: If its space is somebody else's function.
        RunError: If its folder is of something else, not done, or damaged.
    """
    from goldnas.run_folder import is_training
    from goldnas.training.folder import TrainingFolder
    from goldnas.training.teacher import Teacher

    if isinstance(teacher, str | Path):
        path = Path(teacher)
        if not str(teacher) or not (path / "config.json").exists():
            raise ConfigError(
                f"the `teacher` {teacher} is not the folder of a training or a search: give one"
            )
        if is_training(path):
            folder = TrainingFolder.open(path)
            folder.trusted = folder.trusted or trust
            module = folder.network()
            data = folder.config.data
            return Teacher.of(str(path), module, folder.architecture, folder, data)
        teacher = load_run(path, trust=trust)
    if isinstance(teacher, TrainedNetwork):
        return find_teacher(teacher.path, trust=trust)
    if isinstance(teacher, Run):
        teacher = teacher.best
    if not isinstance(teacher, Network):
        raise ConfigError(
            f"{name_type(teacher)} is not a `teacher`: give the result of a training, a "
            "network of a search, or the folder of either"
        )
    path = teacher.folder.path
    if teacher.metric is None:
        raise ConfigError(
            f"nothing was trained in {path}, so its networks cannot teach: train one, and give "
            "the folder of the training as `teacher`"
        )
    data = teacher.folder.config.data
    return Teacher.of(str(path), teacher.build(), teacher.architecture, teacher.folder, data)


def find_target(network: Any, *, warm: bool = False, **of_data: Any) -> "TrainTarget":
    """Find the network to train, and its data.

    Args:
        network: See :func:`train`.
        warm: See :func:`train`.
        of_data: ``data``, ``task``, ``data_dir``, ``image_size``, ``space``, ``channels``,
            ``cells``, ``weights`` and ``settings``, those that are given.

    Raises:
        GoldnasError: If there is no such network, or a setting does not go with it.
    """
    from goldnas.data.given import name_data
    from goldnas.searching.targets import target_of_baseline, target_of_run
    from goldnas.training.target import target_of_file

    check_own(of_data.get("settings"), of_data.get("weights"))
    if isinstance(network, str | Path) and (Path(network) / "config.json").exists():
        network = load_run(network)  # which refuses the folder of a training
    if isinstance(network, Run):
        network = network.best
    if isinstance(network, TrainedNetwork):
        raise ConfigError(
            f"{network.path} is trained already: give its `architecture` to train it again"
        )
    if callable(network) and hasattr(network, "__name__"):
        network = name_space(network)
    if not isinstance(network, Network | ReadyMadeNetwork | Architecture | str | Path):
        raise ConfigError(
            f"{name_type(network)} is not a network to train: give one of a search (run.best), "
            "an architecture, a file, the name of a published network, or a function that "
            "makes one"
        )
    if isinstance(network, Network | ReadyMadeNetwork):
        if "weights" in of_data:
            raise ConfigError(
                f"`weights` {of_data['weights']} are for a ready-made network, zoo:NAME, or a "
                "function; a network of a search starts from its own weights with `warm=True`"
            )
        if of_data:
            raise ConfigError(
                f"{', '.join(f'`{name}`' for name in of_data)} cannot be given with a network "
                "of a search, which decides it; train its `architecture` on other data"
            )
        if isinstance(network, Network):
            return target_of_run(network.folder, network.record, warm=warm)
        if not warm:
            return target_of_baseline(network.folder, network.record)
    if warm:
        raise ConfigError(
            "only a network of a search has weights to start from; leave `warm` out"
        )
    if "data" not in of_data:
        raise ConfigError(
            "a network that is not from a search needs `data` to train on, for example "
            "`data='cifar10'`"
        )
    named: dict[str, Any] = {
        "data": name_data(of_data.pop("data")),
        "task": name_task(of_data.pop("task", None)),
        "space": name_space(of_data.pop("space", "gold")),
    }
    return target_of_file(network, **named, **of_data)
