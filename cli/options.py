"""Options that several commands share, and that no struct of settings has."""

from pathlib import Path
from typing import Annotated

import typer

_PANEL = "Search space"

JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on stdout, and all else on stderr."),
]
"""Of a parameter ``as_json``, by which Command knows; print_json prints."""
TableArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Latency table.")]

ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace a file that is there already.")
]

WaitOption = Annotated[
    bool,
    typer.Option(
        "--wait", help="Wait while another process writes there, and do not end with an error."
    ),
]

OfFileOption = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="MODULE:NAME",
        help="The function that the file names as its space. Its code is run only if you name "
        "it here.",
        rich_help_panel=_PANEL,
    ),
]

OfRunOption = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="MODULE:NAME",
        help="The function that the folder names as its space. Needed, as --trust is, only if "
        "you did not make the folder, on this machine.",
        rich_help_panel=_PANEL,
    ),
]

TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run whatever code the folder names (module:function), though you did not make it "
        "on this machine. Look at it first.",
    ),
]
