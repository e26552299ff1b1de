"""``goldnas compare``: what becomes one row, the figures in it, and what it refuses."""

import csv
import io
import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from compared import log_of, measured, network, searched, trained
from goldnas.comparison.history import count_seconds, list_drops
from goldnas.comparison.hypervolume import compute_hypervolume
from goldnas.comparison.plot import draw_comparison
from goldnas.comparison.rows import compare
from goldnas.comparison.runs import read_runs
from goldnas.searching.folder import SearchRun
from goldnas.spaces import GoldSpace
from workplace import assert_one_line, invoke

SPACE = GoldSpace(cells=1, channels=4, input_shape=(1, 8, 8), nodes=2)


def as_json(*runs: Path, options: tuple[str, ...] = ()) -> dict[str, Any]:
    code, stdout, stderr = invoke("compare", *runs, "--json", *options)
    assert code == 0, stderr
    content: dict[str, Any] = json.loads(stdout)
    return content


def rows_of(*runs: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = as_json(*runs)["rows"]
    return rows


@pytest.fixture
def three_seeds(tmp_path: Path) -> list[Path]:
    """Of one kind of search; the best network of each is trained once."""
    paths = []
    for seed, (accuracy, tested) in enumerate([(0.80, 0.81), (0.82, 0.84), (0.84, 0.87)]):
        best = network(f"best{seed}000", accuracy, 900_000 + 10_000 * seed)
        big = network(f"big{seed}0000", 0.9, 2e6, meets_budgets=False)
        run = searched(
            tmp_path / f"gold{seed}", [best, big], seed=seed, train_device=f"cuda:{seed}"
        )
        trained(run, best.fingerprint, tested)
        paths.append(run.path)
    return paths


# -- rows --------------------------------------------------------------------------------------


def test_searches_that_differ_by_their_seed_alone_are_one_row(three_seeds: list[Path]) -> None:
    (row,) = rows_of(*three_seeds)
    assert [search["seed"] for search in row["searches"]] == [0, 1, 2]
    assert (row["strategy"], row["budgets"], row["network"]) == ("gold", "1MFLOPs", "best")
    assert row["recipe"] == "short"
    values = row["values"]
    assert values["validation_accuracy"]["mean"] == pytest.approx(0.82)
    assert values["validation_accuracy"]["std"] == pytest.approx(0.02)  # over n - 1
    assert values["test_accuracy"]["mean"] == pytest.approx(0.84)
    assert values["test_accuracy"]["std"] == pytest.approx(0.03)
    assert values["flops"]["values"] == [900_000, 910_000, 920_000]
    assert values["params"]["mean"] == pytest.approx(9_100)


def test_another_setting_or_budget_is_another_row_and_is_named(tmp_path: Path) -> None:
    best = [network("aaaaaaaa", 0.8, 9e5)]
    runs = [
        searched(tmp_path / "a", best),
        searched(tmp_path / "b", best, mu=0.0),
        searched(tmp_path / "c", best, budgets=("2MFLOPs",)),
        searched(tmp_path / "d", best, strategy="one-shot"),
    ]
    rows = rows_of(*(run.path for run in runs))
    told = [(row["strategy"], row["settings"], row["budgets"]) for row in rows]
    assert told == [
        ("gold", "mu=1.0", "1MFLOPs"),
        ("gold", "mu=0.0", "1MFLOPs"),
        ("gold", "mu=1.0", "2MFLOPs"),
        ("one-shot", "mu=1.0", "1MFLOPs"),
    ]


def test_trainings_of_one_search_make_its_mean_and_spread(tmp_path: Path) -> None:
    run = searched(tmp_path / "a", [network("aaaaaaaa", 0.8, 9e5)])
    for seed, tested in enumerate([0.80, 0.84]):
        trained(run, "aaaaaaaa", tested, seed=seed)
    (row,) = rows_of(run.path)
    assert row["values"]["test_accuracy"]["values"] == [0.80, 0.84]
    assert row["trainings"] == 2
    assert row["values"]["validation_accuracy"]["std"] is None


def test_trainings_of_several_searches_count_once_for_each_search(tmp_path: Path) -> None:
    """Trainings of one network are not independent searches."""
    runs = [searched(tmp_path / f"{s}", [network("a" * 8, 0.8, 9e5)], seed=s) for s in (0, 1)]
    for seed, tested in enumerate([0.70, 0.72, 0.74]):
        trained(runs[0], "aaaaaaaa", tested, seed=seed)
    trained(runs[1], "aaaaaaaa", 0.80)
    (row,) = rows_of(*(run.path for run in runs))
    assert row["values"]["test_accuracy"]["values"] == pytest.approx([0.72, 0.80])
    assert row["trainings"] == 4


def test_each_training_and_each_other_trained_network_is_a_row(tmp_path: Path) -> None:
    networks = [network("aaaaaaaa", 0.8, 9e5), network("bbbbbbbb", 0.7, 5e5)]
    run = searched(tmp_path / "a", networks)
    trained(run, "aaaaaaaa", 0.85)
    trained(run, "aaaaaaaa", 0.86, warm=True)
    trained(run, "bbbbbbbb", 0.75)
    trained(run, "cccccccc", 0.65, resources={"FLOPs": 1e5, "params": 1e3})
    content = as_json(run.path)
    told = [
        (row["network"], row["warm"], row["values"]["test_accuracy"]["mean"])
        for row in content["rows"]
    ]
    assert told == [
        ("best", False, 0.85),
        ("best", True, 0.86),
        ("bbbbbbbb", False, 0.75),
        ("cccccccc", False, 0.65),
    ]
    assert content["rows"][3]["values"]["flops"]["mean"] == 1e5
    missing = content["rows"][3]["values"]["validation_accuracy"]
    assert missing == {"missing": "no accuracy"}
    assert any("compare rows of one training" in note for note in content["notes"])


def test_what_has_no_value_says_why_and_is_no_zero(tmp_path: Path) -> None:
    runs = [
        searched(tmp_path / "a", [], events=[]),
        searched(tmp_path / "b", [network("bbbbbbbb", 0.8, 2e6, meets_budgets=False)], mu=2.0),
        searched(
            tmp_path / "c",
            [network("cccccccc", 0.8, 9e5)],
            events=log_of(drops=()),
            strategy="one-shot",
        ),
    ]
    content = as_json(*(run.path for run in runs))
    nothing, over, found = (row["values"] for row in content["rows"])
    assert {name: cell["missing"] for name, cell in nothing.items()} == {
        "validation_accuracy": "no accuracy",
        "test_accuracy": "not trained",
        "flops": "no network",
        "params": "no network",
        "search_seconds": "not logged",
        "training_seconds": "not trained",
        "largest_drop": "nothing cut",
        "summed_drop": "nothing cut",
        "hypervolume": "no accuracy",
    }
    assert over["flops"] == {"missing": "no network"}
    assert over["hypervolume"]["mean"] > 0
    assert found["test_accuracy"] == {"missing": "not trained"}
    assert found["largest_drop"] == {"missing": "nothing cut"}
    assert f"{runs[0].path} has recorded no network yet" in content["notes"]
    assert f"{runs[1].path} has no network within its budgets" in content["notes"]
    assert any(note.startswith(f"{runs[0].path} has not ended") for note in content["notes"])


def test_searches_of_a_row_that_are_not_trained_are_named(three_seeds: list[Path]) -> None:
    shutil.rmtree(three_seeds[1] / "trained")
    undone = next(three_seeds[2].glob("trained/*"))
    (undone / "result.json").unlink()
    content = as_json(*three_seeds)
    assert content["rows"][0]["values"]["test_accuracy"]["values"] == [0.81]
    assert (
        "gold, 1MFLOPs, short, 15 epochs: test, training of 1 of 3 searches; not trained: "
        f"{three_seeds[1]}, {three_seeds[2]}"
    ) in content["notes"]
    assert f"{undone} is not finished, and left out" in content["notes"]


# -- figures -----------------------------------------------------------------------------------


def test_hypervolume_by_hand() -> None:
    front = [(1.0, 3.0), (2.0, 1.0)]
    assert compute_hypervolume(front, (4.0, 4.0)) == 3 * 1 + 2 * 2
    useless = [(2.0, 3.5), (3.0, 1.0), (5.0, 0.0), (0.0, 4.0), (1.0, 3.0)]
    assert compute_hypervolume([*useless, *front], (4.0, 4.0)) == 7
    assert compute_hypervolume([], (4.0, 4.0)) == 0


def test_hypervolumes_are_against_one_reference(tmp_path: Path) -> None:
    wide = searched(
        tmp_path / "a", [network("aaaaaaaa", 0.6, 5e5), network("bbbbbbbb", 0.8, 1e6)]
    )
    small = searched(tmp_path / "b", [network("cccccccc", 0.6, 5e5)], mu=2.0)
    content = as_json(wide.path, small.path)
    assert content["reference"] == {
        "resource": "FLOPs",
        "amount": pytest.approx(1.1e6),
        "wrong_share": 1.0,
    }
    first, second = (row["values"]["hypervolume"]["mean"] for row in content["rows"])
    assert first == pytest.approx((0.6 * 0.6 + 0.1 * 0.2) / 1.1)
    assert second == pytest.approx(0.6 * 0.6 / 1.1)


def test_hypervolume_is_of_the_resource_that_all_have_a_budget_of(tmp_path: Path) -> None:
    best = [network("aaaaaaaa", 0.8, 9e5)]
    runs = [
        searched(tmp_path / "a", best, budgets=("1MFLOPs", "20kparams")).path,
        searched(tmp_path / "b", best, budgets=("20kparams",)).path,
    ]
    assert as_json(*runs)["reference"]["resource"] == "params"
    content = as_json(*runs, options=("--budget", "FLOPs"))
    assert content["reference"]["resource"] == "FLOPs"
    code, _, stderr = invoke("compare", *runs, "--budget", "latency@pi5")
    assert_one_line(code, stderr, "resource 'latency@pi5'; .* FLOPs, params")


def event(name: str, time: float, **fields: Any) -> dict[str, Any]:
    return {"event": name, "time": time, **fields}


CRASHED = [
    event("start", 0.0, step=0),
    event("prune", 50.0, step=5, accuracy_before=0.5, accuracy_after=0.4),
    event("epoch", 100.0, step=10),
    event("prune", 150.0, step=15, accuracy_before=0.6, accuracy_after=0.3),
    event("start", 1000.0, step=10),
    event("prune", 1050.0, step=15, accuracy_before=0.6, accuracy_after=0.55),
    event("epoch", 1100.0, step=20),
    event("end", 1120.0, epoch=2),
]


def test_work_that_was_done_again_counts_once() -> None:
    """Neither the pause, nor what the crash lost, is time of the search."""
    assert count_seconds(CRASHED) == 100 + 120
    assert list_drops(CRASHED) == pytest.approx([0.1, 0.05])


def test_after_two_crashes_only_the_last_of_each_step_counts() -> None:
    again = [
        *CRASHED[:6],
        event("start", 2000.0, step=0),
        event("prune", 2060.0, step=5, accuracy_before=0.5, accuracy_after=0.45),
        event("end", 2300.0, epoch=2),
    ]
    assert count_seconds(again) == 300
    assert list_drops(again) == pytest.approx([0.05])


def test_prunings_before_a_setback_do_not_count_twice() -> None:
    events = [*CRASHED[:4], event("setback", 160.0, step=16, back_to_step=10)]
    assert list_drops(events) == pytest.approx([0.1])
    assert count_seconds(events) == 160  # a setback is part of what a search costs
    assert count_seconds([]) is None


def test_cuts_below_the_budgets_are_no_drop_of_the_network_within() -> None:
    """And a cut that a resumed search did again counts once."""

    def cut(time: float, drop: float) -> dict[str, Any]:
        return event("cut", time, step=30, accuracy_before=0.8, accuracy_after=0.8 - drop)

    def recorded(time: float, reason: str) -> dict[str, Any]:
        return event("network", time, step=30, reasons=[reason])

    killed = [event("start", 0.0, step=0), cut(60.0, 0.7), recorded(61.0, "end")]
    events = [
        *killed,
        event("start", 100.0, step=30),
        cut(101.0, 0.7),
        recorded(102.0, "end"),
        cut(103.0, 0.1),
        recorded(104.0, "beyond"),
        event("end", 105.0),
    ]
    assert list_drops(killed) == pytest.approx([0.7])
    assert list_drops(events) == pytest.approx([0.7])


def test_one_cut_and_many_prunings_are_told_alike(tmp_path: Path) -> None:
    best = [network("aaaaaaaa", 0.8, 9e5)]
    cut = [
        event("start", 0.0, step=0),
        event("cut", 60.0, step=30, accuracy_before=0.8, accuracy_after=0.1),
        event("end", 90.0),
    ]
    gold = searched(tmp_path / "a", best, events=log_of(drops=[0.02, -0.01, 0.03]))
    once = searched(tmp_path / "b", best, events=cut, strategy="one-shot")
    first, second = (row["values"] for row in rows_of(gold.path, once.path))
    assert first["largest_drop"]["mean"] == pytest.approx(0.03)
    assert first["summed_drop"]["mean"] == pytest.approx(0.04)
    assert second["largest_drop"]["mean"] == second["summed_drop"]["mean"]
    assert second["summed_drop"]["mean"] == pytest.approx(0.7)
    assert second["search_seconds"]["mean"] == 90


def test_latencies_are_those_of_the_tables_and_of_exports(
    tmp_path: Path, make_table: Any
) -> None:
    table = make_table(tmp_path / "cpu.json", SPACE)
    timed = {"FLOPs": 9e5, "params": 9e3, "latency@cpu": 1500.0}
    with_table = searched(
        tmp_path / "a", [network("aaaaaaaa", 0.8, 9e5, resources=timed)], tables=[table]
    )
    without = searched(tmp_path / "b", [network("bbbbbbbb", 0.8, 9e5)], mu=2.0)
    measured(with_table, "aaaaaaaa", "cpu", 1600.0)
    measured(with_table, "aaaaaaaa", "pi5", 9000.0)  # of a table given to the export
    first, second = (row["values"] for row in rows_of(with_table.path, without.path))
    assert first["predicted_us@cpu"]["mean"] == 1500
    assert first["measured_us@cpu"]["mean"] == 1600
    assert first["predicted_us@pi5"]["mean"] == 4500
    assert second["predicted_us@cpu"] == {"missing": "not predicted"}
    assert second["measured_us@cpu"] == {"missing": "not measured"}


def test_measurements_add_up_and_the_newest_counts(tmp_path: Path) -> None:
    run = searched(tmp_path / "a", [network("aaaaaaaa", 0.8, 9e5)])
    for table, us in (("cpu", 1.0), ("pi5", 2.0), ("cpu", 3.0)):
        measured(run, "aaaaaaaa", table, us)
    (row,) = rows_of(run.path)
    assert row["values"]["measured_us@cpu"]["values"] == [3.0]
    assert row["values"]["measured_us@pi5"]["values"] == [2.0]


# -- what is not comparable --------------------------------------------------------------------


def test_different_data_are_refused(tmp_path: Path) -> None:
    best = [network("aaaaaaaa", 0.8, 9e5)]
    digits = searched(tmp_path / "a", best)
    other = searched(tmp_path / "b", best, data="cifar10")
    code, stdout, stderr = invoke("compare", digits.path, other.path)
    assert_one_line(code, stderr, "on digits and .* on cifar10: .* Compare them separately")
    assert stdout == ""


def test_data_of_one_name_in_two_places_are_compared_with_a_note(tmp_path: Path) -> None:
    best = [network("aaaaaaaa", 0.8, 9e5)]
    places = [tmp_path / "disk1" / "cats.npz", tmp_path / "disk2" / "cats.npz"]
    runs = [
        searched(tmp_path / f"{seed}", best, data=str(place), seed=seed)
        for seed, place in enumerate(places)
    ]
    content = as_json(*(run.path for run in runs))
    assert len(content["rows"]) == 1
    assert any("different places" in note for note in content["notes"])


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"conditions": {"goldnas": "0.0.9"}}, "versions of goldnas differ"),
        ({"conditions": {"device": "NVIDIA T4"}}, "search times .* device differs"),
        ({"conditions": {"threads": 8}}, "search times .* threads differs"),
        ({"validation_fraction": 0.2}, "different shares of the training data"),
        ({"seed": 0}, "have the same seed"),
        ({"image_size": 32}, "at different sizes .*32 pixels"),
    ],
)
def test_what_differs_in_silence_is_said(
    tmp_path: Path, changes: dict[str, Any], note: str
) -> None:
    best = [network("aaaaaaaa", 0.8, 9e5)]
    first = searched(tmp_path / "a", best)
    second = searched(tmp_path / "b", best, **({"seed": 1} | changes))
    plain = searched(tmp_path / "c", best, seed=2)
    assert not [n for n in as_json(first.path, plain.path)["notes"] if re.search(note, n)]
    (found,) = [n for n in as_json(first.path, second.path)["notes"] if re.search(note, n)]
    assert str(second.path) in found


