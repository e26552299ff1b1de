"""A mistake with any other command than search: one clear line, and nothing half-written."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from nightly import at_night
from workplace import (
    EXPORT,
    LONG,
    NOT_A_TABLE,
    PROFILE,
    RESTORE,
    RESUME,
    SEARCH,
    WITHIN,
    Case,
    Spoil,
    assert_one_line,
    assert_refused,
    changed,
    goldnas,
    halved,
    invoke,
    removed,
    written,
)

LOG = "run/events.jsonl"


def every_weight(content: bytes) -> Spoil:
    def spoil() -> None:
        for path in Path("run/weights").iterdir():
            path.write_bytes(content)

    return spoil


def saved(paths: str, state: object) -> Spoil:
    """Save something else where tensors are expected."""
    return lambda: [torch.save(state, path) for path in Path().glob(paths)]


def no_figures() -> None:
    """Leave the networks of a front without what they cost."""
    front = json.loads(Path("run/front.json").read_bytes())
    networks = [network | {"resources": {}} for network in front["networks"]]
    changed("run/front.json", networks=networks)()


def is_training(folder: str) -> Spoil:
    """Make a folder look like that of a training."""
    return written(f"{folder}/architecture.json", b"{}")


def other_images() -> None:
    """Search on images of other classes than the networks were found for."""
    changed("run/config.json", data="data.npz")()


CASES = {
    "profile unknown device": Case(
        f"{PROFILE} --device tpu", "unknown --device 'tpu'; known: cpu, cuda, ssh"
    ),
    "profile bad input": Case(f"{PROFILE} --input 32x32", "--input is .* got .32, 32."),
    "profile bad batch": Case(f"{PROFILE} --batch 0", "--batch .* got '0'"),
    "profile odd channels": Case(f"{PROFILE} --channels 5", "channels must be even, got 5"),
    "profile operator": Case(f"{PROFILE} --operators conv", "unknown operator 'conv'; known: "),
    "profile into a file": Case(
        f"{PROFILE} --out a_file/cpu.json",
        "cannot write a_file/cpu.json: a folder of this path is a file. .*another place",
    ),
    "profile into a folder": Case(
        f"{PROFILE} --out images", "cannot read the latency table images: Is a directory"
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
        "export images --out net.onnx",
        "images is not the folder of a search: .*Give the --out",
    ),
    "export unknown pick": Case(
        f"{EXPORT} --pick 99",
        "no network '99' in this run: .*best, a number from 1 to \\d+, or",
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
        "run has no network yet: .*goldnas search --resume run",
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
        EXPORT, "cannot read run/tables/cpu.json, .*copy the", written("run/tables/cpu.json")
    ),
    "export into a folder": Case(
        "export run --out images", "cannot write images: Is a directory; .*another place"
    ),
    "export into a file": Case(
        f"{EXPORT} --python-out a_file/net.py", "cannot write a_file/net.py: .*another place"
    ),
    "evaluate no run": Case("evaluate gone", "gone is not the folder of a search: "),
    "evaluate damaged config": Case(
        "evaluate run", "cannot read run/config.json", halved("run/config.json")
    ),
    "profile more threads than cores": Case(
        f"{PROFILE} --threads 100000", "has \\d+ cores, fewer than --threads 100000. Use at"
    ),
    "evaluate a long name": Case(f"evaluate {LONG}", "mmm is not the folder of a search"),
    "export a long name": Case(f"export {LONG} --out net.onnx", "mmm is not the folder of a s"),
    "evaluate a list": Case(
        "evaluate run",
        r"run/weights/\w+.pt does not fit its architecture: it has no weights; restore it",
        saved("run/weights/*.pt", [1, 2]),
    ),
    "evaluate numbers": Case(
        "evaluate run",
        r"run/weights/\w+.pt does not fit its architecture: .*; restore it",
        saved("run/weights/*.pt", {1: 2}),
    ),
    "evaluate no architecture": Case(
        "evaluate run",
        r"cannot read run/architectures/\w+.json: No such file or directory; restore it",
        lambda: shutil.rmtree("run/architectures"),
    ),
    "evaluate other data": Case(
        "evaluate run",
        r"network \w+ is for images of 1x8x8 of 10 classes, and data.npz has .* of 4",
        other_images,
    ),
    "export other data": Case(
        f"{EXPORT} --precision int8", "is for images of 1x8x8 of 10 cl", other_images
    ),
    "export leaves no folder": Case(
        "export run --out fresh/folder/net.onnx --python-out a_file/net.py",
        "cannot write a_file/net.py: a folder of this path is a file",
    ),
    "evaluate a later config": Case(
        "evaluate run",
        "run/config.json has schema version 2, and this goldnas reads version 1. Upgrade gold",
        changed("run/config.json", schema_version=2),
    ),
    "compare a later front": Case(
        "compare run",
        "run/front.json has schema version 7, .*. Upgrade goldnas",
        changed("run/front.json", schema_version=7),
    ),
    "compare a front without resources": Case(
        "compare run", r"run/front.json: network \w+ has no FLOPs, params; restore", no_figures
    ),
    "compare a training": Case(
        "compare run", "run is the folder of a training; give", is_training("run")
    ),
    "compare a loop": Case(
        "compare loop",
        "loop is not the folder of a search",
        lambda: Path("loop").symlink_to("loop"),
    ),
    "compare trainings that are no folder": Case(
        "compare run", "cannot read run/trained: Not a directory; ", written("run/trained")
    ),
    "compare a log that is a folder": Case(
        "compare run",
        "cannot read run/events.jsonl: Is a directory; ",
        lambda: (Path("run/events.jsonl").unlink(), Path("run/events.jsonl").mkdir()),
    ),
    **{
        f"compare a log with {name}": Case(
            "compare run", f"run/events.jsonl: {problem}.*; delete ", written(LOG, line + b"\n")
        )
        for name, line, problem in [
            ("a list", b"[1]", "line 1 does not belong to this log .*event"),
            ("no event", b'{"time": 1}', "line 1 does not belong to this log .*event"),
            (
                "a text for a time",
                b'{"time": "1", "event": "end"}',
                "line 1 .*Expected 'float'",
            ),
            ("bytes", b'{"event": "\xff"}', "line 1 does not belong to this log"),
            (
                "half a cut",
                b'{"time": 1, "event": "cut"}',
                "line 1 does not belong to this log .*'step'",
            ),
        ]
    },
    "fit a loop": Case(
        "lut fit --networks loop --out new.json",
        "cannot read loop: Too many levels of symbolic links",
        lambda: Path("loop").symlink_to("loop"),
    ),
    "import a long name": Case(f"lut import {LONG} --out new.json", "mmm is not there; give "),
    "predict a table": Case(
        "lut predict cpu.json pi5.json", "not an architecture: .*architectures/ of a search"
    ),
    "show what is no table": Case(
        "lut show run/config.json",
        "run/config.json is not a latency table: .* Give the path of",
    ),
    "show missing": Case("lut show no.json", "no latency table no.json. Measure one with: "),
    "show damaged": Case("lut show cpu.json", f"{NOT_A_TABLE}.*{RESTORE}", halved("cpu.json")),
    "show a folder": Case("lut show run", "cannot read the latency table run: Is a directory"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_bad_command_is_one_clear_line_and_leaves_the_disk_alone(
    workplace: Path, case: Case
) -> None:
    assert_refused(case)


def installed(command: str) -> tuple[int, str]:
    words = [str(Path(sys.executable).with_name("goldnas")), *shlex.split(command)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            Case(f"{SEARCH} --budget 30kFLOPs", r"needs 35\.2 kFLOPs, 5\.2 kFLOPs more. Raise"),
            marks=at_night,
        ),
        pytest.param(
            Case(RESUME, "run/checkpoint.pt: .*; delete it", halved("run/checkpoint.pt")),
            marks=at_night,
        ),
        CASES["show damaged"],
    ],
    ids=["search", "resume", "show"],
)
def test_the_installed_command_says_the_same(workplace: Path, case: Case) -> None:
    assert_refused(case, installed)


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (f"{WITHIN} --pace other", "--pace: give planned or paper; got 'other'"),
        (f"{WITHIN} --levels 3", "--levels: give 1 or 2; got '3'"),
        (f"{WITHIN} --epochs 0", "--epochs: give a whole number from 1; got '0'"),
        (f"{WITHIN} --cells many", "--cells: give a whole number; got 'many'"),
        (f"{WITHIN} --mu much", "--mu: give a number; got 'much'"),
        (
            f"{WITHIN} --budgets 5ms",
            "no option --budgets; did you mean --budget\\? See goldnas s",
        ),
        (f"{WITHIN} --qqq", "there is no option --qqq. See goldnas search --help"),
        (f"{WITHIN} --epochs", "--epochs needs a value. See goldnas search --help"),
        (f"{WITHIN} --single=yes", "--single takes no value. See goldnas search --help"),
        (f"{WITHIN} more", "unexpected argument more. See goldnas search --help"),
        ("export run", "--out FILE is missing. See goldnas export --help"),
        ("lut diff cpu.json", "argument b is missing. See goldnas lut diff --help"),
        (
            "lut print",
            "no command 'print'. Did you mean 'predict', 'lint'\\? See goldnas lut --h",
        ),
        ("serach", "no command 'serach'. Did you mean 'search'\\? See goldnas --help"),
        ("--zzz", "there is no option --zzz. See goldnas --help"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_clear_line(
    workplace: Path, command: str, named: str
) -> None:
    assert_refused(Case(command, named))


def test_the_installed_command_says_what_it_cannot_read_in_one_line(workplace: Path) -> None:
    assert_refused(Case(f"{WITHIN} --levels 3", "--levels: give 1 or 2; got '3'"), installed)


@pytest.mark.parametrize("command", ["", "lut"])
def test_a_group_of_commands_alone_shows_its_help(command: str) -> None:
    code, stdout, stderr = invoke(*command.split())
    assert code == 2
    assert "Usage: " in stdout + stderr
    assert "error: " not in stderr


def test_a_folder_that_is_gone_is_named(workplace: Path) -> None:
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()
    try:
        code, stderr = goldnas("compare ../run")
    finally:
        os.chdir(workplace)
    assert_one_line(code, stderr, "the current folder no longer exists; change")


@pytest.mark.parametrize(
    "command",
    ["profile --bundle new.zip --cells 1 --channels 4 --input 1x8x8 --networks 0", EXPORT],
    ids=["bundle", "export"],
)
def test_a_folder_for_temporary_files_that_is_not_there_is_named(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    assert_refused(
        Case(
            command,
            "cannot write temporary files in /no/such/folder: No such file or directory. Make "
            "room there, or name another folder in the environment variable TMPDIR",
        )
    )


def test_an_error_that_is_no_fault_of_the_user_keeps_its_traceback(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **settings: object) -> None:
        raise RuntimeError("a mistake in goldnas")

    monkeypatch.setattr("goldnas.comparison.runs.read_runs", broken)
    with pytest.raises(RuntimeError, match="a mistake in goldnas"):
        goldnas("compare run")
