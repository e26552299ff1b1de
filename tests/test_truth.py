"""``goldnas compare --truth``: what a search found, among networks whose figures are known."""

import itertools
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import goldnas
import own_spaces
from goldnas.comparison.rows import compare
from goldnas.comparison.runs import read_runs
from goldnas.comparison.truth import Judge, Truth
from goldnas.comparison.truth_plot import draw_truth, find_band
from goldnas.errors import ConfigError
from goldnas.resources import Latency, compute_costs, count_flops
from goldnas.spaces import make_space
from goldnas.spaces import nasbench_macro as macro
from goldnas.spaces.nasbench201 import CANDIDATES, EDGES, read_cell, write_cell
from scripts import benchmark
from searches import search
from workplace import assert_one_line, invoke

CHOICES = [
    dict(zip(("blocks.0", "blocks.1", "down"), ([name] for name in names), strict=True))
    for names in itertools.product(*[("conv_3x3", "conv_5x5", "skip")] * 2, ("conv", "pool"))
]
"""All networks of one operator for each decision."""


@pytest.fixture
def run(tmp_path: Path) -> goldnas.Run:
    """One random network."""
    return search(
        tmp_path / "run",
        space=own_spaces.residual,
        **{"strategy": "random", "networks": 1, "score": None, "single": True, "epochs": None},
        **{"budgets": ("42kFLOPs",), "cells": None, "channels": None, "auxiliary_weight": 0.0},
    )


def flops_of(choices: dict[str, Any]) -> int:
    space = make_space(own_spaces.residual)
    gates = [gate for gate in space.gates if gate.key in choices[gate.place]]
    return count_flops(space.build(space.architecture(gates)), space.input_shape)


def kept_by(run: goldnas.Run) -> dict[str, list[str]]:
    return {place: list(keys) for place, keys in run.best.architecture.choices.items()}


def quoted(text: str) -> str:
    return f'"{text.replace(chr(34), 2 * chr(34))}"'


def write(path: Path, rows: list[tuple[str, float]]) -> Path:
    text = "".join(f"{quoted(name)},{value}\n" for name, value in rows)
    path.write_text(f"architecture,accuracy\n{text}")
    return path


def judged(run: goldnas.Run, truth: Path) -> dict[str, float]:
    code, stdout, stderr = invoke("compare", run.path, "--truth", truth, "--json")
    assert code == 0, stderr
    (row,) = json.loads(stdout)["rows"]
    return {
        name.removeprefix("true_accuracy").lstrip("_") or "value": figure["mean"]
        for name, figure in row["values"].items()
        if name.startswith("true_accuracy") and "mean" in figure
    }


def test_a_network_is_placed_among_those_of_its_cost(run: goldnas.Run, tmp_path: Path) -> None:
    costs = [flops_of(choices) for choices in CHOICES]
    figures = [90.0 + number for number in range(len(CHOICES))]
    rows = [(json.dumps(c), f) for c, f in zip(CHOICES, figures, strict=True)]
    found = judged(run, write(tmp_path / "truth.csv", rows))
    mine = CHOICES.index(kept_by(run))
    within = [figures[i] for i, cost in enumerate(costs) if cost <= 42_000]
    band = [figures[i] for i, cost in enumerate(costs) if 37_800 <= cost <= 42_000]
    assert (len(within), len(band)) == (16, 2)
    assert found["value"] == figures[mine]
    assert found["optimum"] == max(within)
    assert found["regret"] == max(within) - figures[mine]
    assert found["rank"] == 1 + sum(figure > figures[mine] for figure in within)
    assert found["band_mean"] == pytest.approx(sum(band) / len(band))
    worse = sum(f < figures[mine] for f in band) + sum(f == figures[mine] for f in band) / 2
    assert found["percentile"] == pytest.approx(100 * worse / len(band))


def test_a_network_over_the_budget_has_a_figure_and_no_place() -> None:
    rows = tuple((i, json.dumps(c), (90.0 + i,)) for i, c in enumerate(CHOICES))
    truth = Truth(Path("truth.csv"), ("accuracy",), rows)
    space = make_space(own_spaces.residual)
    judge = Judge(truth, space, ["42kFLOPs"])
    dearest = max(CHOICES, key=flops_of)
    kept = (gate for gate in space.gates if gate.key in dearest[gate.place])
    judged = judge.place(space.architecture(kept))["accuracy"]
    assert judged.value == 90.0 + CHOICES.index(dearest)
    assert (judged.rank, judged.percentile, judged.regret) == (None, None, None)


