"""``goldnas shrink``: make a trained network smaller until it keeps its budgets."""

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.api.shrinks import MEASURING, OF_SEARCH
from goldnas.cli import config_file
from goldnas.cli.console import err, errors_shown, warn
from goldnas.cli.cores import take_free_cores
from goldnas.cli.options import JsonOption, ReportOption, TrustOption, WaitOption
from goldnas.cli.processes import joined
from goldnas.cli.progress import visits_shown
from goldnas.cli.search import watch_run
from goldnas.cli.struct_options import Options, is_given, with_options
from goldnas.cli.wording import command
from goldnas.errors import ConfigError
from goldnas.profiling.config import TableConfig
from goldnas.searching.config import SearchConfig
from goldnas.searching.shrink_config import EPOCHS, LEARNING_RATE, ShrinkConfig

if TYPE_CHECKING:
    from goldnas.api.runs import Run
    from goldnas.training.distributed import Ranks

_TAKEN = {
    *ShrinkConfig.__struct_fields__,
    *("budgets", "data", "task", "settings", *OF_SEARCH),
    *(name for name in MEASURING if name != "batch"),
}
_OPTIONS = Options(
    ShrinkConfig,
    SearchConfig,
    TableConfig,
    skip=[
        name
        for struct in (SearchConfig, TableConfig)
        for name in struct.__struct_fields__
        if name not in _TAKEN
    ],
    panels={"target_percent": "Device", "settings": "Network"},
    defaults={"amp": "auto", "data": None, "epochs": EPOCHS, "learning_rate": LEARNING_RATE},
    texts={
        "budgets": "Most that the network may cost: 600MFLOPs, 3Mparams or 5ms. With several "
        "latency tables, 5ms@pi5 names the table. Repeat for several budgets. All of "
        "them hold at the end.",
        "data": "Dataset for the training: cifar10, cifar100, fashion-mnist, digits (needs no "
        "download), a folder with train/ and val/ or test/, WebDataset shards, an "
        ".npz file, or a function of yours (my_module:data). Default: the dataset "
        "that the network learnt from. Required with zoo:NAME and with a function.",
        "task": "Task other than classification: a function of yours that returns a "
        "goldnas.Task. The training then has no teacher.",
        "settings": "Argument of your function, besides input_shape and classes. The value "
        "is a number, a text or JSON. Repeat for several.",
        "epochs": "Passes over the training data. The first epochs remove channels; the others "
        "train the network that is left.",
        "learning_rate": "Learning rate while channels are removed. It then falls to 0 "
        "along a cosine.",
        "seed": "Random seed. It also decides which images are held out. Default: those that "
        "the network did not learn from; with zoo:NAME or a function, 0.",
        "threads": "CPU threads of the training. Latencies are measured with one thread.",
        "device": "Where to measure: cpu (this machine), cuda (its GPU), ssh://host or "
        "ssh://user@host:port/folder, or adb://SERIAL (a phone). Budgets in ms need "
        "this option or `tables`.",
        "target_percent": "Measure a network until its latency is known to plus or minus this "
        "many percent, with 95 % confidence.",
    },
)


@with_options(_OPTIONS)
def shrink(
    ctx: typer.Context,
    network: Annotated[
        str | None,
        typer.Argument(
            help="Trained network: the folder of a training or a search; zoo:NAME (a "
            "ready-made network of torchvision or timm) with --weights; or a function "
            "that makes the network (my_package.nets:small) with --weights.",
            show_default=False,
        ),
    ] = None,
    tables: Annotated[
        list[Path] | None,
        typer.Option(
            "--latency-lut",
            metavar="FILE",
            help="Latency table for the sizes of this network. With --device: the file for "
            "the measurements; default: OUT.lut.json. Without --device: a table from "
            "an earlier run; repeat for several devices.",
            rich_help_panel="Budgets",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="Weights of zoo:NAME or of a function: a .safetensors, .pt or .pth file. "
            "For zoo:NAME also the name of published weights, such as default.",
            rich_help_panel="Network",
        ),
    ] = None,
    pick: Annotated[
        str,
        typer.Option(
            metavar="best|N|FINGERPRINT",
            help="Network of a search to shrink: best (the most accurate within all "
            "budgets), a number from the front (1 is the cheapest), or a fingerprint.",
            rich_help_panel="Network",
        ),
    ] = "best",
    batch: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Images per call in latency measurements.",
            rich_help_panel="Device",
        ),
    ] = 1,
    out_: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="New folder for this run."),
    ] = None,
    wait: WaitOption = False,
    report: ReportOption = True,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    **settings: Any,
) -> None:
    """Shrink a trained network until it keeps its budgets.

    goldnas removes groups of channels and residual branches, a few at a time. In between, it
    trains the network, with the original network as teacher. The run leaves a front of
    networks in a search folder, which goldnas search --resume DIR continues. With several sizes
    of images it leaves a run for each, in folders such as OUT/160px.

    Examples:
        goldnas shrink trained/resnet18 --device cpu --budget 5ms --out runs/s
        goldnas shrink zoo:resnet18 --weights w.pt --data photos --budget 900MFLOPs --out runs/t
        goldnas shrink my_nets:small --weights w.pt --data cifar10 --budget 1ms --device cpu \
--out runs/u
        goldnas shrink trained/resnet18 --latency-lut runs/s/tables/s.json --budget 3ms \
--out runs/v
    """
    with errors_shown(if_interrupted=lambda: _interrupted(out_)), joined() as ranks:
        if network is None or out_ is None:
            raise ranks.common(
                ConfigError(
                    "give a network and a folder, as in goldnas shrink trained/a --budget "
                    "600MFLOPs --out runs/s"
                )
            )
        given = ranks.on_all(lambda: _OPTIONS.given(ctx, settings))
        if is_given(ctx, "batch"):
            given["batch"] = batch
        run = _shrink(
            network,
            {
                **given,
                "tables": tables or [],
                "weights": weights,
                "pick": pick,
                "trust": trust,
                "wait": wait,
                "out": out_,
                "texts": {"options.toml": config_file.effective(ctx)},
            },
            ranks,
        )
        if ranks.first:
            from goldnas.cli.search_output import print_end

            print_end(run, report=report, as_json=as_json)


def _shrink(network: str, given: dict[str, Any], ranks: "Ranks") -> "Run":
    from goldnas.api.shrinks import shrink as shrink_network
    from goldnas.cli.search_output import SearchOutput

    given.setdefault("budgets", ())
    if not given["budgets"]:
        raise ranks.common(
            ConfigError("give a --budget, for example 5ms, 600MFLOPs or 3Mparams")
        )
    note = take_free_cores(given) if ranks.count == 1 else ""
    with ExitStack() as stack:
        if err.is_terminal:
            given["on_progress"] = stack.enter_context(visits_shown())
        return watch_run(
            partial(shrink_network, network, ranks=ranks, on_warning=warn, **given),
            SearchOutput(ranks, note=note),
            ranks,
            given["out"],
        )


def _interrupted(folder: Path | None) -> str:
    if folder is None or not os.path.lexists(folder / "config.json"):
        return "interrupted, and saved as far as it was measured; run the command again"
    return f"interrupted; continue with: {command('search', '--resume', folder)}"
