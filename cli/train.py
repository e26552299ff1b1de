"""``goldnas train``: chosen networks, from scratch or from what a search left."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.cli import completion, config_file
from goldnas.cli.console import errors_shown, say
from goldnas.cli.cores import take_free_cores
from goldnas.cli.options import JsonOption, TrustOption, WaitOption
from goldnas.cli.processes import joined
from goldnas.cli.struct_options import Options, with_options
from goldnas.cli.wording import command
from goldnas.errors import ConfigError, Status
from goldnas.space_settings import SpaceSettings
from goldnas.training.config import TrainConfig
from goldnas.training.recipes import TRAINING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from goldnas.cli.train_networks import Targets
    from goldnas.training.distributed import Ranks
    from goldnas.training.target import TrainTarget

_NETWORK, _OF_FILE_PANEL = "Network", "Network from a file"
_OF_FILE = (
    *("data", "task", "data_dir", "image_size", "weights", "settings"),
    *("space", "channels", "cells"),
)
"""Options that go with a network from a file, and not with that of a search."""

_OPTIONS = Options(
    TrainConfig,
    SpaceSettings,
    skip=[name for name in SpaceSettings.__struct_fields__ if name != "settings"],
    texts={
        "settings": "Argument of your function, besides input_shape and classes. The value "
        "is a number, a text or JSON. Repeat for several."
    },
    panels=dict.fromkeys(("task", "data_dir", "image_size", "settings"), _OF_FILE_PANEL)
    | dict.fromkeys(("workers", "train_device", "threads", "auxiliary_weight"), TRAINING),
    # What the recipe, the search or the file says where it is not given.
    defaults={"recipe": "short", "data": None, "amp": None}
    | dict.fromkeys(("cutout", "drop_path", "auxiliary_weight", "label_smoothing"))
    | {"body_rate": None}
    | {"validation_fraction": None},
)


@with_options(_OPTIONS)
def train(
    ctx: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(
            help="Network to train: the folder of a search, an architecture as .json, a "
            "file with a genotype, the name of a published network (DARTS_V1, "
            "DARTS_V2, mobilenet_v2, mobilenet_v3_large, proxylessnas_mobile, "
            "mnasnet_a1), zoo:NAME for a ready-made network of torchvision or timm, as "
            "zoo:mobilenet_v3_small, or a function of yours that makes the network, as "
            "my_nets:small.",
            show_default=False,
        ),
    ] = None,
    pick: Annotated[
        list[str] | None,
        typer.Option(
            metavar="best|N|FINGERPRINT",
            help="Network of a search to train: best (the most accurate within all "
            "budgets, the default), a number from the front (1 is the cheapest), or a "
            "fingerprint. Repeat for several.",
            autocompletion=completion.networks_of_run,
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Train every network on the Pareto front of a search, one after another.",
            rich_help_panel=_NETWORK,
        ),
    ] = False,
    warm: Annotated[
        bool,
        typer.Option(
            "--warm",
            help="Start from the weights and gates of the search, with a tenth of the "
            "recipe's learning rate.",
            rich_help_panel=_NETWORK,
        ),
    ] = False,
    zoo_train: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="For a search with --zoo, also train ready-made networks within its "
            "budgets: the N with the highest stated accuracy. They train from "
            "scratch, with the same recipe, data and seed.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="local|ADDRESS",
            help="Train several networks in parallel with Ray, on this machine (local) or on a "
            "cluster whose machines share the folder of the search.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    list_recipes: Annotated[
        bool, typer.Option("--list-recipes", help="Show the recipes and exit.")
    ] = False,
    out_: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder for the training. Default: a folder in trained/ in the folder of "
            "the search.",
        ),
    ] = None,
    wait: WaitOption = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Space of a genotype: gold (the default), or gold-imagenet for large "
            "images. For an architecture as .json: the function that it names as its "
            "space (module:function).",
            rich_help_panel=_OF_FILE_PANEL,
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Channels of a node in the first stage, for a genotype. Default: 36; in "
            "gold-imagenet, 48.",
            rich_help_panel=_OF_FILE_PANEL,
        ),
    ] = None,
    cells: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cells of the network, for a genotype. Default: 20; in gold-imagenet, 14.",
            rich_help_panel=_OF_FILE_PANEL,
        ),
    ] = None,
    **settings: Any,
) -> None:
    """Train networks and score them on the test set, once, after the last epoch.

    Run the same command again to continue a stopped training, or to print the result of a
    finished one. If one of several networks fails, the others are still trained, and the exit
    status is 1. After any other error it is 2. Ctrl-C (130) and SIGTERM (143) save the training
    first.

    Examples:
        goldnas train runs/a
        goldnas train runs/a --all --warm --epochs 5
        goldnas train DARTS_V2 --data cifar10 --out runs/darts-v2
        goldnas train zoo:resnet18 --data photos --weights default --recipe fine-tune
    """
    from goldnas.cli.train_networks import TrainOptions, train_each, train_one
    from goldnas.cli.train_ray import train_on_ray
    from goldnas.cli.train_results import (
        Outcomes,
        print_outcomes,
        print_recipes,
        print_summary,
    )

    if list_recipes:
        print_recipes(as_json=as_json)
        return
    with (
        errors_shown(
            if_interrupted=lambda: "interrupted; run the same command again to continue"
        ),
        joined() as ranks,
    ):
        given = ranks.on_all(lambda: _OPTIONS.given(ctx, settings))
        of_file = {name: given.pop(name) for name in _OF_FILE if name in given}
        own = {"space": space, "channels": channels, "cells": cells}
        of_file |= {name: value for name, value in own.items() if value is not None}
        of_search: dict[str, Any] = {
            "--pick": pick,
            "--all": every,
            "--warm": warm,
            "--ray": ray,
        }
        of_search["--zoo-train"] = zoo_train
        if "teacher" in given:  # whose folder it may be for
            given |= {"teacher": os.path.realpath(given["teacher"]), "trust": trust}
        else:
            of_search["--trust"] = trust
        ranks.on_all(lambda: _check_options(target, of_search, of_file))
        ranks.broadcast(lambda: _check_loggers(given.get("loggers", ())))
        assert target is not None
        note = take_free_cores(given) if ranks.count == 1 and ray is None else ""
        options = TrainOptions(given, config_file.effective(ctx), out_, wait, note)
        # A task of Ray may be in another folder.
        where = target if ray is None else os.path.realpath(target)
        targets = ranks.broadcast(
            lambda: _find_targets(
                where, pick or ["best"], every, warm, zoo_train or 0, of_file, trust
            )
        )
        outcomes: Outcomes
        alone = len(targets) == 1 and ray is None
        if alone:
            ((name, find),) = targets.items()
            outcomes = {name: train_one(find, options, ranks)}
        else:
            ranks.on_all(lambda: _check_several(len(targets), out_, ray, ranks))
            outcomes = (
                train_each(targets, options, ranks)
                if ray is None
                else train_on_ray(targets, options, ray)
            )
        if as_json:
            print_outcomes(outcomes)
        elif not alone:
            print_summary(outcomes)
            if zoo_train:
                say(f"Next: {command('compare', Path(target))}")
        failed = any(isinstance(outcome, str) for outcome in outcomes.values())
    if failed:
        raise typer.Exit(Status.FOUND)


def _check_loggers(names: "Sequence[str]") -> None:
    """Refuse loggers that there are not, once for all networks."""
    from goldnas.loggers.listener import check_loggers
    from goldnas.trust import allow

    allow(*names)
    check_loggers(names)


def _check_several(networks: int, out_: Path | None, ray: str | None, ranks: "Ranks") -> None:
    if out_ is not None:
        raise ConfigError(f"--out {out_} works for one network only; leave out --out, or --ray")
    if ray is not None and ranks.by_torchrun:
        raise ConfigError("--ray starts its processes itself: leave out torchrun, or --ray")


def _check_options(
    target: str | None, of_search: dict[str, Any], of_file: dict[str, Any]
) -> None:
    """Refuse options that do not go with the target, or with each other.

    Raises:
        ConfigError: Naming them.
    """
    if target is None:
        raise ConfigError(
            "name a network to train: the folder of a search, an architecture as .json, a "
            "file with a genotype, DARTS_V2, mobilenet_v2, zoo:resnet18 or a function; or "
            "give --list-recipes"
        )
    from goldnas.genotypes import NAMED
    from goldnas.reference import is_function
    from goldnas.spaces.mobile_networks import NETWORKS
    from goldnas.zoo.networks import PREFIX

    in_search = [name for name, value in of_search.items() if value not in (None, False)]
    in_file = [f"`{name}`" for name in _OF_FILE if name in of_file]
    if os.path.isdir(target):
        if "weights" in of_file:
            raise ConfigError(
                f"`weights` {of_file['weights']} are for a ready-made network, zoo:NAME, or a "
                "function; a network of a search starts from its own weights with `warm`"
            )
        if in_file:
            raise ConfigError(
                f"{', '.join(in_file)} cannot be given with the folder of a search, which "
                "decides it; to train a network on other data, give its file in architectures/"
            )
        if {"--pick", "--all"} <= set(in_search):
            raise ConfigError("--pick and --all contradict; leave one of them out")
        if {"--warm", "--zoo-train"} <= set(in_search):
            raise ConfigError(
                "--zoo-train trains from scratch, and --warm does not; leave one of them out"
            )
        return
    if in_search:
        raise ConfigError(
            f"{', '.join(in_search)} cannot be given with {target}, which is not the folder of "
            "a search"
        )
    sizes = [name for name in ("space", "channels", "cells") if name in of_file]
    is_made = target.startswith(PREFIX) or is_function(target)
    # A function, which the file alone does not get run.
    if ":" in of_file.get("space", "") and not is_made:
        sizes.remove("space")
    says_it = Path(target).suffix == ".json" or target in NETWORKS or is_made
    if sizes and says_it:
        named = ", ".join(f"`{name}`" for name in sizes)
        raise ConfigError(f"{named} is for a genotype, and {target} decides it; leave it out")
    known = [*NAMED, *NETWORKS]
    if not (target in known or is_made or os.path.lexists(target)):
        raise ConfigError(
            f"there is no {target}. Give the folder of a search, an architecture as .json, a "
            f"file with a genotype, zoo:NAME, a function that makes the network "
            f"(my_nets:small), or one of {', '.join(known)}"
        )
    if "data" not in of_file:
        raise ConfigError(f"{target} needs --data, for example --data cifar10")


def _find_targets(
    target: str,
    picks: list[str],
    every: bool,
    warm: bool,
    zoo_train: int,
    of_file: dict[str, Any],
    trust: bool,
) -> "Targets":
    """What to train, by name; each is read when its turn comes.

    Raises:
        GoldnasError: If there is no such search, or no such network in it.
    """
    from goldnas.api.runs import load_run
    from goldnas.api.trainings import find_target
    from goldnas.searching.targets import list_baselines

    if not os.path.isdir(target):
        return {target: partial(find_target, target, **of_file)}
    run = load_run(target, trust=trust)
    run.folder.admit("space", "data", "task")
    run.folder.trusted = True  # also where it is trained, by another process or machine
    front = run.front
    networks = [n for n in front if not n.dominated] if every else map(front.pick, picks)
    targets: dict[str, Callable[[], TrainTarget]] = {
        n.fingerprint: partial(find_target, n, warm=warm) for n in networks
    }
    if zoo_train:
        listed = {one.network for one in list_baselines(run.folder, zoo_train)}
        targets |= {n.name: partial(find_target, n) for n in run.ready_made if n.name in listed}
    return targets
