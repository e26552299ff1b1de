"""Whatever is wrong: one clear line, exit status 2, and nothing half-written.

Each case is a command line, run in a folder that holds a table, a finished search and a few
data sets; what is wrong with them, if anything; and a pattern of the message, which names
the value in hand and the next step.
"""

import contextlib
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from goldnas.cli.main import app
from goldnas.lut import LatencyTable, Row
from goldnas.profiling import campaign
from goldnas.site import Site
from goldnas.spaces import GoldSpace

MakeTable = Callable[..., LatencyTable]

SPACE = GoldSpace(cells=2, channels=4, input_shape=(1, 8, 8))
SETTINGS = (
    "--cells 2 --channels 4 --epochs 1 --batch-size 512 --auxiliary-weight 0 --train-device cpu"
)
SEARCH = f"search --data digits {SETTINGS} --out new"
WITHIN = f"{SEARCH} --budget 100kFLOPs"
TIMED = f"{SEARCH} --latency-lut cpu.json"
TIMED_TWICE = f"{TIMED} --latency-lut pi5.json"
IMAGES = f"search {SETTINGS} --out new --budget 1MFLOPs --validation-fraction 0.3"
RESUME = "search --resume run"
EXPORT = "export run --out net.onnx"
PROFILE = "profile --cells 1 --channels 4 --input 1x8x8 --out new.json"
LONG = "m" * 300
PAGE = 4096
NO_GPU = "mps" if torch.cuda.is_available() else "cuda"


# -- what is wrong -----------------------------------------------------------------------------

Spoil = Callable[[], object]


def nothing() -> None:
    """Leave the folder as it is: the command line alone is wrong."""


def written(path: str, content: bytes = b"") -> Spoil:
    return lambda: Path(path).write_bytes(content)


