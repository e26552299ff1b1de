"""Options that several commands share, and that no struct of settings has."""

from pathlib import Path
from typing import Annotated

import typer

from goldnas.errors import ConfigError

_PANEL = "Search space"

JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on stdout, and all else on stderr."),
]
"""Of a parameter ``as_json``, by which Command knows; print_json prints."""
TableArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Latency table.")]

ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the file that --out names, if there is one.")
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


def check_replaceable(target: Path, force: bool) -> None:
    """Refuse to replace a file, unless the user said so.

    Raises:
        ConfigError: If it is there.
    """
    if target.exists() and not force:
        raise ConfigError(f"--out {target} is there already; name another file, or add --force")