def test_parameters_are_a_budget_too(run: goldnas.Run) -> None:
    rows = tuple((i, json.dumps(c), (float(i),)) for i, c in enumerate(CHOICES))
    space = make_space(own_spaces.residual)
    amounts = [
        sum(p.numel() for p in space.build(space.architecture(gates)).parameters())
        for choices in CHOICES
        for gates in [[g for g in space.gates if g.key in choices[g.place]]]
    ]
    limit = sorted(amounts)[9]
    judge = Judge(Truth(Path("t.csv"), ("a",), rows), space, [f"{limit}params"])
    assert judge.within.tolist() == [amount <= limit for amount in amounts]
    assert judge.band.tolist() == [0.9 * limit <= amount <= limit for amount in amounts]


def test_columns_may_stand_in_any_order_and_are_chosen(
    run: goldnas.Run, tmp_path: Path
) -> None:
    truth = tmp_path / "truth.csv"
    lines = ["by,a, architecture,b"]
    lines += [f"me,{i},{quoted(json.dumps(c))},-{i}" for i, c in enumerate(CHOICES)]
    truth.write_text("\n".join(lines) + "\n\n")
    code, _, stderr = invoke("compare", run.path, "--truth", truth)
    assert_one_line(
        code, stderr, "line 2: me,0,.* finite numbers for by, a, b; .* with --column"
    )
    code, stdout, _ = invoke(
        "compare", run.path, "--truth", truth, "--column", "b", "--column", "a", "--json"
    )
    assert code == 0
    (row,) = json.loads(stdout)["rows"]
    figures = {name: row["values"][f"true_{name}"]["mean"] for name in "ab"}
    assert figures["a"] == -figures["b"] == CHOICES.index(kept_by(run))
    assert "true_by" not in row["values"]


def test_an_architectures_file_is_a_line_too_and_one_that_lacks_is_said(
    run: goldnas.Run, tmp_path: Path
) -> None:
    rows = [(run.best.architecture.to_json().decode(), 1.0)]
    assert judged(run, write(tmp_path / "a.csv", rows))["value"] == 1.0
    rows = [(json.dumps(c), 1.0) for c in CHOICES if c != kept_by(run)]
    code, stdout, _ = invoke("compare", run.path, "--truth", write(tmp_path / "b.csv", rows))
    assert code == 0
    assert "no known truth" in stdout


