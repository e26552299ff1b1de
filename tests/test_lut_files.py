"""``goldnas lut show | lint | diff | merge``, as a user runs them."""

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from goldnas.cli.lut import app
from goldnas.errors import TableError
from goldnas.lut import Failed, Interpolated, LatencyTable, Measured, compute_checksum
from goldnas.lut.diff import diff
from goldnas.lut.merge import merge
from goldnas.site import Site
from goldnas.spaces import GoldSpace
from simulated_tables import Machine

SPACE = GoldSpace(
    channels=16, cells=2, input_shape=(1, 8, 8), operators=("sep_conv_3x3", "skip_connect")
)
CPU = Machine("cpu")
SITE = Site(64, 64, 4, 4)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def words(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture
def table(tmp_path: Path) -> LatencyTable:
    return CPU.table(SPACE, tmp_path / "cpu.json")


def edited(table: LatencyTable, **changes: Any) -> LatencyTable:
    """The table with fields of its second row changed, saved as ``other.json``."""
    first, second, *rest = table.rows
    rows = (first, msgspec.structs.replace(second, **changes), *rest)
    other = dataclasses.replace(table, rows=rows, path=table.path.with_name("other.json"))
    other.save()
    return other


def with_conditions(table: LatencyTable, path: Path, **changes: Any) -> LatencyTable:
    conditions = msgspec.structs.replace(table.conditions, **changes)
    return dataclasses.replace(table, conditions=conditions, path=path)


# -- show --------------------------------------------------------------------------------------


def test_show_prints_rows_calibrations_and_campaigns(table: LatencyTable) -> None:
    slow = next(r for r in table.rows if isinstance(r, Measured) and r.method == "branches")
    slow = msgspec.structs.replace(slow, converged=False)
    fitted = Interpolated(operator="mbconv_k3", latency_us=7.5, source="20 networks")
    failed = Failed(operator="max_pool_3x3", site=str(SITE), error="no such node")
    table.with_rows([slow, fitted, failed]).save()
    result = run("show", table.path)
    assert result.exit_code == 0
    text = words(result)
    for part in (
        f"cpu.json: {len(table.rows) + 2} rows",
        "in-context: p25 over visits of p10 within a visit, to 1 %",
        "branches, not converged",
        "gold: cells 6",
        "0.990",
        "mbconv_k3",
        "20 networks",
        "no such node",
        "2026-01-31",
    ):
        assert part in text


def test_show_json_is_the_file(table: LatencyTable) -> None:
    assert run("show", table.path, "--json").stdout == table.path.read_text()


def test_show_and_diff_of_a_long_table_print_its_first_rows(tmp_path: Path) -> None:
    rows = [
        Interpolated(operator=f"mbconv_{number}", latency_us=7.5, source="20 networks")
        for number in range(1000, 1600)
    ]
    bare = CPU.table(SPACE, tmp_path / "long.json", networks=0)
    long = dataclasses.replace(bare, rows=tuple(rows))
    long.save()
    text = words(run("show", long.path))
    assert text.count("mbconv_") == 500
    assert "mbconv_1499" in text
    assert "and 100 more" in text
    assert len(json.loads(run("show", long.path, "--json").stdout)["rows"]) == 600

    slow = [msgspec.structs.replace(row, latency_us=15.0) for row in rows]
    other = dataclasses.replace(long, rows=tuple(slow), path=tmp_path / "slow.json")
    other.save()
    text = words(run("diff", long.path, other.path))
    assert text.count("mbconv_") == 500
    assert "600 rows in both, 600 differ" in text
    both = json.loads(run("diff", long.path, other.path, "--json").stdout)
    assert len(both["differing"]) == 600


# -- lint --------------------------------------------------------------------------------------


def test_lint_of_a_good_table_is_0(table: LatencyTable) -> None:
    result = run("lint", table.path)
    assert (result.exit_code, words(result)) == (0, f"{table.path}: nothing is wrong")


def test_lint_explains_each_finding_and_is_1(table: LatencyTable) -> None:
    wrong = edited(table, latency_us=100.0)
    result = run("lint", table.path, wrong.path)
    assert result.exit_code == 1
    text = words(result)
    assert f"{table.path}: nothing is wrong" in text
    assert f"error: arithmetic in {wrong.path}: the number a search uses is not" in text
    row = wrong.rows[1]
    assert f"{row.operator} {row.site}: latency_us is 100, its times give " in text
    assert "to do: delete the row and measure it again" in text
    assert f"warning: context in {wrong.path}: whole networks contradict" in text
    assert f"{wrong.path}: 1 error, 1 warning" in text


def test_lint_with_warnings_alone_is_0(table: LatencyTable) -> None:
    result = run("lint", edited(table, converged=False).path)
    assert result.exit_code == 0
    assert "0 errors, 1 warning" in words(result)


def test_lint_json_has_every_finding(table: LatencyTable) -> None:
    content = json.loads(table.path.read_text())
    for row in content["rows"]:
        row["latency_us"] = -1.0
    table.path.write_text(json.dumps(content))
    result = run("lint", table.path, "--json")
    assert result.exit_code == 1
    (file,) = json.loads(result.stdout)["files"]
    assert file["file"] == str(table.path)
    assert file["errors"] == len(file["findings"]) - file["warnings"]
    negative = [f for f in file["findings"] if f["rule"] == "negative"]
    assert len(negative) == len(table.rows)
    assert negative[0]["severity"] == "error"
    assert all(negative[0][name] for name in ("place", "found", "why", "advice"))


def test_lint_against_another_device(table: LatencyTable, tmp_path: Path) -> None:
    renamed = with_conditions(table, tmp_path / "pi.json", device="pi", cpu_model="ARM")
    renamed.save()
    result = run("lint", renamed.path, "--against", table.path)
    assert result.exit_code == 1
    assert f"is also in {table.path}, to the last digit" in words(result)


def test_lint_of_no_file_is_2(tmp_path: Path) -> None:
    result = run("lint", tmp_path / "gone.json")
    assert result.exit_code == 2
    assert "there is no latency table" in words(result)


# -- diff --------------------------------------------------------------------------------------


def test_a_table_does_not_differ_from_itself(table: LatencyTable) -> None:
    found = diff(table, table)
    assert (found.conditions, found.only_in_a, found.only_in_b, found.differing) == (
        [],
        [],
        [],
        [],
    )
    assert (found.common_rows, found.ratio_median) == (len(table.rows), 1.0)
    assert (found.ratio_p5, found.ratio_p95) == (1.0, 1.0)
    assert found.spearman == pytest.approx(1.0)


def test_a_row_differs_beyond_the_intervals_and_not_within(table: LatencyTable) -> None:
    row = table.rows[1]
    assert not isinstance(row, Failed)
    for factor, differing in ((1.01, 0), (1.02, 1), (0.98, 1)):
        other = edited(table, latency_us=factor * row.latency_us)
        assert len(diff(table, other).differing) == differing
    (found,) = diff(table, edited(table, latency_us=2 * row.latency_us)).differing
    assert found.row == f"{row.operator} {row.site}"
    assert found.ratio == pytest.approx(2.0)


def test_diff_names_conditions_and_rows_that_one_has(
    table: LatencyTable, tmp_path: Path
) -> None:
    other = with_conditions(table, tmp_path / "two.json", threads=2)
    gone = Failed(operator=table.rows[0].operator, site=table.rows[0].site, error="no memory")
    more = Interpolated(operator="mbconv_k3", latency_us=7.5, source="20 networks")
    found = diff(table, other.with_rows([gone, more]))
    assert found.conditions == ["threads was 1, is now 2"]
    assert found.only_in_a == [f"{gone.operator} {gone.site}"]
    assert found.only_in_b == ["mbconv_k3"]
    assert found.common_rows == len(table.rows) - 1


def test_tables_without_a_common_row_have_no_ratio(table: LatencyTable) -> None:
    found = diff(table, dataclasses.replace(table, rows=()))
    assert (found.common_rows, found.ratio_median, found.spearman) == (0, None, None)


def test_diff_prints_and_writes_json(table: LatencyTable) -> None:
    other = edited(table, latency_us=100.0)
    text = words(run("diff", table.path, other.path))
    row = other.rows[1]
    assert f"{row.operator} {row.site}" in text
    assert f"{len(table.rows)} rows in both, 1 differ; b / a: median 1.000" in text
    content = json.loads(run("diff", table.path, other.path, "--json").stdout)
    assert content["differing"][0]["b_us"] == 100.0
    assert run("diff", table.path, "gone.json").exit_code == 2


# -- merge -------------------------------------------------------------------------------------


def halves(table: LatencyTable) -> tuple[LatencyTable, LatencyTable]:
    folder = table.path.parent
    first = dataclasses.replace(table, rows=table.rows[:4], path=folder / "a.json")
    second = dataclasses.replace(table, rows=table.rows[2:], path=folder / "b.json")
    return first, second


def test_two_halves_make_the_whole(table: LatencyTable, tmp_path: Path) -> None:
    for half in halves(table):
        half.save()
    result = run(
        "merge", tmp_path / "a.json", tmp_path / "b.json", "--out", tmp_path / "c.json"
    )
    assert result.exit_code == 0, result.output
    whole = LatencyTable.load(tmp_path / "c.json")
    assert set(whole.rows) == set(table.rows)
    assert whole.calibrations == table.calibrations
    assert whole.campaigns == table.campaigns


def test_tables_of_other_conditions_do_not_merge(table: LatencyTable, tmp_path: Path) -> None:
    other = with_conditions(table, tmp_path / "two.json", threads=2)
    other.save()
    result = run("merge", table.path, other.path, "--out", tmp_path / "c.json")
    assert result.exit_code == 2
    assert "under other conditions: threads was 1, is now 2" in words(result)
    assert not (tmp_path / "c.json").exists()


def test_rows_that_differ_need_a_preference(table: LatencyTable, tmp_path: Path) -> None:
    other = edited(table, latency_us=100.0)
    place = table.rows[1].operator, Site.parse(table.rows[1].site)
    with pytest.raises(TableError, match=rf"differ in {place[0]} .*`prefer='first'`, or"):
        merge([table, other])
    assert merge([other, table], prefer="first").latency_us(*place) == 100.0
    assert merge([table, other], prefer="first").latency_us(*place) != 100.0
    later = with_conditions(other, other.path, measured_on=datetime.date(2026, 2, 1))
    newest = merge([table, later], prefer="newest")
    assert newest.latency_us(*place) == 100.0
    assert newest.conditions.measured_on == datetime.date(2026, 2, 1)


def test_calibrations_that_differ_need_a_preference(table: LatencyTable) -> None:
    (calibration,) = table.calibrations
    again = msgspec.structs.replace(calibration, intercept_us=77.0)
    other = dataclasses.replace(table, calibrations=(again,))
    with pytest.raises(TableError, match="differ in the calibration of gold"):
        merge([table, other])
    assert merge([other, table], prefer="first").calibrations == (again,)


def test_a_failed_row_gives_way(table: LatencyTable) -> None:
    row = table.rows[0]
    failed = Failed(operator=row.operator, site=row.site, error="no memory")
    for tables in ([table.with_rows([failed]), table], [table, table.with_rows([failed])]):
        assert merge(tables).rows[0] == row


def test_no_file_is_replaced_unless_that_is_said(table: LatencyTable, tmp_path: Path) -> None:
    kept = table.path.read_bytes()
    (tmp_path / "ofa.yaml").write_text("conv: {mean: 1.0}\n")
    words = ("import", tmp_path / "ofa.yaml", "--format", "ofa", "--device", "d")
    for command in (("merge", table.path), words):
        result = run(*command, "--out", table.path)
        assert result.exit_code == 2
        assert "is there already" in result.stderr
        assert table.path.read_bytes() == kept
    assert run("merge", table.path, "--out", table.path, "--force").exit_code == 0


def test_a_merged_table_is_sealed(table: LatencyTable, tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    assert run("merge", table.path, "--out", out).exit_code == 0
    content = json.loads(out.read_text())
    assert content["checksum"] == compute_checksum(content)
