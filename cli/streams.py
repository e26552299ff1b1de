"""The output streams of a command, which may be closed or full, or encode few characters."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from goldnas.errors import Status


class OutputLostError(Exception):
    """A stream takes nothing any more; says why."""


class _Output(io.TextIOWrapper):
    """A stream of text that takes every letter, escaped where it has none."""

    def __init__(self, replaced: io.TextIOWrapper) -> None:
        encoding = replaced.encoding
        buffering = (replaced.line_buffering, replaced.write_through)
        super().__init__(replaced.detach(), encoding, "backslashreplace", None, *buffering)

    def write(self, text: str) -> int:
        with _told_apart():
            return super().write(text)

    def flush(self) -> None:
        with _told_apart():
            super().flush()


@contextmanager
def _told_apart() -> Iterator[None]:
    """Tell a failure of the output apart from one of a file."""
    try:
        yield
    except BrokenPipeError:  # typer and rich end silently
        raise
    except OSError as error:
        raise OutputLostError(error.strerror or str(error)) from None


def prepare_streams() -> None:
    """Make every character printable, and let no file take the place of a closed stream."""
    if sys.stdout is None:
        _end("the standard output is closed: send it to a file, or to the null device")
    for number in (0, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        own = getattr(sys, f"__{name}__")
        if stream is own and isinstance(
            stream, io.TextIOWrapper
        ):  # none that somebody put there
            output = _Output(stream)
            setattr(sys, name, output)
            setattr(sys, f"__{name}__", output)


def end_without_output(error: Exception) -> NoReturn:
    """End, and say why unless it is that nobody reads on."""
    _send_nowhere(1)  # what Python still writes
    if isinstance(error, BrokenPipeError):
        sys.exit(1)
    _end(f"cannot write the output: {error}. Make room where it goes, or send it elsewhere")


def _end(text: str) -> NoReturn:
    if sys.stderr is not None:
        try:
            sys.stderr.write(f"error: {text}\n")
            sys.stderr.flush()
        except (OSError, OutputLostError):
            _send_nowhere(2)
    sys.exit(Status.FAILED)


def _send_nowhere(number: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, number)
    os.close(nothing)