def test_tables_of_one_name_and_other_contents_are_said(
    tmp_path: Path, make_table: Any
) -> None:
    resources = {"FLOPs": 9e5, "params": 9e3, "latency@cpu": 1500.0}
    best = [network("aaaaaaaa", 0.8, 9e5, resources=resources)]
    (tmp_path / "other").mkdir()
    tables = [
        make_table(tmp_path / "cpu.json", SPACE),
        make_table(tmp_path / "other" / "cpu.json", SPACE, scale=2.0),
    ]
    runs = [
        searched(tmp_path / f"run{seed}", best, tables=[table], seed=seed)
        for seed, table in enumerate(tables)
    ]
    measured(runs[0], "aaaaaaaa", "cpu", 1.0)
    measured(runs[1], "aaaaaaaa", "cpu", 2.0, machine="another")
    notes = "\n".join(as_json(*(run.path for run in runs))["notes"])
    assert "tables named cpu" in notes
    assert "on different machines: made up in fp32, another in fp32" in notes


def test_trainings_of_one_name_that_differ_are_said(three_seeds: list[Path]) -> None:
    run = SearchRun.open(three_seeds[0])
    trained(
        run, "best0000", 0.9, seed=9, images=50_000, settings={"batch_size": 96, "workers": 9}
    )
    assert (
        "trainings with short, 15 epochs differ in batch_size (96 and 64), images (50000 and "
        "1000)"
    ) in [
        note.replace("64 and 96", "96 and 64").replace("1000 and 50000", "50000 and 1000")
        for note in as_json(*three_seeds)["notes"]
    ]


