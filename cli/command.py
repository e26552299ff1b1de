"""What every command has: options from a file, stdout for JSON alone, help that flows."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from goldnas.cli import config_file
from goldnas.cli.console import errors_shown, out
from goldnas.errors import ConfigError

EXAMPLES = "Examples:"
"""The last part of a command's docstring, a command a line."""

_shared = typer.Typer(add_completion=False)


@_shared.command()
def _shared_options(
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Take options from the table of this command in a TOML file; what is typed "
            "goes before what it says.",
            expose_value=False,
        ),
    ] = None,
    save_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Keep the options of this command there, as --config takes them.",
        ),
    ] = None,
) -> None:
    """Options that every command has beside its own."""


_SHARED: list[Any] = typer.main.get_command(_shared).params


class Command(TyperCommand):
    """A command of goldnas.

    ``--config`` and ``--save-config`` are added to its options. With ``--json`` all that it
    says goes to stderr, and its object alone to stdout.
    """

    def __init__(
        self, name: str | None, *, params: list[Any], help: str | None = None, **settings: Any
    ) -> None:
        everything = [*params, *_SHARED]
        for parameter in everything:
            # Narrow terminals need the room of "<bool>" and "<int range>".
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
            elif parameter.metavar is None and getattr(parameter, "min", None) is not None:
                parameter.metavar = "N"
        super().__init__(name, params=everything, help=_flowing(help or ""), **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what was typed, and before it what the file of ``--config`` says."""
        args = config_file.rename_earlier(self.name or "", args)
        if ctx.resilient_parsing:  # of a line that is not complete yet
            return super().parse_args(ctx, args)
        typed, *_ = self.make_parser(ctx).parse_args(list(args))
        file = typed.get("config")
        if file is None or typed.get("help"):
            return super().parse_args(ctx, args)
        with errors_shown():
            given = config_file.read(Path(file), ctx)
            for name, value in typed.items():
                if value not in (None, ()):
                    given.pop(name, None)
            try:
                return super().parse_args(ctx, config_file.joined(given.values(), args))
            except typer.BadParameter as error:
                setting = given.get(error.param.name) if error.param is not None else None
                if setting is None:
                    raise
                raise ConfigError(f"{setting.place}: {error.message}") from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command; first keep its options where ``--save-config`` says."""
        target = ctx.params.pop("save_config", None)
        with _stdout_kept(for_json=bool(ctx.params.get("as_json"))):
            if target is not None:
                with errors_shown():
                    config_file.save(target, ctx)
            return super().invoke(ctx)


@contextmanager
def _stdout_kept(*, for_json: bool) -> Iterator[None]:
    before = out.stderr
    out.stderr = before or for_json
    try:
        yield
    finally:
        out.stderr = before


def _flowing(text: str) -> str:
    """Paragraphs as one line each, so that any width suits; examples stay a command a line."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        paragraph.replace("\n    ", "\n$ ")
        if paragraph.startswith(EXAMPLES)
        else paragraph.replace("\n", " ")
        for paragraph in paragraphs
    )
