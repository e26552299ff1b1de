"""Networks of a search, to be trained."""

from goldnas.errors import ConfigError
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
            f"nothing was trained in {run.path}: network {network.fingerprint} has the weights "
            "it began with; leave `warm` out"
        )
    run.admit("space", "data", "task")
    config, architecture = run.config, run.architecture(network)
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
        tables=tuple(run.tables),
        weights=run.network(network).state_dict() if warm else None,
        functions=tuple(run.functions("space", "data", "task")),
    )
