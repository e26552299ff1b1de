"""Errors a user can act on.

Each message has three parts: what failed, the value in hand, and the next step. The
command line prints the message alone and exits with status 2; anything that is not a
GoldnasError is a bug in goldnas and keeps its traceback.

Messages speak Python. A setting or a call stands in backquotes, as Python has it:
```batch_size```, ```levels=2```, ```load_run('runs/a').resume()```. The command line shows its
options and commands in their place (``goldnas/cli/wording.py``): no other module names them.
"""

import os
import re
from collections.abc import Sequence
from enum import IntEnum


class Status(IntEnum):
    """How a command of goldnas ended: its exit status."""

    DONE = 0
    """It did what it was asked to."""
    FOUND = 1
    """It ran to its end, and found errors, or some of it failed."""
    FAILED = 2
    """It could not do it, and says why in one line."""
    OVER_BUDGET = 3
    """An export is there, and breaks a budget."""
    HUNG_UP = 129
    """SIGHUP, as when a terminal is closed; what can be saved is."""
    INTERRUPTED = 130
    """Ctrl-C; what can be saved is."""
    TERMINATED = 143
    """SIGTERM; the same."""


class GoldnasError(Exception):
    """Base of every error that goldnas raises on purpose.

    Args:
        message: The text. It becomes one line: line ends, which names in files may hold, become
            spaces, and characters that no terminal shows are escaped.

    Example:
        >>> try:
        ...     goldnas.load_run("runs/none")
        ... except goldnas.GoldnasError as error:  # whatever goldnas refuses
        ...     print(error)
        runs/none is not the folder of a search: it does not exist. Give the `out` of a search
    """

    status: int = Status.FAILED
    """Of the command that ends with it."""

    def __init__(self, message: str) -> None:
        super().__init__(in_one_line(message))


class ConfigError(GoldnasError, ValueError):
    """A setting, a budget or a name is wrong, or two settings contradict.

    Example:
        >>> try:
        ...     goldnas.space("gold", cells=0)
        ... except goldnas.ConfigError as error:
        ...     print(error)
        `cells` must be a whole number from 1, got 0
    """


class TableError(GoldnasError):
    """A latency table is unreadable, has another schema, or lacks a row.

    Example:
        >>> try:
        ...     goldnas.LatencyTable.load("lut/none.json")
        ... except goldnas.TableError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        there is no latency table lut/none.json...
    """


class MeasurementError(GoldnasError):
    """A model could not be measured on a device.

    Example:
        >>> try:
        ...     found = goldnas.profile_model("net.onnx", target_percent=5)
        ... except goldnas.MeasurementError as error:
        ...     print("cannot measure here:", error)
    """


class NoisyMachineError(MeasurementError):
    """Two measurements of the same thing differ too much to mean something."""


class ExportError(GoldnasError):
    """A network could not be exported, or its export computes something else.

    Example:
        >>> try:
        ...     result = goldnas.export(run.best, "example.onnx")
        ... except goldnas.ExportError as error:
        ...     print("do not deploy this file:", error)
    """


class DataError(GoldnasError):
    """A dataset is missing, unreadable or corrupt.

    Example:
        >>> try:
        ...     goldnas.search(space, data="none.npz", budgets=["60kFLOPs"], out="runs/b")
        ... except goldnas.DataError as error:
        ...     print(error)
        cannot read none.npz: no such file; check the path
    """


class RunError(GoldnasError):
    """The folder of a search cannot be made, read or continued.

    Example:
        >>> try:
        ...     goldnas.search(space, budgets=["60kFLOPs"], out="runs/a")
        ... except goldnas.RunError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        runs/a exists: continue that search with `load_run('runs/a').resume()`...
    """


class BusyError(GoldnasError):
    """Another process writes to the same place, and two at once would lose each other's work.

    ``wait=True`` waits for the other process instead.

    Example:
        >>> try:
        ...     same = goldnas.profile(space, out="lut/cpu.json", networks=4)
        ... except goldnas.BusyError as error:
        ...     print("another process measures for this table:", error)
    """


class RankError(GoldnasError):
    """The processes of one search lost each other, or came to differ."""


class StoppedError(GoldnasError):
    """A signal ended the work. The work was saved, so this is not a failure.

    Args:
        message: What was saved, and how to continue.
        number: Number of the signal.

    Example:
        >>> try:
        ...     goldnas.search(
        ...         space, budgets=["60kFLOPs"], out="runs/stopped", stop_signal=lambda: 15
        ...     )
        ... except goldnas.StoppedError as stopped:
        ...     print(stopped)
        interrupted after step 1, and saved; continue with: `load_run('runs/stopped').resume()`
    """

    def __init__(self, message: str, number: int = 15) -> None:
        super().__init__(message)
        self.status = 128 + number


class WriteError(GoldnasError):
    """A file could not be written. Its earlier content is unchanged.

    Example:
        >>> try:
        ...     goldnas.export(run.best, "net.onnx/another.onnx")  # a file is no folder
        ... except goldnas.WriteError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        cannot write net.onnx/another.onnx: ...
    """


class GoldnasWarning(UserWarning):
    """A problem that does not stop a call, such as a machine that changes its speed.

    Args:
        message: The text, made one line as in an error.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", goldnas.GoldnasWarning)
        ...     same = goldnas.profile(space, out="lut/cpu.json", networks=4)
    """

    def __init__(self, message: str) -> None:
        super().__init__(in_one_line(message))


def name_type(value: object) -> str:
    """The type of a value, with its article: ``an int``, ``a list``."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def is_text(name: str) -> bool:
    """Whether a name of the file system is UTF-8, so that files and logs can hold it."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def show_name(name: str) -> str:
    r"""A name of the file system for people: what is no UTF-8 as ``\xe9``."""
    return name if is_text(name) else os.fsencode(name).decode("utf-8", "backslashreplace")


def in_one_line(text: str) -> str:
    """A text that any terminal shows in one line, see :func:`show_controls`."""
    return show_controls(_ENDS.sub(" ", text))


def show_controls(text: str) -> str:
    r"""A text that steers nothing: what is no character to read stands as ``\x1b``.

    That is what moves a cursor, turns the direction of writing or is invisible, and halves of
    characters. Ends of lines and tabs stay.
    """
    return CONTROLS.sub(lambda found: _escape(found[0]), text)


_ENDS = re.compile("[\t-\r\x1c-\x1e\x85\u2028\u2029]+")
"""Of lines."""
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""What steers a terminal or is invisible, but for ends of lines and tabs."""


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def count_of(number: int, noun: str) -> str:
    """A number of things: ``1 row``, ``3 rows``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def list_some(texts: Sequence[str], most: int = 3) -> str:
    """The first of them, and how many more there are: ``a, b, c and 9 more``."""
    more = f" and {len(texts) - most} more" if texts[most:] else ""
    return ", ".join(texts[:most]) + more


def read_message(error: BaseException) -> str:
    """The message of another library's error in one line; its class, if it has none.

    Its backquotes become quotes: what stands in backquotes is a setting or a call of goldnas.
    """
    return " ".join(str(error).split()).replace("`", "'") or type(error).__name__
