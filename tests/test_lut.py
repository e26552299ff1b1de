import copy
import datetime
import json
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest

from goldnas.errors import TableError, WriteError
from goldnas.lut import Conditions, Failed, LatencyTable, Measured, MeasuringProtocol
from goldnas.site import Site

SITE = Site(16, 16, 32, 32)
CONDITIONS = Conditions(
    device="cpu",
    cpu_model="Some CPU",
    architecture="x86_64",
    os="Linux 6.1",
    backend="onnxruntime 1.2.3",
    backend_options={"graph_optimization": "all"},
    threads=1,
    batch=4,
    precision="fp32",
    measured_on=datetime.date(2026, 1, 31),
    protocol=MeasuringProtocol(
        name="isolated",
        processes=3,
        rounds=5,
        warmup_ms=4.0,
        visit_ms=16.0,
        min_calls=25,
        statistic="p25 over visits of p10 within a visit",
    ),
)


def measured(operator: str, site: Site, latency_us: float = 12.5) -> Measured:
    return Measured(
        operator=operator,
        site=str(site),
        latency_us=latency_us,
        min_us=12.0,
        p10_us=12.5,
        p25_us=12.75,
        median_us=13.0,
        spread=0.02,
        count=9000,
        visits=15,
    )


ROWS = (
    measured("sep_conv_3x3", Site(128, 128, 8, 8)),
    measured("sep_conv_3x3", SITE, 40.25),
    Failed(operator="max_pool_3x3", site=str(SITE), error="onnxruntime: no such node"),
)


@pytest.fixture
def table(tmp_path: Path) -> LatencyTable:
    table = LatencyTable(CONDITIONS, ROWS, tmp_path / "t.json")
    table.save()
    return table


def test_a_table_comes_back_as_it_was_saved(table: LatencyTable) -> None:
    loaded = LatencyTable.load(table.path)
    assert loaded.conditions == CONDITIONS
    assert set(loaded.rows) == set(ROWS)
    assert loaded.name == "t"
    assert loaded.to_json() == table.path.read_text()


def test_the_file_is_sorted_by_operator_and_site_whatever_the_order(
    table: LatencyTable,
) -> None:
    backwards = LatencyTable(CONDITIONS, ROWS[::-1], table.path)
    assert backwards.to_json() == table.to_json()
    raw = json.loads(table.to_json())
    assert list(raw) == sorted(raw)
    assert all(list(row) == sorted(row) for row in [raw["conditions"], *raw["rows"]])
    sites = [(row["operator"], row["site"]) for row in raw["rows"]]
    assert sites == [
        ("max_pool_3x3", "16x32x32->16/s1"),
        ("sep_conv_3x3", "16x32x32->16/s1"),
        ("sep_conv_3x3", "128x8x8->128/s1"),
    ]


def test_a_measured_row_is_found(table: LatencyTable) -> None:
    assert table.latency_us("sep_conv_3x3", SITE) == 40.25