def test_settings_that_go_with_the_strategy_are_a_note(tmp_path: Path) -> None:
    best = [network("aaaaaaaa", 0.8, 9e5)]
    runs = [
        searched(tmp_path / "a", best),
        searched(tmp_path / "b", best, strategy="one-shot", learning_rate=0.025),
    ]
    content = as_json(*(run.path for run in runs))
    assert [row["settings"] for row in content["rows"]] == ["", ""]
    assert any("learning_rate (gold 0.05, one-shot 0.025)" in n for n in content["notes"])


# -- forms -------------------------------------------------------------------------------------


def test_people_read_units_spreads_and_what_all_lack(three_seeds: list[Path]) -> None:
    code, stdout, stderr = invoke("compare", *three_seeds)
    assert (code, stderr) == (0, "")
    assert "82.00 ± 2.00" in stdout
    assert "84.00 ± 3.00" in stdout
    assert "910.0 ± 10.0" in stdout
    assert " kFLOPs ┃" in stdout
    assert "short, 15 epochs" in stdout
    assert "search, min" in stdout
    assert "1.500" in stdout  # minutes
    assert "standard deviation" in stdout


def test_one_seed_has_no_spread_and_an_empty_column_is_a_note(tmp_path: Path) -> None:
    run = searched(tmp_path / "a", [network("aaaaaaaa", 0.8, 9e5)])
    _, stdout, _ = invoke("compare", run.path)
    assert "±" not in stdout
    assert "- test, training: not trained" in stdout
    assert "test, %" not in stdout