def halved(path: str) -> Spoil:
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[: os.path.getsize(path) // 2])


def removed(path: str) -> Spoil:
    return lambda: Path(path).unlink()


def changed(path: str, **fields: Any) -> Spoil:
    def change() -> None:
        content = json.loads(Path(path).read_bytes())
        Path(path).write_text(json.dumps(content | fields))

    return change


def rows(change: Callable[[list[dict[str, Any]]], object]) -> Spoil:
    """Change the rows of the table; the first is of a classifier."""

    def spoil() -> None:
        content = json.loads(Path("cpu.json").read_bytes())
        change(content["rows"])
        Path("cpu.json").write_text(json.dumps(content))

    return spoil


def row(**fields: Any) -> Spoil:
    return rows(lambda all_rows: all_rows[0].update(fields))


def in_ms(all_rows: list[dict[str, Any]]) -> None:
    all_rows[0]["latency_ms"] = all_rows[0].pop("latency_us")


def failed(all_rows: list[dict[str, Any]]) -> None:
    place = {name: all_rows[0][name] for name in ("operator", "site")}
    all_rows[0] = {"status": "failed", "error": "no kernel\nfor it", **place}


def skipping_slow(all_rows: list[dict[str, Any]]) -> None:
    """Make the operator with the fewest FLOPs the slowest."""
    for entry in all_rows:
        if entry["operator"] == "skip_connect":
            entry["latency_us"] = 10_000.0


def arrays(**changes: Any) -> Spoil:
    def spoil() -> None:
        with np.load("data.npz") as file:
            np.savez("data.npz", **(dict(file) | changes))

    return spoil


def every_weight(content: bytes) -> Spoil:
    def spoil() -> None:
        for path in Path("run/weights").iterdir():
            path.write_bytes(content)

    return spoil


# -- the cases ---------------------------------------------------------------------------------


class Case(NamedTuple):
    command: str
    message: str
    """Pattern that the whole line contains."""
    spoil: Spoil = nothing


NOT_A_TABLE = "cpu.json is not a latency table: "
RESTORE = "Restore the file, or delete it and measure again with: goldnas profile .*cpu.json"
NUMBER_AND_UNIT = "is not a number and a unit; write, for example, 600MFLOPs"

TABLES = {
    "missing": Case(
        f"{SEARCH} --budget 1s --latency-lut no.json",
        "no latency table no.json. Measure one with: goldnas profile .*--out no.json",
    ),
    "no shipped one": Case(
        f"{SEARCH} --budget 1s --latency-lut pi9",
        "ships no latency table 'pi9'.* --out pi9.json",
    ),
    "a folder": Case(
        f"{SEARCH} --budget 1s --latency-lut pictures",
        "cannot read the latency table pictures: Is a directory. Give the path of a file",
    ),
    "a name too long": Case(
        f"{SEARCH} --budget 1s --latency-lut {LONG}.json",
        "cannot read the latency table mmm.*: File name too long. Give the path",
    ),
} | {
    name: Case(f"{TIMED} --budget 1s", f"{NOT_A_TABLE}{problem}.*{RESTORE}", spoil)
    for name, problem, spoil in [
        ("empty", "line 1, column 1: not JSON", written("cpu.json")),
        ("truncated", r"line \d+, column \d+: not JSON", halved("cpu.json")),
        ("not JSON", "line 1, column 1: not JSON", written("cpu.json", b"<html>")),
        ("not UTF-8", "byte 2 is not UTF-8 text", written("cpu.json", b'{"\xff": 1}')),
        ("a list", "schema_version is None, not 1", written("cpu.json", b"[1]")),
        ("old schema", "schema_version is 0, not 1", changed("cpu.json", schema_version=0)),
        ("text schema", "schema_version is '1'", changed("cpu.json", schema_version="1")),
        ("negative", r"rows\[0\].latency_us: .*> 0.0, is -1.5", row(latency_us=-1.5)),
        ("zero", r"rows\[0\].latency_us: .*> 0.0, is 0", row(latency_us=0)),
        ("NaN", r"rows\[0\].latency_us: .*> 0.0, is NaN", row(latency_us=float("nan"))),
        ("infinite", r"rows\[0\]: `latency_us` .*got inf", row(latency_us=float("inf"))),
        (
            "text for number",
            r'rows\[0\].latency_us: Expected `float`.*"12"',
            row(latency_us="12"),
        ),
        ("null", r"rows\[0\].latency_us: Expected `float`, got `null`", row(latency_us=None)),
        (
            "milliseconds",
            r"rows\[0\]: .*unknown field `latency_ms`; times in a table are microseconds",
            rows(in_ms),
        ),
        ("bad site", r"rows\[0\]: '4x4' is not a site; .*reads like", row(site="4x4")),
        (
            "row twice",
            r"rows\[13\]: classifier at \S+ is there twice",
            rows(lambda r: r.append(r[0])),
        ),
    ]
}
TABLES |= {
    "new schema": Case(
        f"{TIMED} --budget 1s",
        "cpu.json has schema version 99, .* reads up to 1. Upgrade goldnas",
        changed("cpu.json", schema_version=99),
    ),
    "missing row": Case(
        f"{TIMED} --budget 1s",
        r"no latency for classifier at 64x2x2->10/s1; for classifier it has no site at all. "
        r"Add it with: goldnas profile ",
        rows(lambda r: r.pop(0)),
    ),
    "failed row": Case(
        f"{TIMED} --budget 1s",
        r"classifier at \S+: its measurement failed \(no kernel for it\). "
        r"Try it again with: goldnas profile .*--cells 2 .*--out cpu.json",
        rows(failed),
    ),
    "two of one name": Case(
        f"{TIMED} --latency-lut run/tables/cpu.json --budget 1s@cpu",
        "two latency tables are named 'cpu'; .*give one file another name",
    ),
}

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
        f"{TIMED} --budget 5MFLOPs@cpu", "'5MFLOPs@cpu' names a table.*leave out @cpu"
    ),
    "twice": Case(
        f"{WITHIN} --budget 1MFLOPs",
        "budgets 100kFLOPs and 1MFLOPs are of one resource; keep the one you need",
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
        "meets 5ms, 40kFLOPs together, though each can be met alone. Raise one",
        rows(skipping_slow),
    ),
}

