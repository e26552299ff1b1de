import copy
import datetime
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import MakeRow
from goldnas.errors import TableError, WriteError
from goldnas.lut import (
    Accuracy,
    Calibration,
    Campaign,
    Conditions,
    Failed,
    Interpolated,
    LatencyTable,
    NetworkLatency,
    Row,
    parse_row_key,
)
from goldnas.lut.schema import make_json_schema
from goldnas.site import Site

SITE = Site(16, 16, 32, 32)
OTHER = Site(128, 128, 8, 8)
CALIBRATION = Calibration(
    space="gold",
    settings={"cells": 6, "channels": 16, "input_shape": [3, 32, 32]},
    intercept_us=-3.5,
    latencies_us={"sep_conv_3x3 16x32x32->16/s1": 39.5},
    prior_us={"sep_conv_3x3 16x32x32->16/s1": 40.25},
    accuracy=Accuracy(
        networks=1,
        mape_percent=1.5,
        within_5_percent=100.0,
        within_10_percent=100.0,
        spearman=None,
        kendall=None,
    ),
    noise_floor_percent=0.5,
    networks=(
        NetworkLatency(
            fingerprint="0123abcd",
            parts={"sep_conv_3x3 16x32x32->16/s1": 7},
            latency_us=273.0,
            interval_us=1.0,
        ),
    ),
)
CAMPAIGN = Campaign(
    measured_on=datetime.date(2026, 1, 31),
    rows=3,
    networks=1,
    seconds=60.0,
    aa_percent=0.5,
    drift_percent=3.0,
)


@pytest.fixture
def rows(make_row: MakeRow) -> tuple[Row, ...]:
    return (
        make_row("sep_conv_3x3", OTHER, 12.5),
        make_row("sep_conv_3x3", SITE, 40.25),
        Failed(operator="max_pool_3x3", site=str(SITE), error="onnxruntime: no such node"),
        Interpolated(operator="mbconv_k3", latency_us=7.5, source="20 networks"),
    )


@pytest.fixture
def table(conditions: Conditions, rows: tuple[Row, ...], tmp_path: Path) -> LatencyTable:
    table = LatencyTable(conditions, rows, tmp_path / "t.json", (CALIBRATION,), (CAMPAIGN,))
    table.save()
    return table


def test_a_table_comes_back_as_it_was_saved(table: LatencyTable) -> None:
    loaded = LatencyTable.load(table.path)
    assert loaded.conditions == table.conditions
    assert set(loaded.rows) == set(table.rows)
    assert loaded.calibrations == (CALIBRATION,)
    assert loaded.campaigns == (CAMPAIGN,)
    assert loaded.name == "t"
    assert loaded.to_json() == table.path.read_text()


def test_the_file_is_sorted_by_operator_and_site_whatever_the_order(
    table: LatencyTable,
) -> None:
    backwards = replace(table, rows=table.rows[::-1])
    assert backwards.to_json() == table.to_json()
    raw = json.loads(table.to_json())
    assert list(raw) == sorted(raw)
    assert all(list(row) == sorted(row) for row in [raw["conditions"], *raw["rows"]])
    sites = [(row["operator"], row["site"]) for row in raw["rows"]]
    assert sites == [
        ("max_pool_3x3", "16x32x32->16/s1"),
        ("mbconv_k3", ""),
        ("sep_conv_3x3", "16x32x32->16/s1"),
        ("sep_conv_3x3", "128x8x8->128/s1"),
    ]


@pytest.mark.parametrize(
    ("operator", "site", "key"),
    [
        ("sep_conv_3x3", "16x32x32->16/s1", "sep_conv_3x3 16x32x32->16/s1"),
        ("my_spaces:net/stem", "3x8->4", "my_spaces:net/stem 3x8->4"),
        ("mbconv_k3", "", "mbconv_k3"),
        ("a column", "", "a column"),
        ("16x32x32->16/s1", "", "16x32x32->16/s1"),
    ],
)
def test_a_key_is_made_of_operator_and_site_and_comes_apart_again(
    operator: str, site: str, key: str
) -> None:
    assert Interpolated(operator=operator, site=site, latency_us=1.0, source="x").key == key
    assert parse_row_key(key) == (operator, site)