MISTAKES = {
    "no file": (None, "cannot read .*: No such file"),
    "empty": ("", "has the columns none, and 0 networks"),
    "other columns": ("name,accuracy\na,1\n", "has the columns name, accuracy"),
    "no figure": ("architecture\na\n", "has the columns architecture, and 1 network below"),
    "no number": ("architecture,a\n{},good\n", "line 2: .* is not an architecture with finite"),
    "not finite": ("architecture,a\n{},nan\n", "line 2: .* is not an architecture with finite"),
    "no part of a sum": ("architecture,a\n{},1e308\n", "line 2: .* with finite numbers"),
    "values within values": (
        f"architecture,a\n{'[' * 10**5},1\n",
        "line 2: .* is not a network of space",
    ),
    "blank": (
        "architecture,a\n{},\n",
        "line 2: {}, is not an architecture with finite numbers",
    ),
    "cut off": ("architecture,a,b\n{},1\n", "line 2: .* with finite numbers for a, b"),
    "one name twice": ("architecture,a,a\n{},1,2\n", "give each column its own name"),
    "one network twice": (
        'architecture,a\n"{""blocks.0"":""skip"",""blocks.1"":""skip"",""down"":""pool""}",1\n'
        '\n"{""down"":[""pool""],""blocks.1"":[""skip""],""blocks.0"":""skip""}",1\n',
        "lines 2 and 4 are the same",
    ),
    "half a network": (
        'architecture,a\n"{""blocks.0"":""skip""}",1\n',
        "line 2: .* needs an operator at 'blocks.1'",
    ),
    "a file of another space": (
        'architecture,a\n"{\n""space"":""gold"",""settings"":{},""choices"":{}}",1\n',
        "is not a network of space own_spaces:residual .but of gold",
    ),
    "another space": (
        "architecture,a\n|none~0|,1\n",
        "is not a network of space own_spaces:res",
    ),
    "another choice": ('architecture,a\n"{""x"": ""y""}",1\n', "is not a network of space"),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_truth_is_one_line(
    run: goldnas.Run, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "truth.csv"
    if text is not None:
        path.write_text(text)
    code, _, stderr = invoke("compare", run.path, "--truth", path)
    assert_one_line(code, stderr, message)


def test_a_column_is_one_of_the_truth(run: goldnas.Run, tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.csv", [(json.dumps(c), 1.0) for c in CHOICES])
    for names in (["loss"], ["accuracy", "accuracy"]):
        words = [word for name in names for word in ("--column", name)]
        code, _, stderr = invoke("compare", run.path, "--truth", truth, *words)
        assert_one_line(code, stderr, "--column .* choose from accuracy, each once")
    code, _, stderr = invoke("compare", run.path, "--column", "accuracy")
    assert_one_line(code, stderr, "--column accuracy needs --truth FILE.csv; give both")


def test_a_truth_is_of_the_space_of_every_search(run: goldnas.Run, tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.csv", [(json.dumps(c), 1.0) for c in CHOICES])
    other = search(
        tmp_path / "other",
        **{"strategy": "random", "networks": 1, "score": None, "epochs": None},
        auxiliary_weight=0.0,
    )
    code, _, stderr = invoke("compare", run.path, other.path, "--truth", truth)
    assert_one_line(code, stderr, "is not a network of space gold .* give a file for the space")


# -- the picture -------------------------------------------------------------------------------


def test_the_picture_shows_what_was_found_among_what_is_known(
    run: goldnas.Run, tmp_path: Path
) -> None:
    truth = tmp_path / "truth.csv"
    lines = ["architecture,a,b"]
    lines += [f"{quoted(json.dumps(c))},{90 + i},{-i}" for i, c in enumerate(CHOICES)]
    truth.write_text("\n".join(lines))
    known = Truth.read(truth)
    figure = draw_truth(compare(read_runs([run.path], known), None, known))
    first, second = figure.axes
    assert (first.get_ylabel(), second.get_ylabel()) == ("true a", "true b")
    assert first.get_xlabel() == "kFLOPs"
    lines_of = {line.get_marker(): line for line in first.lines}
    costs = [flops_of(choices) / 1000 for choices in CHOICES]
    mine = CHOICES.index(kept_by(run))
    assert lines_of["o"].get_xydata().tolist() == [[costs[mine], 90 + mine]]
    assert sorted(lines_of["."].get_xdata()) == pytest.approx(sorted(costs))
    (budget,) = [line for line in first.lines if line.get_linestyle() == ":"]
    assert list(budget.get_xdata()) == [42, 42]
    (best,) = [line for line in first.lines if line.get_drawstyle() == "steps-post"]
    assert best.get_ydata()[-1] == 90 + len(CHOICES) - 1
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"random, best", "known networks", "optimum up to the cost", "budget"} <= {*texts}


def test_searches_in_networks_of_another_size_have_a_panel_each(
    run: goldnas.Run, tmp_path: Path
) -> None:
    truth = write(tmp_path / "truth.csv", [(json.dumps(c), i) for i, c in enumerate(CHOICES)])
    wider = search(
        tmp_path / "wider",
        space=own_spaces.residual,
        **{"strategy": "random", "networks": 1, "score": None, "single": True, "epochs": None},
        **{"budgets": ("90kFLOPs",), "cells": None, "channels": None, "auxiliary_weight": 0.0},
        settings={"width": 6},
    )
    plot = tmp_path / "truth.svg"
    code, _, stderr = invoke("compare", run.path, wider.path, "--truth", truth, "--plot", plot)
    assert (code, stderr) == (0, f"wrote {plot}\n")
    ElementTree.parse(plot)
    known = Truth.read(truth)
    figure = draw_truth(compare(read_runs([run.path, wider.path], known), None, known))
    assert ["width=4" in a.get_title() for a in figure.axes] == [True, False]
    assert ["width=6" in a.get_title() for a in figure.axes] == [False, True]


def test_of_many_networks_the_band_is_drawn() -> None:
    rng = np.random.default_rng(0)
    amounts, figures = rng.integers(10, 100, 3000).astype(float), rng.random(3000)
    at, quantiles = find_band(amounts, figures)
    near = figures[(amounts <= 60) & (amounts >= 54)]
    assert quantiles[:, list(at).index(60)] == pytest.approx(np.quantile(near, (0.1, 0.5, 0.9)))
    continuous = rng.random(3000)
    at, quantiles = find_band(continuous, figures)
    assert len(at) == quantiles.shape[1] <= 200
    assert np.isnan(quantiles[:, 0]).all()  # one network alone has no quantiles


# -- NAS-Bench-201 -----------------------------------------------------------------------------


def cell_of(operator: str) -> str:
    return "+".join(
        "|" + "".join(f"{operator}~{source}|" for source in range(node)) for node in (1, 2, 3)
    )


@pytest.mark.parametrize("operator", CANDIDATES)
def test_a_cells_string_is_read_and_written(operator: str) -> None:
    text = cell_of(operator)
    assert write_cell(read_cell(text).choices) == text


@pytest.mark.parametrize(
    ("operator", "flops", "parameters"),
    [
        ("skip_connect", 7_783_040, 73_306),
        ("nor_conv_1x1", 31_376_000, 241_306),
        ("nor_conv_3x3", 220_119_680, 1_531_546),
    ],
)
def test_counts_are_those_that_were_published(
    operator: str, flops: int, parameters: int
) -> None:
    """7.78 and 220.12 MFLOPs, 0.073 and 1.532 M parameters (arXiv:2009.00437)."""
    architecture = read_cell(cell_of(operator))
    network = make_space("nasbench201").build(architecture)
    assert count_flops(network, (3, 32, 32)) == flops
    assert sum(weight.numel() for weight in network.parameters()) == parameters


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|none~0|",
        cell_of("conv"),
        cell_of("none").replace("~2", "~1"),
        cell_of("none")[:-9],
    ],
)
def test_what_is_no_cell_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a cell of NAS-Bench-201"):
        read_cell(text)


def test_a_cell_of_several_operators_on_an_edge_has_no_string() -> None:
    choices = dict(read_cell(cell_of("none")).choices) | {"edge_0_1": ("none", "skip_connect")}
    with pytest.raises(ConfigError, match="edge_0_1 have several operators"):
        write_cell(choices)


# -- NAS-Bench-Macro ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["00000000", "01121022", "22222222"])
def test_the_digits_of_a_network_are_read_and_written(text: str) -> None:
    assert macro.write_network(macro.read_network(text).choices) == text


def count_by_hand(text: str) -> tuple[int, int]:
    """Multiply-adds and parameters of a network, by the formula of the benchmark."""
    flops, parameters = 32 * 32 * 27 * 32, 27 * 32 + 2 * 32  # the first convolution
    read, side = 32, 32
    for layer, digit in enumerate(text):
        changes = layer in (0, 2, 5)
        puts_out, left = (2 * read, side // 2) if changes else (read, side)
        if digit == "0" and changes:
            flops += left**2 * read * puts_out
            parameters += read * puts_out + 2 * puts_out
        elif digit != "0":
            area, inner = {"1": (3 * 3, 3 * read), "2": (5 * 5, 6 * read)}[digit]
            flops += side**2 * read * inner + left**2 * (area + puts_out) * inner
            parameters += (read + area + puts_out) * inner + 2 * (2 * inner + puts_out)
        read, side = puts_out, left
    assert (read, side) == (256, 4)
    flops += 4 * 4 * 256 * 1280 + 1280 * 10
    parameters += 256 * 1280 + 2 * 1280 + 1280 * 10 + 10
    return flops, parameters


@pytest.mark.parametrize(
    ("text", "flops", "parameters"),
    [
        ("00000000", 7_713_280, 387_882),
        ("11111111", 53_246_464, 1_588_874),
        ("22222222", 105_660_928, 2_932_586),
        ("01121022", 65_470_976, 2_431_914),
    ],
)
def test_counts_are_those_of_the_formula(text: str, flops: int, parameters: int) -> None:
    assert count_by_hand(text) == (flops, parameters)
    architecture = macro.read_network(text)
    network = make_space(architecture.space).build(architecture)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 3, 32, 32))
    assert count_flops(network, (3, 32, 32)) == counter.get_total_flops() / 2 == flops
    assert sum(weight.numel() for weight in network.parameters()) == parameters