def test_markdown_is_a_table_with_notes(three_seeds: list[Path]) -> None:
    _, stdout, _ = invoke("compare", *three_seeds, "--format", "markdown")
    header, rule, row, blank, *notes = stdout.splitlines()
    assert header.startswith("| strategy | budgets | seeds | trained | validation, % |")
    assert header.count("|") == rule.count("|") == row.count("|")
    assert "| gold | 1MFLOPs | 0, 1, 2 | short, 15 epochs | 82.00 ± 2.00 |" in row
    assert blank == ""
    assert all(note.startswith("- ") for note in notes)


def test_csv_is_for_machines(three_seeds: list[Path]) -> None:
    _, stdout, _ = invoke("compare", *three_seeds, "--format", "csv")
    assert "±" not in stdout
    (row,) = csv.DictReader(io.StringIO(stdout))
    assert float(row["test_accuracy_mean"]) == pytest.approx(0.84)
    assert float(row["test_accuracy_std"]) == pytest.approx(0.03)
    assert row["test_accuracy_n"] == "3"
    assert row["search_seeds"] == "0 1 2"
    assert float(row["search_seconds_mean"]) == 90
    assert row["missing"] == ""


def test_csv_leaves_empty_what_has_no_value(tmp_path: Path) -> None:
    run = searched(tmp_path / "a", [network("aaaaaaaa", 0.8, 9e5)])
    _, stdout, _ = invoke("compare", run.path, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(stdout))
    assert (row["test_accuracy_mean"], row["test_accuracy_n"]) == ("", "0")
    assert row["missing"] == "test_accuracy: not trained; training_seconds: not trained"


