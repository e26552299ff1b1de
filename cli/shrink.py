"""``goldnas shrink``: a trained network, smaller, until it keeps its budgets."""

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.api.shrinks import EPOCHS, MEASURING, OF_SEARCH
from goldnas.cli import config_file
from goldnas.cli.console import err, errors_shown, warn
from goldnas.cli.cores import take_free_cores
from goldnas.cli.options import JsonOption, TrustOption, WaitOption
from goldnas.cli.processes import joined
from goldnas.cli.progress import visits_shown
from goldnas.cli.search import watch_run
from goldnas.cli.struct_options import Options, with_options
from goldnas.cli.wording import command
from goldnas.errors import ConfigError
from goldnas.profiling.config import TableConfig
from goldnas.searching.config import SearchConfig
from goldnas.searching.shrink_config import ShrinkConfig

if TYPE_CHECKING:
    from goldnas.api.runs import Run
    from goldnas.training.distributed import Ranks

_CONFIGS = (ShrinkConfig, SearchConfig, TableConfig)
_TAKEN = {
    *ShrinkConfig.__struct_fields__,
    *("budgets", "data", "task", "settings", *OF_SEARCH, *MEASURING),
}
_OPTIONS = Options(
    *_CONFIGS,
    skip=[n for c in _CONFIGS for n in c.__struct_fields__ if n not in _TAKEN],
    panels={"batch": "Device", "target_percent": "Device", "settings": "Network"},
    defaults={"amp": "auto", "data": None, "epochs": EPOCHS, "learning_rate": 0.02},
)


@with_options(_OPTIONS)
def shrink(
    ctx: typer.Context,
    network: Annotated[
        str | None,
        typer.Argument(
            help="The trained network: the folder of a training or a search; zoo:NAME, a "
            "ready-made network of torchvision or timm, with --weights; or a function that "
            "makes it (my_package.nets:small), with --weights.",
            show_default=False,
        ),
    ] = None,
    tables: Annotated[
        list[Path] | None,
        typer.Option(
            "--latency-lut",
            metavar="FILE",
            help="Latency table of the sizes of this network. With --device, the file to "
            "measure them into; OUT.lut.json unless given. Without, a table that an earlier "
            "run measured; repeat for several devices.",
            rich_help_panel="Budgets",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="Weights of zoo:NAME or of a function: a file .safetensors, .pt or .pth, or "
            "for zoo:NAME the name of published ones, such as default.",
            rich_help_panel="Network",
        ),
    ] = None,
    pick: Annotated[
        str,
        typer.Option(
            metavar="best|N|FINGERPRINT",
            help="Which network of a search: best (the most accurate within all budgets), a "
            "number from the front (1 is the cheapest), or a fingerprint.",
            rich_help_panel="Network",
        ),
    ] = "best",
    out_: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder to make for this run."),
    ] = None,
    wait: WaitOption = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report/--no-report",
            help="At the end, write report.html into the folder, as goldnas report does.",
        ),
    ] = True,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    **settings: Any,
) -> None:
    """Shrink a trained network until it keeps its budgets; one run leaves a front.

    Channels and residual branches go, a few at a time, while the network learns on from its
    data and from itself as it was. goldnas search --resume DIR goes on with a run that was
    stopped.

    Examples:
        goldnas shrink trained/resnet18 --device cpu --budget 5ms --out runs/s
        goldnas shrink zoo:resnet18 --weights w.pt --data photos --budget 900MFLOPs --out runs/t
        goldnas shrink my_nets:small --weights w.pt --data cifar10 --budget 1ms --device cpu \
--out runs/u
    """
    with errors_shown(if_interrupted=lambda: _interrupted(out_)), joined() as ranks:
        if network is None or out_ is None:
            raise ranks.common(
                ConfigError(
                    "say what to shrink, and where to: a network and --out, as in goldnas "
                    "shrink trained/a --budget 600MFLOPs --out runs/s"
                )
            )
        given = ranks.on_all(lambda: _OPTIONS.given(ctx, settings))
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
            ConfigError("say how small: a --budget, as 5ms, 600MFLOPs or 3Mparams")
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
    if folder is None or not os.path.lexists(folder):
        return "interrupted before the shrinking began; what was measured is kept"
    return f"interrupted; go on with: {command('search', '--resume', folder)}"