def test_without_affine_what_a_gate_scales_has_no_learnt_scale() -> None:
    architecture = macro.read_network("01000000", affine=False)
    network = make_space(architecture.space, affine=False).build(architecture)
    conv, norm = network.get_submodule("layers.0.operators.identity").children()
    *_, last = network.get_submodule("layers.1.operators.mb_3x3_e3.body").children()
    assert (conv.weight.shape, norm.affine, last.affine) == ((64, 32, 1, 1), False, False)
    others = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.affine]
    assert len(others) == 2 + 2  # of the stem and the head, and inside the block


@pytest.mark.parametrize(
    "text", ["", "0112102", "011210222", "01121023", "0112102a", "0112102²"]
)
def test_what_are_no_digits_of_a_network_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a network of NAS-Bench-Macro"):
        macro.read_network(text)


def test_a_network_of_several_operators_in_a_layer_has_no_digits() -> None:
    choices = dict(macro.read_network("0" * 8).choices)
    choices["layers.1"] = ("identity", "mb_3x3_e3")
    with pytest.raises(ConfigError, match=r"layers\.1 have several operators"):
        macro.write_network(choices)


@pytest.mark.parametrize(
    "settings", [{"channels": 0}, {"head": 1.5}, {"classes": True}, {"input_shape": [3, 8]}]
)
def test_settings_of_the_macro_space_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make_space("nasbench-macro", **settings)


