"""From the settings of a search to its data, its costs and its device."""

import contextlib
import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

import goldnas
from goldnas.errors import ConfigError
from goldnas.lut import LatencyTable
from goldnas.resources import (
    OPERATORS,
    Budget,
    Costs,
    Flops,
    Latency,
    Parameters,
    Resource,
    costs_of,
    format_amount,
    parse_budget,
)
from goldnas.search.config import SearchConfig, StepSettings
from goldnas.search.feasibility import Feasibility, Mask, cheapest
from goldnas.search.ranks import Ranks
from goldnas.search.strategies import STRATEGIES
from goldnas.spaces import GoldSpace, SearchSpace, import_space, space_named
from goldnas.supernet import SuperNet
from goldnas.training.augmentation import Augmentation
from goldnas.training.data import ImageData, Normalisation, split_validation
from goldnas.training.datasets import ImageDataset, load_dataset
from goldnas.training.loader import TrainingLoader, default_workers


@dataclass(frozen=True)
class SearchData:
    """The space and the pictures of a search; the test set is not among them."""

    space: SearchSpace
    loader: TrainingLoader
    validation: ImageData
    """Scores networks; taken from the training data."""
    check: ImageData
    """A part of it, which scores a network before and after each pruning."""
    normalisation: Normalisation
    gate_loader: TrainingLoader | None = None
    """Of the pictures that the gates learn from, where they have their own."""


@dataclass(frozen=True)
class Limit:
    """One resource: what the smallest, the current and the full network need of it."""

    resource: str
    smallest: float
    current: float
    full: float
    budget: Budget | None


def dataset_of(config: SearchConfig) -> ImageDataset:
    """Load the dataset of a search, training and test parts.

    Raises:
        DataError: If it is missing or corrupt.
    """
    return load_dataset(config.data, data_dir=config.data_dir, image_size=config.image_size)


def search_data(
    config: SearchConfig,
    dataset: ImageDataset,
    device: torch.device,
    *,
    workers: int | None = None,
    ranks: Ranks | None = None,
) -> SearchData:
    """Split, augment and load the training part of a dataset, and fit the space to it.

    Args:
        config: Settings.
        dataset: Its test part is not used.
        device: That the pictures will go to.
        workers: Loading processes, in place of those of the settings.
        ranks: Of which each loads its part of every batch.

    Raises:
        ConfigError: If a setting does not suit the data.
    """
    train, validation = split_validation(dataset.train, config.validation_fraction, config.seed)
    suits = Augmentation.default_for(train.input_shape)
    augmentation = Augmentation(
        crop_padding=suits.crop_padding if config.crop_padding is None else config.crop_padding,
        flip=suits.flip if config.flip is None else config.flip,
        cutout=config.cutout,
        autoaugment=config.autoaugment,
    )
    normalisation = Normalisation.of(train)
    ranks = ranks or Ranks()
    default = default_workers(train, ranks.local_count)
    choices = (workers, config.workers, default)

    def loader(images: ImageData) -> TrainingLoader:
        return TrainingLoader(
            images,
            augmentation,
            normalisation,
            batch_size=config.batch_size,
            seed=config.seed,
            workers=next(w for w in choices if w is not None),
            device=device,
            shard=(ranks.index, ranks.count),
        )

    for_weights, for_gates = train, None
    if config.levels == 2:
        for_weights, for_gates = split_validation(train, 0.5, config.seed)
    spread = np.linspace(0, len(validation) - 1, min(config.check_images, len(validation)))
    return SearchData(
        space=space_for(config, train),
        loader=loader(for_weights),
        gate_loader=None if for_gates is None else loader(for_gates),
        validation=validation,
        check=validation.subset(torch.as_tensor(spread.round().astype(int))),
        normalisation=normalisation,
    )


def space_for(config: SearchConfig, images: ImageData) -> SearchSpace:
    """The space of a search, of networks that fit its pictures.

    Raises:
        ConfigError: If a setting does not suit the data, or the space.
    """
    import_space(config.space)
    given = {name: getattr(config, name) for name in ("cells", "channels", "operators")}
    of_data = {"input_shape": images.input_shape, "classes": images.num_classes}
    chosen = {name: value for name, value in given.items() if value is not None}
    space = space_named(config.space, **(config.settings | chosen | of_data))
    if space.classes != images.num_classes:
        raise ConfigError(
            f"networks of space {space.name} put out {space.classes} numbers, and "
            f"{config.data} has {images.num_classes} classes; let the function take classes=, "
            "and use it"
        )
    if config.edge_rule and not isinstance(space, GoldSpace):
        raise ConfigError(
            f"--edge-rule is for spaces of cells, and {space.name} is none; leave it out"
        )
    return space


def check_pictures(space: SearchSpace, images: ImageData, *, network: str, data: str) -> None:
    """Refuse pictures that a network is not for: what it says of them would mean nothing.

    Args:
        space: Of the network.
        images: The pictures.
        network: Its fingerprint.
        data: Name of the data set.

    Raises:
        ConfigError: If they differ in size or in their number of classes.
    """
    of_network, of_data = (
        f"{'x'.join(map(str, shape))} of {classes} classes"
        for shape, classes in (
            (space.input_shape, space.classes),
            (images.input_shape, images.num_classes),
        )
    )
    if of_network != of_data:
        raise ConfigError(
            f"network {network} is for pictures of {of_network}, those of {data} are "
            f"{of_data}; use data that it is for"
        )


