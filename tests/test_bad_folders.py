"""A folder that no search can begin or go on in: one clear line, and nothing is touched."""

import io
import json
import math
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compared import trained
from goldnas import load_run
from goldnas.errors import RunError
from goldnas.searching.folder import SearchRun
from workplace import (
    LONG,
    RESUME,
    WITHIN,
    Case,
    Spoil,
    assert_one_line,
    assert_refused,
    changed,
    goldnas,
    halved,
    removed,
    written,
)

CASES = {
    "neither new nor old": Case(
        "search --budget 1MFLOPs",
        "needs a folder: --out DIR for a new one, --resume DIR",
    ),
    "exists": Case(
        f"{WITHIN} --out run",
        "run exists: .*goldnas search --resume run, or choose another --out",
    ),
    "is a file": Case(
        f"{WITHIN} --out a_file", "a_file is already a file: choose another --out"
    ),
    "is something else": Case(
        f"{WITHIN} --out images",
        "images exists and is not the folder of a search: choose another --out",
    ),
    "is a training": Case(
        f"{WITHIN} --out run",
        "run exists and is not the folder of a search: choose another --out",
        written("run/architecture.json", b"{}"),
    ),
    "has no name": Case(
        f"{WITHIN} --out .", r"error: \. is not a name for a new folder; .* --out"
    ),
    "a name too long": Case(
        f"{WITHIN} --out {LONG}", "cannot make mmm.*too long.*another --out"
    ),
    "in a file": Case(f"{WITHIN} --out a_file/new", "cannot make a_file/new: .*another --out"),
    "resume nothing": Case(
        "search --resume gone",
        "gone is not the folder of a search: it does not exist. Give the --out of",
    ),
    "resume no run": Case("search --resume images", "images is .* it has no config.json"),
    "resume a file": Case(
        "search --resume a_file", "a_file is not the folder of a search: it is a file"
    ),
    "resume a long name": Case(f"search --resume {LONG}", "mmm is not the folder of a search"),
    "resume a training": Case(
        RESUME,
        "run is the folder of a training; give the folder of its search",
        written("run/architecture.json", b"{}"),
    ),
    "resume otherwise": Case(
        f"{RESUME} --epochs 3", "--epochs cannot change a search .*leave it out"
    ),
    "resume elsewhere": Case(f"{RESUME} --out new", "--out cannot change a search"),
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
            "cannot read run/config.json: .*(?i:utf-8).*; restore it",
            written("run/config.json", b'{"data": "\xff"}'),
        ),
        (
            "impossible config",
            "cannot read run/config.json: .*epochs.* positive.* got -2; restore it",
            changed("run/config.json", epochs=-2),
        ),
        (
            "unknown setting",
            "cannot read run/config.json: .*unknown field .speed.; restore it",
            changed("run/config.json", speed=9),
        ),
        (
            "later config",
            "run/config.json has schema version 2, and this goldnas reads version 1. Upgrade",
            changed("run/config.json", schema_version=2),
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
            "cannot read run/tables/cpu.json, .*copy the table there again .goldnas lut show",
            halved("run/tables/cpu.json"),
        ),
        (
            "no table",
            "cannot read run/tables/cpu.json, .*copy the table there again",
            removed("run/tables/cpu.json"),
        ),
        (
            "old table",
            "run/tables/cpu.json, .* has schema version 1, .* copy that file there$",
            changed("run/tables/cpu.json", schema_version=1),
        ),
    ]
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_bad_folder_is_one_clear_line_and_leaves_the_disk_alone(
    workplace: Path, case: Case
) -> None:
    assert_refused(case)


# -- folders of other versions ---------------------------------------------------------------

VERSIONS = {
    0: "version 0, which this goldnas does not .*the goldnas that wrote it, 0.0.7$",
    2: "version 2, and this goldnas reads version 1. Upgrade goldnas to 0.0.7 or later, which",
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "command",
    [
        *(RESUME, "train run", "export run --out net.onnx", "evaluate run"),
        *("compare run", "report run", "status run"),
        *("export TRAINING --out net.onnx", "evaluate TRAINING"),
    ],
)
def test_a_folder_of_another_schema_says_which_goldnas_reads_it(
    workplace: Path, command: str, version: int
) -> None:
    run = SearchRun.open(Path("run"))
    training = trained(run, run.front().networks[0].fingerprint, 0.9)
    shutil.copy("run/conditions.json", training)
    for path in Path("run").rglob("*.json"):
        if path.name == "conditions.json":
            changed(str(path), goldnas="0.0.7")()
        elif "schema_version" in json.loads(path.read_bytes()) and path.parent.name != "tables":
            changed(str(path), schema_version=version)()
    line = command.replace("TRAINING", str(training))
    assert_refused(Case(line, f"json has schema {VERSIONS[version]}"))


