"""Prediction, measurement and budget of a network, side by side and in one line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from goldnas.errors import TableError
from goldnas.exporting.budget_check import (
    BudgetCheck,
    check_budgets,
    describe_far_off,
    is_over_budget,
    summary_line,
)
from goldnas.lut import LatencyTable
from goldnas.resources import Budget, Latency, count_flops, count_parameters
from goldnas.spaces import GoldSpace

MakeTable = Callable[..., LatencyTable]
SPACE = GoldSpace(cells=3, channels=4, input_shape=(1, 8, 8), nodes=2)
KEPT = [gate for gate in SPACE.gates if gate.operator == "skip_connect" or gate.source == 0]


def budget(resource: str, limit: float) -> Budget:
    return Budget(resource, limit, "")


def test_predictions_of_counts_equal_the_built_network() -> None:
    architecture = SPACE.architecture(KEPT)
    network = SPACE.build(architecture, gated=True)
    checks = check_budgets(
        network,
        tuple(SPACE.plan(architecture).parts()),
        SPACE.input_shape,
        measured_us={},
        unverified={},
    )
    assert {p.resource: (p.measured, p.difference) for p in checks} == {
        "FLOPs": (count_flops(network, SPACE.input_shape), 0.0),
        "params": (count_parameters(network), 0.0),
    }


def test_predicted_latency_is_the_sum_over_all_parts(
    tmp_path: Path, make_table: MakeTable
) -> None:
    architecture = SPACE.architecture(KEPT)
    parts = tuple(SPACE.plan(architecture).parts())
    (check, *_) = check_budgets(
        SPACE.build(architecture),
        parts,
        SPACE.input_shape,
        predicted=[Latency(make_table(tmp_path / "cpu.json", SPACE, row_us=10.0), SPACE)],
        measured_us={"latency@cpu": 5.0 * len(parts)},
        unverified={},
    )
    assert check.resource == "latency@cpu"
    assert check.predicted == pytest.approx(10.0 * len(parts))
    assert check.difference == pytest.approx(-0.5)
    assert check.verdict == ""


def test_a_row_that_the_table_lacks_is_an_error(tmp_path: Path, make_table: MakeTable) -> None:
    architecture = SPACE.architecture(KEPT)
    table = make_table(tmp_path / "cpu.json", SPACE)
    lacking = replace(table, rows=table.rows[1:])
    with pytest.raises(TableError, match="has no latency for stem_cifar"):
        check_budgets(
            SPACE.build(architecture),
            tuple(SPACE.plan(architecture).parts()),
            SPACE.input_shape,
            predicted=[Latency(lacking, SPACE)],
            measured_us={"cpu": 1.0},
            unverified={},
        )


def test_each_budget_of_a_resource_is_judged() -> None:
    architecture = SPACE.architecture(KEPT)
    network = SPACE.build(architecture)
    exact = count_parameters(network)
    checks = check_budgets(
        network,
        tuple(SPACE.plan(architecture).parts()),
        SPACE.input_shape,
        budgets=[budget("params", exact), budget("params", exact - 1)],
        measured_us={},
        unverified={},
    )
    assert [p.verdict for p in checks] == ["", "PASS", "FAIL"]
    assert is_over_budget(checks)


def test_the_measurement_decides_and_not_the_prediction() -> None:
    kept = BudgetCheck("latency@cpu", 700.0, 600.0, budget("latency@cpu", 600.0))
    exceeded = BudgetCheck("latency@cpu", 500.0, 601.0, budget("latency@cpu", 600.0))
    assert (kept.verdict, exceeded.verdict) == ("PASS", "FAIL")


def test_what_was_not_measured_is_neither_kept_nor_failed() -> None:
    check = BudgetCheck("latency@pi5", 700.0, None, budget("latency@pi5", 600.0), "elsewhere")
    assert check.verdict == "not verified"
    assert check.difference is None
    assert not is_over_budget([check])


def test_what_a_pipeline_adds_to_a_prediction_is_told() -> None:
    check = BudgetCheck("latency@cpu", 900.0, 950.0, budget("latency@cpu", 1e3), around=400.0)
    assert "900 us predicted, 400 us of it for the pipeline (+5.6 %)" in str(check)


FAST = BudgetCheck("latency@cpu", 530.0, 412.0, budget("latency@cpu", 600.0))
SMALL = BudgetCheck("FLOPs", 1.2e6, 1.2e6, budget("FLOPs", 1.5e6))
LARGE = BudgetCheck("params", 5e6, 5e6, budget("params", 3e6))
ELSEWHERE = BudgetCheck("latency@pi5", 900.0, None, budget("latency@pi5", 1e3), "it is a Pi")
UNASKED = BudgetCheck("params", 4e3, 4e3)


@pytest.mark.parametrize(
    ("checks", "line"),
    [
        (
            [FAST, SMALL, UNASKED],
            "verify: PASS  latency@cpu 412 us measured, 530 us predicted (-22.3 %), budget "
            "600 us; 1.2 MFLOPs measured, 1.2 MFLOPs predicted (+0.0 %), budget 1.5 MFLOPs",
        ),
        (
            [SMALL, LARGE],
            "verify: FAIL  5 Mparams measured, 5 Mparams predicted (+0.0 %), budget 3 Mparams; "
            "1.2 MFLOPs measured, 1.2 MFLOPs predicted (+0.0 %), budget 1.5 MFLOPs",
        ),
        (
            [ELSEWHERE],
            "verify: INCOMPLETE  latency@pi5 900 us predicted, budget 1 ms, not verified: "
            "it is a Pi",
        ),
        (
            [UNASKED],
            "verify: no budget  4 kparams measured, 4 kparams predicted (+0.0 %)",
        ),
    ],
    ids=["pass", "fail", "incomplete", "unasked"],
)
def test_the_last_line_says_it_all(checks: list[BudgetCheck], line: str) -> None:
    assert summary_line(checks) == line


@pytest.mark.parametrize(
    ("measured", "far_off"), [(69.0, False), (145.0, False), (340.0, True), (20.0, True)]
)
def test_a_latency_beyond_the_error_of_a_table_is_said_once(
    measured: float, far_off: bool
) -> None:
    name = "latency@cpu"
    check = BudgetCheck(name, predicted=100.0, measured=measured, budget=budget(name, 90.0))
    counts = BudgetCheck("FLOPs", predicted=1.0, measured=3.0)
    unknown = BudgetCheck("latency@pi5", predicted=1.0, measured=None)
    lines = describe_far_off([check, replace(check, budget=None), counts, unknown])
    assert [line.partition(":")[0] for line in lines] == [name] * far_off
