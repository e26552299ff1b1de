"""The two consoles, what goes to which, and how errors reach the user.

What is printed may come from a file, a device or another machine: it is text and nothing else.
Nothing in it is markup, or steers the terminal.
"""

import errno
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

from goldnas.cli.wording import in_options
from goldnas.errors import (
    CONTROLS,
    GoldnasError,
    GoldnasWarning,
    Status,
    StoppedError,
    in_one_line,
    show_controls,
)

if TYPE_CHECKING:
    from rich.table import Table


class _PlainConsole(Console):
    """A console to which a text is a text."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Whatever is printed as ``str`` comes by here, cells and titles of tables included."""
        return super().render_str(show_controls(text), **settings)


# Where nobody watches, in a file or a pipe, lines are long enough for the widest table.
out = _PlainConsole(width=None if sys.stdout.isatty() else 120)
err = _PlainConsole(stderr=True)


@contextmanager
def errors_shown(
    *, if_interrupted: Callable[[], str] = lambda: "interrupted"
) -> Iterator[None]:
    """Print a GoldnasError as one line and exit with status 2; with 130 after Ctrl-C.

    Work that a signal stopped in good order exits with 128 plus the number of the signal. A
    file that the system refuses, and a lack of memory, are one line, too.

    Args:
        if_interrupted: The line after Ctrl-C: what is kept, and how to continue.
    """
    before = warnings.showwarning
    warnings.showwarning = partial(_show_warning, before)
    try:
        yield
    except StoppedError as stopped:
        note(in_options(str(stopped)))
        raise typer.Exit(stopped.status) from None
    except GoldnasError as error:
        print_error(in_options(str(error)))
        raise typer.Exit(error.status) from None
    except OSError as error:
        if error.errno == errno.EPIPE:  # nobody reads the output any more
            raise
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        print_error(
            f"the system refuses: {place}{error.strerror or error}. Check the path, its "
            "permissions and the free space"
        )
        raise typer.Exit(Status.FAILED) from None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
            # A signal of its end: it may come while something else is done.
            from goldnas.data.loader import explain_dead_worker

            print_error(in_options(str(explain_dead_worker(error))))
            raise typer.Exit(Status.FAILED) from None
        if not _is_of_memory(error):
            raise
        print_error(
            f"out of memory ({str(error) or 'no details'}). Use fewer --channels, a smaller "
            "--batch-size or --image-size, or a machine with more memory"
        )
        raise typer.Exit(Status.FAILED) from None
    except KeyboardInterrupt:
        note(if_interrupted())
        raise typer.Exit(Status.INTERRUPTED) from None
    finally:
        warnings.showwarning = before


def _show_warning(
    others: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any
) -> None:
    """Show a warning of goldnas as one line, and any other as Python does."""
    if issubclass(category, GoldnasWarning):
        warn(str(message))
    else:
        others(message, category, *where)


def print_error(text: str) -> None:
    """Print an error as one line."""
    err.print(Text.assemble(("error: ", "bold red"), in_one_line(text)), soft_wrap=True)


def _is_of_memory(error: Exception) -> bool:
    """Whether an allocation failed; torch has no class of its own for that of a processor."""
    told = str(error)
    return isinstance(error, MemoryError) or any(
        words in told for words in ("can't allocate memory", "out of memory")
    )


def as_text(text: str, style: str = "") -> Text:
    """A text in one line, as a cell of a table, in a style of rich."""
    return Text(in_one_line(text), style)


def say(text: str, style: str = "", rest: str = "") -> None:
    """Print a line as it is, however long.

    Args:
        text: Of the line.
        style: Of the text.
        rest: Of the line, without style.
    """
    line = Text.assemble((in_one_line(text), style), in_one_line(rest))
    out.print(line, soft_wrap=True)


def note(text: str) -> None:
    """Print a line beside what a program may be reading."""
    err.print(as_text(text), soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning, beside what a program may be reading."""
    line = in_one_line(in_options(text))
    err.print(Text.assemble(("warning: ", "bold yellow"), line), soft_wrap=True)


def print_whole(table: "Table") -> None:
    """Print a table; in a file or a pipe no line of it has to be broken."""
    from rich.measure import Measurement

    before = out.width
    if not out.is_terminal:
        wide = out.options.update(max_width=1000)
        out.width = Measurement.get(out, wide, table).maximum
    try:
        out.print(table)
    finally:
        out.width = before


def print_file(text: str) -> None:
    """Print the content of a file, to its last end of a line."""
    typer.echo(show_controls(text), nl=False)


def print_json(content: Any) -> None:
    """Print what ``--json`` promises: one JSON object, alone on stdout.

    Args:
        content: Plain values, structs and dataclasses; what is no finite number becomes null.
    """
    import msgspec

    text = msgspec.json.encode(content, enc_hook=_plain)
    print_json_file(msgspec.json.format(text, indent=2).decode() + "\n")


def print_json_file(text: str) -> None:
    """Print JSON; what steers a terminal, or is no letter of the output, is escaped there."""
    if out.quiet:  # another process speaks
        return
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = _NOT_ASCII.sub(_escape_in_json, text)
    typer.echo(CONTROLS.sub(_escape_in_json, text), nl=False)


_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def _escape_in_json(found: re.Match[str]) -> str:
    return "\\u007f" if found[0] == "\x7f" else json.dumps(found[0])[1:-1]


def _plain(value: Any) -> Any:
    """What JSON has for a number of numpy, a path, or a type."""
    return value.item() if hasattr(value, "item") else str(value)
