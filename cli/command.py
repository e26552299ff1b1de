"""What all commands share: options from a file, stdout only for JSON, the form of the help."""

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from goldnas.cli import config_file
from goldnas.cli.console import errors_shown, out
from goldnas.cli.options import COMMON
from goldnas.cli.usage import UsageError, describe_bad_value, describe_usage_error
from goldnas.errors import ConfigError, is_text, show_name

EXAMPLES = "Examples:"
"""The last part of a command's docstring, a command a line."""

_shared = typer.Typer(add_completion=False)


@_shared.command()
def _shared_options(
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Read options from this command's table in a TOML file. Options on the "
            "command line override the file.",
            expose_value=False,
            rich_help_panel=COMMON,
        ),
    ] = None,
    save_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Write the options of this command to a TOML file, for --config.",
            rich_help_panel=COMMON,
        ),
    ] = None,
) -> None:
    """Options that every command has beside its own."""


_SHARED: list[Any] = typer.main.get_command(_shared).params


class Command(TyperCommand):
    """A command of goldnas.

    ``--config`` and ``--save-config`` are added to its options. With ``--json``, only the JSON
    object goes to stdout, and all messages go to stderr.
    """

    def __init__(
        self, name: str | None, *, params: list[Any], help: str | None = None, **settings: Any
    ) -> None:
        everything = [*params, *_SHARED]
        # Panels are in the order of their first options.
        everything.sort(key=lambda one: getattr(one, "rich_help_panel", None) == COMMON)
        for parameter in everything:
            if parameter.metavar is None and getattr(parameter, "min", None) is not None:
                parameter.metavar = "N"  # shorter than "<int range>"
        super().__init__(name, params=everything, help=_flowing(help or ""), **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options of the file of ``--config``, then the command line."""
        args = config_file.rename_earlier(self.name or "", args)
        if ctx.resilient_parsing:  # of a line that is not complete yet
            return super().parse_args(ctx, args)
        with errors_shown():
            _check_names(args)
        try:
            typed, *_ = self.make_parser(ctx).parse_args(list(args))
        except UsageError as error:
            error.ctx = error.ctx or ctx
            raise
        file = typed.get("config")
        given: dict[str, config_file.Setting] = {}
        with errors_shown():
            if file is not None and not typed.get("help"):
                given = config_file.read(Path(file), ctx)
                for name, value in typed.items():
                    if value not in (None, ()):
                        given.pop(name, None)
                config_file.admit(Path(file), given, trusted=bool(typed.get("trust")))
                args = config_file.joined(given.values(), args)
            try:
                return super().parse_args(ctx, args)
            except typer.BadParameter as error:
                name = "" if error.param is None else error.param.name or ""
                place = given[name].place if name in given else None
                told = describe_bad_value(error, typed.get(name), place)
                raise ConfigError(told) from None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        _show_no_type_of_flags(self.get_params(ctx))
        super().format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Write the file of ``--save-config``, then run the command."""
        target = ctx.params.pop("save_config", None)
        with _stdout_kept(for_json=bool(ctx.params.get("as_json"))):
            if target is not None:
                with errors_shown():
                    config_file.save(target, ctx)
            return super().invoke(ctx)


class Group(TyperGroup):
    """All commands. An error of usage is one line, like any other error."""

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """Read what comes before the command."""
        with _usage_errors_shown():
            return super().make_context(*arguments, **settings)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        _show_no_type_of_flags(self.get_params(ctx))
        super().format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        with _usage_errors_shown():
            return super().invoke(ctx)


def _show_no_type_of_flags(parameters: list[Any]) -> None:
    """Leave out ``<bool>``, also of ``--help``, which narrow terminals have no room for."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""


@contextmanager
def _usage_errors_shown() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # which is the help, not an error
            raise
        with errors_shown():
            raise ConfigError(describe_usage_error(error)) from None


@contextmanager
def _stdout_kept(*, for_json: bool) -> Iterator[None]:
    before = out.stderr
    out.stderr = before or for_json
    try:
        yield
    finally:
        out.stderr = before


def _check_names(args: list[str]) -> None:
    """Refuse names that no file of goldnas could hold, before anything is made.

    Raises:
        ConfigError: If an argument, or the folder that paths start from, is not UTF-8.
    """
    for name in (*args, os.getcwd()):
        if not is_text(name):
            raise ConfigError(
                f"{show_name(name)} is not UTF-8, and files and logs need UTF-8; rename it"
            )


def _flowing(text: str) -> str:
    """Paragraphs as one line each, so that any width suits; examples stay a command a line."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        paragraph.replace("\n    ", "\n$ ")
        if paragraph.startswith(EXAMPLES)
        else paragraph.replace("\n", " ")
        for paragraph in paragraphs
    )
