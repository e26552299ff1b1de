"""Networks of a search, and those that it is held against, to be trained."""

from typing import Any

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.searching.baselines import Baseline
from goldnas.searching.folder import SearchRun
from goldnas.searching.front import FrontNetwork
from goldnas.training.target import TrainTarget, suit_augmentation


def target_of_run(run: SearchRun, network: FrontNetwork, *, warm: bool = False) -> TrainTarget:
    """A network of a search, on the data and with the split of the search.

    Args:
        run: The search.
        network: Of its front.
        warm: Whether to begin with the weights and gates that the search recorded.

    Raises:
        UntrustedError: If the search names code, and may be somebody else's.
        GoldnasError: If a file of it is missing or damaged, or there are no trained weights to
            begin with.
    """
    if warm and network.figure is None:
        raise ConfigError(
            f"nothing was trained in {run.path}: network {network.fingerprint} still has its "
            "first weights; leave `warm` out"
        )
    return _target_on_its_data(
        run,
        run.architecture(network),
        tables=tuple(run.tables),
        weights=run.network(network).state_dict() if warm else None,
        functions=tuple(run.functions("space", "data", "task")),
    )


def target_of_baseline(run: SearchRun, baseline: Baseline) -> TrainTarget:
    """A ready-made network, on the data and with the split of a search, from scratch.

    Args:
        run: The search.
        baseline: A ready-made network within its budgets.

    Raises:
        UntrustedError: If the search names code, and may be somebody else's.
        ConfigError: If the library that has the network is missing.
    """
    return _target_on_its_data(
        run, baseline.architecture, functions=tuple(run.functions("data", "task"))
    )


def list_baselines(run: SearchRun, count: int) -> tuple[Baseline, ...]:
    """The ready-made networks to train: those that are said to be the most accurate.

    Raises:
        ConfigError: If the search has fewer within its budgets.
    """
    if run.baselines is None:
        raise ConfigError(
            f"{run.path} has no ready-made networks: search with `zoo`, a file that `pick` "
            "wrote"
        )
    within = run.baselines.within
    if not within:
        raise ConfigError(
            f"no ready-made network is within the budgets of {run.path}: leave `zoo_train` out"
        )
    if count > len(within):
        raise ConfigError(
            f"`zoo_train={count}` is too many: {len(within)} ready-made networks are within "
            f"the budgets of {run.path}; give `zoo_train={len(within)}`"
        )
    return within[:count]


def _target_on_its_data(
    run: SearchRun, architecture: Architecture, **target: Any
) -> TrainTarget:
    run.admit("space", "data", "task")
    config = run.config
    suits = suit_augmentation(config.data, architecture)
    given = {"crop_padding": config.crop_padding, "flip": config.flip}
    return TrainTarget(
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
        **target,
    )
