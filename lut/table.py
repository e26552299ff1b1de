"""The latency table: one JSON file per device, runtime and setting; README.md has its schema.

It is the seam between measuring and searching: profiling writes it, a search reads it, and
neither knows of the other.
"""

import datetime
import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec

from goldnas.errors import TableError
from goldnas.files import write_atomic
from goldnas.site import Site

SCHEMA_VERSION = 1

Count = Annotated[int, msgspec.Meta(ge=1)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0)]
Microseconds = Annotated[float, msgspec.Meta(gt=0)]

# What a command line needs besides a table to measure a missing row.
_SPACE_OPTIONS = (
    "--space SPACE --channels C --cells N --input CxHxW --classes K --operators A,B"
)


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Refuses fields it does not know (a ``latency_ms``, say) and numbers without end."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"`{field}` must be finite, got {value}")


class MeasuringProtocol(_Strict, frozen=True):
    """How rows are measured; two tables are comparable only if theirs is equal."""

    name: Text
    processes: Count
    """Fresh processes: memory alignment differs between them and moves small operators."""
    rounds: Count
    """Visits to each model per process, all models shuffled in each round."""
    warmup_ms: Milliseconds
    """Untimed calls at the start of a visit."""
    visit_ms: Milliseconds
    """Timed calls of a visit."""
    min_calls: Count
    """Timed calls of a visit, however long they take."""
    statistic: Text


class Conditions(_Strict, frozen=True):
    """What held for every measurement of a table."""

    device: Text
    cpu_model: Text
    architecture: Text
    os: Text
    backend: Text
    """Runtime and version."""
    backend_options: dict[str, str]
    threads: Count
    batch: Count
    precision: Text
    measured_on: datetime.date
    """Of the latest row."""
    protocol: MeasuringProtocol

    def differences(self, now: "Conditions") -> list[str]:
        """Name each condition that makes earlier measurements incomparable with new ones."""
        mine, theirs = self._compared(), now._compared()
        return [
            f"{name} was {mine.get(name)}, is now {theirs.get(name)}"
            for name in dict.fromkeys([*mine, *theirs])
            if mine.get(name) != theirs.get(name)
        ]

    def _compared(self) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for name, value in msgspec.to_builtins(self).items():
            nested = value if isinstance(value, dict) else {"": value}
            flat |= {f"{name}.{inner}".rstrip("."): v for inner, v in nested.items()}
        # A system update or another day does not start a new table.
        return {name: v for name, v in flat.items() if name not in ("os", "measured_on")}


class _Located(_Strict, frozen=True):
    operator: Text
    site: str

    def __post_init__(self) -> None:
        super().__post_init__()
        Site.parse(self.site)


class Measured(_Located, frozen=True, tag_field="status", tag="measured"):
    """A row that a network's latency can be summed from."""

    latency_us: Microseconds
    """By the protocol's statistic; this is the number a search uses."""
    min_us: Microseconds
    p10_us: Microseconds
    p25_us: Microseconds
    median_us: Microseconds
    """These four: that quantile of the calls within a visit, then p25 over visits."""
    spread: Annotated[float, msgspec.Meta(ge=0)]
    """Interquartile range over visits of p10 within a visit, relative to its median."""
    count: Count
    """Timed calls, over all visits."""
    visits: Count


class Failed(_Located, frozen=True, tag_field="status", tag="failed"):
    """A row that could not be measured: it has no latency, and never counts as zero."""

    error: Text


Row = Measured | Failed