SETTINGS_ = {
    "space": Case(f"{WITHIN} --space silver", "unknown search space 'silver'; known: gold"),
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
        f"{WITHIN} --train-device tpu", "cannot train on 'tpu': .*choose from these, or auto"
    ),
    "device number": Case(f"{WITHIN} --train-device cpu:x", "cannot train on 'cpu:x': "),
    "learning rate": Case(
        f"{WITHIN} --learning-rate 0", "learning_rate must be positive.* got 0"
    ),
    "endless weight": Case(f"{WITHIN} --mu inf", "mu must be 0 or more, and finite, got inf"),
    "NaN growth": Case(f"{WITHIN} --pace paper --c0 nan", "c0 must be over 1.* got nan"),
    "batch of one": Case(f"{WITHIN} --batch-size 1", "batch_size must be at least 2, got 1"),
    "negative seed": Case(f"{WITHIN} --seed -1", "seed must be 0 or more.* got -1"),
    "huge seed": Case(f"{WITHIN} --seed {10**20}", r"seed must be under 2\*\*63, got 10+"),
    "all held out": Case(
        f"{WITHIN} --validation-fraction 1", r"validation_fraction must lie in \(0, 1\), got 1"
    ),
    "large cutout": Case(
        f"{WITHIN} --cutout 9", "cutout of 9 pixels hides images of 8x8; choose a smaller"
    ),
}

DATA = {
    "unknown": Case(
        f"{IMAGES} --data mnist", "unknown data set 'mnist'; known: cifar10, .*digits, the path"
    ),
    "a name too long": Case(f"{IMAGES} --data {LONG}", "unknown data set 'mmm.*known: cifar10"),
    "resized digits": Case(
        f"{IMAGES} --data digits --image-size 16", "image size of 16 pixels .*leave it out"
    ),
    "missing npz": Case(f"{IMAGES} --data no.npz", "cannot read no.npz: no such file; check"),
    "long npz": Case(f"{IMAGES} --data {LONG}.npz", "cannot read mmm.*: no such file; check"),
    "truncated npz": Case(
        f"{IMAGES} --data data.npz",
        "cannot read data.npz: .*; write it again with numpy.savez",
        halved("data.npz"),
    ),
    "other keys": Case(
        f"{IMAGES} --data data.npz",
        "data.npz has the keys images, labels; needed: x_train, .*y_test; rename its arrays",
        lambda: np.savez("data.npz", images=np.zeros(1), labels=np.zeros(1)),
    ),
    "other dtype": Case(
        f"{IMAGES} --data data.npz",
        r"x_train is float64 of shape \(40, 8, 8\); needed: uint8 images \(N, H, W, C\)",
        arrays(x_train=np.zeros((40, 8, 8))),
    ),
    "too few labels": Case(
        f"{IMAGES} --data data.npz",
        r"y_test is int64 of shape \(5,\); needed: one integer for each of the 8 images",
        arrays(y_test=np.zeros(5, np.int64)),
    ),
    "pickled npz": Case(
        f"{IMAGES} --data data.npz",
        "cannot read data.npz: Object arrays .*; write it again",
        arrays(y_train=np.array([{}], dtype=object)),
    ),
    "corrupt image": Case(
        f"{IMAGES} --data pictures",
        "cannot read the image pictures/train/dog/1.png: .*; repair or remove the file",
        written("pictures/train/dog/1.png", b"no picture"),
    ),
    "truncated image": Case(
        f"{IMAGES} --data pictures --image-size 8",
        "cannot read the image pictures/test/cat/0.png: .*; repair or remove the file",
        halved("pictures/test/cat/0.png"),
    ),
    "two sizes": Case(
        f"{IMAGES} --data pictures",
        "pictures/train/dog/1.png is 9x7, .* is 8x8; choose one size .* --image-size",
        lambda: Image.new("RGB", (7, 9)).save("pictures/train/dog/1.png"),
    ),
    "no train/": Case(
        f"{IMAGES} --data pictures",
        "cannot read pictures as a folder of images: .*pictures/train.*; needed: train/",
        lambda: shutil.rmtree("pictures/train"),
    ),
    "other classes": Case(
        f"{IMAGES} --data pictures",
        "train/ and test/ differ in their classes: dog; needed: the same",
        lambda: shutil.rmtree("pictures/test/dog"),
    ),
}

