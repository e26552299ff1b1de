"""All problems of a table's file, not only the first."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from goldnas.errors import ConfigError, name_type
from goldnas.lut.keys import format_row_key
from goldnas.lut.lint.calibrations import check_calibration, check_campaigns
from goldnas.lut.lint.copies import find_copies_from
from goldnas.lut.lint.findings import Finding
from goldnas.lut.lint.rows import check_rows
from goldnas.lut.reading import (
    MalformedTableError,
    explain_error,
    find_repeated,
    read_json,
)
from goldnas.lut.schema import (
    SCHEMA_VERSION,
    Calibration,
    Campaign,
    Conditions,
    EnergyCalibration,
    EnergyConditions,
    EnergyTableFile,
    Failed,
    Interpolated,
    InterpolatedEnergy,
    Measured,
    Row,
    choose_form,
    compute_checksum,
)
from goldnas.lut.table import LatencyTable
from goldnas.resource_names import ENERGY


def lint(source: str | Path, against: Iterable[str | Path] = ()) -> list[Finding]:
    """All problems of a table, even if the table cannot be loaded.

    Args:
        source: Path of the table.
        against: Tables of other devices; the table must not contain their rows.

    Raises:
        TableError: If the file cannot be read at all, or one of ``against`` is not a table.
    """
    path = Path(source)
    others = [LatencyTable.load(other) for other in against]
    try:
        raw = read_json(path)
    except MalformedTableError as error:
        return [Finding("json", "file", error.problem)]
    if not isinstance(raw, dict) or not {"schema_version", "rows"} & raw.keys():
        found = name_type(raw)
        if isinstance(raw, dict):
            found = f"an object with {', '.join(raw) or 'nothing'}"[:80]
        return [Finding("schema", "file", f"not a latency table, but {found}")]
    if raw.get("schema_version") != SCHEMA_VERSION:
        found = f"is {raw.get('schema_version')!r}; this goldnas reads {SCHEMA_VERSION}"
        return [Finding("schema", "schema_version", found)]

    findings = list(_file_findings(raw))
    of_energies = choose_form(raw) is EnergyTableFile
    conditions = _parts(
        raw, "conditions", EnergyConditions if of_energies else Conditions, findings
    )
    rows = _rows(raw, findings)
    calibrations = _parts(
        raw, "calibrations", EnergyCalibration if of_energies else Calibration, findings
    )
    campaigns = [] if of_energies else _parts(raw, "campaigns", Campaign, findings)
    known = conditions[0] if conditions else None
    findings += _condition_findings(known, rows)
    # Of the sizes of one network there are whole networks alone, and costs fitted to them.
    whole = bool(calibrations) and all(c.is_of_sizes for c in calibrations)
    fitted = {key for c in calibrations for key in c.costs}
    if rows or not whole:
        findings += check_rows(rows, known, fitted)
    for calibration in calibrations:
        findings += check_calibration(calibration, rows)
    findings += check_campaigns(campaigns)
    for other in others:
        if of_energies != (other.kind == ENERGY):
            continue  # a table of energies may be one of times, multiplied by a power
        if other.path.resolve() != path.resolve() and not (
            known and not known.differences(other.conditions)
        ):
            findings += find_copies_from(other, rows)
    return findings


def _file_findings(raw: dict[str, Any]) -> Iterator[Finding]:
    fields = choose_form(raw).__struct_fields__
    for name in raw.keys() - set(fields):
        found = "unknown field; fields of times end in _us, and fields of energies in _uj"
        yield Finding("schema", str(name), found)
    checksum = compute_checksum(raw)
    if "checksum" not in raw:
        yield Finding("checksum", "checksum", f"missing; for this content: {checksum[:15]}...")
    elif raw["checksum"] != checksum:
        found = f"is {str(raw['checksum'])[:15]}..., but should be {checksum[:15]}..."
        yield Finding("checksum", "checksum", found)


def _parts(raw: dict[str, Any], name: str, kind: Any, findings: list[Finding]) -> list[Any]:
    """Those of a field's records that follow the schema; findings for the others."""
    required = name in ("conditions", "rows")
    if name not in raw and required:
        findings.append(Finding("schema", name, "missing"))
    value = raw.get(name, [])
    records = value if name != "conditions" else [value] if name in raw else []
    if not isinstance(records, list):
        findings.append(Finding("schema", name, f"must be a list, is {json.dumps(value)[:60]}"))
        return []
    sound = []
    for number, record in enumerate(records):
        place = name if name == "conditions" else f"{name}[{number}]"
        try:
            sound.append(msgspec.convert(record, kind))
        except (msgspec.ValidationError, ConfigError) as error:
            findings.append(_schema_finding(place, record, str(error)))
    return sound


def _rows(raw: dict[str, Any], findings: list[Finding]) -> tuple[Row, ...]:
    kinds: Any = Measured | Interpolated | Failed
    if choose_form(raw) is EnergyTableFile:
        kinds = InterpolatedEnergy | Failed
    sound: list[Row] = _parts(raw, "rows", kinds, findings)
    records = raw.get("rows")
    keys = [
        _key(record)
        for record in (records if isinstance(records, list) else [])
        if isinstance(record, dict)
    ]
    findings += [
        Finding("duplicate", keys[number], f"rows[{number}] repeats an earlier row")
        for number in find_repeated(keys)
    ]
    return tuple({row.key: row for row in sound}.values())


def _key(record: dict[str, Any]) -> str:
    return format_row_key(str(record.get("operator")), str(record.get("site", "")))


def _schema_finding(place: str, record: Any, error: str) -> Finding:
    """Say what a record has against it, under the rule that fits the value."""
    text = explain_error(error, record)
    value = text.rpartition(", is ")[2].partition(";")[0]
    rule = "schema"
    try:
        number = float(value)
    except ValueError:
        number = 1.0
        if "must be finite" in text:
            rule = "not-finite"
    if not math.isfinite(number):
        rule = "not-finite"
    elif number <= 0:
        rule = "zero" if number == 0 else "negative"
    if isinstance(record, dict) and isinstance(record.get("operator"), str):
        place = _key(record)
    return Finding(rule, place, text)


def _condition_findings(
    conditions: Conditions | None, rows: Sequence[Row]
) -> Iterator[Finding]:
    if conditions is None:
        return
    # Of a table that others measured, nobody here can know more than they say.
    measured_here = not rows or any(isinstance(row, Measured) for row in rows)
    rule = "missing-condition" if measured_here else "unknown-condition"
    for name, value in msgspec.structs.asdict(conditions).items():
        if isinstance(value, str) and value.strip().lower() in ("", "unknown", "none", "n/a"):
            yield Finding(rule, f"conditions.{name}", f"is {value!r}")