def test_a_measured_row_is_found(table: LatencyTable) -> None:
    assert table.latency_us("sep_conv_3x3", SITE) == 40.25


def test_a_missing_row_is_an_error_with_the_command_that_adds_it(table: LatencyTable) -> None:
    with pytest.raises(TableError) as caught:
        table.latency_us("sep_conv_3x3", Site(8, 8, 4, 4), space="space('gold', channels=8)")
    assert str(caught.value) == (
        f"{table.path} has no latency for sep_conv_3x3 at 8x4x4->8/s1; for sep_conv_3x3 it has "
        "128x8x8->128/s1, 16x32x32->16/s1. Add it with: `profile(space('gold', channels=8), "
        f"device='cpu', batch=1, threads=1, out='{table.path}')`"
    )


def test_an_operator_that_is_not_there_at_all_is_said_so(table: LatencyTable) -> None:
    with pytest.raises(TableError, match="for skip_connect it has no site at all"):
        table.latency_us("skip_connect", SITE)


def test_a_failed_row_is_an_error_and_not_a_zero(table: LatencyTable) -> None:
    with pytest.raises(TableError, match=r"measurement failed \(onnxruntime: no such node\)"):
        table.latency_us("max_pool_3x3", SITE)


def test_missing_rows_are_the_absent_and_the_failed(table: LatencyTable) -> None:
    wanted = [("sep_conv_3x3", SITE), ("max_pool_3x3", SITE), ("skip_connect", SITE)]
    assert table.missing(wanted) == (("max_pool_3x3", SITE), ("skip_connect", SITE))


def test_a_new_row_replaces_the_failed_one(table: LatencyTable, make_row: MakeRow) -> None:
    repaired = table.with_rows([make_row("max_pool_3x3", SITE, 3.0)])
    assert repaired.latency_us("max_pool_3x3", SITE) == 3.0
    assert len(repaired.rows) == len(table.rows)


def test_a_calibration_is_found_by_space_and_settings(table: LatencyTable) -> None:
    settings = {"input_shape": (3, 32, 32), "channels": 16, "cells": 6}  # as a space has them
    assert table.calibration_for("gold", settings) == CALIBRATION
    assert table.calibration_for("gold", settings | {"cells": 7}) is None
    assert table.calibration_for("chain", settings) is None


def test_a_calibration_replaces_the_one_of_its_space_only(table: LatencyTable) -> None:
    again = msgspec.structs.replace(CALIBRATION, intercept_us=5.0)
    deeper = msgspec.structs.replace(CALIBRATION, settings={"cells": 9})
    assert table.with_calibration(again).calibrations == (again,)
    assert table.with_calibration(deeper).calibrations == (CALIBRATION, deeper)


def test_campaigns_add_up(table: LatencyTable) -> None:
    assert table.with_campaign(CAMPAIGN).campaigns == (CAMPAIGN, CAMPAIGN)


def test_conditions_that_differ_are_named_but_another_day_is_not(
    conditions: Conditions,
) -> None:
    later = msgspec.structs.replace(
        conditions,
        measured_on=datetime.date(2027, 1, 1),
        os="Linux 7.0",
        threads=2,
        protocol=msgspec.structs.replace(conditions.protocol, rounds=9),
    )
    assert conditions.differences(later) == [
        "threads was 1, is now 2",
        "protocol.rounds was 1, is now 9",
    ]