FOLDERS = {
    "neither new nor old": Case(
        "search --budget 1MFLOPs",
        "needs a folder: --out DIR for a new one, --resume DIR to go on",
    ),
    "exists": Case(
        f"{WITHIN} --out run",
        "run exists: .*goldnas search --resume run, or choose another --out",
    ),
    "is a file": Case(f"{WITHIN} --out a_file", "a_file exists: .*or choose another --out"),
    "has no name": Case(
        f"{WITHIN} --out .", r"error: \. is no name for a new folder; choose --out"
    ),
    "a name too long": Case(
        f"{WITHIN} --out {LONG}", "cannot write mmm.*too long.*another place"
    ),
    "in a file": Case(
        f"{WITHIN} --out a_file/new", "cannot write a_file/new/config.json: .*another place"
    ),
    "resume nothing": Case(
        "search --resume gone", "gone is not the folder of a search: .*Give the --out of"
    ),
    "resume no run": Case("search --resume pictures", "pictures is not the folder of a search"),
    "resume a file": Case("search --resume a_file", "a_file is not the folder of a search"),
    "resume a long name": Case(f"search --resume {LONG}", "mmm is not the folder of a search"),
    "resume otherwise": Case(
        f"{RESUME} --epochs 3", "--epochs cannot change a search that goes on; leave it out"
    ),
    "resume elsewhere": Case(
        f"{RESUME} --out new", "--out cannot change a search that goes on"
    ),
} | {
    f"resume with {name}": Case(RESUME, message, spoil)
    for name, message, spoil in [
        (
            "empty config",
            "cannot read run/config.json: .*truncated; restore it from a copy",
            written("run/config.json"),
        ),
        (
            "config not UTF-8",
            "cannot read run/config.json: 'utf-8' .*; restore it",
            written("run/config.json", b'{"data": "\xff"}'),
        ),
        (
            "impossible config",
            "cannot read run/config.json: epochs must be positive.* got -2; restore it",
            changed("run/config.json", epochs=-2),
        ),
        (
            "unknown setting",
            "cannot read run/config.json: .*unknown field `speed`; restore it",
            changed("run/config.json", speed=9),
        ),
        (
            "damaged conditions",
            "cannot read run/conditions.json: .*; restore it",
            halved("run/conditions.json"),
        ),
        (
            "truncated checkpoint",
            "cannot read run/checkpoint.pt: the file is damaged; delete it",
            halved("run/checkpoint.pt"),
        ),
        (
            "checkpoint of text",
            "cannot read run/checkpoint.pt: the file is damaged; delete it",
            written("run/checkpoint.pt", b"hello"),
        ),
        (
            "damaged table",
            "cannot read run/tables/cpu.json, .*copy that table there again .goldnas lut show",
            halved("run/tables/cpu.json"),
        ),
        (
            "no table",
            "cannot read run/tables/cpu.json, .*copy that table there again",
            removed("run/tables/cpu.json"),
        ),
    ]
}

