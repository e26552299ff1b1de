"""Tables of energies: imported, fitted, searched with, and shown; never taken for times."""

import contextlib
import csv
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import goldnas
from goldnas.cli.main import app
from goldnas.errors import ConfigError, TableError
from goldnas.lut import EnergyCalibration, InterpolatedEnergy, LatencyTable
from goldnas.lut import format_row_key as key_of
from goldnas.lut.schema import EnergyConditions
from goldnas.resources import Flops, parse_budget
from goldnas.searching.budgets import build_feasibility
from goldnas.spaces import GoldSpace
from goldnas.spaces.sampling import draw_architectures
from workplace import SPACE, Case, assert_one_line, assert_refused, on_disk
from workplace import goldnas as command

MakeTable = Callable[..., LatencyTable]

SEARCH = (
    "search --data digits --cells 2 --channels 4 --epochs 1 --batch-size 512 "
    "--auxiliary-weight 0 --train-device cpu --no-report --out new"
)


def joules(space: GoldSpace) -> dict[str, float]:
    """Microjoules by row, in another order of rows than the times: by the width alone."""
    return {key_of(o, s): 2.0 + 0.25 * s.out_channels for o, s in space.rows()}


def write_rows(path: Path, space: GoldSpace, column: str, scale: float) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["operator", "site", column])
        for operator, site in space.rows():
            writer.writerow([operator, site, joules(space)[key_of(operator, site)] * scale])


