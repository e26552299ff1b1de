"""The latency table: one JSON file per device, runtime and setting; README.md has its schema.

The table separates measuring from searching: profiling writes the file, a search reads it, and
neither imports the other.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import msgspec

from goldnas.errors import TableError, count_of, list_some
from goldnas.files import write_atomic
from goldnas.lut.keys import format_row_key, format_space_key
from goldnas.lut.reading import explain_error, read_table
from goldnas.lut.schema import (
    ANY_SPACE,
    FITTED,
    IMPORTED,
    SCHEMA_VERSION,
    Calibration,
    Campaign,
    Conditions,
    Interpolated,
    Measured,
    Row,
    TableFile,
    compute_checksum,
)
from goldnas.site import AnySite, Site, parse_site

_MOST_LISTED = 100
"""Rows that an error names where no command can measure them."""


@dataclass(frozen=True)
class LatencyTable:
    """Microseconds by operator and site, and the conditions of the measurement."""

    conditions: Conditions
    rows: tuple[Row, ...]
    path: Path
    calibrations: tuple[Calibration, ...] = ()
    campaigns: tuple[Campaign, ...] = ()

    @property
    def name(self) -> str:
        """The name of the table in budgets: ``pi5`` for ``lut/pi5.json``."""
        return self.path.stem

    @cached_property
    def _index(self) -> dict[str, Row]:
        return {row.key: row for row in self.rows}

    def latency_us(
        self,
        operator: str,
        site: AnySite,
        *,
        space: str = "space",
        rows: Callable[[], Iterable[tuple[str, AnySite]]] = tuple,
    ) -> float:
        """Look up one operator at one site, in microseconds.

        Args:
            operator: Registered name of the operator.
            site: The operator's place.
            space: The space in Python, for the call in the error message.
            rows: All rows that the space needs, for the error message.

        Raises:
            TableError: If the row was not measured, or its measurement failed. The message
                lists all other rows of the space that have no latency.
        """
        row = self._index.get(format_row_key(operator, site))
        if isinstance(row, Measured | Interpolated):
            return row.latency_us
        missing = dict.fromkeys(self.missing(rows()))
        others = [other for other in missing if other != (operator, site)]
        problem = f"{self.path} has no latency for {operator} at {site}"
        if row is not None:
            problem += f": its measurement failed ({row.error})"
        elif not others:
            have = [r.site for r in self.rows if r.operator == operator]
            problem += f"; for {operator} it has {list_some(have, 3) or 'no site at all'}"
        if others:
            texts = [f"{name} at {place}" for name, place in others]
            listed = list_some(texts, 3 if self.was_measured else _MOST_LISTED)
            problem += f", nor for {count_of(len(others), 'other row')}: {listed}"
        raise TableError(f"{problem}. {self._advise(space, again=row is not None)}")

    @property
    def was_measured(self) -> bool:
        """Whether goldnas measured the rows, and can measure more."""
        return not self.conditions.protocol.name.startswith((IMPORTED, FITTED))

    def _advise(self, space: str, *, again: bool) -> str:
        if self.was_measured:
            verb = "Measure it again" if again else "Add it"
            return f"{verb} with: `{self.profile_call(space)}`"
        if self.conditions.protocol.name == FITTED:
            return "Fit the table again, to networks with columns of these names"
        return (
            "Import the table again with `names`, a map from keys of the file to these rows, "
            "or choose settings of the space that the table has rows for"
        )

    def profile_call(self, space: str) -> str:
        """The call that adds the rows of a space to this table.

        Args:
            space: The space in Python, as ``SearchSpace.call`` writes it.
        """
        conditions = self.conditions
        settings: dict[str, object] = {"device": conditions.device, "batch": conditions.batch}
        if conditions.gpu:
            options = {
                name: value
                for name, value in conditions.backend_options.items()
                if name not in ("provider", "cuda", "cudnn")  # as found, not as chosen
            }
            settings |= {"backend": conditions.runtime, "precision": conditions.precision}
            settings |= {"provider_options": options} if options else {}
        else:
            settings |= {"threads": conditions.threads}
        if not conditions.called.is_hot:
            settings |= {"loop": str(conditions.called)}
        settings |= {"out": str(self.path)}
        return f"profile({space}, {', '.join(f'{k}={v!r}' for k, v in settings.items())})"

    def missing(self, rows: Iterable[tuple[str, AnySite]]) -> tuple[tuple[str, AnySite], ...]:
        """The rows without a latency: missing from the table, or failed."""
        return tuple(
            (operator, site) for operator, site in rows if not self.has(operator, site)
        )

    def has(self, operator: str, site: AnySite) -> bool:
        """Whether there is a latency of an operator at a site."""
        row = self._index.get(format_row_key(operator, site))
        return isinstance(row, Measured | Interpolated)

    def with_rows(self, rows: Iterable[Row]) -> "LatencyTable":
        """A table with these rows added; each replaces an earlier row of its key."""
        new = {row.key: row for row in rows}
        return replace(self, rows=tuple((self._index | new).values()))

    def sorted_rows(self) -> list[Row]:
        """The rows by operator and site, sites in the order of their numbers."""

        def place(row: Row) -> tuple[str, bool, tuple[AnySite, ...]]:
            site = parse_site(row.site) if row.site else None
            return row.operator, isinstance(site, Site), () if site is None else (site,)

        return sorted(self.rows, key=place)

    def with_calibration(self, calibration: Calibration) -> "LatencyTable":
        """A table with this calibration; it replaces an earlier one of its space."""
        kept = [c for c in self.calibrations if c.space_key != calibration.space_key]
        return replace(self, calibrations=(*kept, calibration))

    def with_campaign(self, campaign: Campaign) -> "LatencyTable":
        """A table with the record of this campaign added."""
        return replace(self, campaigns=(*self.campaigns, campaign))

    def calibration_for(self, space: str, settings: dict[str, Any]) -> Calibration | None:
        """The calibration of a space; else the calibration without a space, or None.

        Args:
            space: Name of the space.
            settings: Settings of the space, as in its architectures.
        """
        for wanted in (format_space_key(space, settings), format_space_key(ANY_SPACE, {})):
            for calibration in self.calibrations:
                if calibration.space_key == wanted:
                    return calibration
        return None

    def to_json(self) -> str:
        """The file's text: sorted, so that tables can be compared line by line.

        Raises:
            TableError: If a record breaks the schema.
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
        content["checksum"] = f"sha256:{'0' * 64}"  # until it is known
        try:
            # Not a file that load would refuse; and 1 microsecond is 1.0, however it was given.
            content = msgspec.to_builtins(msgspec.convert(content, TableFile))
        except msgspec.ValidationError as error:
            raise TableError(
                f"{self.path} was not written: {explain_error(str(error), content)}. Leave "
                "that record out, or measure it again"
            ) from None
        content["checksum"] = compute_checksum(content)
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return f"{msgspec.json.format(text, indent=2)}\n"

    def save(self, path: Path | None = None) -> None:
        """Write the file in one step, by default to the path that it was read from.

        Raises:
            WriteError: If the disk refuses; an earlier file is intact.
        """
        write_atomic(path or self.path, self.to_json())

    @classmethod
    def load(cls, source: str | Path) -> Self:
        """Read a table.

        Args:
            source: Path of the table.

        Raises:
            TableError: If there is no such file, or it is not a table of this schema.
        """
        path = Path(source)
        file = read_table(path)
        return cls(file.conditions, file.rows, path, file.calibrations, file.campaigns)
