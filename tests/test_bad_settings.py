"""A budget or a setting that cannot be: one clear line, with the values that can be."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

from goldnas.lut import LatencyTable
from workplace import SEARCH, TIMED, WITHIN, Case, assert_refused

TIMED_TWICE = f"{TIMED} --latency-lut pi5.json"
NUMBER_AND_UNIT = "is not a number and a unit; write, for example, 600MFLOPs"
NO_GPU = "mps" if torch.cuda.is_available() else "cuda"


def skip_is_slow() -> None:
    """Make the operator with the fewest FLOPs the slowest."""
    table = LatencyTable.load("cpu.json")
    rows = (
        msgspec.structs.replace(row, latency_us=10_000.0)
        if row.operator == "skip_connect"
        else row
        for row in table.rows
    )
    replace(table, rows=tuple(rows)).save()


BUDGETS = {
    "none": Case(SEARCH, "needs at least one budget, for example --budget 600MFLOPs"),
    "no unit": Case(
        f"{SEARCH} --budget 600", "no unit in budget '600'; known units: FLOPs, .*params.* ms"
    ),
    "unknown unit": Case(
        f"{SEARCH} --budget 5Mflops", "unknown unit 'Mflops' in budget '5Mflops'; known units: "
    ),
    "no number": Case(f"{SEARCH} --budget MFLOPs", f"'MFLOPs' {NUMBER_AND_UNIT}"),
    "empty": Case(f"{SEARCH} --budget ''", f"'' {NUMBER_AND_UNIT}"),
    "NaN": Case(f"{SEARCH} --budget nanMFLOPs", f"'nanMFLOPs' {NUMBER_AND_UNIT}"),
    "negative": Case(f"{SEARCH} --budget -5MFLOPs", "'-5MFLOPs' must be a positive, finite"),
    "zero": Case(f"{SEARCH} --budget 0ms", "'0ms' must be a positive, finite amount"),
    "endless": Case(f"{SEARCH} --budget {'9' * 400}ms", "must be a positive, finite amount"),
    "no table": Case(
        f"{SEARCH} --budget 5ms",
        "'5ms' needs a latency table; .*goldnas profile.*--latency-lut",
    ),
    "which table": Case(
        f"{TIMED_TWICE} --budget 5ms",
        "'5ms' must name one of the latency tables: 5ms@cpu, 5ms@pi5",
    ),
    "unknown table": Case(
        f"{TIMED_TWICE} --budget 5ms@t4", "'5ms@t4' must name one of .*: 5ms@cpu, 5ms@pi5"
    ),
    "no name after @": Case(f"{TIMED} --budget 5ms@", f"'5ms@' {NUMBER_AND_UNIT}"),
    "FLOPs of a table": Case(
        f"{TIMED} --budget 5MFLOPs@cpu", "'5MFLOPs@cpu' names a latency table.*leave out @cpu"
    ),
    "twice": Case(
        f"{WITHIN} --budget 1MFLOPs",
        "budgets 100kFLOPs and 1MFLOPs are for the same resource",
    ),
    "latency twice": Case(f"{TIMED} --budget 5ms --budget 6ms@cpu", "budgets 5ms and 6ms@cpu"),
    "too few FLOPs": Case(
        f"{SEARCH} --budget 30kFLOPs",
        r"30kFLOPs cannot be met: .* needs 35\.2 kFLOPs, 5\.2 kFLOPs more. Raise the budget",
    ),
    "too little time": Case(
        f"{TIMED} --budget 1us",
        r"1us cannot be met: the smallest network .* needs \S+ us, \S+ us more. Raise",
    ),
    "too much together": Case(
        f"{TIMED} --budget 5ms --budget 40kFLOPs",
        "meets 5ms, 40kFLOPs together, .*Raise one",
        skip_is_slow,
    ),
}

SETTINGS = {
    "space": Case(f"{WITHIN} --space silver", "unknown search space 'silver'; known: darts,"),
    "operator": Case(
        f"{WITHIN} --operators skip_connect,conv",
        "unknown operator 'conv'; known: .*sep_conv_3x3.*skip_connect",
    ),
    "fixed part": Case(f"{WITHIN} --operators classifier", "unknown operator 'classifier'"),
    "operator twice": Case(
        f"{WITHIN} --operators skip_connect,skip_connect", "one or more different names, got"
    ),
    "odd channels": Case(f"{WITHIN} --channels 5", "channels must be even, got 5"),
    "no such device": Case(
        f"{WITHIN} --train-device {NO_GPU}", f"cannot train on '{NO_GPU}': torch finds .*cpu"
    ),
    "unknown device": Case(
        f"{WITHIN} --train-device tpu", "cannot train on 'tpu': .*choose one of these, or auto"
    ),
    "device number": Case(f"{WITHIN} --train-device cpu:x", "cannot train on 'cpu:x': "),
    "learning rate": Case(
        f"{WITHIN} --learning-rate 0", "learning-rate must be positive.* got 0"
    ),
    "endless weight": Case(f"{WITHIN} --mu inf", "mu must be 0 or more, and finite, got inf"),
    "NaN growth": Case(f"{WITHIN} --pace paper --c0 nan", "c0 must be over 1.* got nan"),
    "batch of one": Case(f"{WITHIN} --batch-size 1", "batch-size must be at least 2, got 1"),
    "batch of words": Case(
        f"{WITHIN} --batch-size all", "--batch-size must be .* auto, got 'all'"
    ),
    "huge channels": Case(f"{WITHIN} --channels {10**9}", "out of memory .* fewer --channels"),
    "crop": Case(
        f"{WITHIN} --crop-padding 9", "crop_padding of 9 pixels is larger than images of 8x8"
    ),
    "unknown amp": Case(f"{WITHIN} --amp fp8", "unknown --amp fp8; known: auto, bf16, off"),
    "negative seed": Case(f"{WITHIN} --seed -1", "seed must be 0 or more.* got -1"),
    "huge seed": Case(f"{WITHIN} --seed {10**20}", r"seed must be under 2\*\*63, got 10+"),
    "all held out": Case(
        f"{WITHIN} --validation-fraction 1", r"validation-fraction must lie in \(0, 1\), got 1"
    ),
    "large cutout": Case(
        f"{WITHIN} --cutout 9", "cutout of 9 pixels hides whole images of 8x8; choose a smaller"
    ),
}

CASES = {f"budget: {name}": case for name, case in BUDGETS.items()} | SETTINGS


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_bad_setting_is_one_clear_line_and_leaves_the_disk_alone(
    workplace: Path, case: Case
) -> None:
    assert_refused(case)
