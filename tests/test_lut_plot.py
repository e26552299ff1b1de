"""Plots of tables."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from goldnas.cli.main import app
from goldnas.errors import TableError
from goldnas.lut import Failed, Interpolated, LatencyTable, Measured
from goldnas.lut.fit.fitted_networks import fit_networks
from goldnas.lut.fit.networks_csv import Networks
from goldnas.lut.plot import plot
from goldnas.lut.plot_diff import plot_diff
from goldnas.spaces import GoldSpace
from simulated_tables import Machine

SPACE = GoldSpace(cells=5, channels=16)


@pytest.fixture
def table(tmp_path: Path) -> LatencyTable:
    return Machine("cpu").table(SPACE, tmp_path / "cpu.json")


def run(table: LatencyTable, plot: Path) -> tuple[int, str]:
    table.save()
    result = CliRunner().invoke(app, ["lut", "plot", str(table.path), "-o", str(plot)])
    return result.exit_code, result.stderr


@pytest.mark.parametrize("kind", ["svg", "png", "pdf", "html"])
def test_a_plot_replaces_its_own_and_no_other_file(
    table: LatencyTable, tmp_path: Path, kind: str
) -> None:
    place = tmp_path / f"plot.{kind}"
    table = replace(table, rows=table.rows[:2], calibrations=())
    other = ["lut", "diff", str(table.path), str(table.path), "-o", str(place)]
    assert (run(table, place)[0], run(table, place)[0]) == (0, 0)
    for content in (place.read_bytes(), b"of somebody else"):
        place.write_bytes(content)
        assert CliRunner().invoke(app, other).exit_code == 2
        assert place.read_bytes() == content
    status, stderr = run(table, place)
    assert (status, place.read_bytes()) == (2, b"of somebody else")
    assert "is there already; name another file, or replace it with --force" in stderr


def test_every_row_and_every_network_is_drawn(table: LatencyTable) -> None:
    figure = plot(table)
    *rows, networks = figure.get_axes()
    labels = [label.get_text() for axes in rows for label in axes.get_yticklabels()]
    assert sorted(labels) == sorted(row.site for row in table.rows)
    assert {axes.get_title(loc="left") for axes in rows} == {r.operator for r in table.rows}
    (points,) = [c for c in networks.containers if "networks" in c.get_label()]
    assert len(points.lines[0].get_xdata()) == len(table.calibrations[0].networks)


def test_predictions_in_the_plot_are_those_that_the_table_reports(tmp_path: Path) -> None:
    """Held out: of networks that were fitted to, errors would be smaller."""
    random = np.random.default_rng(0)
    counts = random.integers(0, 9, size=(20, 6))
    latencies_ms = (counts @ np.arange(1, 7) + 5) * random.normal(1, 0.05, size=20)
    lines = ["latency_ms,a,b,c,d,e,f"]
    lines += [
        f"{ms},{','.join(map(str, c))}" for ms, c in zip(latencies_ms, counts, strict=True)
    ]
    (tmp_path / "networks.csv").write_text("\n".join(lines) + "\n")
    fitted = fit_networks(Networks.read(tmp_path / "networks.csv"))
    table = fitted.table(tmp_path / "phone.json", device="phone")
    networks = plot(table).get_axes()[-1]
    (points,) = [c for c in networks.containers if "networks" in c.get_label()]
    predicted, measured = points.lines[0].get_data()
    assert measured == pytest.approx(latencies_ms)
    error_percent = 100 * np.abs(predicted / measured - 1).mean()
    assert error_percent == pytest.approx(table.calibrations[0].accuracy.mape_percent)


@pytest.mark.parametrize("ending", [".svg", ".png", ".PDF"])
def test_plots_of_each_kind(table: LatencyTable, tmp_path: Path, ending: str) -> None:
    plot = tmp_path / f"table{ending}"
    assert run(table, plot) == (0, "")
    if ending == ".svg":
        text = "".join(ElementTree.parse(plot).getroot().itertext())
        assert text is not None
    elif ending == ".png":
        with Image.open(plot) as image:
            assert min(image.size) > 400
    else:
        assert plot.read_bytes().startswith(b"%PDF")


def test_marks_of_a_page_say_what_they_are(table: LatencyTable, tmp_path: Path) -> None:
    assert run(table, tmp_path / "table.html") == (0, "")
    page = (tmp_path / "table.html").read_text()
    tips = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert sum(len(tips[name]) for name in tips if name.startswith("rows")) == len(table.rows)
    assert len(tips["networks-0"]) == len(table.calibrations[0].networks)
    for name, texts in tips.items():
        marks = page[page.index(f'id="{name}"') :].split("</g>")[0]
        assert marks.count("<use") == len(texts)


@pytest.mark.parametrize("ending", [".png", ".html"])
def test_two_tables_are_drawn_side_by_side(
    table: LatencyTable, tmp_path: Path, ending: str
) -> None:
    table.save()
    rows = [replace_us(row, 2.0) for row in table.rows[:-1] if isinstance(row, Measured)]
    other = LatencyTable(table.conditions, tuple(rows), tmp_path / "slow.json")
    other.save()
    figure = plot_diff(table, other)
    drawn = [line.get_xdata() for axes in figure.get_axes()[1::2] for line in axes.lines]
    ratios = np.concatenate(drawn)
    assert ratios[ratios != 1] == pytest.approx([2.0] * len(rows))
    plot = tmp_path / f"both{ending}"
    words = ["lut", "diff", str(table.path), str(other.path), "-o", str(plot), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["ratio_median"] == pytest.approx(2.0)
    assert plot.stat().st_size > 1000


def test_tables_without_a_common_row_are_one_line(table: LatencyTable, tmp_path: Path) -> None:
    row = Interpolated(operator="block-1", latency_us=3.0, source="fitted")
    other = LatencyTable(table.conditions, (row,), tmp_path / "other.json")
    with pytest.raises(TableError, match="no row in common"):
        plot_diff(table, other)


def replace_us(row: Measured, factor: float) -> Measured:
    return msgspec.structs.replace(row, latency_us=factor * row.latency_us)


def test_tables_without_calibration_or_sites_are_drawn(tmp_path: Path) -> None:
    bare = Machine("cpu").table(SPACE, tmp_path / "bare.json", networks=0)
    rows = (
        Interpolated(operator="block-1", latency_us=3.0, source="fitted"),
        Interpolated(operator="block-2", latency_us=0.0, source="fitted"),
        Failed(operator="skip_connect", site="4x8x8->4/s1", error="out of memory"),
    )
    for table in (bare, replace(bare, rows=rows, path=tmp_path / "fitted.json")):
        assert run(table, tmp_path / "table.svg") == (0, "")


def test_thousands_of_rows_are_a_line_for_each_of_the_slowest_operators(
    table: LatencyTable, tmp_path: Path
) -> None:
    many = replace(table, rows=make_rows(750), calibrations=())
    (axes,) = plot(many).get_axes()
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [f"block-{number}" for number in range(249, 49, -1)]
    assert [len(line.get_xdata()) for line in axes.lines] == [3] * 200
    times, _ = plot_diff(many, many).get_axes()
    assert len(times.get_yticks()) == 200
    assert run(many, tmp_path / "table.html") == (0, "")
    page = (tmp_path / "table.html").read_text()
    tips = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert len(tips) == 200
    assert tips["rows-0"][0].startswith("block-249 8x8x8->8/s1\n")


def make_rows(number: int) -> tuple[Interpolated, ...]:
    """A third as many operators, each slower than the one before, at three sites."""
    return tuple(
        Interpolated(
            operator=f"block-{row // 3}",
            site=f"{8 + row % 3}x8x8->8/s1",
            latency_us=1.0 + row // 3,
            source="x",
        )
        for row in range(number)
    )


def test_a_table_of_failures_alone_is_an_error(table: LatencyTable) -> None:
    failed = Failed(operator="skip_connect", site="4x8x8->4/s1", error="out of memory")
    with pytest.raises(TableError, match="no row with a latency"):
        plot(replace(table, rows=(failed,)))


def test_a_plot_of_another_kind_is_one_line(table: LatencyTable, tmp_path: Path) -> None:
    code, stderr = run(table, tmp_path / "table.bmp")
    assert code == 2
    assert "must end in .svg, .png, .pdf, .html" in stderr
    assert not (tmp_path / "table.bmp").exists()


def test_other_commands_do_not_load_what_draws() -> None:
    code = "import sys, goldnas.cli.main, goldnas.lut; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
