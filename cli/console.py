"""The two consoles, and how errors reach the user."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

from goldnas.errors import GoldnasError, StoppedError

# Where nobody watches, in a file or a pipe, lines are long enough for the widest table.
out = Console(width=None if sys.stdout.isatty() else 120, markup=False)
err = Console(stderr=True, markup=False)


@contextmanager
def errors_shown(
    *, if_interrupted: Callable[[], str] = lambda: "interrupted"
) -> Iterator[None]:
    """Print a GoldnasError as one line and exit with status 2; with 130 after Ctrl-C.

    What a signal stopped in good order exits with 128 and the number of the signal.

    Args:
        if_interrupted: Said after Ctrl-C: what is left, and how to go on.
    """
    try:
        yield
    except StoppedError as stopped:
        err.print(Text(str(stopped)), soft_wrap=True)
        raise typer.Exit(stopped.status) from None
    except GoldnasError as error:
        line = " ".join(str(error).splitlines())  # what a library said may have several
        err.print(Text.assemble(("error: ", "bold red"), line), soft_wrap=True)
        raise typer.Exit(error.status) from None
    except KeyboardInterrupt:
        err.print(Text(if_interrupted()), soft_wrap=True)
        raise typer.Exit(130) from None


def say(text: str) -> None:
    """Print a line as it is, however long."""
    out.print(text, soft_wrap=True, highlight=False, markup=False)


def warn(text: str) -> None:
    """Print a warning, beside what a program may be reading."""
    err.print(Text.assemble(("warning: ", "bold yellow"), text), soft_wrap=True)