OTHERS = {
    "profile unknown device": Case(
        f"{PROFILE} --device cuda", "unknown --device 'cuda'; .* measures: cpu"
    ),
    "profile bad input": Case(f"{PROFILE} --input 32x32", "like 3x32x32, .* got '32x32'"),
    "profile odd channels": Case(f"{PROFILE} --channels 5", "channels must be even, got 5"),
    "profile operator": Case(f"{PROFILE} --operators conv", "unknown operator 'conv'; known: "),
    "profile into a file": Case(
        f"{PROFILE} --out a_file/cpu.json",
        "cannot write a_file/cpu.json: a folder of this path is a file; .*another place",
    ),
    "profile into a folder": Case(
        f"{PROFILE} --out pictures", "cannot read the latency table pictures: Is a directory"
    ),
    "profile a long name": Case(f"{PROFILE} --out {LONG}", "cannot write mmm.*: File name too"),
    "profile into damage": Case(
        f"{PROFILE} --out cpu.json", f"{NOT_A_TABLE}.*{RESTORE}", halved("cpu.json")
    ),
    "profile elsewhere": Case(
        f"{PROFILE} --out cpu.json",
        "cpu.json was measured under other conditions: cpu_model was made up, is .*--out",
    ),
    "export no run": Case(
        "export pictures --out net.onnx",
        "pictures is not the folder of a search: .*Give the --out",
    ),
    "export unknown pick": Case(
        f"{EXPORT} --pick 99",
        "no network '99' in this run: say best, a number from 1 to \\d+, or",
    ),
    "export other Python": Case(
        f"{EXPORT} --python-out net.txt", "--python-out must end in .py, got net.txt"
    ),
    "export over itself": Case(
        "export run --out net.pt --python-out net.py",
        "--out net.pt is also written .*; rename one",
    ),
    "export nothing yet": Case(
        EXPORT,
        "run has no network yet: go on with goldnas search --resume run",
        removed("run/front.json"),
    ),
    "export damaged front": Case(
        EXPORT, "cannot read run/front.json: .*; restore it", halved("run/front.json")
    ),
    "export damaged weights": Case(
        EXPORT,
        r"cannot read run/weights/\w+.pt: the file is damaged; restore it",
        every_weight(b"hello"),
    ),
    "export damaged table": Case(
        EXPORT, "cannot read run/tables/cpu.json, .*copy that", written("run/tables/cpu.json")
    ),
    "export into a folder": Case(
        "export run --out pictures", "cannot write pictures: Is a directory; .*another place"
    ),
    "export into a file": Case(
        f"{EXPORT} --python-out a_file/net.py", "cannot write a_file/net.py: .*another place"
    ),
    "evaluate no run": Case("evaluate gone", "gone is not the folder of a search: "),
    "evaluate damaged config": Case(
        "evaluate run", "cannot read run/config.json", halved("run/config.json")
    ),
    "show missing": Case("lut show no.json", "no latency table no.json. Measure one with: "),
    "show damaged": Case("lut show cpu.json", f"{NOT_A_TABLE}.*{RESTORE}", halved("cpu.json")),
    "show a folder": Case("lut show run", "cannot read the latency table run: Is a directory"),
}

CASES = {
    f"{topic}: {name}": case
    for topic, cases in [
        ("table", TABLES),
        ("budget", BUDGETS),
        ("setting", SETTINGS_),
        ("data", DATA),
        ("folder", FOLDERS),
        ("command", OTHERS),
    ]
    for name, case in cases.items()
}


# -- running them ------------------------------------------------------------------------------


def goldnas(command: str) -> tuple[int, str]:
    """Return the status and what stands on stderr; a traceback fails the test."""
    result = CliRunner().invoke(app, shlex.split(command))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stderr