def test_latex_has_no_character_that_is_a_command(tmp_path: Path) -> None:
    run = searched(tmp_path / "a_b", [network("aaaaaaaa", 0.8, 9e5)], events=[])
    trained(run, "aaaaaaaa", 0.9, recipe="50%_more & #1 {$x^2~\\}")
    _, stdout, _ = invoke("compare", run.path, "--format", "latex")
    assert r"50\%\_more \& \#1 \{\$x\textasciicircum{}2\textasciitilde{}" in stdout
    assert r"a\_b has not ended" in stdout
    body = stdout.split("\\midrule\n")[1].split("\\bottomrule")[0]
    columns = len(re.search(r"\{tabular\}\{([lr]+)\}", stdout)[1])  # type: ignore[index]
    assert len(re.findall(r"(?<!\\)&", body)) == columns - 1
    assert stdout.count("{") == stdout.count("}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX here")
def test_latex_compiles(tmp_path: Path, three_seeds: list[Path]) -> None:
    run = searched(tmp_path / "größer--a_b", [network("aaaaaaaa", 0.8, 9e5)], events=[])
    trained(run, "aaaaaaaa", 0.9, recipe="50%_more & #1 {$x^2~\\} ± <|>")
    _, stdout, _ = invoke("compare", *three_seeds, run.path, "--format", "latex")
    assert "größer-{}-a" in stdout
    assert stdout.startswith("% needs")
    head = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
    (tmp_path / "table.tex").write_text(head + stdout + "\\end{document}\n")
    command = ["pdflatex", "-halt-on-error", "table.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_latex_says_where_letters_need_another_program(tmp_path: Path) -> None:
    run = searched(tmp_path / "поиск", [network("aaaaaaaa", 0.8, 9e5)], events=[])
    _, stdout, _ = invoke("compare", run.path, "--format", "latex")
    assert "lualatex" in stdout.splitlines()[0]


def test_the_plot_shows_every_network_and_every_training(three_seeds: list[Path]) -> None:
    other = searched(
        three_seeds[0].parent / "r", [network("eeeeeeee", 0.7, 8e5)], strategy="one-shot"
    )
    comparison = compare(read_runs([*three_seeds, other.path]))
    (axes,) = draw_comparison(comparison).get_axes()
    hollow = [line for line in axes.lines if line.get_fillstyle() == "none"]
    assert sum(len(line.get_xdata()) for line in hollow) == 7
    (bars,) = axes.containers  # the other is not trained
    (x,), (y,) = bars.lines[0].get_data()
    assert (x, y) == (pytest.approx(0.91), pytest.approx(84))
    assert bars.has_xerr
    assert bars.has_yerr
    colours = {line.get_color() for line in hollow}
    assert len(colours) == 2
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"gold", "one-shot", "test set, short, 15 epochs"} <= set(texts)
    assert axes.get_xlabel() == "MFLOPs"


