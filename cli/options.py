"""Options that several commands share, and that no struct of settings has."""

from pathlib import Path
from typing import Annotated

import typer

_PANEL = "Search space"
COMMON = "Common options"
"""The panel of options that most commands have; it is the last one."""

JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object on stdout, and everything else on stderr.",
        rich_help_panel=COMMON,
    ),
]
"""Of a parameter ``as_json``, by which Command knows; print_json prints."""
TableArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Latency table.")]

ReportOption = Annotated[
    bool,
    typer.Option(
        "--report/--no-report",
        help="Write report.html into the folder at the end, as goldnas report does.",
    ),
]

ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace a file that exists.", rich_help_panel=COMMON)
]

WaitOption = Annotated[
    bool,
    typer.Option(
        "--wait",
        help="Wait if another process writes there, instead of failing.",
        rich_help_panel=COMMON,
    ),
]

OfFileOption = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="MODULE:NAME",
        help="Function that the file names as its space. goldnas runs its code only if you "
        "name the function here.",
        rich_help_panel=_PANEL,
    ),
]

OfRunOption = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="MODULE:NAME",
        help="Function that the folder names as its space. Needed, like --trust, only if "
        "you did not make the folder on this machine.",
        rich_help_panel=_PANEL,
    ),
]

TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run the code that the folder names (module:function), even if you did not "
        "make the folder on this machine. Read that code first.",
        rich_help_panel=COMMON,
    ),
]