def on_disk(folder: Path) -> dict[str, bytes | None]:
    """Every name below a folder, and the bytes of the files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, make_table: MakeTable) -> Path:
    """A folder with two tables, a finished search, and data."""
    folder = tmp_path_factory.mktemp("template")
    with contextlib.chdir(folder):
        make_table(Path("cpu.json"), SPACE)
        make_table(Path("pi5.json"), SPACE, scale=3.0)
        code, stderr = goldnas(f"{TIMED} --budget 100kFLOPs --out run")
        assert code == 0, stderr
        Path("a_file").write_text("not a folder")
        labels = np.arange(40) % 4
        images = np.zeros((40, 8, 8), np.uint8)
        np.savez(
            "data.npz", x_train=images, y_train=labels, x_test=images[:8], y_test=labels[:8]
        )
        noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
        for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
            Path("pictures", name).mkdir(parents=True)
            for number in range(3):
                Image.fromarray(noise).save(f"pictures/{name}/{number}.png")
    return folder


@pytest.fixture
def workplace(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template, where the process is."""
    folder = tmp_path / "workplace"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


def assert_refused(code: int, stderr: str, message: str) -> None:
    assert code == 2, stderr
    assert stderr.startswith("error: ")
    assert stderr.endswith("\n")
    assert len(stderr.splitlines()) == 1, stderr
    assert re.search(message, stderr), stderr


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input_is_one_clear_line_and_leaves_the_disk_alone(
    workplace: Path, case: Case
) -> None:
    case.spoil()
    before = on_disk(workplace)
    code, stderr = goldnas(case.command)
    assert_refused(code, stderr, case.message)
    assert on_disk(workplace) == before