def test_a_missing_row_is_an_error_with_the_command_that_adds_it(table: LatencyTable) -> None:
    with pytest.raises(TableError) as caught:
        table.latency_us("sep_conv_3x3", Site(8, 8, 4, 4), space_options="--channels 8")
    assert str(caught.value) == (
        f"{table.path} has no latency for sep_conv_3x3 at 8x4x4->8/s1; for sep_conv_3x3 it has "
        "128x8x8->128/s1, 16x32x32->16/s1. Add it with: goldnas profile --device cpu "
        f"--channels 8 --batch 4 --threads 1 --out {table.path}"
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


def test_a_new_row_replaces_the_failed_one(table: LatencyTable) -> None:
    repaired = table.with_rows([measured("max_pool_3x3", SITE, 3.0)])
    assert repaired.latency_us("max_pool_3x3", SITE) == 3.0
    assert len(repaired.rows) == len(ROWS)


def test_conditions_that_differ_are_named_but_another_day_is_not() -> None:
    later = msgspec.structs.replace(
        CONDITIONS,
        measured_on=datetime.date(2027, 1, 1),
        os="Linux 7.0",
        threads=2,
        protocol=msgspec.structs.replace(CONDITIONS.protocol, rounds=9),
    )
    assert CONDITIONS.differences(later) == [
        "threads was 1, is now 2",
        "protocol.rounds was 5, is now 9",
    ]


def test_a_bare_name_is_a_shipped_table(
    table: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "files", lambda package: table.path.parent)
    assert LatencyTable.load("t").latency_us("sep_conv_3x3", SITE) == 40.25
    with pytest.raises(TableError, match=r"ships no latency table 'pi5' \(t\)"):
        LatencyTable.load("pi5")


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
    return edited(lambda raw: raw["rows"][1].update(fields))


BAD = {
    "empty": (lambda good: b"", "line 1, column 1: not JSON"),
    "truncated": (lambda good: good[: len(good) // 2], r"line \d+, column \d+: not JSON"),
    "not JSON": (lambda good: b"latency: 5", "line 1, column 1: not JSON"),
    "not text": (lambda good: b"\xff\xfe" + good, "byte 0 is not UTF-8"),
    "nested without end": (lambda good: b"[" * 200_000, "not JSON"),
    "a list": (lambda good: b"[]", "schema_version is None"),
    "no version": (edited(lambda raw: raw.pop("schema_version")), "schema_version is None"),
    "version as text": (edited(lambda raw: raw.update(schema_version="1")), "version is '1'"),
    "older version": (edited(lambda raw: raw.update(schema_version=0)), "version is 0, not 1"),
    "newer version": (edited(lambda raw: raw.update(schema_version=2)), "Upgrade goldnas"),
    "no conditions": (edited(lambda raw: raw.pop("conditions")), "field `conditions`"),
    "condition missing": (
        edited(lambda raw: raw["conditions"].pop("batch")),
        "conditions: Object missing required field `batch`",
    ),
    "no threads": (
        edited(lambda raw: raw["conditions"].update(threads=0)),
        r"conditions.threads: Expected `int` >= 1",
    ),
    "no date": (
        edited(lambda raw: raw["conditions"].update(measured_on="May")),
        r"conditions.measured_on: Invalid RFC3339",
    ),
    "another unit": (edited(lambda raw: raw.update(unit="ms")), "unknown field `unit`; times"),
    "milliseconds": (row(latency_ms=0.1), r"rows\[1\]: .* unknown field `latency_ms`; times"),
    "negative": (row(latency_us=-1.5), r"rows\[1\].latency_us: Expected `float` > 0.0"),
    "zero": (row(latency_us=0), r"rows\[1\].latency_us: Expected `float` > 0.0"),
    "NaN": (row(latency_us=float("nan")), r"rows\[1\].latency_us: Expected `float` > 0.0"),
    "infinite": (row(latency_us=float("inf")), r"rows\[1\]: `latency_us` must be finite"),
    "overflowing": (
        lambda good: good.replace(b"40.25", b"1e999"),
        r"rows\[1\]: `latency_us` must be finite",
    ),
    "digits without end": (lambda good: good.replace(b"40.25", b"9" * 5_000), "not JSON"),
    "text for a number": (row(latency_us="40.25"), r"latency_us: Expected `float`, got `str`"),
    "null for a number": (row(latency_us=None), r"latency_us: Expected `float`, got `null`"),
    "NaN spread": (row(spread=float("nan")), r"rows\[1\].spread: Expected `float` >= 0"),
    "no calls": (row(count=0), r"rows\[1\].count: Expected `int` >= 1"),
    "bad site": (row(site="16x32->16"), r"rows\[1\]: '16x32->16' is not a site"),
    "unknown status": (row(status="ok"), r"rows\[1\].status: Invalid value 'ok'"),
    "measured without latency": (
        edited(lambda raw: raw["rows"][1].pop("latency_us")),
        r"rows\[1\]: Object missing required field `latency_us`",
    ),
    "failed with latency": (
        edited(lambda raw: raw["rows"][0].update(latency_us=1.0)),
        r"rows\[0\]: Object contains unknown field `latency_us`",
    ),
    "failed without error": (
        edited(lambda raw: raw["rows"][0].pop("error")),
        r"rows\[0\]: Object missing required field `error`",
    ),
    "the same row twice": (
        edited(lambda raw: raw["rows"].append(copy.copy(raw["rows"][1]))),
        r"rows\[3\]: sep_conv_3x3 at 16x32x32->16/s1 is there twice",
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
    assert message.endswith((f"goldnas profile --device cpu --out {table.path}", "goldnas"))


def test_no_file_and_no_readable_file_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        TableError, match=r"no latency table .*gone.json. Measure one with: gold"
    ):
        LatencyTable.load(tmp_path / "gone.json")
    with pytest.raises(TableError, match=r"Is a directory\. Give the path of a file"):
        LatencyTable.load(tmp_path)
