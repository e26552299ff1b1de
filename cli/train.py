"""``goldnas train``: chosen networks, from scratch or from what a search left."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from goldnas.cli.console import err, errors_shown, say
from goldnas.cli.processes import joined
from goldnas.cli.signals import signals_noted
from goldnas.cli.train_progress import training_shown
from goldnas.cli.train_results import print_recipes, print_result, print_summary
from goldnas.errors import ConfigError, GoldnasError, RankError, StoppedError, WriteError

if TYPE_CHECKING:
    from goldnas.retraining.config import TrainConfig
    from goldnas.retraining.result import TrainResult
    from goldnas.retraining.start import Subject
    from goldnas.search.front import FrontNetwork
    from goldnas.search.ranks import Ranks
    from goldnas.search.run import SearchRun

_NETWORK, _DATA, _TRAINING = "Network", "Data of a file", "Settings, in place of the recipe's"


def train(
    target: Annotated[
        str | None,
        typer.Argument(
            help="Folder of a search; or a network: an architecture as .json, a file with a "
            "genotype, DARTS_V1 or DARTS_V2.",
            show_default=False,
        ),
    ] = None,
    pick: Annotated[
        list[str] | None,
        typer.Option(
            metavar="best|N|FINGERPRINT",
            help="Which of a search: the most accurate within all budgets if not given; "
            "the N-th of the front, counted from 1, the cheapest; or the one with this "
            "fingerprint. Repeat it for several.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Every network of a search on its Pareto front, one after another.",
            rich_help_panel=_NETWORK,
        ),
    ] = False,
    warm: Annotated[
        bool,
        typer.Option(
            "--warm",
            help="Begin with the weights and gates that the search recorded, at a tenth of the "
            "recipe's learning rate.",
            rich_help_panel=_NETWORK,
        ),
    ] = False,
    recipe: Annotated[str, typer.Option(help="How to train: see --list-recipes.")] = "short",
    list_recipes: Annotated[
        bool, typer.Option("--list-recipes", help="Show the recipes and exit.")
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data; else the recipe's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the weights and the order of pictures.")] = 0,
    out_: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder of the training; else one in trained/, in the folder of the search.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Dataset to train a file's network on: as of goldnas search. A search's "
            "network learns on the data of its search.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    data_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Where named datasets are, or are downloaded to.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Side to resize a folder's pictures to.", rich_help_panel=_DATA
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of a genotype, of a node in the first stage; 36 unless given.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    cells: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of a DARTS genotype; 20 unless given.", rich_help_panel=_DATA
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=2, help="Pictures per step.", rich_help_panel=_TRAINING),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The highest.", rich_help_panel=_TRAINING)
    ] = None,
    cutout: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Side of Cutout's square. A recipe's is at most half the side of pictures "
            "under 32 pixels.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    drop_path: Annotated[
        float | None,
        typer.Option(
            help="Share of operators dropped at the end, never identities.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    auxiliary_weight: Annotated[
        float | None,
        typer.Option(help="Of the auxiliary head; 0 for none.", rich_help_panel=_TRAINING),
    ] = None,
    label_smoothing: Annotated[
        float | None,
        typer.Option(help="Share of a label given to all classes.", rich_help_panel=_TRAINING),
    ] = None,
    validation_fraction: Annotated[
        float | None,
        typer.Option(
            help="Share of the training data held out: the search's, or 0.1. 0 trains on all.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that load pictures.", rich_help_panel=_TRAINING),
    ] = None,
    train_device: Annotated[
        str, typer.Option(help="auto, cuda, mps or cpu.", rich_help_panel=_TRAINING)
    ] = "auto",
    amp: Annotated[
        str | None,
        typer.Option(
            help="Number format: bf16, off (fp32), or auto, which is bf16 on GPUs that compute "
            "in it.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads of the training.", rich_help_panel=_TRAINING),
    ] = None,
) -> None:
    """Train networks and score them on the test set, once, after the last epoch.

    The same command goes on with a training that was stopped; of one that is done it prints
    the result. Of several networks, one that fails does not stop the others: the exit status
    is 1 if any failed. It is 2 after any other error, 130 and 143 after Ctrl-C and SIGTERM,
    which save the step under way.
    """
    if list_recipes:
        print_recipes()
        return
    of_file = {
        "--data": data,
        "--data-dir": data_dir,
        "--image-size": image_size,
        "--channels": channels,
        "--cells": cells,
    }
    given = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "cutout": cutout,
        "drop_path": drop_path,
        "auxiliary_weight": auxiliary_weight,
        "label_smoothing": label_smoothing,
        "validation_fraction": validation_fraction,
        "workers": workers,
        "train_device": train_device,
        "amp": amp,
        "threads": threads,
    }
    status = 0
    with (
        errors_shown(if_interrupted=lambda: "interrupted; the same command goes on"),
        joined() as ranks,
    ):
        from goldnas.retraining.start import config_for

        of_search = {"--pick": pick, "--all": every, "--warm": warm}
        ranks.together(lambda: _check_options(target, of_search, of_file))
        assert target is not None
        subjects = _subjects(target, pick or ["best"], every, warm, of_file, ranks)

        def train_one(subject_of: "Callable[[], Subject]") -> "TrainResult":
            subject = ranks.told(subject_of)
            config = ranks.together(lambda: config_for(subject, recipe, seed=seed, **given))
            return _train(subject, config, out_ or subject.folder(config), ranks)

        if len(subjects) == 1:
            train_one(*subjects.values())
        elif out_ is not None:
            raise ranks.common(
                ConfigError(f"--out {out_} is for one network, and these are {len(subjects)}")
            )
        else:
            status = _train_each(subjects, train_one, ranks)
    if status:
        raise typer.Exit(status)


def _check_options(
    target: str | None, of_search: dict[str, Any], of_file: dict[str, Any]
) -> None:
    """Refuse options that do not go with the target, or with each other.

    Raises:
        ConfigError: Naming them.
    """
    if target is None:
        raise ConfigError(
            "say what to train: the folder of a search, an architecture as .json, a file with "
            "a genotype, or DARTS_V2; or --list-recipes"
        )
    in_search, in_file = (
        [option for option, value in options.items() if value not in (None, False)]
        for options in (of_search, of_file)
    )
    if Path(target).is_dir():
        if in_file:
            raise ConfigError(
                f"{', '.join(in_file)} cannot be given with the folder of a search, which says "
                "it; train its network on other data by its file in architectures/"
            )
        if {"--pick", "--all"} <= set(in_search):
            raise ConfigError("--pick and --all contradict; leave one of them out")
        return
    if in_search:
        raise ConfigError(
            f"{', '.join(in_search)} cannot be given with {target}, which is not the folder of "
            "a search"
        )
    if of_file["--data"] is None:
        raise ConfigError(f"a network from a file, {target}, is trained on some --data")
    sizes = [option for option in in_file if option in ("--channels", "--cells")]
    if sizes and Path(target).suffix == ".json":
        raise ConfigError(f"{', '.join(sizes)} is of a genotype; {target} says it itself")


def _subjects(
    target: str,
    picks: list[str],
    every: bool,
    warm: bool,
    of_file: dict[str, Any],
    ranks: "Ranks",
) -> "dict[str, Callable[[], Subject]]":
    """What the command line says to train, by name; each is read when its turn comes.

    Raises:
        GoldnasError: If there is no such search, or no such network in it.
    """
    from goldnas.retraining.start import subject_from, subject_of

    if Path(target).is_dir():
        run, networks = ranks.told(lambda: _chosen(Path(target), picks, every))
        return {n.fingerprint: partial(subject_of, run, n, warm=warm) for n in networks}
    read = partial(
        subject_from,
        target,
        data=of_file["--data"],
        data_dir=of_file["--data-dir"],
        image_size=of_file["--image-size"],
        channels=of_file["--channels"] or 36,
        cells=of_file["--cells"] or 20,
    )
    return {target: read}


def _chosen(
    folder: Path, picks: list[str], every: bool
) -> "tuple[SearchRun, list[FrontNetwork]]":
    from goldnas.search.run import SearchRun

    if (folder / "architecture.json").exists():
        raise ConfigError(
            f"{folder} is the folder of a training; give that of its search, or its "
            "architecture.json"
        )
    run = SearchRun.open(folder).read()
    front = run.front()
    if every:
        return run, [network for network in front.networks if not network.dominated]
    return run, [front.pick(which) for which in picks]


def _train_each(
    subjects: "dict[str, Callable[[], Subject]]",
    train_one: "Callable[[Callable[[], Subject]], TrainResult]",
    ranks: "Ranks",
) -> int:
    """Train one network after another; the exit status."""
    outcomes: dict[str, TrainResult | str] = {}
    for name, subject_of in subjects.items():
        say(f"network {name}, {len(outcomes) + 1} of {len(subjects)}")
        try:
            outcomes[name] = train_one(subject_of)
        except StoppedError:
            raise
        except (GoldnasError, SystemExit) as error:
            # A rank that is not the first ends by SystemExit: with 2 where the first failed,
            # with more where a signal ended all.
            ended = isinstance(error, SystemExit) and error.code != GoldnasError.status
            if ended or not ranks.forgive():
                raise
            outcomes[name] = reason = " ".join(str(error).splitlines())
            if ranks.first:
                err.print(Text.assemble(("error: ", "bold red"), reason), soft_wrap=True)
    print_summary(outcomes)
    return int(any(isinstance(outcome, str) for outcome in outcomes.values()))


def _train(
    subject: "Subject", config: "TrainConfig", folder: Path, ranks: "Ranks"
) -> "TrainResult":
    """Train one network, or go on, or find it done; and say what it came to."""
    from goldnas.retraining.result import TrainResult
    from goldnas.retraining.start import prepare

    prepared = prepare(subject, config, folder, ranks)
    if isinstance(prepared, TrainResult):
        say("trained already, with these settings")
        print_result(prepared, folder)
        return prepared
    settings, loader = prepared.config, prepared.data.loader
    held_out = prepared.data.validation
    say(
        f"network {subject.architecture.fingerprint}: {settings.epochs} epochs of "
        f"{settings.recipe} on {loader.num_images} pictures of {settings.data}, "
        f"{0 if held_out is None else len(held_out)} held out; training on {prepared.device}"
    )
    try:
        with training_shown(prepared), signals_noted(torchrun=ranks.by_torchrun) as signal:
            prepared.stop_signal = signal
            result = prepared.train()
    except (RankError, WriteError) as error:
        raise type(error)(f"{error}; then the same command goes on") from None
    print_result(result, folder)
    return result