def supernet_for(config: SearchConfig, space: SearchSpace, device: torch.device) -> SuperNet:
    """The super-network of a search, with fresh weights, on its device."""
    supernet = SuperNet(
        space,
        auxiliary=config.auxiliary_weight > 0 and isinstance(space, GoldSpace),
        checkpointing=config.checkpointing,
        relaxation=STRATEGIES[config.strategy].relaxation,
    )
    # Depthwise convolutions run faster with channels last, forward and backward.
    return supernet.to(device).to(memory_format=torch.channels_last)


def autocast_for(config: StepSettings, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass in the number format of the settings."""
    if config.amp == "off":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def feasibility_of(
    config: SearchConfig, space: SearchSpace, tables: list[LatencyTable]
) -> Feasibility:
    """The costs of a space in every resource, and the budgets.

    Raises:
        ConfigError: If a budget is malformed, given twice, or names no table.
        TableError: If a table lacks a row.
    """
    budgets = [parse_budget(text, [table.name for table in tables]) for text in config.budgets]
    for budget in budgets:
        same = [other.text for other in budgets if other.resource == budget.resource]
        if len(same) > 1:
            raise ConfigError(
                f"budgets {' and '.join(same)} are of one resource; keep the one you need"
            )
    resources: list[Resource] = [
        Flops(space.build_part),
        Parameters(space.build_part),
        *(Latency(table, space) for table in tables),
    ]
    costs = [costs_of(space, resource) for resource in resources]
    if config.single:
        nodes = len({gate.node_id for gate in space.gates})
        budgets.append(Budget(OPERATORS, nodes, "--single"))
        costs.append(Costs(OPERATORS, np.ones(len(space.gates)), fixed=0.0))
    return Feasibility(space, costs, budgets)


def limits(feasibility: Feasibility, active: Mask | None = None) -> list[Limit]:
    """The table that a user sees before training starts.

    Args:
        feasibility: Of the search.
        active: The gates that are left, where a search goes on.
    """
    space = feasibility.space
    everything = np.ones(len(space.gates), dtype=bool)

    def limit(cost: Costs) -> Limit:
        smallest = cheapest(space, cost.gates, everything)
        assert smallest is not None  # without a ceiling there always is one
        budget = next((b for b in feasibility.budgets if b.resource == cost.name), None)
        current = cost.total(everything if active is None else active)
        return Limit(cost.name, cost.total(smallest), current, cost.total(everything), budget)

    return [limit(cost) for cost in feasibility.costs.values()]


def check_feasible(feasibility: Feasibility) -> None:
    """Refuse budgets that no network of the space meets.

    Raises:
        ConfigError: Saying by how much they are missed.
    """
    for limit in limits(feasibility):
        budget = limit.budget
        if budget is not None and limit.smallest > budget.limit:
            raise ConfigError(
                f"budget {budget.text} cannot be met: the smallest network of this space needs "
                f"{format_amount(limit.resource, limit.smallest)}, "
                f"{format_amount(limit.resource, limit.smallest - budget.limit)} more. "
                "Raise the budget, or search with fewer --channels or --cells"
            )
    everything = np.ones(len(feasibility.space.gates), dtype=bool)
    if feasibility.find(everything) is None:
        raise ConfigError(
            f"no network of this space meets "
            f"{', '.join(budget.text for budget in feasibility.budgets)} together, though each "
            "can be met alone. Raise one of them"
        )


def device_named(name: str) -> torch.device:
    """The device to train on.

    Raises:
        ConfigError: If it is unknown or not available: another is never taken instead.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if available.get(name.split(":")[0], False):
        with contextlib.suppress(RuntimeError):  # of a number, like cuda:7, that is not there
            torch.zeros(1, device=name)
            return torch.device(name)
    have = ", ".join(kind for kind, there in available.items() if there)
    raise ConfigError(
        f"cannot train on {name!r}: torch finds {have} here; choose from these, or auto"
    )


def amp_named(name: str, device: torch.device) -> Literal["off", "bf16"]:
    """The number format to train in; ``auto`` is bf16 on a GPU that computes in it, else off.

    Raises:
        ConfigError: If it is unknown, or the device does not have it.
    """
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "off" or (name == "auto" and not fast):
        return "off"
    if name not in ("auto", "bf16"):
        raise ConfigError(f"unknown --amp {name!r}; known: auto, bf16, off")
    if not (fast or device.type == "cpu"):
        raise ConfigError(f"cannot train on {device} with --amp bf16; leave it at auto")
    return "bf16"


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def conditions_of(device: torch.device, ranks: int = 1) -> dict[str, Any]:
    """What a search runs on, for its folder."""
    return {
        "goldnas": goldnas.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "ranks": ranks,
    }