def test_a_row_that_no_file_may_have_is_not_written(
    table: LatencyTable, make_row: MakeRow
) -> None:
    """The campaign that made it learns of it at once, and the file stays as it was."""
    before = table.path.read_bytes()
    with pytest.raises(
        TableError, match=r"not written: rows\[\d\].latency_us: .*>= 1e-09, is -2"
    ):
        table.with_rows([make_row("max_pool_3x3", SITE, -2.0)]).save()
    assert table.path.read_bytes() == before


def test_a_table_that_cannot_be_written_leaves_nothing(table: LatencyTable) -> None:
    with pytest.raises(WriteError, match="cannot write"):
        table.save(table.path / "inside-a-file.json")
    assert [path.name for path in table.path.parent.iterdir()] == ["t.json"]


def test_opening_a_table_needs_no_torch(table: LatencyTable) -> None:
    code = (
        "import sys; from goldnas.lut import LatencyTable; "
        f"LatencyTable.load({str(table.path)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


# -- files that are no tables ------------------------------------------------------------------


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def edit(good: bytes) -> bytes:
        raw = json.loads(good)
        change(raw)
        return json.dumps(raw).encode()

    return edit


def row(**fields: object) -> Callable[[bytes], bytes]:
    """Set fields of a measured row."""
    return edited(lambda raw: raw["rows"][2].update(fields))


BAD = {
    "empty": (lambda good: b"", "line 1, column 1: not JSON"),
    "truncated": (lambda good: good[: len(good) // 2], r"line \d+, column \d+: not JSON"),
    "not JSON": (lambda good: b"latency: 5", "line 1, column 1: not JSON"),
    "not text": (lambda good: b"\xff\xfe" + good, "byte 0 is not UTF-8"),
    "nested without end": (lambda good: b"[" * 200_000, "not JSON"),
    "a list": (lambda good: b"[]", "schema_version is None"),
    "no version": (edited(lambda raw: raw.pop("schema_version")), "schema_version is None"),
    "version as text": (edited(lambda raw: raw.update(schema_version="1")), "version is '1'"),
    "older version": (
        edited(lambda raw: raw.update(schema_version=1)),
        "schema version 1, .* reads version 2",
    ),
    "newer version": (edited(lambda raw: raw.update(schema_version=3)), "Upgrade goldnas"),
    "no conditions": (edited(lambda raw: raw.pop("conditions")), "field 'conditions'"),
    "condition missing": (
        edited(lambda raw: raw["conditions"].pop("batch")),
        "conditions: Object missing required field 'batch'",
    ),
    "no threads": (
        edited(lambda raw: raw["conditions"].update(threads=0)),
        r"conditions.threads: Expected 'int' >= 1",
    ),
    "no date": (
        edited(lambda raw: raw["conditions"].update(measured_on="May")),
        r"conditions.measured_on: Invalid RFC3339",
    ),
    "another unit": (edited(lambda raw: raw.update(unit="ms")), "unknown field 'unit'; times"),
    "milliseconds": (row(latency_ms=0.1), r"rows\[2\]: .* unknown field 'latency_ms'; times"),
    "negative": (row(latency_us=-1.5), r"rows\[2\].latency_us: Expected 'float' >= 1e-09"),
    "zero": (row(latency_us=0), r"rows\[2\].latency_us: Expected 'float' >= 1e-09"),
    "NaN": (row(latency_us=float("nan")), r"rows\[2\].latency_us: Expected 'float' >= 1e-09"),
    "infinite": (row(latency_us=float("inf")), r"rows\[2\].latency_us: Expected 'float' <= "),
    "overflowing": (
        lambda good: good.replace(b"40.25", b"1e999"),
        r"Expected 'float' <= ",
    ),
    "an overflow in a sum": (row(interval_us=1e308), r"interval_us: Expected 'float' <= "),
    "a list for a number": (row(latency_us=[1]), r"latency_us: Expected 'float', got 'array'"),
    "half a character": (row(operator="\ud800"), "not JSON"),
    "values within values": (
        lambda good: good.replace(b"40.25", b"[" * 10**5),
        "not JSON",
    ),
    "digits without end": (lambda good: good.replace(b"40.25", b"9" * 5_000), "not JSON"),
    "text for a number": (row(latency_us="40.25"), r"latency_us: Expected 'float', got 'str'"),
    "null for a number": (row(latency_us=None), r"latency_us: Expected 'float', got 'null'"),
    "NaN interval": (row(interval_us=float("nan")), r"rows\[2\].interval_us: .*>= 0"),
    "no such method": (row(method="guess"), r"rows\[2\].method: Invalid enum value 'guess'"),
    "bad site": (row(site="16x32-16"), r"rows\[2\]: '16x32-16' is not a site"),
    "unknown status": (row(status="ok"), r"rows\[2\].status: Invalid value 'ok'"),
    "measured without latency": (
        edited(lambda raw: raw["rows"][2].pop("latency_us")),
        r"rows\[2\]: Object missing required field 'latency_us'",
    ),
    "failed with latency": (
        edited(lambda raw: raw["rows"][0].update(latency_us=1.0)),
        r"rows\[0\]: Object contains unknown field 'latency_us'",
    ),
    "failed without error": (
        edited(lambda raw: raw["rows"][0].pop("error")),
        r"rows\[0\]: Object missing required field 'error'",
    ),
    "interpolated from nothing": (
        edited(lambda raw: raw["rows"][1].pop("source")),
        r"rows\[1\]: Object missing required field 'source'",
    ),
    "no checksum": (
        edited(lambda raw: raw.pop("checksum")),
        "missing required field 'checksum'",
    ),
    "edited": (
        row(latency_us=41.0),
        r"edited or damaged .* its checksum is sha256:\w{8}\.\.\.",
    ),
    "another checksum": (
        edited(lambda raw: raw.update(checksum="sha256:" + "0" * 64)),
        r"its checksum is sha256:00000000\.\.\., .* sha256:\w{8}\.\.\.",
    ),
    "the same row twice": (
        edited(lambda raw: raw["rows"].append(copy.copy(raw["rows"][2]))),
        r"rows\[4\]: sep_conv_3x3 at 16x32x32->16/s1 occurs twice",
    ),
}


@pytest.mark.parametrize(("spoil", "problem"), BAD.values(), ids=BAD)
def test_a_bad_table_is_one_line_that_names_file_and_place(
    table: LatencyTable, spoil: Callable[[bytes], bytes], problem: str
) -> None:
    table.path.write_bytes(spoil(table.path.read_bytes()))
    with pytest.raises(TableError, match=problem) as caught:
        LatencyTable.load(table.path)
    message = str(caught.value)
    assert message.startswith(str(table.path))
    assert "\n" not in message
    assert message.endswith((f"`profile(space, device='cpu', out='{table.path}')`", "goldnas"))


def test_no_file_and_no_readable_file_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        TableError, match=r"no latency table .*gone.json. Measure one with: `prof"
    ):
        LatencyTable.load(tmp_path / "gone.json")
    with pytest.raises(TableError, match=r"Is a directory\. Give the path of a file"):
        LatencyTable.load(tmp_path)


def test_a_file_that_is_sealed_again_is_read(table: LatencyTable) -> None:
    """The checksum is defined by README.md, so that other programs can write tables."""
    content = json.loads(table.path.read_text())
    content["rows"][2]["latency_us"] = 41.0
    rest = {name: value for name, value in content.items() if name != "checksum"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    content["checksum"] = "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
    table.path.write_text(json.dumps(content))
    assert LatencyTable.load(table.path).latency_us("sep_conv_3x3", SITE) == 41.0


# -- the published schema ----------------------------------------------------------------------


def test_the_published_json_schema_is_that_of_the_code() -> None:
    """To write it anew, print ``json.dumps(make_json_schema(), indent=2)`` into the file."""
    published = resources.files("goldnas.lut") / "schema.json"
    assert json.loads(published.read_text()) == json.loads(json.dumps(make_json_schema()))
