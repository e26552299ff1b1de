"""A latency table that cannot be used: one clear line that says where, and what to do."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goldnas.errors import TableError
from goldnas.lut import Failed, LatencyTable, Row
from simulated_tables import Machine
from workplace import (
    LONG,
    NOT_A_TABLE,
    RESTORE,
    SEARCH,
    SPACE,
    TIMED,
    Case,
    Spoil,
    assert_refused,
    changed,
    halved,
    written,
)


def edited(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Change the text of the table's first row, of a classifier."""

    def edit() -> None:
        content = json.loads(Path("cpu.json").read_bytes())
        change(content["rows"][0])
        Path("cpu.json").write_text(json.dumps(content))

    return edit


def row(**fields: Any) -> Spoil:
    return edited(lambda first: first.update(fields))


def saved(change: Callable[[tuple[Row, ...]], tuple[Row, ...]]) -> Spoil:
    """Save the table with other rows, as a program would that has made a mistake."""

    def save() -> None:
        table = LatencyTable.load("cpu.json")
        replace(table, rows=change(table.rows)).save()

    return save


def in_ms(first: dict[str, Any]) -> None:
    first["latency_ms"] = first.pop("latency_us")


def failed(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    first = rows[0]
    error = "no kernel\nfor it"
    return Failed(operator=first.operator, site=first.site, error=error), *rows[1:]


CASES = {
    "missing": Case(
        f"{SEARCH} --budget 1s --latency-lut no.json",
        "no latency table no.json. Measure one with: goldnas profile .*--out no.json",
    ),
    "a folder": Case(
        f"{SEARCH} --budget 1s --latency-lut images",
        "cannot read the latency table images: Is a directory. Give the path of a file",
    ),
    "a name too long": Case(
        f"{SEARCH} --budget 1s --latency-lut {LONG}.json",
        "cannot read the latency table mmm.*: File name too long. Give the path",
    ),
} | {
    name: Case(f"{TIMED} --budget 1s", f"{NOT_A_TABLE}{problem}.*{RESTORE}", spoil)
    for name, problem, spoil in [
        ("empty", "line 1, column 1: not JSON", written("cpu.json")),
        ("truncated", r"line \d+, column \d+: not JSON", halved("cpu.json")),
        ("not JSON", "line 1, column 1: not JSON", written("cpu.json", b"<html>")),
        ("not UTF-8", "byte 2 is not UTF-8 text", written("cpu.json", b'{"\xff": 1}')),
        ("a list", "schema_version is None, not 2", written("cpu.json", b"[1]")),
        ("old schema", "schema_version is 0, not 2", changed("cpu.json", schema_version=0)),
        ("text schema", "schema_version is '2'", changed("cpu.json", schema_version="2")),
        ("negative", r"rows\[0\].latency_us: .*>= 1e-09, is -1.5", row(latency_us=-1.5)),
        ("zero", r"rows\[0\].latency_us: .*>= 1e-09, is 0", row(latency_us=0)),
        ("NaN", r"rows\[0\].latency_us: .*>= 1e-09, is NaN", row(latency_us=float("nan"))),
        (
            "infinite",
            r"rows\[0\].latency_us: .*<= .*, is Infinity",
            row(latency_us=float("inf")),
        ),
        (
            "text for number",
            r"rows\[0\].latency_us: Expected 'float'.*12",
            row(latency_us="12"),
        ),
        ("null", r"rows\[0\].latency_us: Expected 'float', got 'null'", row(latency_us=None)),
        (
            "milliseconds",
            r"rows\[0\]: .*unknown field 'latency_ms'; times in a table are in microseconds",
            edited(in_ms),
        ),
        ("bad site", r"rows\[0\]: '4x4' is not a site; .*looks like", row(site="4x4")),
        (
            "row twice",
            r"rows\[\d+\]: classifier at \S+ occurs twice",
            saved(lambda rows: (*rows, rows[0])),
        ),
    ]
}
CASES |= {
    "new schema": Case(
        f"{TIMED} --budget 1s",
        "cpu.json has schema version 99, .* reads up to 2. Upgrade goldnas",
        changed("cpu.json", schema_version=99),
    ),
    "old schema": Case(
        f"{TIMED} --budget 1s",
        "cpu.json is a latency table of schema version 1, of an earlier goldnas, .*"
        "Move the file away, and measure again with: goldnas profile .*--out cpu.json",
        changed("cpu.json", schema_version=1),
    ),
    "missing row": Case(
        f"{TIMED} --budget 1s",
        r"no latency for classifier at 64x2x2->10/s1; for classifier it has no site at all. "
        r"Add it with: goldnas profile ",
        saved(lambda rows: rows[1:]),
    ),
    "failed row": Case(
        f"{TIMED} --budget 1s",
        r"classifier at \S+: its measurement failed \(no kernel for it\). "
        r"Measure it again with: goldnas profile .*--cells 2 .*--out cpu.json",
        saved(failed),
    ),
    "two of one name": Case(
        f"{TIMED} --latency-lut run/tables/cpu.json --budget 1s@cpu",
        "two latency tables are named 'cpu', .*rename one",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_bad_table_is_one_clear_line_and_leaves_the_disk_alone(
    workplace: Path, case: Case
) -> None:
    assert_refused(case)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_settings_that_are_no_numbers_are_refused(tmp_path: Path, number: str) -> None:
    path = tmp_path / "cpu.json"
    Machine("made up").table(SPACE, path, networks=6)
    spoilt = path.read_text().replace('"settings": {', f'"settings": {{"width": {number},')
    path.write_text(spoilt)
    with pytest.raises(
        TableError, match=r"calibrations\[0\]: a number of .settings. is not finite"
    ):
        LatencyTable.load(path)
