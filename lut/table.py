"""The latency table: one JSON file per device, runtime and setting; README.md has its schema.

It is the seam between measuring and searching: profiling writes it, a search reads it, and
neither knows of the other.
"""

import json
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from goldnas.errors import TableError
from goldnas.files import write_atomic
from goldnas.lut.migrations import migrate
from goldnas.lut.schema import (
    ANY_SPACE,
    SCHEMA_VERSION,
    Calibration,
    Campaign,
    Conditions,
    Interpolated,
    Measured,
    Row,
    TableFile,
    checksum_of,
)
from goldnas.site import AnySite, Site, parse_site

# The published JSON Schema lies beside the tables.
_SCHEMA = "schema.json"

# What a command line needs besides a table to measure a missing row.
_SPACE_OPTIONS = (
    "--space SPACE --channels C --cells N --input CxHxW --classes K --operators A,B"
)


@dataclass(frozen=True)
class LatencyTable:
    """Microseconds by operator and site, and the conditions they hold for."""

    conditions: Conditions
    rows: tuple[Row, ...]
    path: Path
    calibrations: tuple[Calibration, ...] = ()
    campaigns: tuple[Campaign, ...] = ()

    @property
    def name(self) -> str:
        """What budgets call the table: ``pi5`` for ``lut/pi5.json``."""
        return self.path.stem

    @cached_property
    def _index(self) -> dict[tuple[str, str], Row]:
        return {(row.operator, row.site): row for row in self.rows}

    def latency_us(
        self, operator: str, site: AnySite, *, space_options: str = _SPACE_OPTIONS
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
        if isinstance(row, Measured | Interpolated):
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
        raise TableError(f"{problem}: {self.profile_command(space_options)}")

    def profile_command(self, space_options: str) -> str:
        """The command that adds the rows of a space to this table."""
        conditions = self.conditions
        how = f"--threads {conditions.threads}"
        if conditions.gpu:
            name = conditions.backend.split(" ")[0]
            how = f"--backend {name} --precision {conditions.precision}"
            for option, value in conditions.backend_options.items():
                if option not in ("provider", "cuda", "cudnn"):  # as found, not as chosen
                    how += f" --provider-option {shlex.quote(f'{option}={value}')}"
        return (
            f"goldnas profile --device {conditions.device} {space_options} "
            f"--batch {conditions.batch} {how} --out {shlex.quote(str(self.path))}"
        )

    def missing(self, rows: Iterable[tuple[str, AnySite]]) -> tuple[tuple[str, AnySite], ...]:
        """Those of ``rows`` without a latency: not in the table, or failed."""
        return tuple(
            (operator, site)
            for operator, site in rows
            if not isinstance(self._index.get((operator, str(site))), Measured | Interpolated)
        )

    def with_rows(self, rows: Iterable[Row]) -> "LatencyTable":
        """A table with these rows added, each replacing an earlier one of its place."""
        new = {(row.operator, row.site): row for row in rows}
        return replace(self, rows=tuple((self._index | new).values()))

    def sorted_rows(self) -> list[Row]:
        """The rows by operator and site, sites in the order of their numbers."""

        def place(row: Row) -> tuple[str, bool, tuple[AnySite, ...]]:
            site = parse_site(row.site) if row.site else None
            return row.operator, isinstance(site, Site), () if site is None else (site,)

        return sorted(self.rows, key=place)

    def with_calibration(self, calibration: Calibration) -> "LatencyTable":
        """A table with this calibration, in place of an earlier one of its space."""
        kept = [c for c in self.calibrations if space_of(c) != space_of(calibration)]
        return replace(self, calibrations=(*kept, calibration))

    def with_campaign(self, campaign: Campaign) -> "LatencyTable":
        """A table that also says how this campaign went."""
        return replace(self, campaigns=(*self.campaigns, campaign))

    def calibration_for(self, space: str, settings: dict[str, Any]) -> Calibration | None:
        """The calibration of a space; else the one that is of no space, or None.

        Args:
            space: Its name.
            settings: As an architecture of the space has them.
        """
        for wanted in (_canonical([space, settings]), _canonical([ANY_SPACE, {}])):
            for calibration in self.calibrations:
                if space_of(calibration) == wanted:
                    return calibration
        return None

    def to_json(self) -> str:
        """The file's text: sorted, so that tables can be compared line by line.

        Raises:
            TableError: If a record is not what the schema allows.
        """
        content = msgspec.to_builtins(
            {
                "schema_version": SCHEMA_VERSION,
                "conditions": self.conditions,
                "rows": self.sorted_rows(),
                "calibrations": self.calibrations,
                "campaigns": self.campaigns,
            }
        )
        content["checksum"] = checksum_of(content)
        try:
            # Not a file that load would refuse; and 1 microsecond is 1.0, however it was given.
            content = msgspec.to_builtins(msgspec.convert(content, TableFile))
        except msgspec.ValidationError as error:
            raise TableError(
                f"{self.path} was not written: {explained(str(error), content)}. Leave that "
                "record out, or measure it again"
            ) from None
        content["checksum"] = checksum_of(content)
        return f"{json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)}\n"

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
        path = table_path(source)
        raw = read_json(path)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if type(version) is int and version > SCHEMA_VERSION:
            raise TableError(
                f"{path} has schema version {version}, and this goldnas reads up to "
                f"{SCHEMA_VERSION}. Upgrade goldnas"
            )
        try:
            if version == 1:
                raw = migrate(raw)
            elif version != SCHEMA_VERSION:
                problem = f"schema_version is {version!r}, not {SCHEMA_VERSION}"
                raise MalformedTableError(path, problem)
            file = msgspec.convert(raw, TableFile)
        except msgspec.ValidationError as error:
            raise MalformedTableError(path, explained(str(error), raw)) from None
        if repeated := duplicates((row.operator, row.site) for row in file.rows):
            number, (operator, site) = repeated[0]
            problem = f"rows[{number}]: {operator} at {site} is there twice"
            raise MalformedTableError(path, problem)
        if (checksum := checksum_of(raw)) != file.checksum:
            problem = (
                "it was edited or damaged after goldnas wrote it: its checksum is "
                f"{file.checksum[:15]}..., that of its content {checksum[:15]}..."
            )
            raise MalformedTableError(path, problem)
        return cls(file.conditions, file.rows, path, file.calibrations, file.campaigns)


class MalformedTableError(TableError):
    """A file that is not a latency table, or is one no longer.

    Args:
        path: Of the file.
        problem: In one line, the place first.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path} is not a latency table: {problem}. Give the path of one; if this was one, "
            "restore it, or delete it and measure again with: "
            f"goldnas profile --device cpu --out {shlex.quote(str(path))}"
        )
        self.problem = problem


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def space_of(calibration: Calibration) -> str:
    """Names the space of a calibration with its settings; equal for equal ones."""
    return _canonical([calibration.space, calibration.settings])


def table_path(source: str | Path) -> Path:
    """The file that a command line means: a path, or the bare name of a shipped table.

    Raises:
        TableError: If it is a bare name and none has it.
    """
    path = Path(source)
    if path.name == str(path) and not path.suffix and not os.path.exists(path):
        shipped = shipped_tables()
        if path.name not in shipped:
            raise TableError(
                f"goldnas ships no latency table {path.name!r} "
                f"({', '.join(shipped) or 'none yet'}), and there is no such file. Measure one "
                f"with: goldnas profile --device cpu --out {shlex.quote(f'{path}.json')}"
            )
        return shipped[path.name]
    return path


def shipped_tables() -> dict[str, Path]:
    """The tables that goldnas ships, by name."""
    from importlib.resources import files

    folder = Path(str(files("goldnas.lut")))
    return {path.stem: path for path in sorted(folder.glob("*.json")) if path.name != _SCHEMA}


def read_json(path: Path) -> Any:
    """Read a file as JSON.

    Raises:
        MalformedTableError: If it is none.
        TableError: If it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TableError(
            f"there is no latency table {path}. Measure one with: "
            f"goldnas profile --device cpu --out {shlex.quote(str(path))}"
        ) from None
    except OSError as error:
        raise TableError(
            f"cannot read the latency table {path}: {error.strerror}. "
            "Give the path of a file that goldnas profile wrote"
        ) from None
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8 text"
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}, column {error.colno}: not JSON ({error.msg})"
    except (ValueError, RecursionError) as error:
        problem = f"not JSON ({error})"
    raise MalformedTableError(path, problem)


def duplicates(
    keys: Iterable[tuple[str, str]],
) -> list[tuple[int, tuple[str, str]]]:
    """The keys that came before, each with its number."""
    seen: set[tuple[str, str]] = set()
    repeated = []
    for number, key in enumerate(keys):
        if key in seen:
            repeated.append((number, key))
        seen.add(key)
    return repeated


def explained(error: str, raw: dict[str, Any]) -> str:
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
