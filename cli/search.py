"""``goldnas search``: from a space and a budget to networks."""

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from goldnas.cli import completion, config_file
from goldnas.cli.console import errors_shown
from goldnas.cli.options import (
    CellsOption,
    ChannelsOption,
    JsonOption,
    OperatorsOption,
    SetOption,
    SpaceOption,
    amp_option,
    auxiliary_weight_option,
    data_dir_option,
    image_size_option,
    logger_option,
    operator_names,
    settings_from,
    task_option,
    threads_option,
    train_device_option,
    workers_option,
)
from goldnas.cli.processes import joined
from goldnas.cli.search_run import go_on, start
from goldnas.cli.spaces import print_spaces
from goldnas.errors import ConfigError
from goldnas.searching.strategies import STRATEGIES, strategy_named

_DATA, _BUDGET, _TRAINING, _PACE = "Data", "Budgets", "Training", "Pace of the pruning"
_STRATEGY = "Strategy"
_LEVELS: dict[str, Literal[1, 2]] = {"1": 1, "2": 2}
_ON_RESUME = {"resume", "workers", "report", "as_json"}
"""Options that do not change a search, and so may be given when one is continued."""


def search(
    ctx: typer.Context,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="What the network may cost: 600MFLOPs, 3Mparams, 5ms, or 5ms@pi5 where there "
            "are several tables. Repeat it for several budgets at once.",
            rich_help_panel=_BUDGET,
        ),
    ] = None,
    single: Annotated[
        bool,
        typer.Option(
            "--single",
            help="Leave exactly one operator at each node, or choice; alone or with budgets.",
            rich_help_panel=_BUDGET,
        ),
    ] = False,
    latency_lut: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Latency table of a target device, from goldnas profile. Repeat it for "
            "several devices.",
            rich_help_panel=_BUDGET,
        ),
    ] = None,
    out_: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder to make for this search."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Go on with the search in this folder.")
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report/--no-report",
            help="Write report.html into the folder at the end, as goldnas report does.",
        ),
    ] = True,
    logger: Annotated[list[str] | None, logger_option()] = None,
    as_json: JsonOption = False,
    data: Annotated[
        str,
        typer.Option(
            help="cifar10, cifar100, fashion-mnist, digits (needs no download), a folder of "
            "train/ and val/ or test/, WebDataset shards (shards/train-{000..099}.tar, or "
            "their folder), an .npz file, or a function, my_module:data.",
            autocompletion=completion.offering(completion.datasets),
            rich_help_panel=_DATA,
        ),
    ] = "digits",
    task: Annotated[str | None, task_option(_DATA)] = None,
    data_dir: Annotated[str | None, data_dir_option(_DATA)] = None,
    image_size: Annotated[int | None, image_size_option(_DATA)] = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip",
            help="Mirror images at random; by default only those in colour.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    crop_padding: Annotated[
        int | None,
        typer.Option(
            min=0, help="Pixels of the random crop: an eighth of a side.", rich_help_panel=_DATA
        ),
    ] = None,
    cutout: Annotated[
        int, typer.Option(min=0, help="Side of Cutout's square.", rich_help_panel=_DATA)
    ] = 0,
    autoaugment: Annotated[
        bool,
        typer.Option(
            "--autoaugment", help="Apply AutoAugment for CIFAR-10.", rich_help_panel=_DATA
        ),
    ] = False,
    validation_fraction: Annotated[
        float,
        typer.Option(
            help="Share of the training data held out to score networks.",
            rich_help_panel=_DATA,
        ),
    ] = 0.1,
    workers: Annotated[int | None, workers_option(_DATA)] = None,
    strategy: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How to search: "
            + "; ".join(f"{name}, {s.description}" for name, s in STRATEGIES.items())
            + ".",
            autocompletion=completion.offering(completion.strategies),
            rich_help_panel=_STRATEGY,
        ),
    ] = "gold",
    levels: Annotated[
        Literal["1", "2"] | None,
        typer.Option(
            help="1: weights and gates learn from the same images; 2: each from a half of "
            "its own, as in DARTS. 1 unless given or part of the strategy.",
            rich_help_panel=_STRATEGY,
        ),
    ] = None,
    edge_rule: Annotated[
        bool,
        typer.Option(
            "--edge-rule",
            help="Cut as DARTS does, to one operator per edge and two edges per node at most.",
            rich_help_panel=_STRATEGY,
        ),
    ] = False,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Networks to try, where the strategy samples them; 100 at random and 200 "
            "otherwise. A single random network is neither trained nor scored.",
            rich_help_panel=_STRATEGY,
        ),
    ] = None,
    score: Annotated[
        Literal["supernet", "naswot", "synflow"] | None,
        typer.Option(
            help="What ranks them. supernet: accuracy on held-out images, or the --task's "
            "metric, with weights that --epochs have trained for all of them. naswot, synflow: "
            "proxies that train nothing.",
            rich_help_panel=_STRATEGY,
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Optuna storage, where several searches work on one study (evolution, tpe): "
            "sqlite:///study.db, say.",
            rich_help_panel=_STRATEGY,
        ),
    ] = None,
    space: SpaceOption = "gold",
    list_spaces: Annotated[
        bool,
        typer.Option(
            "--list-spaces",
            help="Show the spaces that goldnas has, with what they decide, and exit.",
            rich_help_panel="Search space",
        ),
    ] = False,
    channels: ChannelsOption = None,
    cells: CellsOption = None,
    operators: OperatorsOption = None,
    set_: SetOption = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Passes over the training data, 50 unless given; all budgets hold at the end "
            "of the last. With --pace paper the most there may be, 1000.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    batch_size: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="Images per step; auto for the most that fit the memory, up to 512.",
            rich_help_panel=_TRAINING,
        ),
    ] = "96",
    accumulate: Annotated[
        int,
        typer.Option(
            min=1,
            help="Parts of a step, one after the other, for less memory; a step learns from as "
            "many images as without.",
            rich_help_panel=_TRAINING,
        ),
    ] = 1,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Of the weights; 0.05, 0.01 with --pace paper, and 0.025 for DARTS.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    gate_learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Of the gates; 1, and 3e-4 for DARTS, which descends by Adam.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    auxiliary_weight: Annotated[float, auxiliary_weight_option(_TRAINING)] = 0.4,
    seed: Annotated[int, typer.Option(help="Random seed.", rich_help_panel=_TRAINING)] = 0,
    train_device: Annotated[str, train_device_option(_TRAINING)] = "auto",
    amp: Annotated[str, amp_option(_TRAINING)] = "auto",
    checkpointing: Annotated[
        bool,
        typer.Option(
            "--checkpointing",
            help="Keep less for the backward pass and compute it again: less memory, more "
            "time.",
            rich_help_panel=_TRAINING,
        ),
    ] = False,
    threads: Annotated[int | None, threads_option(_TRAINING)] = None,
    pace: Annotated[
        Literal["planned", "paper"],
        typer.Option(
            help="planned: every budget holds after --epochs. paper: Algorithm 1 until they "
            "hold.",
            rich_help_panel=_PACE,
        ),
    ] = "planned",
    n0: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Operators pruned at a time; one in a hundred unless given.",
            rich_help_panel=_PACE,
        ),
    ] = None,
    xi_max: Annotated[
        float,
        typer.Option(
            help="Share of its node under which an operator is weak: in the plan, one that "
            "spends nothing of what is budgeted.",
            rich_help_panel=_PACE,
        ),
    ] = 0.05,
    xi_min: Annotated[
        float,
        typer.Option(
            help="Share of its node that goes at once (paper).", rich_help_panel=_PACE
        ),
    ] = 0.01,
    lambda0: Annotated[
        float | None,
        typer.Option(
            help="First step of the penalty; 1e-5 (paper), or from the number of steps.",
            rich_help_panel=_PACE,
        ),
    ] = None,
    c0: Annotated[
        float,
        typer.Option(help="Growth of the penalty's steps (paper).", rich_help_panel=_PACE),
    ] = 2.0,
    t0: Annotated[
        int,
        typer.Option(min=1, help="Epochs that make a plateau (paper).", rich_help_panel=_PACE),
    ] = 3,
    mu: Annotated[
        float,
        typer.Option(
            help="Weight of resources over budget beside the uniform penalty.",
            rich_help_panel=_PACE,
        ),
    ] = 1.0,
) -> None:
    """Search a space for networks within budgets; one run leaves a front of them.

    Examples:
        goldnas search --data digits --budget 130kFLOPs --out runs/a
        goldnas search --budget 600MFLOPs --budget 5ms --latency-lut lut/cpu.json --out runs/b
        goldnas search --resume runs/b
        goldnas search --config runs/b/options.toml --seed 1 --out runs/c
    """
    if list_spaces:
        print_spaces(as_json=as_json)
        return
    folder = resume or out_
    with errors_shown(if_interrupted=lambda: _interrupted(folder)), joined() as ranks:
        if resume is not None:
            ranks.on_all(lambda: _refuse_settings(ctx))
            go_on(resume, workers, ranks, report=report, as_json=as_json)
            return
        if out_ is None:
            raise ranks.common(
                ConfigError(
                    "a search needs a folder: --out DIR for a new one, --resume DIR to go on"
                )
            )
        from goldnas.searching.config import SearchConfig
        from goldnas.searching.folder import read_tables

        ranks.on_all(lambda: _check_auxiliary(ctx, space, auxiliary_weight))
        tables = ranks.broadcast(lambda: read_tables(latency_lut or []))
        fit_batch = batch_size == "auto"
        images = ranks.on_all(lambda: 96 if fit_batch else _whole(batch_size))
        kind = ranks.on_all(lambda: strategy_named(strategy))
        if learning_rate is None:
            learning_rate = 0.01 if pace == "paper" else kind.learning_rate
        if gate_learning_rate is None:
            gate_learning_rate = kind.gate_learning_rate
        if kind.samples is not None:
            samples = samples or kind.samples
            if score is None and (samples > 1 or kind.study):
                score = "supernet"
            if score != "supernet" and epochs is not None:
                raise ranks.common(
                    ConfigError(
                        "nothing is trained without --score supernet; leave --epochs out"
                    )
                )
        settings = partial(
            SearchConfig,
            strategy=strategy,
            levels=kind.levels[0] if levels is None else _LEVELS[levels],
            edge_rule=edge_rule,
            samples=samples,
            score=score,
            storage=storage,
            data=data,
            task=task,
            data_dir=data_dir,
            image_size=image_size,
            space=space,
            cells=cells,
            channels=channels,
            operators=operator_names(operators),
            settings=settings_from(set_ or ()),
            single=single,
            budgets=tuple(budget or ()),
            tables=tuple(table.name for table in tables),
            pace=pace,
            epochs=epochs or {"planned": 50, "paper": 1000}[pace],
            batch_size=images,
            accumulate=accumulate,
            learning_rate=learning_rate,
            gate_learning_rate=gate_learning_rate,
            auxiliary_weight=auxiliary_weight,
            mu=mu,
            n0=n0,
            xi_max=xi_max,
            xi_min=xi_min,
            lambda0=lambda0,
            c0=c0,
            t0=t0,
            crop_padding=crop_padding,
            flip=flip,
            cutout=cutout,
            autoaugment=autoaugment,
            validation_fraction=validation_fraction,
            seed=seed,
            workers=workers,
            train_device=train_device,
            checkpointing=checkpointing,
            threads=threads,
            loggers=tuple(logger or ()),
        )
        start(
            ranks.on_all(settings),
            tables,
            out_,
            ranks,
            amp=amp,
            fit_batch=fit_batch,
            report=report,
            as_json=as_json,
            options=config_file.effective(ctx),
        )


