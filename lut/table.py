"""The latency table: one JSON file per device, runtime and setting; README.md has its schema.

The table separates measuring from searching: profiling writes the file, a search reads it, and
neither imports the other.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import msgspec

from goldnas.errors import TableError, count_of, list_some
from goldnas.files import write_atomic
from goldnas.lut.keys import format_row_key, format_space_key
from goldnas.lut.loop import QuantileName
from goldnas.lut.reading import explain_error, read_table
from goldnas.lut.schema import (
    ANY_SPACE,
    FITTED,
    IMPORTED,
    SCHEMA_VERSION,
    AnyCalibration,
    Calibration,
    Campaign,
    Conditions,
    EnergyCalibration,
    Failed,
    Row,
    TableFile,
    choose_form,
    compute_checksum,
)
from goldnas.resource_names import LATENCY
from goldnas.site import AnySite, Site, parse_site
from goldnas.units import name_base_unit

_MOST_LISTED = 100
"""Rows that an error names where no command can measure them."""


@dataclass(frozen=True)
class LatencyTable:
    """Costs by operator and site, and the conditions of the measurement.

    The costs are microseconds, or the microjoules of a table of energies.
    """

    conditions: Conditions
    rows: tuple[Row, ...]
    path: Path
    calibrations: tuple[AnyCalibration, ...] = ()
    campaigns: tuple[Campaign, ...] = ()
    quantiles_us: Mapping[str, Mapping[QuantileName, float]] = field(default_factory=dict)
    """Of rows that are whole networks, called in the loop of the conditions: quantiles of their
    calls in microseconds, by the key of the row. The file of a table has none."""

    @property
    def name(self) -> str:
        """The name of the table in budgets: ``pi5`` for ``lut/pi5.json``."""
        return self.path.stem

    @property
    def kind(self) -> str:
        """What the table predicts: ``latency`` or ``energy``."""
        return self.conditions.kind

    @property
    def unit(self) -> str:
        """The unit of its costs: ``us`` or ``uJ``."""
        return name_base_unit(self.kind)

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
        """Look up one operator at one site in a table of times, in microseconds.

        Args and errors are those of :meth:`cost`.

        Raises:
            TableError: If the table has energies.
        """
        self.check_times()
        return self.cost(operator, site, space=space, rows=rows)

    def check_times(self) -> None:
        """Refuse a table of energies.

        Raises:
            TableError: If it is one.
        """
        if self.kind != LATENCY:
            raise TableError(
                f"{self.path} is a table of energies, and goldnas measures only times: give a "
                "table of times"
            )

    def cost(
        self,
        operator: str,
        site: AnySite,
        *,
        space: str = "space",
        rows: Callable[[], Iterable[tuple[str, AnySite]]] = tuple,
    ) -> float:
        """Look up one operator at one site, in microseconds or microjoules.

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
        if row is not None and not isinstance(row, Failed):
            return row.cost
        missing = dict.fromkeys(self.missing(rows()))
        others = [other for other in missing if other != (operator, site)]
        problem = f"{self.path} has no {self.kind} for {operator} at {site}"
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
        return row is not None and not isinstance(row, Failed)

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
        """:meth:`fitted_for` of a table of times.

        Raises:
            TableError: If the table has energies.
        """
        self.check_times()
        fitted = self.fitted_for(space, settings)
        assert not isinstance(fitted, EnergyCalibration)
        return fitted

    def fitted_for(self, space: str, settings: dict[str, Any]) -> AnyCalibration | None:
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
            }
            | ({"campaigns": self.campaigns} if self.kind == LATENCY else {})
        )
        content["checksum"] = f"sha256:{'0' * 64}"  # until it is known
        try:
            # Not a file that load would refuse; and 1 microsecond is 1.0, however it was given.
            content = msgspec.to_builtins(msgspec.convert(content, choose_form(content)))
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
        campaigns = file.campaigns if isinstance(file, TableFile) else ()
        return cls(file.conditions, file.rows, path, file.calibrations, campaigns)


def check_same_kind(tables: Sequence[LatencyTable], what: str) -> None:
    """Refuse tables of times beside tables of energies.

    Args:
        tables: At least one.
        what: What times and energies cannot.

    Raises:
        TableError: Naming two of them.
    """
    first = tables[0]
    for other in tables[1:]:
        if other.kind != first.kind:
            raise TableError(
                f"{first.path} has values in {first.unit} and {other.path} in {other.unit}: "
                f"times and energies {what}. Give tables of one unit"
            )