def write_networks(path: Path, column: str = "energy_uJ", count: int = 30) -> None:
    """Networks whose energy is 100 microjoules and the sum of their rows."""
    costs = joules(SPACE)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", column, *costs])
        for number, network in enumerate(draw_architectures(SPACE, count, seed=3)):
            rows = Counter(key_of(*part) for part in SPACE.plan(network).parts())
            total = 100 + sum(times * costs[key] for key, times in rows.items())
            writer.writerow([f"n{number}", total, *(rows[key] for key in costs)])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with CSV files, a table of energies of each kind, and nothing else."""
    folder = tmp_path_factory.mktemp("energies")
    with contextlib.chdir(folder):
        write_rows(Path("rows.csv"), SPACE, "energy_mJ", 1e-3)
        write_networks(Path("networks.csv"))
        assert run("lut import rows.csv --format csv --device pi5 --out joules.json")[0] == 0
        assert run("lut fit --networks networks.csv --device pi5 --out fitted.json")[0] == 0
    return folder


@pytest.fixture
def place(filled: Path, make_table: MakeTable, tmp_path: Path) -> Iterator[Path]:
    """The files of ``filled``, and ``time.json``, as the working folder."""
    for file in filled.iterdir():
        os.link(file, tmp_path / file.name)
    make_table(tmp_path / "time.json", SPACE)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def run(words: str) -> tuple[int, str]:
    """The status of a command, and what it prints."""
    result = CliRunner().invoke(app, words.split())
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


# -- files -------------------------------------------------------------------------------------


def test_an_imported_table_keeps_microjoules_under_their_own_name(place: Path) -> None:
    table = LatencyTable.load("joules.json")
    assert (table.kind, table.unit) == ("energy", "uJ")
    found = {r.key: r.energy_uj for r in table.rows if isinstance(r, InterpolatedEnergy)}
    assert found == pytest.approx(joules(SPACE))
    text = Path("joules.json").read_text()
    assert "_us" not in text
    assert json.loads(text)["conditions"]["quantity"] == "energy"
    table.save(Path("again.json"))
    assert Path("again.json").read_text() == text


@pytest.mark.parametrize(("column", "value"), [("energy_uJ", 1.5), ("ENERGY_MJ", 0.0015)])
def test_the_column_says_the_unit(tmp_path: Path, column: str, value: float) -> None:
    (tmp_path / "rows.csv").write_text(f"operator,site,{column}\nhead,,{value}\n")
    out = tmp_path / "t.json"
    told = f"lut import {tmp_path / 'rows.csv'} --format csv --device x --out {out}"
    assert run(told)[0] == 0
    (row,) = LatencyTable.load(out).rows
    assert isinstance(row, InterpolatedEnergy)
    assert row.energy_uj == pytest.approx(1.5)


def test_a_published_table_has_energies_beside_its_times(tmp_path: Path) -> None:
    layer = "ConvLayer-input:1_1_28_28-in_ch:1-out_ch:16-kernel:3-stride:2-use_se:0-use_bn:1"
    (tmp_path / "lut.json").write_text(json.dumps({layer: {"lat": "0.125", "enrg": "0.5"}}))
    out = tmp_path / "t.json"
    told = f"lut import {tmp_path / 'lut.json'} --format harmonic-nas-energy --device tx2"
    assert run(f"{told} --activation hswish --out {out}")[0] == 0
    (row,) = LatencyTable.load(out).rows
    assert isinstance(row, InterpolatedEnergy)
    assert (row.operator, row.energy_uj) == ("conv_3x3_bn_hswish", 500.0)


def test_a_fit_finds_the_energy_of_every_network_and_of_its_rows(place: Path) -> None:
    table = LatencyTable.load("fitted.json")
    (fitted,) = table.calibrations
    assert isinstance(fitted, EnergyCalibration)
    assert isinstance(table.conditions, EnergyConditions)
    fresh = list(draw_architectures(SPACE, 10, seed=4))
    loaded = goldnas.LatencyTable.load("fitted.json")
    for network in fresh:
        parts = [key_of(*part) for part in SPACE.plan(network).parts()]
        true = 100 + sum(joules(SPACE)[key] for key in parts)
        assert loaded.predict_energy(network).energy_uj == pytest.approx(true, rel=0.01)


def test_a_prior_of_energies_counts_in_a_fit(place: Path) -> None:
    write_networks(Path("few.csv"), count=6)
    code, told = run("lut fit --networks few.csv --prior joules.json --out new.json --json")
    assert code == 0
    assert json.loads(told)["prior_weights_percent"]["joules.json"] > 50


def test_an_energy_table_is_no_table_of_times(place: Path) -> None:
    content = json.loads(Path("time.json").read_text())
    content["conditions"]["quantity"] = "energy"
    del content["campaigns"]
    Path("mixed.json").write_text(json.dumps(content))
    with pytest.raises(TableError, match=r"rows\[0\]"):
        LatencyTable.load("mixed.json")
    content["conditions"]["quantity"] = "power"
    Path("mixed.json").write_text(json.dumps(content))
    with pytest.raises(TableError, match=r"quantity: Invalid enum value 'power'"):
        LatencyTable.load("mixed.json")


# -- budgets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "resource", "limit"),
    [
        ("6mJ", "energy@joules", 6000),
        ("6mJ@joules", "energy@joules", 6000),
        ("500uJ", "energy@joules", 500),
        ("0.01J", "energy@joules", 10_000),
        ("5ms", "latency@time", 5000),
    ],
)
def test_a_bare_budget_finds_the_only_table_of_its_unit(
    text: str, resource: str, limit: float
) -> None:
    budget = parse_budget(text, ["time"], energy_tables=["joules"])
    assert budget.resource == resource
    assert budget.limit == pytest.approx(limit)


BOTH = f"{SEARCH} --latency-lut time.json --latency-lut joules.json"
TIME, ENERGY = f"{SEARCH} --latency-lut time.json", f"{SEARCH} --latency-lut joules.json"
CASES = {
    "energy by a table of times": Case(f"{TIME} --budget 6mJ", "6mJ.*time in us"),
    "energy at a table of times": Case(
        f"{BOTH} --budget 6mJ@time", "6mJ@time.*joules in uJ, time in us"
    ),
    "time by a table of energies": Case(f"{ENERGY} --budget 6ms", "6ms.*joules in uJ"),
    "time at a table of energies": Case(
        f"{BOTH} --budget 6ms@joules", "6ms@joules.*time in us, joules in uJ"
    ),
    "no table": Case(f"{SEARCH} --budget 6mJ", "6mJ.*goldnas lut import or goldnas lut fit"),
    "another table": Case(f"{ENERGY} --budget 6mJ@pi5", "6mJ@pi5.*6mJ@joules"),
    "two tables": Case(
        f"{ENERGY} --latency-lut fitted.json --budget 6mJ",
        "must name one of the tables of energies: 6mJ@joules, 6mJ@fitted",
    ),
    "one name twice": Case(
        f"{ENERGY} --latency-lut other/joules.json --budget 6mJ",
        "two latency tables are named 'joules'",
        lambda: (os.mkdir("other"), os.link("time.json", "other/joules.json")),
    ),
    "a quantile": Case(f"{ENERGY} --budget 6mJ:p99", "':p99' in budget '6mJ:p99'"),
    "a quantile at a table": Case(f"{ENERGY} --budget 6mJ@joules:p99", "':p99'"),
    "too little": Case(f"{ENERGY} --budget 1uJ", "1uJ cannot be met.*uJ, .* more"),
    "FLOPs at a table": Case(f"{ENERGY} --budget 6MFLOPs@joules", "leave out @joules"),
    "compared": Case("lut diff time.json joules.json", "time.json.*in us.*joules.json in uJ"),
    "drawn": Case(
        "lut diff time.json joules.json --out d.svg", "time.json.*in us.*joules.json in uJ"
    ),
    "merged": Case(
        "lut merge time.json joules.json --out m.json", "time.json.*in us.*joules.json in uJ"
    ),
    "fitted with a prior of times": Case(
        "lut fit --networks networks.csv --prior time.json --out m.json",
        "networks.csv has values in uJ and time.json in us",
    ),
    "tested on times": Case(
        "lut fit --networks networks.csv --test t.csv --out m.json",
        "networks.csv has values in uJ and t.csv in us",
        lambda: write_networks(Path("t.csv"), "latency_ms", 4),
    ),
    "two units in networks": Case(
        "lut fit --networks t.csv --out m.json",
        "t.csv, line 1.*latency_ms and energy_mJ",
        lambda: Path("t.csv").write_text("latency_ms,energy_mJ,a\n1,2,3\n"),
    ),
    "no unit in networks": Case(
        "lut fit --networks t.csv --out m.json",
        "energy_mJ or energy_uJ",
        lambda: Path("t.csv").write_text("energy,a\n1,2\n"),
    ),
    "no energy": Case(
        "lut import t.csv --format csv --device x --out m.json",
        "line 2: the energy of head is 0.0",
        lambda: Path("t.csv").write_text("operator,site,energy_mJ\nhead,,0\n"),
    ),
    "unknown unit in rows": Case(
        "lut import t.csv --format csv --device x --out m.json",
        "line 1.*energy_mJ or energy_uJ",
        lambda: Path("t.csv").write_text("operator,site,energy_J\nhead,,1\n"),
    ),
    "checked": Case("lut check joules.json", "joules.json is a table of energies"),
    "calibrated": Case("lut calibrate fitted.json", "fitted.json is a table of energies"),
    "profiled into": Case(
        "profile --cells 1 --channels 4 --input 1x8x8 --networks 0 --out joules.json",
        "quantity was energy, is now latency",
    ),
    "picked": Case("pick --device cpu --budget 6mJ --out zoo.json", "6mJ is an energy"),
    "shrunk": Case(
        "shrink zoo:resnet18 --data digits --budget 6mJ --out new", "6mJ is an energy"
    ),
    "shrunk by a table": Case(
        "shrink zoo:resnet18 --data digits --budget 6ms --latency-lut joules.json --out new",
        "joules.json has energies",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line(place: Path, name: str) -> None:
    assert_refused(CASES[name])


def test_time_and_energy_are_kept_together_wherever_any_network_keeps_both(
    tmp_path: Path, make_table: MakeTable
) -> None:
    """Against every network of a small space."""
    space = GoldSpace(
        cells=1, channels=4, nodes=2, input_shape=(1, 8, 8),
        operators=("sep_conv_3x3", "skip_connect"),
    )  # fmt: skip
    write_rows(tmp_path / "rows.csv", space, "energy_uJ", 1.0)
    out = tmp_path / "joules.json"
    run(f"lut import {tmp_path / 'rows.csv'} --format csv --device x --out {out}")
    tables = [make_table(tmp_path / "time.json", space), LatencyTable.load(out)]
    free = build_feasibility(space, [], tables)
    masks = np.array(list(itertools.product([False, True], repeat=len(space.gates))))
    whole = [mask for mask in masks if all(mask[list(group)].any() for group in space.groups)]
    amounts = np.array(
        [[free.costs[f"{r}"].total(mask) for r in ("latency@time", "energy@joules")]
         for mask in whole]
    )  # fmt: skip
    low, high = amounts.min(axis=0), amounts.max(axis=0)
    outcomes = set()
    for shares in itertools.product((0.05, 0.2, 0.5), repeat=2):
        us, uj = low + np.array(shares) * (high - low)
        feasibility = build_feasibility(space, [f"{us}us", f"{uj}uJ"], tables)
        found = feasibility.find(np.ones(len(space.gates), dtype=bool))
        exists = bool(((amounts <= (us, uj)).all(axis=1)).any())
        assert (found is not None) == exists
        outcomes.add(exists)
        if found is not None:
            assert feasibility.within(found)
    assert outcomes == {True} or outcomes == {True, False}


# -- a search, and all that shows it -----------------------------------------------------------


@pytest.fixture(scope="module")
def searched(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A search under a time and an energy, and its limits."""
    folder = tmp_path_factory.mktemp("searched")
    flops = Flops(SPACE.build_part)
    with contextlib.chdir(folder):
        with open("time.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["operator", "site", "latency_ms"])
            for operator, site in SPACE.rows():
                writer.writerow([operator, site, (1 + flops.cost(operator, site) / 1000) / 1e3])
        assert run("lut import time.csv --format csv --device pi5 --out time.json")[0] == 0
        os.link(filled / "fitted.json", "joules.json")
        smallest = {
            limit.resource: (limit.smallest, limit.full)
            for limit in goldnas.feasible(SPACE, [], ["time.json", "joules.json"]).limits
        }
        budgets = [
            f"{low + 0.4 * (high - low)}{unit}"
            for (low, high), unit in (
                (smallest["latency@time"], "us"),
                (smallest["energy@joules"], "uJ"),
            )
        ]
        goldnas.search(
            SPACE,
            budgets=budgets,
            tables=["time.json", "joules.json"],
            data="digits",
            epochs=2,
            batch_size=512,
            auxiliary_weight=0.0,
            train_device="cpu",
            out="run",
        )
        Path("budgets.json").write_text(json.dumps(budgets))
        yield folder


@pytest.fixture
def within(searched: Path) -> Iterator[Path]:
    with contextlib.chdir(searched):
        yield searched


def test_a_search_keeps_a_time_and_an_energy(within: Path) -> None:
    us, uj = json.loads(Path("budgets.json").read_text())
    best = goldnas.load_run("run").best
    assert best.resources["latency@time"] <= float(us.removesuffix("us"))
    assert best.resources["energy@joules"] <= float(uj.removesuffix("uJ"))
    predicted = goldnas.LatencyTable.load("joules.json").predict_energy(best)
    assert predicted.energy_uj == pytest.approx(best.resources["energy@joules"])


@pytest.mark.parametrize(
    "words",
    ["status run", "compare run", "lut show joules.json", "lut lint joules.json"],
)
def test_what_shows_tables_shows_energies_in_joules(within: Path, words: str) -> None:
    code, told = run(words)
    assert code == 0
    assert "uJ" in told or "lint" in words
    assert "Traceback" not in told


def test_the_report_shows_both(within: Path) -> None:
    assert run("report run --out report.html --force")[0] == 0
    page = Path("report.html").read_text()
    assert "energy@joules" in page
    assert '"kind":"energy"' in page.replace(": ", ":")
    assert "a budget of 10mJ" in page
    assert "the time and the energy" in page


def test_files_of_a_comparison_name_the_unit(within: Path) -> None:
    code, told = run("compare run --json")
    assert code == 0
    assert "predicted_uj@joules" in told
    assert "measured_us@joules" not in told


def test_a_prediction_names_the_unit(within: Path) -> None:
    network = goldnas.load_run("run").best.fingerprint
    path = f"run/architectures/{network}.json"
    code, told = run(f"lut predict joules.json {path} --json")
    assert code == 0
    content: dict[str, Any] = json.loads(told)
    assert content["energy_uj"] > content["overhead_uj"] > 0
    assert "latency_us" not in content
    code, told = run(f"lut predict joules.json {path}")
    assert "mJ on joules" in told


def test_plots_name_the_unit(within: Path) -> None:
    assert run("lut plot joules.json --out p.html --force")[0] == 0
    page = Path("p.html").read_text()
    assert "uJ, not measured" in page
    assert "uJ measured" in page or "mJ measured" in page


def test_an_export_says_that_an_energy_was_not_measured(within: Path) -> None:
    exported = goldnas.export(goldnas.load_run("run").best, "net.onnx")
    (energy,) = [check for check in exported.checks if check.resource == "energy@joules"]
    assert energy.measured is None
    assert energy.budget is not None
    assert energy.predicted <= energy.budget.limit
    assert energy.verdict == "not verified"
    assert "goldnas cannot measure energy" in energy.unverified
    assert not exported.passed
    assert exported.summary.startswith("verify: INCOMPLETE")
    assert "not verified: goldnas cannot measure energy" in exported.summary


def test_a_training_predicts_the_energy_too(within: Path) -> None:
    code, stderr = command("train run --recipe short --epochs 1 --batch-size 512")
    assert code == 0, stderr
    (result,) = Path("run/trained").glob("*/result.json")
    assert "energy@joules" in json.loads(result.read_text())["resources"]


def test_the_methods_of_times_refuse_energies(within: Path) -> None:
    best = goldnas.load_run("run").best
    with pytest.raises(TableError, match="table of energies"):
        goldnas.LatencyTable.load("joules.json").predict(best)
    with pytest.raises(ConfigError, match="table of times"):
        goldnas.LatencyTable.load("time.json").predict_energy(best)


def test_nothing_is_written_where_energies_are_refused(place: Path) -> None:
    before = on_disk()
    code, stderr = command(f"{ENERGY} --budget 6ms")
    assert_one_line(code, stderr, "6ms")
    assert on_disk() == before
