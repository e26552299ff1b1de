"""``goldnas train``: chosen networks, from scratch or from what a search left."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.cli import completion, config_file
from goldnas.cli.console import errors_shown
from goldnas.cli.options import (
    JsonOption,
    amp_option,
    auxiliary_weight_option,
    data_dir_option,
    image_size_option,
    logger_option,
    task_option,
    threads_option,
    train_device_option,
    workers_option,
)
from goldnas.cli.processes import joined
from goldnas.cli.train_networks import Sources, Wishes, train_each, train_one
from goldnas.cli.train_ray import train_on_ray
from goldnas.cli.train_results import Outcomes, print_outcomes, print_recipes, print_summary
from goldnas.errors import ConfigError, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goldnas.searching.folder import SearchRun
    from goldnas.searching.front import FrontNetwork
    from goldnas.training.distributed import Ranks

_NETWORK, _DATA, _TRAINING = "Network", "Data of a file", "Settings, in place of the recipe's"


def train(
    ctx: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(
            help="Folder of a search; or a network: an architecture as .json, a file with a "
            "genotype, or a published one: DARTS_V1, DARTS_V2, mobilenet_v2, "
            "mobilenet_v3_large, proxylessnas_mobile, mnasnet_a1.",
            show_default=False,
            autocompletion=completion.targets,
        ),
    ] = None,
    pick: Annotated[
        list[str] | None,
        typer.Option(
            metavar="best|N|FINGERPRINT",
            help="Which of a search: the most accurate within all budgets if not given; "
            "the N-th of the front, counted from 1, the cheapest; or the one with this "
            "fingerprint. Repeat it for several.",
            autocompletion=completion.networks_of_run,
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
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="local|ADDRESS",
            help="Train several networks side by side, as tasks of Ray: on this machine, or on "
            "a cluster whose machines share the folder of the search.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="How to train: see --list-recipes.",
            autocompletion=completion.offering(completion.recipes),
        ),
    ] = "short",
    list_recipes: Annotated[
        bool, typer.Option("--list-recipes", help="Show the recipes and exit.")
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data; else the recipe's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the weights and the order of images.")] = 0,
    out_: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder of the training; else one in trained/, in the folder of the search.",
        ),
    ] = None,
    logger: Annotated[list[str] | None, logger_option()] = None,
    as_json: JsonOption = False,
    data: Annotated[
        str | None,
        typer.Option(
            help="Dataset to train a file's network on: as of goldnas search. A search's "
            "network learns on the data of its search, and for its task.",
            autocompletion=completion.offering(completion.datasets),
            rich_help_panel=_DATA,
        ),
    ] = None,
    task: Annotated[str | None, task_option(_DATA)] = None,
    data_dir: Annotated[str | None, data_dir_option(_DATA)] = None,
    image_size: Annotated[int | None, image_size_option(_DATA)] = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of a genotype: gold unless given, gold-imagenet for large images. Of an "
            "architecture as .json: the function that it names, module:function.",
            autocompletion=completion.offering(completion.spaces),
            rich_help_panel=_DATA,
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of a genotype, of a node in the first stage; 36 unless given, 48 of "
            "gold-imagenet.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    cells: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of a DARTS genotype; 20 unless given, 14 of gold-imagenet.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=2, help="Images per step.", rich_help_panel=_TRAINING),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The highest.", rich_help_panel=_TRAINING)
    ] = None,
    cutout: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Side of Cutout's square. A recipe's is at most half the side of images "
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
    auxiliary_weight: Annotated[float | None, auxiliary_weight_option(_TRAINING)] = None,
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
    workers: Annotated[int | None, workers_option(_TRAINING)] = None,
    train_device: Annotated[str, train_device_option(_TRAINING)] = "auto",
    amp: Annotated[str | None, amp_option(_TRAINING)] = None,
    threads: Annotated[int | None, threads_option(_TRAINING)] = None,
) -> None:
    """Train networks and score them on the test set, once, after the last epoch.

    The same command goes on with a training that was stopped; of one that is done it prints
    the result. Of several networks, one that fails does not stop the others: the exit status
    is 1 if any failed. It is 2 after any other error, 130 and 143 after Ctrl-C and SIGTERM,
    which save the step under way.

    Examples:
        goldnas train runs/a
        goldnas train runs/a --all --recipe darts-cifar
        goldnas train runs/a --pick best --pick 2 --warm --epochs 5
        goldnas train DARTS_V2 --data cifar10 --out runs/darts-v2
    """
    if list_recipes:
        print_recipes(as_json=as_json)
        return
    of_file = {
        "--data": data,
        "--task": task,
        "--data-dir": data_dir,
        "--image-size": image_size,
        "--space": space,
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
        "loggers": tuple(logger or ()),
    }
    with (
        errors_shown(if_interrupted=lambda: "interrupted; the same command goes on"),
        joined() as ranks,
    ):
        of_search = {"--pick": pick, "--all": every, "--warm": warm, "--ray": ray}
        ranks.on_all(lambda: _check_options(target, of_search, of_file))
        ranks.broadcast(lambda: _check_loggers(logger or ()))
        assert target is not None
        wishes = Wishes(recipe, seed, given, config_file.effective(ctx), out_)
        # A task of Ray may be in another folder.
        where = target if ray is None else os.path.realpath(target)
        sources = _sources(where, pick or ["best"], every, warm, of_file, ranks)
        outcomes: Outcomes
        alone = len(sources) == 1 and ray is None
        if alone:
            ((name, source),) = sources.items()
            outcomes = {name: train_one(source, wishes, ranks)}
        else:
            ranks.on_all(lambda: _check_several(len(sources), out_, ray, ranks))
            outcomes = (
                train_each(sources, wishes, ranks)
                if ray is None
                else train_on_ray(sources, wishes, ray)
            )
        if as_json:
            print_outcomes(outcomes)
        elif not alone:
            print_summary(outcomes)
        failed = any(isinstance(outcome, str) for outcome in outcomes.values())
    if failed:
        raise typer.Exit(Status.FOUND)


def _check_loggers(names: "Sequence[str]") -> None:
    """Refuse loggers that there are not, once for all networks."""
    from goldnas.loggers.listener import check_loggers

    check_loggers(names)


def _check_several(networks: int, out_: Path | None, ray: str | None, ranks: "Ranks") -> None:
    if out_ is not None:
        raise ConfigError(f"--out {out_} is for one network alone; leave it out, or --ray")
    if ray is not None and ranks.by_torchrun:
        raise ConfigError("--ray starts processes itself: leave out torchrun, or --ray")


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
            "a genotype, DARTS_V2 or mobilenet_v2; or --list-recipes"
        )
    from goldnas.genotypes import NAMED
    from goldnas.spaces.mobile_networks import NETWORKS

    in_search, in_file = (
        [option for option, value in options.items() if value not in (None, False)]
        for options in (of_search, of_file)
    )
    if os.path.isdir(target):
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
    sizes = [option for option in in_file if option in ("--space", "--channels", "--cells")]
    if ":" in (of_file["--space"] or ""):  # a function, which the file alone does not get run
        sizes.remove("--space")
    if sizes and (Path(target).suffix == ".json" or target in NETWORKS):
        raise ConfigError(f"{', '.join(sizes)} is of a genotype; {target} says it itself")
    named = [*NAMED, *NETWORKS]
    if target not in named and not os.path.lexists(target):
        raise ConfigError(
            f"there is no {target}. Give the folder of a search, an architecture as .json, a "
            f"file with a genotype, or one of {', '.join(named)}"
        )
    if of_file["--data"] is None:
        raise ConfigError(
            f"a network from a file, {target}, is trained on some --data, for example --data "
            "cifar10"
        )


def _sources(
    target: str,
    picks: list[str],
    every: bool,
    warm: bool,
    of_file: dict[str, Any],
    ranks: "Ranks",
) -> Sources:
    """What the command line says to train, by name; each is read when its turn comes.

    Raises:
        GoldnasError: If there is no such search, or no such network in it.
    """
    from goldnas.training.start import subject_from, subject_of

    if os.path.isdir(target):
        run, networks = ranks.broadcast(lambda: _chosen(Path(target), picks, every))
        return {n.fingerprint: partial(subject_of, run, n, warm=warm) for n in networks}
    read = partial(
        subject_from,
        target,
        data=of_file["--data"],
        task=of_file["--task"],
        data_dir=of_file["--data-dir"],
        image_size=of_file["--image-size"],
        space=of_file["--space"] or "gold",
        channels=of_file["--channels"],
        cells=of_file["--cells"],
    )
    return {target: read}


def _chosen(
    folder: Path, picks: list[str], every: bool
) -> "tuple[SearchRun, list[FrontNetwork]]":
    from goldnas.searching.folder import SearchRun

    run = SearchRun.open(folder).read()
    front = run.front()
    if every:
        return run, [network for network in front.networks if not network.dominated]
    return run, [front.pick(which) for which in picks]
