"""The ``goldnas`` command. Each sub-command is one file, and one line here."""

import os
from typing import Annotated

import typer

from goldnas import __version__
from goldnas.cli import lut
from goldnas.cli.command import Command, Group
from goldnas.cli.compare import compare
from goldnas.cli.console import errors_shown
from goldnas.cli.evaluate import evaluate
from goldnas.cli.export import export
from goldnas.cli.pick import pick
from goldnas.cli.profile import profile
from goldnas.cli.report import report
from goldnas.cli.search import search
from goldnas.cli.shrink import shrink
from goldnas.cli.status import status
from goldnas.cli.train import train
from goldnas.errors import ConfigError, Status

_LOOP, _LOOK, _TABLES = "Main steps", "Inspect searches", "Latency tables"

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Search for neural networks that keep a budget on your hardware: "
    "profile, search, train, shrink, export, verify.",
    epilog=f"Exit status: {Status.DONE}: done. {Status.FOUND}: the command ended, but found "
    f"errors or failed in part. {Status.FAILED}: the command failed. "
    f"{Status.OVER_BUDGET}: an exported network breaks a budget. {Status.HUNG_UP}: the "
    f"terminal was closed. {Status.INTERRUPTED}: stopped by Ctrl-C. "
    f"{Status.TERMINATED}: stopped by SIGTERM. docs/commands.md explains these, "
    "options from files (--config), JSON output and completion.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"goldnas {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and exit.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Take the options that come before a command."""
    with errors_shown():
        try:
            os.getcwd()
        except FileNotFoundError:
            raise ConfigError(
                "the current folder no longer exists; change to another folder"
            ) from None


app.command(cls=Command, rich_help_panel=_LOOP)(profile)
app.command(cls=Command, rich_help_panel=_LOOP)(pick)
app.command(cls=Command, rich_help_panel=_LOOP)(search)
app.command(cls=Command, rich_help_panel=_LOOP)(train)
app.command(cls=Command, rich_help_panel=_LOOP)(shrink)
app.command(cls=Command, rich_help_panel=_LOOP)(export)
app.command(cls=Command, rich_help_panel=_LOOK)(status)
app.command(cls=Command, rich_help_panel=_LOOK)(report)
app.command(cls=Command, rich_help_panel=_LOOK)(evaluate)
app.command(cls=Command, rich_help_panel=_LOOK)(compare)
app.add_typer(lut.app, name="lut", rich_help_panel=_TABLES)