@pytest.mark.parametrize(
    "name",
    [
        "budget: too few FLOPs",
        "folder: resume with truncated checkpoint",
        "command: show damaged",
    ],
)
def test_the_installed_command_says_the_same(workplace: Path, name: str) -> None:
    case = CASES[name]
    case.spoil()
    before = on_disk(workplace)
    command = [str(Path(sys.executable).with_name("goldnas")), *shlex.split(case.command)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert_refused(done.returncode, done.stderr, case.message)
    assert on_disk(workplace) == before


def test_the_command_in_the_message_measures_the_missing_row(workplace: Path) -> None:
    case = TABLES["missing row"]
    case.spoil()
    _, stderr = goldnas(case.command)
    advised = shlex.split(stderr.partition("goldnas profile ")[2])
    profile = typer.main.get_command(app).commands["profile"]
    assert profile.make_context("profile", advised).params == {
        "table": Path("cpu.json"),
        "device": "cpu",
        "space": "gold",
        "cells": 2,
        "channels": 4,
        "input_": "1x8x8",
        "classes": 10,
        "operators": "skip_connect,sep_conv_3x3",
        "batch": 1,
        "threads": 1,
    }


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (f"{WITHIN} --pace other", "'--pace'"),
        (f"{WITHIN} --epochs 0", "'--epochs'"),
        (f"{WITHIN} --cells many", "'--cells'"),
        (f"{WITHIN} --budgets 5ms", "--budgets"),
        (f"{PROFILE} --batch 0", "'--batch'"),
        ("export run", "'--out'"),
        ("lut print", "'print'"),
        ("serach", "'serach'"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_a_usage_error(
    workplace: Path, command: str, named: str
) -> None:
    before = on_disk(workplace)
    code, stderr = goldnas(command)
    assert code == 2
    assert "Usage: " in stderr
    assert named in stderr.partition("Error")[2]
    assert on_disk(workplace) == before


# -- a full disk -------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(room: int) -> Iterator[Callable[[], object]]:
    """Let ``room`` bytes fit into the folder ``disk``; yield what makes more room.

    Where mounting is not allowed, no file may be larger than half of that instead: to replace
    a file in one step takes room for the old one and the new.
    """
    Path("disk").mkdir()

    def mount(size: int, *options: str) -> bool:
        settings = ",".join([f"size={size}", *options])
        command = ["mount", "-t", "tmpfs", "-o", settings, "tmpfs", "disk"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    if os.geteuid() == 0 and shutil.which("mount") and mount(PAGE + room):
        Path("disk/other").write_bytes(b"x" * PAGE)  # a size of 0 would be no limit
        try:
            yield lambda: mount(64 * 2**20, "remount")
        finally:
            subprocess.run(["umount", "disk"], check=True)
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room // 2, hard))
        try:
            yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FULL = "(No space left on device|File too large)"


def assert_whole(folder: Path) -> None:
    """Every file is complete, and none is a leftover of writing."""
    for path in folder.rglob("*"):
        assert path.suffix != ".tmp"
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (f"{PROFILE} --out disk/cpu.json", "disk/cpu.json"),
        (f"{WITHIN} --out disk/run", "disk/run/config.json"),
        ("export run --out disk/net.onnx", "disk/net.onnx"),
    ],
    ids=["profile", "search", "export"],
)
def test_a_full_disk_is_refused_before_any_work(
    workplace: Path, command: str, file: str
) -> None:
    with small_disk(0):
        before = on_disk(workplace)
        code, stderr = goldnas(command)
        assert_refused(code, stderr, f"cannot write {file}: {FULL}.* Make room, or choose")
        assert on_disk(workplace) == before


def test_a_disk_that_fills_while_profiling_keeps_the_finished_rows(
    workplace: Path, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring is not the subject: its results are made up, the rest is real."""
    space = GoldSpace(cells=3, channels=4, input_shape=(1, 8, 8))
    made_up = {(r.operator, r.site): r for r in make_table(Path("all.json"), space).rows}

    def measure(parts: Sequence[tuple[str, Site]], *_: object) -> list[Row]:
        return [made_up[operator, str(site)] for operator, site in parts]

    monkeypatch.setattr(campaign, "_measure_rows", measure)
    chunk, total = campaign.CHUNK, len(space.rows())
    command = f"{PROFILE} --cells 3 --out disk/cpu.json"
    with small_disk(2 * PAGE) as make_room:
        code, stderr = goldnas(command)
        assert code == 2, stderr
        *progress, error = stderr.splitlines()
        assert progress == [f"measured {done} of {total} missing rows" for done in (0, chunk)]
        assert re.match(f"error: cannot write disk/cpu.json: {FULL}; any earlier", error)
        assert_whole(Path("disk"))
        assert len(LatencyTable.load("disk/cpu.json").rows) == chunk
        make_room()
        code, stderr = goldnas(command)
        assert code == 0, stderr
        assert LatencyTable.load("disk/cpu.json").missing(space.rows()) == ()


def test_a_search_whose_disk_fills_goes_on_once_there_is_room(workplace: Path) -> None:
    with small_disk(400_000) as make_room:
        code, stderr = goldnas(f"{TIMED} --budget 100kFLOPs --out disk/run")
        assert code == 2, stderr
        error = stderr.splitlines()[-1]
        assert re.match(f"error: cannot write disk/run/checkpoint.pt: {FULL}", error)
        assert error.endswith("; then go on with: goldnas search --resume disk/run")
        assert stderr.count("error: ") == 1
        assert_whole(Path("disk"))
        make_room()
        code, stderr = goldnas("search --resume disk/run")
        assert code == 0, stderr
        assert_whole(Path("disk"))
        for name in on_disk(Path("run/weights")) | {"../front.json": None}:
            there = Path("disk/run/weights", name)
            assert there.read_bytes() == Path("run/weights", name).read_bytes()


def test_an_export_that_does_not_fit_leaves_nothing(workplace: Path) -> None:
    with small_disk(2 * PAGE) as make_room:
        before = on_disk(workplace)
        command = "export run --out disk/net.onnx --python-out disk/net.py"
        code, stderr = goldnas(command)
        assert_refused(code, stderr, f"cannot write disk/net.onnx: {FULL}")
        assert on_disk(workplace) == before
        make_room()
        code, stderr = goldnas(command)
        assert code == 0, stderr
        names = {"net.onnx", "net.pt", "net.py"}
        assert names <= set(on_disk(Path("disk")))
        assert_whole(Path("disk"))