def _check_auxiliary(ctx: typer.Context, space: str, weight: float) -> None:
    from goldnas.spaces import FUNCTIONS, is_reference

    source = ctx.get_parameter_source("auxiliary_weight")
    asked = weight > 0 and source is not None and source.name == "COMMANDLINE"
    if asked and (is_reference(space) or space in FUNCTIONS):
        raise ConfigError(
            f"--auxiliary-weight {weight:g}: networks of {space} have no auxiliary head, which "
            "is of cells; leave it out"
        )


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"--batch-size is a number of images, or auto; got {text!r}")
    return int(text)


def _interrupted(folder: Path | None) -> str:
    if folder is None or not folder.exists():
        return "interrupted before the search began; nothing was written"
    return f"interrupted; go on with: goldnas search --resume {shlex.quote(str(folder))}"


def _refuse_settings(ctx: typer.Context) -> None:
    """A search that goes on takes its settings from its folder."""
    given = [
        parameter.opts[0]
        for parameter in config_file.parameters(ctx)
        if parameter.name not in _ON_RESUME
        and (source := ctx.get_parameter_source(parameter.name or "")) is not None
        and source.name == "COMMANDLINE"
    ]
    if given:
        raise ConfigError(
            f"{', '.join(given)} cannot change a search that goes on; leave it out, or start "
            "a new search with --out"
        )