# -- the benchmark -----------------------------------------------------------------------------

TRUTH = benchmark("search_truth")
MFLOPS = {"nor_conv_1x1": 3_932_160, "nor_conv_3x3": 35_389_440}
"""Of an operator in the whole network; 7,783,040 in all besides."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A file of 100 images of 16 pixels."""
    rng = np.random.default_rng(0)
    arrays = {
        f"x_{part}": rng.integers(0, 256, (100, 16, 16, 3), np.uint8)
        for part in ("train", "test")
    }
    labels = {f"y_{part}": np.arange(100) % 10 for part in ("train", "test")}
    np.savez(tmp_path / "images.npz", **arrays, **labels)
    return tmp_path / "images.npz"


def test_a_look_up_from_the_search_to_the_table(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The truth here: how many convolutions of 3x3 a cell has, of which one is affordable."""
    lines = ["architecture,accuracy"]
    for cell in itertools.product(CANDIDATES, repeat=len(EDGES)):
        choices = {f"edge_{s}_{n}": [key] for (s, n), key in zip(EDGES, cell, strict=True)}
        lines.append(f"{write_cell(choices)},{cell.count('nor_conv_3x3')}")
    (tmp_path / "truth.csv").write_text("\n".join(lines))
    words = ["--data", images, "--out", tmp_path / "out", "--small", "channels=2", "cells=1"]
    words += ["--side", 8, "--images", 100, "--epochs", 1, "--seeds", 0, "--budgets", 60]
    words += ["--strategies", "gold", "one-shot", "--report", tmp_path / "report.json"]
    words = [*map(str, words)]
    TRUTH.main([*words, "--truth", str(tmp_path / "truth.csv")])
    report = json.loads((tmp_path / "report.json").read_text())
    assert [r["strategy"] for r in report["searches"]] == ["gold", "one-shot"]
    for found in report["searches"]:
        keys = [key for keys in found["choices"].values() for key in keys]
        assert len(keys) == len(EDGES)
        assert found["flops"] == 7_783_040 + sum(MFLOPS.get(key, 0) for key in keys) <= 60e6
        assert found["accuracy"] == keys.count("nor_conv_3x3")
        assert found["regret"] == 1 - found["accuracy"]
    assert report["searches"][0]["flops"] >= 0.97 * 60e6 - MFLOPS["nor_conv_1x1"]
    (reference,) = report["references"]
    assert reference["optimum"] == reference["largest"] == reference["random"] == 1
    assert "| 60M | (optimum) | | 1.00 | 0.00 |" in capsys.readouterr().out

    TRUTH.main(words)  # is not run again, and tells what needs no truth
    again = json.loads((tmp_path / "report.json").read_text())["searches"]
    kept = [{k: v for k, v in f.items() if k in again[0]} for f in report["searches"]]
    assert again == kept
    assert "| 60M | gold | 1 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="holds searches with other settings"):
        TRUTH.main([*words, "--images", "99"])


@pytest.mark.parametrize("space", TRUTH.SIZES)
def test_a_small_network_is_charged_what_the_whole_one_costs(
    space: str, images: Path, tmp_path: Path
) -> None:
    small = {"channels": 2} | ({"cells": 1} if space == "nasbench201" else {"head": 4})
    task = TRUTH.Task.prepare(space, TRUTH.Sizes(small, 16, images=40), images)
    table = task.charge(tmp_path / "flops.json")
    charged = compute_costs(task.small, Latency(table, task.small))
    assert charged.gates == pytest.approx(task.costs.gates / 1000)
    assert charged.fixed == pytest.approx(task.costs.fixed / 1000)