def test_a_search_whose_folder_was_deleted_says_so(workplace: Path) -> None:
    run = load_run("run")
    shutil.rmtree("run")
    for use in (lambda: run.best, run.resume):
        with pytest.raises(
            RunError, match="run is not the folder of a search: it does not exist"
        ):
            use()
    assert not Path("run").exists()


def test_an_empty_folder_is_no_search(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not the folder of a search: it has no config\.json"):
        load_run(tmp_path)


WRONG = {
    "a shape": (lambda weight: weight[:1], "weight is torch.float32 of .1, .*, not torch"),
    "whole numbers": (
        lambda weight: weight.to(torch.int8),
        "weight is torch.int8 of .* not",
    ),
    "truths": (lambda weight: weight > 0, "weight is torch.bool of .* not torch.float32"),
    "no numbers": (lambda weight: weight * torch.nan, "weight has values that are not finite"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_weights_that_no_network_has_are_refused(workplace: Path, wrong: str) -> None:
    spoil, message = WRONG[wrong]

    def spoiled() -> None:
        for file in workplace.glob("run/weights/*.pt"):
            weights = torch.load(file)
            name = next(name for name in weights if name.endswith("weight"))
            torch.save(weights | {name: spoil(weights[name])}, file)

    assert_refused(Case("evaluate run", f"does not fit its architecture: .*{message}", spoiled))


# -- values and sizes ------------------------------------------------------------------------


def checkpoint(**fields: Any) -> Spoil:
    """Change the plain part of a checkpoint."""

    def change() -> None:
        path = Path("run/checkpoint.pt")
        torch.save(torch.load(path, weights_only=True) | fields, path)

    return change


def epoch_line(**fields: Any) -> Spoil:
    """Add a line to the log."""
    line = {"time": 1.0, "event": "epoch", "epoch": 0, "resources": {}, "seconds": 1.0}

    def add() -> None:
        with Path("run/events.jsonl").open("a") as log:
            log.write(json.dumps(line | fields).replace('"DIGITS"', "9" * 5000) + "\n")

    return add


def network(**fields: Any) -> Spoil:
    """Change the first network of the front."""

    def change() -> None:
        path = Path("run/front.json")
        front = json.loads(path.read_bytes())
        front["networks"][0] |= fields
        path.write_text(json.dumps(front))

    return change


def edge(name: str) -> Spoil:
    """Let every architecture have an operator there."""

    def change() -> None:
        for path in Path("run/architectures").iterdir():
            content = json.loads(path.read_bytes())
            content["choices"][name] = ["sep_conv_3x3"]
            path.write_text(json.dumps(content))

    return change


def rewrite(
    path: str, state: Any, how: int = zipfile.ZIP_STORED, was: bytes = b"", now: bytes = b""
) -> None:
    """Save a state, and change how its archive is written, or what its pickle says."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    for place in Path().glob(path):
        with zipfile.ZipFile(buffer) as good, zipfile.ZipFile(place, "w", how) as spoilt:
            for entry in good.infolist():
                content = good.read(entry)
                spoilt.writestr(entry.filename, content.replace(was, now) if was else content)


def compressed(path: str) -> Spoil:
    """Let a file of weights hold 64 MiB, and be a thousandth of it."""

    def change() -> None:
        rewrite(path, {"classifier.weight": torch.zeros(2**24)}, zipfile.ZIP_DEFLATED)

    return change


def larger_than_it_is(path: str) -> Spoil:
    """Let a tensor say that it has 2**30 numbers, of which there are 7."""

    def change() -> None:
        rewrite(path, {"a": torch.zeros(7)}, was=b"K\x00K\x07\x85", now=b"K\x00J\0\0\0\x40\x85")

    return change


def replaced(path: str, make: Callable[[Path], object]) -> Spoil:
    """Put something else in the place of a file."""

    def change() -> None:
        place = next(iter(Path().glob(path)), Path(path))
        place.unlink(missing_ok=True)
        make(place)

    return change


NO_CHECKPOINT = "run/checkpoint.pt does not belong to this search .*; restore it from a copy"
NO_LOG = r"run/events.jsonl: line \d+ does not belong to this log .*; delete"
NO_FRONT = "cannot read run/front.json: .*; restore it from a copy"
WEIGHTS = "run/weights/*.pt"

VALUES = {
    **{
        f"checkpoint with {name} {value!r}": Case(
            RESUME, NO_CHECKPOINT, checkpoint(**{name: value})
        )
        for name, value in [
            *(("epoch", value) for value in ("a", math.nan, None, -1)),
            *(("step", value) for value in (-5, 10**12)),
            *(("at_once", 0), ("setbacks", -100_000), ("losses", [math.nan])),
            *(("random", torch.zeros(3)), ("strategy", None), ("supernet", {})),
        ]
    },
    "checkpoint of the first goldnas": Case(
        RESUME,
        "run was begun by an earlier goldnas, .* search anew with another --out. You can still",
        lambda: torch.save({"epoch": 1, "front": {}, "met": []}, "run/checkpoint.pt"),
    ),
    "checkpoint that is a list": Case(
        RESUME,
        "cannot read run/checkpoint.pt: .*delete it, and the search starts again",
        lambda: torch.save([1], "run/checkpoint.pt"),
    ),
    **{
        f"log with {fields}": Case("status run", NO_LOG, epoch_line(**fields))
        for fields in [
            *({"seconds": value} for value in ("a", None, 10**12, -1, "DIGITS", [1])),
            *({"epoch": value} for value in (-1, 0.5, "\ud800")),
            *({"resources": value} for value in ({"joules": 1}, {"FLOPs": -1}, 3)),
            *({"time": value} for value in (None, 1e300)),
            {"event": ["epoch"]},
        ]
    },
    **{
        f"front with {fields}": Case("status run", NO_FRONT, network(**fields))
        for fields in [
            {"resources": {"FLOPs": 1.0, "params": 1.0, "joules": 1.0}},
            *({"accuracy": value} for value in ("a", 93.0, [1])),
            *({"fingerprint": value} for value in ("../../a", "a\0b", "")),
            {"step": -1},
        ]
    },
    "an edge of 5,000 digits": Case(
        "evaluate run", f"cell{'9' * 100}", edge(f"cell{'9' * 5000}.0-2")
    ),
    "compressed weights": Case(
        "evaluate run", "it is compressed.*restore", compressed(WEIGHTS)
    ),
    "compressed checkpoint": Case(
        RESUME, "it is compressed.*delete it", compressed("run/checkpoint.pt")
    ),
    "a tensor larger than its file": Case(
        "evaluate run", "a tensor that is larger than its storage", larger_than_it_is(WEIGHTS)
    ),
    "weights of something else": Case(
        "evaluate run",
        "pt: it has .* MiB, and at most",
        replaced(WEIGHTS, lambda path: torch.save({"a": torch.zeros(2**20)}, path)),
    ),
    "too many threads before": Case(
        RESUME, "a number from 1 to 1024", changed("run/conditions.json", threads=100_000)
    ),
    "too many threads": Case(f"{WITHIN} --threads 100000", "--threads must be from 1 to 1024"),
    "too many processes": Case(f"{WITHIN} --workers 9999", "--workers must be from 0 to 1024"),
} | {
    f"{path} is {kind}": Case(command, f"cannot read (architecture )?run/.*: {kind}", spoil)
    for path, command in [
        ("run/conditions.json", "status run"),
        ("run/events.jsonl", "report run --out page.html"),
        ("run/front.json", "compare run"),
        ("run/checkpoint.pt", RESUME),
        ("run/weights/*.pt", "evaluate run"),
    ]
    for kind, spoil in [
        ("it is a pipe", replaced(path, os.mkfifo)),
        ("it is a device", replaced(path, lambda place: place.symlink_to("/dev/zero"))),
        ("Is a directory", replaced(path, Path.mkdir)),
    ]
}


@pytest.mark.parametrize("case", VALUES.values(), ids=VALUES)
def test_a_value_or_a_size_that_no_run_has_is_one_clear_line(
    workplace: Path, case: Case
) -> None:
    case.spoil()
    code, stderr = goldnas(case.command)
    assert_one_line(code, stderr, case.message)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has it")
def test_an_output_that_is_full_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        ended = run_apart("--version", stdout=full)
    assert_one_line(ended.returncode, ended.stderr, "No space left on device")


def run_apart(command: str, **settings: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command in a process of its own, which has output streams of its own."""
    words = [sys.executable, "-P", "-m", "goldnas", *command.split()]
    return subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False, **settings)
