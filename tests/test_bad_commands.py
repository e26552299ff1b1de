"""A mistake with any other command than search: one clear line, and nothing half-written."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert_refused,
    goldnas,
    halved,
    on_disk,
    removed,
    written,
)


def every_weight(content: bytes) -> Spoil:
    def spoil() -> None:
        for path in Path("run/weights").iterdir():
            path.write_bytes(content)

    return spoil


CASES = {
    "profile unknown device": Case(
        f"{PROFILE} --device tpu", "unknown --device 'tpu'; known: cpu, cuda, ssh"
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
        Case(f"{SEARCH} --budget 30kFLOPs", r"needs 35\.2 kFLOPs, 5\.2 kFLOPs more. Raise"),
        Case(RESUME, "run/checkpoint.pt: .*; delete it", halved("run/checkpoint.pt")),
        CASES["show damaged"],
    ],
    ids=["search", "resume", "show"],
)
def test_the_installed_command_says_the_same(workplace: Path, case: Case) -> None:
    assert_refused(case, installed)


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
    before = on_disk()
    code, stderr = goldnas(command)
    assert code == 2
    assert "Usage: " in stderr
    assert named in stderr.partition("Error")[2]
    assert on_disk() == before
