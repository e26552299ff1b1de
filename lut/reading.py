"""Reading the file of a latency table: what it holds, or what is wrong with it."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from goldnas.bounded import read_bounded
from goldnas.errors import TableError, in_one_line
from goldnas.lut.schema import (
    SCHEMA_VERSION,
    EnergyTableFile,
    TableFile,
    choose_form,
    compute_checksum,
)

_MOST_VALUES = 10_000_000

_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Of a character beyond 16 bits, as JSON writes it in two."""


class OldTableError(TableError):
    """A latency table of an earlier schema version, which is read no longer.

    Args:
        path: Of the file.
        version: Its schema version.
    """

    def __init__(self, path: Path, version: int) -> None:
        super().__init__(
            f"{path} is a latency table of schema version {version}, of an earlier goldnas, "
            f"and this goldnas reads version {SCHEMA_VERSION}. Move the file away, and "
            f"measure again with: {_measuring(path)}"
        )
        self.version = version


class MalformedTableError(TableError):
    """A file that is not a latency table, or a table that was changed.

    Args:
        path: Path of the file.
        problem: In one line, the place first.
    """

    def __init__(self, path: Path, problem: str) -> None:
        quoted = problem.replace("`", "'")  # in backquotes, a field would be a setting
        super().__init__(
            f"{path} is not a latency table: {quoted}. Give the path of a table; if this was a "
            f"table, restore it, or delete it and measure again with: {_measuring(path)}"
        )
        self.problem = problem


def read_table(path: Path) -> TableFile | EnergyTableFile:
    """Read a table's file.

    Raises:
        MalformedTableError: If the file is not a table, or was changed.
        OldTableError: If the file has an earlier schema version.
        TableError: If the file cannot be read, or has a newer schema version.
    """
    raw = read_json(path)
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if type(version) is int and version > SCHEMA_VERSION:
        raise TableError(
            f"{path} has schema version {version}, and this goldnas reads up to "
            f"{SCHEMA_VERSION}. Upgrade goldnas"
        )
    if type(version) is int and 1 <= version < SCHEMA_VERSION and "rows" in raw:
        raise OldTableError(path, version)
    if version != SCHEMA_VERSION:
        raise MalformedTableError(path, f"schema_version is {version!r}, not {SCHEMA_VERSION}")
    try:
        file: TableFile | EnergyTableFile = msgspec.convert(raw, choose_form(raw))
    except msgspec.ValidationError as error:
        raise MalformedTableError(path, explain_error(str(error), raw)) from None
    for number in find_repeated(row.key for row in file.rows):
        row = file.rows[number]
        problem = f"rows[{number}]: {row.operator} at {row.site} occurs twice"
        raise MalformedTableError(path, problem)
    if (checksum := compute_checksum(raw)) != file.checksum:
        problem = (
            "it was edited or damaged after goldnas wrote it: its checksum is "
            f"{file.checksum[:15]}..., but its content has {checksum[:15]}..."
        )
        raise MalformedTableError(path, problem)
    return file


def read_json(path: Path) -> Any:
    """Read a file as JSON.

    Raises:
        MalformedTableError: If it is none.
        TableError: If it cannot be read.
    """
    try:
        return parse_json(read_bounded(path))
    except FileNotFoundError:
        raise TableError(
            f"there is no latency table {path}. Measure one with: {_measuring(path)}"
        ) from None
    except OSError as error:
        raise TableError(
            f"cannot read the latency table {path}: {error.strerror}. "
            "Give the path of a file that `profile()` wrote"
        ) from None
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8 text"
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}, column {error.colno}: not JSON ({error.msg})"
    except (ValueError, RecursionError) as error:
        problem = f"not JSON ({error})"
    raise MalformedTableError(path, problem)


def parse_json(content: bytes) -> Any:
    """What a file of JSON holds.

    Raises:
        ValueError, RecursionError: If it is none that can be written again, or would take a
            multiple of its size in memory.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise ValueError(f"it holds more than {_MOST_VALUES} values")
    text = content.decode()
    found = json.loads(text)
    if _HALF.search(text):  # which JSON can hold, and no file
        json.dumps(found, ensure_ascii=False).encode()
    return found


def find_repeated(keys: Iterable[str]) -> list[int]:
    """The numbers of the keys that came before."""
    seen: set[str] = set()
    repeated = []
    for number, key in enumerate(keys):
        if key in seen:
            repeated.append(number)
        seen.add(key)
    return repeated


def explain_error(error: str, raw: dict[str, Any]) -> str:
    """Put the place first, and the value last: ``rows[3].latency_us: Expected ..., is -1``.

    Args:
        error: Message of msgspec for content that breaks the schema.
        raw: The content.
    """
    problem, _, place = error.rpartition(" - at ")
    place = place.strip("`").removeprefix("$.")
    text = f"{place}: {problem}" if problem else error
    value: Any = raw
    for key in re.findall(r"\w+", place if problem else ""):
        value = value[int(key) if isinstance(value, list) else key]
    if not isinstance(value, dict | list):
        text += f", is {json.dumps(value)}"
    if "unknown field" in text:
        text += (
            "; times in a table are in microseconds, in fields that end in _us, and energies "
            "in microjoules, in fields that end in _uj"
        )
    return in_one_line(text.replace("`", "'"))  # what it quotes is no setting


def _measuring(path: Path) -> str:
    return f"`profile(space, device='cpu', out={str(path)!r})`"
