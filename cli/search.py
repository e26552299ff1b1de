"""``goldnas search``: from a space and a budget to networks."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.cli import config_file
from goldnas.cli.console import errors_shown
from goldnas.cli.cores import take_free_cores
from goldnas.cli.lists import print_spaces, print_strategies
from goldnas.cli.options import JsonOption, ReportOption, TrustOption, WaitOption
from goldnas.cli.processes import joined
from goldnas.cli.struct_options import Options, is_given, with_options
from goldnas.cli.wording import command
from goldnas.errors import ConfigError, RankError, WriteError
from goldnas.reference import is_function
from goldnas.searching.config import SearchConfig

if TYPE_CHECKING:
    from goldnas.api.runs import Run
    from goldnas.cli.search_output import SearchOutput
    from goldnas.training.distributed import Ranks

_OPTIONS = Options(SearchConfig, defaults={"amp": "auto"})
_ON_RESUME = {"resume", "workers", "wait", "report", "as_json"}
"""Options that do not change a search, and so may be given when one is continued."""

_NAMED_AGAIN = ("space", "data", "task")
"""Options that may be given then, if they are functions: those that the search has."""


@with_options(_OPTIONS)
def search(
    ctx: typer.Context,
    tables: Annotated[
        list[Path] | None,
        typer.Option(
            "--latency-lut",
            metavar="FILE",
            help="Latency table of a target device, from goldnas profile, or its table of "
            "energies. Repeat for several tables.",
            rich_help_panel="Budgets",
        ),
    ] = None,
    zoo: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of measured ready-made networks, from goldnas pick --out on the "
            "device of a latency table. The search shows which of them keep the same "
            "budgets.",
            rich_help_panel="Budgets",
        ),
    ] = None,
    out_: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="New folder for this search."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Continue the search in this folder.")
    ] = None,
    wait: WaitOption = False,
    report: ReportOption = True,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    list_strategies: Annotated[
        bool,
        typer.Option(
            "--list-strategies",
            help="Show all strategies and exit.",
            rich_help_panel="Strategy",
        ),
    ] = False,
    list_spaces: Annotated[
        bool,
        typer.Option(
            "--list-spaces",
            help="Show all spaces and their defaults, and exit.",
            rich_help_panel="Search space",
        ),
    ] = False,
    **settings: Any,
) -> None:
    """Search a space for networks within budgets. One run finds a front of networks.

    Examples:
        goldnas search --data digits --budget 130kFLOPs --out runs/a
        goldnas search --budget 600MFLOPs --budget 5ms --latency-lut lut/cpu.json --out runs/b
        goldnas search --resume runs/b
        goldnas search --config runs/b/options.toml --seed 1 --out runs/c
    """
    if list_spaces:
        print_spaces(as_json=as_json)
        return
    if list_strategies:
        print_strategies(as_json=as_json)
        return
    folder = resume or out_
    with errors_shown(if_interrupted=lambda: _interrupted(folder)), joined() as ranks:
        if resume is not None:
            named = ranks.on_all(lambda: _named_again(ctx, settings))
            trusted = {"trust": trust, **named}
            run = _resume(resume, settings["workers"], trusted, ranks, wait=wait)
        elif out_ is None:
            raise ranks.common(
                ConfigError(
                    "a search needs a folder: --out DIR for a new one, --resume DIR to "
                    "continue one"
                )
            )
        elif wait:
            raise ranks.common(
                ConfigError(
                    f"--wait works only with --resume, and {out_} is a new folder; leave it out"
                )
            )
        else:
            given = ranks.on_all(lambda: _OPTIONS.given(ctx, settings))
            if zoo is not None:
                given["zoo"] = zoo
            run = _search(given, tables or [], out_, config_file.effective(ctx), ranks)
        if ranks.first:
            from goldnas.cli.search_output import print_end

            print_end(run, report=report, as_json=as_json)


def _search(
    given: dict[str, Any], tables: list[Path], out: Path, options: str, ranks: "Ranks"
) -> "Run":
    from goldnas.api.searches import search as search_space
    from goldnas.cli.search_output import SearchOutput

    note = take_free_cores(given) if ranks.count == 1 else ""
    return watch_run(
        partial(
            search_space,
            tables=tables,
            out=out,
            texts={"options.toml": options},
            ranks=ranks,
            **given,
        ),
        SearchOutput(ranks, note=note),
        ranks,
        out,
    )


def _resume(
    folder: Path,
    workers: int | None,
    trusted: dict[str, Any],
    ranks: "Ranks",
    *,
    wait: bool,
) -> "Run":
    from goldnas.api.runs import load_run
    from goldnas.cli.search_output import SearchOutput

    run = ranks.broadcast(lambda: load_run(folder, **trusted))
    return watch_run(
        partial(run.resume, workers=workers, wait=wait, ranks=ranks),
        SearchOutput(ranks, resumed=True),
        ranks,
        folder,
    )


def watch_run(start: Any, output: "SearchOutput", ranks: "Ranks", folder: Path) -> "Run":
    """Run a search or a shrinking, show it, and let signals stop it in good order."""
    try:
        with output:
            run: Run = start(on_event=output.observe, stop_signal=output.stop_signal)
    except (RankError, WriteError) as error:
        if not os.path.lexists(folder / "config.json"):
            raise
        raise type(error)(
            f"{error}; then continue with: {command('search', '--resume', folder)}"
        ) from None
    return run


def _interrupted(folder: Path | None) -> str:
    if folder is None or not os.path.lexists(folder):
        return "interrupted before the search began; nothing was written"
    return f"interrupted; continue with: {command('search', '--resume', folder)}"


def _named_again(ctx: typer.Context, settings: dict[str, Any]) -> dict[str, str]:
    """Functions that are named again for a search that goes on.

    Raises:
        ConfigError: If others of its settings are given, which it takes from its folder.
    """
    named = {
        name: settings[name]
        for name in _NAMED_AGAIN
        if is_given(ctx, name) and is_function(settings[name])
    }
    given = [
        parameter.opts[0]
        for parameter in config_file.parameters(ctx)
        if parameter.name not in {*_ON_RESUME, *named} and is_given(ctx, parameter.name or "")
    ]
    if given:
        raise ConfigError(
            f"{', '.join(given)} cannot change a search that continues; leave it out, or start "
            "a new search with --out"
        )
    return named
