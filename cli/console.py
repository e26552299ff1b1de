"""The two consoles, what goes to which, and how errors reach the user."""

import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from goldnas.cli.wording import in_options
from goldnas.errors import GoldnasError, GoldnasWarning, Status, StoppedError

# Where nobody watches, in a file or a pipe, lines are long enough for the widest table.
out = Console(width=None if sys.stdout.isatty() else 120, markup=False)
err = Console(stderr=True, markup=False)


@contextmanager
def errors_shown(
    *, if_interrupted: Callable[[], str] = lambda: "interrupted"
) -> Iterator[None]:
    """Print a GoldnasError as one line and exit with status 2; with 130 after Ctrl-C.

    What a signal stopped in good order exits with 128 and the number of the signal. Where the
    system refuses a file, or has no memory left, that is said in one line too.

    Args:
        if_interrupted: Said after Ctrl-C: what is left, and how to go on.
    """
    before = warnings.showwarning
    warnings.showwarning = partial(_show_warning, before)
    try:
        yield
    except StoppedError as stopped:
        err.print(Text(in_options(str(stopped))), soft_wrap=True)
        raise typer.Exit(stopped.status) from None
    except GoldnasError as error:
        _print_error(in_options(str(error)))
        raise typer.Exit(error.status) from None
    except OSError as error:
        if error.errno == errno.EPIPE:  # nobody reads the output any more
            raise
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        _print_error(
            f"the system refuses: {place}{error.strerror or error}. See that the path is "
            "right, that you may use it, and that there is room"
        )
        raise typer.Exit(Status.FAILED) from None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
            # A signal of its end: it may come while something else is done.
            from goldnas.data.loader import explain_dead_worker

            _print_error(in_options(str(explain_dead_worker(error))))
            raise typer.Exit(Status.FAILED) from None
        if not _is_of_memory(error):
            raise
        _print_error(
            f"the memory is not enough ({str(error) or 'no more is said'}). Take fewer "
            "--channels, a smaller --batch-size or --image-size, or a machine with more"
        )
        raise typer.Exit(Status.FAILED) from None
    except KeyboardInterrupt:
        err.print(Text(if_interrupted()), soft_wrap=True)
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


def _print_error(text: str) -> None:
    line = " ".join(text.splitlines())  # what a library said may have several
    err.print(Text.assemble(("error: ", "bold red"), line), soft_wrap=True)


def _is_of_memory(error: Exception) -> bool:
    """Whether an allocation failed; torch has no class of its own for that of a processor."""
    told = str(error)
    return isinstance(error, MemoryError) or any(
        words in told for words in ("can't allocate memory", "out of memory")
    )


def say(text: str) -> None:
    """Print a line as it is, however long."""
    out.print(text, soft_wrap=True, highlight=False, markup=False)


def warn(text: str) -> None:
    """Print a warning, beside what a program may be reading."""
    err.print(Text.assemble(("warning: ", "bold yellow"), in_options(text)), soft_wrap=True)


def print_json(content: Any) -> None:
    """Print what ``--json`` promises: one JSON object, alone on stdout.

    Args:
        content: Plain values, structs and dataclasses; what is no finite number becomes null.
    """
    import msgspec

    if not out.quiet:  # else another process speaks
        text = msgspec.json.encode(content, enc_hook=_plain)
        typer.echo(msgspec.json.format(text, indent=2).decode())


def _plain(value: Any) -> Any:
    """What JSON has for a number of numpy, a path, or a type."""
    return value.item() if hasattr(value, "item") else str(value)