@pytest.mark.parametrize("ending", [".svg", ".png"])
def test_plots_are_written_beside_the_table(three_seeds: list[Path], ending: str) -> None:
    plot = three_seeds[0].parent / f"fronts{ending}"
    code, stdout, stderr = invoke("compare", *three_seeds, "--plot", plot, "--json")
    assert (code, stderr) == (0, f"wrote {plot}\n")
    json.loads(stdout)
    if ending == ".svg":
        ElementTree.parse(plot)
    else:
        with Image.open(plot) as image:
            assert min(image.size) > 400


# -- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gold0", "gold0/"], "gold0 is given twice; give each search once"),
        (["gone"], "gone is not the folder of a search"),
        (["gold0", "--format", "html"], "unknown --format 'html'; known: table, markdown"),
        (["gold0", "--plot", "a.bmp"], "--plot a.bmp must end in .svg, .png, .pdf"),
        (["gold0", "--plot", "gold0/config.json/a.svg"], "cannot write .*a.svg"),
    ],
)
def test_a_mistake_is_one_line(
    three_seeds: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(three_seeds[0].parent)
    code, stdout, stderr = invoke("compare", *arguments)
    assert_one_line(code, stderr, message)
    assert stdout == ""


@pytest.mark.parametrize(
    "name", ["front.json", "events.jsonl", "trained/*/result.json", "measured/best0000.json"]
)
def test_a_damaged_file_is_named(three_seeds: list[Path], name: str) -> None:
    measured(SearchRun.open(three_seeds[0]), "best0000", "cpu", 1.0)
    (path,) = three_seeds[0].glob(name)
    path.write_text("{\n")
    code, stdout, stderr = invoke("compare", *three_seeds)
    assert_one_line(code, stderr, re.escape(str(path)))
    assert stdout == ""


def test_no_figure_is_not_a_number(three_seeds: list[Path]) -> None:
    for row in rows_of(*three_seeds):
        for cell in row["values"].values():
            assert "missing" in cell or math.isfinite(cell["mean"])
