"""Whether a latency table deserves trust: everything that is wrong with it, not the first."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from goldnas.errors import ConfigError
from goldnas.lut.lint.calibrations import calibration_findings, campaign_findings
from goldnas.lut.lint.copies import copies_from
from goldnas.lut.lint.findings import Finding
from goldnas.lut.lint.rows import row_findings
from goldnas.lut.migrations import MeasuredV1, RowV1, migrate_row
from goldnas.lut.schema import (
    SCHEMA_VERSION,
    Calibration,
    Campaign,
    Conditions,
    Failed,
    Row,
    TableFile,
    checksum_of,
    row_key,
)
from goldnas.lut.table import (
    LatencyTable,
    MalformedTableError,
    duplicates,
    explained,
    read_json,
    shipped_tables,
    table_path,
)


def lint(source: str | Path, against: Iterable[str | Path] = ()) -> list[Finding]:
    """Everything that is wrong with a table, also with one that cannot be loaded.

    Args:
        source: A path, or the name of a shipped table.
        against: Tables of other devices, whose rows it should not have; the shipped ones
            are always among them.

    Raises:
        TableError: If the file cannot be read at all, or one of ``against`` is no table.
    """
    path = table_path(source)
    others = [LatencyTable.load(other) for other in [*against, *shipped_tables().values()]]
    try:
        raw = read_json(path)
    except MalformedTableError as error:
        return [Finding("json", "file", error.problem)]
    if not isinstance(raw, dict) or not {"schema_version", "rows"} & raw.keys():
        what = f"an object with {', '.join(map(str, raw)) or 'nothing'}"
        found = what[:80] if isinstance(raw, dict) else f"a {type(raw).__name__}"
        return [Finding("schema", "file", f"some other JSON, {found}: no latency table")]
    if raw.get("schema_version") not in (1, SCHEMA_VERSION):
        found = f"is {raw.get('schema_version')!r}; this goldnas knows 1 and {SCHEMA_VERSION}"
        return [Finding("schema", "schema_version", found)]

    findings = list(_file_findings(raw))
    conditions = _parts(raw, "conditions", Conditions, findings)
    rows = _rows(raw, findings)
    calibrations = _parts(raw, "calibrations", Calibration, findings)
    campaigns = _parts(raw, "campaigns", Campaign, findings)
    known = conditions[0] if conditions else None
    findings += _condition_findings(known)
    findings += row_findings(rows, known)
    for calibration in calibrations:
        findings += calibration_findings(calibration, rows)
    findings += campaign_findings(campaigns)
    for other in others:
        if other.path.resolve() != path.resolve() and not (
            known and not known.differences(other.conditions)
        ):
            findings += copies_from(other, rows)
    return findings


def _file_findings(raw: dict[str, Any]) -> Iterator[Finding]:
    if raw["schema_version"] == 1:
        return
    fields = TableFile.__struct_fields__
    for name in raw.keys() - set(fields):
        yield Finding("schema", str(name), "unknown field; times are in fields that end in _us")
    checksum = checksum_of(raw)
    if "checksum" not in raw:
        yield Finding("checksum", "checksum", f"missing; the content has {checksum[:15]}...")
    elif raw["checksum"] != checksum:
        found = f"is {str(raw['checksum'])[:15]}..., the content has {checksum[:15]}..."
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
    kind: Any = RowV1 if raw["schema_version"] == 1 else Row
    sound: Sequence[Row | MeasuredV1] = _parts(raw, "rows", kind, findings)
    records = raw.get("rows")
    keys = [
        (str(record.get("operator")), str(record.get("site", "")))
        for record in (records if isinstance(records, list) else [])
        if isinstance(record, dict)
    ]
    findings += [
        Finding("duplicate", row_key(*key), f"rows[{number}] is there twice")
        for number, key in duplicates(keys)
    ]
    once = {(row.operator, row.site): row for row in sound}
    return tuple(
        migrate_row(row) if isinstance(row, MeasuredV1 | Failed) else row
        for row in once.values()
    )


def _schema_finding(place: str, record: Any, error: str) -> Finding:
    """Say what a record has against it, under the rule that fits the value."""
    text = explained(error, record)
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
        place = row_key(record["operator"], str(record.get("site", "")))
    return Finding(rule, place, text)


def _condition_findings(conditions: Conditions | None) -> Iterator[Finding]:
    if conditions is None:
        return
    for name, value in msgspec.structs.asdict(conditions).items():
        if isinstance(value, str) and value.strip().lower() in ("", "unknown", "none", "n/a"):
            yield Finding("missing-condition", f"conditions.{name}", f"is {value!r}")