class _File(_Strict, frozen=True):
    schema_version: int
    conditions: Conditions
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class LatencyTable:
    """Microseconds by operator and site, and the conditions they hold for."""

    conditions: Conditions
    rows: tuple[Row, ...]
    path: Path

    @property
    def name(self) -> str:
        """What budgets call the table: ``pi5`` for ``lut/pi5.json``."""
        return self.path.stem

    @cached_property
    def _index(self) -> dict[tuple[str, str], Row]:
        return {(row.operator, row.site): row for row in self.rows}

    def latency_us(
        self, operator: str, site: Site, *, space_options: str = _SPACE_OPTIONS
    ) -> float:
        """Look up one operator at one site, in microseconds.

        Args:
            operator: Its registered name.
            site: Where it sits.
            space_options: The space as options of ``goldnas profile``, for the command in
                the error message.

        Raises:
            TableError: If the row was not measured, or its measurement failed.
        """
        row = self._index.get((operator, str(site)))
        if isinstance(row, Measured):
            return row.latency_us
        if row is not None:
            problem = (
                f"{self.path} has no latency for {operator} at {site}: its measurement failed "
                f"({row.error}). Try it again with"
            )
        else:
            have = [r.site for r in self.rows if r.operator == operator]
            listed = ", ".join(have[:3]) + (f" and {len(have) - 3} more" if have[3:] else "")
            problem = (
                f"{self.path} has no latency for {operator} at {site}; for {operator} it has "
                f"{listed or 'no site at all'}. Add it with"
            )
        conditions = self.conditions
        raise TableError(
            f"{problem}: goldnas profile --device {conditions.device} {space_options} "
            f"--batch {conditions.batch} --threads {conditions.threads} --out {self.path}"
        )

    def missing(self, rows: Iterable[tuple[str, Site]]) -> tuple[tuple[str, Site], ...]:
        """Those of ``rows`` without a latency: not in the table, or failed."""
        return tuple(
            (operator, site)
            for operator, site in rows
            if not isinstance(self._index.get((operator, str(site))), Measured)
        )

    def with_rows(self, rows: Iterable[Row]) -> "LatencyTable":
        """A table with these rows added, each replacing an earlier one of its place."""
        new = {(row.operator, row.site): row for row in rows}
        return replace(self, rows=tuple((self._index | new).values()))

    def sorted_rows(self) -> list[Row]:
        """The rows by operator and site, sites in the order of their numbers."""
        return sorted(self.rows, key=lambda row: (row.operator, Site.parse(row.site)))

    def to_json(self) -> str:
        """The file's text: sorted, so that tables can be compared line by line."""
        file = _File(
            schema_version=SCHEMA_VERSION,
            conditions=self.conditions,
            rows=tuple(self.sorted_rows()),
        )
        compact = msgspec.json.encode(file, order="sorted")
        return msgspec.json.format(compact, indent=2).decode() + "\n"

    def save(self, path: Path | None = None) -> None:
        """Write the file in one step, to where it came from unless ``path`` says otherwise.

        Raises:
            WriteError: If the disk refuses; an earlier file is intact.
        """
        write_atomic(path or self.path, self.to_json())

    @classmethod
    def load(cls, source: str | Path) -> "LatencyTable":
        """Read a table.

        Args:
            source: A path; or a bare name, ``t4``, for a table that goldnas ships.

        Raises:
            TableError: If there is none, or it is not a table of this schema.
        """
        path = Path(source)
        if path.name == str(path) and not path.suffix and not os.path.exists(path):
            path = _shipped(path.name)
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise TableError(
                f"there is no latency table {path}. Measure one with: "
                f"goldnas profile --device cpu --out {path}"
            ) from None
        except OSError as error:
            raise TableError(
                f"cannot read the latency table {path}: {error.strerror}. "
                "Give the path of a file that goldnas profile wrote"
            ) from None
        except UnicodeDecodeError as error:
            raise _malformed(path, f"byte {error.start} is not UTF-8 text") from None
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}"
            raise _malformed(path, f"{place}: not JSON ({error.msg})") from None
        except (ValueError, RecursionError) as error:
            raise _malformed(path, f"not JSON ({error})") from None

        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if type(version) is int and version > SCHEMA_VERSION:
            raise TableError(
                f"{path} has schema version {version}, and this goldnas reads up to "
                f"{SCHEMA_VERSION}. Upgrade goldnas"
            )
        if version != SCHEMA_VERSION:
            raise _malformed(path, f"schema_version is {version!r}, not {SCHEMA_VERSION}")
        try:
            file = msgspec.convert(raw, _File)
        except msgspec.ValidationError as error:
            raise _malformed(path, _explained(str(error), raw)) from None
        table = cls(file.conditions, file.rows, path)
        if len(table._index) < len(file.rows):
            seen: set[tuple[str, str]] = set()
            for number, row in enumerate(file.rows):
                if (row.operator, row.site) in seen:
                    text = f"rows[{number}]: {row.operator} at {row.site} is there twice"
                    raise _malformed(path, text)
                seen.add((row.operator, row.site))
        return table


def _malformed(path: Path, problem: str) -> TableError:
    return TableError(
        f"{path} is not a latency table: {problem}. Restore the file, or delete it and "
        f"measure again with: goldnas profile --device cpu --out {path}"
    )


def _explained(error: str, raw: dict[str, Any]) -> str:
    """Put the place first, and the value last: ``rows[3].latency_us: Expected ..., is -1``."""
    problem, _, place = error.rpartition(" - at ")
    place = place.strip("`").removeprefix("$.")
    text = f"{place}: {problem}" if problem else error
    value: Any = raw
    for key in re.findall(r"\w+", place if problem else ""):
        value = value[int(key) if isinstance(value, list) else key]
    if not isinstance(value, dict | list):
        text += f", is {json.dumps(value)}"
    if "unknown field" in text:
        text += "; times in a table are microseconds, in fields that end in _us"
    return text


def _shipped(name: str) -> Path:
    """The file of a shipped table.

    Raises:
        TableError: If none has that name.
    """
    from importlib.resources import files

    folder = files("goldnas.lut")
    names = sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".json"))
    if name not in names:
        raise TableError(
            f"goldnas ships no latency table {name!r} ({', '.join(names) or 'none yet'}), and "
            f"there is no such file. Measure one with: "
            f"goldnas profile --device cpu --out {name}.json"
        )
    return Path(str(folder / f"{name}.json"))
