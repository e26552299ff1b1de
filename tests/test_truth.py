"""``goldnas compare --truth``: what a search found, among networks whose figures are known."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

import goldnas
import own_spaces
from goldnas.errors import ConfigError
from goldnas.resources import count_flops
from goldnas.spaces import make_space
from goldnas.spaces.nasbench201 import CANDIDATES, read_cell, write_cell
from searches import search
from workplace import invoke

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


def write(path: Path, rows: list[tuple[str, float]]) -> Path:
    text = "".join(f'"{name.replace(chr(34), 2 * chr(34))}",{value}\n' for name, value in rows)
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
    mine = CHOICES.index({k: list(v) for k, v in run.best.architecture.choices.items()})
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


def test_an_architectures_file_is_a_line_too_and_one_that_lacks_is_said(
    run: goldnas.Run, tmp_path: Path
) -> None:
    rows = [(run.best.architecture.to_json().decode(), 1.0)]
    assert judged(run, write(tmp_path / "a.csv", rows))["value"] == 1.0
    kept = {place: list(keys) for place, keys in run.best.architecture.choices.items()}
    rows = [(json.dumps(c), 1.0) for c in CHOICES if c != kept]
    code, stdout, _ = invoke("compare", run.path, "--truth", write(tmp_path / "b.csv", rows))
    assert code == 0
    assert "no known truth" in stdout


MISTAKES = {
    "no file": (None, "cannot read .*: No such file"),
    "empty": ("", "cannot read"),
    "other columns": ("name,accuracy\na,1\n", "has the columns name, accuracy"),
    "no figure": ("architecture\na\n", "has the columns architecture and 1 networks"),
    "no number": ("architecture,a\n{},good\n", "line 2: .* is no architecture with 1 finite"),
    "not finite": ("architecture,a\n{},nan\n", "line 2: .* is no architecture with 1 finite"),
    "another space": ("architecture,a\n|none~0|,1\n", "is no network of space own_spaces:res"),
    "another choice": ('architecture,a\n"{""x"": ""y""}",1\n', "is no network of space"),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_truth_is_one_line(
    run: goldnas.Run, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "truth.csv"
    if text is not None:
        path.write_text(text)
    code, _, stderr = invoke("compare", run.path, "--truth", path)
    assert code == 2
    assert len(stderr.splitlines()) == 1
    assert re.search(message, stderr), stderr


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
    with pytest.raises(ConfigError, match="is no cell of NAS-Bench-201"):
        read_cell(text)


def test_a_cell_of_several_operators_on_an_edge_has_no_string() -> None:
    choices = dict(read_cell(cell_of("none")).choices) | {"edge_0_1": ("none", "skip_connect")}
    with pytest.raises(ConfigError, match="edge_0_1 have several operators"):
        write_cell(choices)
