"""Commands survive whatever kills them: kill -9 at any moment, signals, a second start."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import torch

from forked import Forked
from goldnas.api.tables import LatencyTable
from goldnas.lut import Measured
from goldnas.searching.front import Front
from nightly import EXAMPLES, at_night
from trainings import assert_same_training
from zoos import assert_all_picked, write_models

GOLDNAS = str(Path(sys.executable).with_name("goldnas"))
SETTINGS = (
    *("search", "--data", "digits", "--channels", "4"),
    *("--batch-size", "256", "--auxiliary-weight", "0"),
    *("--train-device", "cpu", "--threads", "1", "--no-report"),
)
SEARCH = (*SETTINGS, "--cells", "2", "--budget", "100kFLOPs", "--epochs", "3")
SHORT_SEARCH = (*SETTINGS, "--cells", "1", "--budget", "45kFLOPs", "--epochs", "2")


def start(*words: object, new_session: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [GOLDNAS, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=new_session,
    )


def wait_until_started(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_every_file_is_readable(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                json.loads(line)
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)


def result_of(folder: Path) -> tuple[Front, dict[str, dict[str, torch.Tensor]]]:
    front = msgspec.json.decode((folder / "front.json").read_bytes(), type=Front)
    weights = {
        network.fingerprint: torch.load(
            folder / "weights" / f"{network.fingerprint}.pt", weights_only=True
        )
        for network in front.networks
    }
    return front, weights


def assert_same(first: Path, second: Path) -> None:
    (front, weights), (other_front, other_weights) = result_of(first), result_of(second)
    assert front == other_front
    for fingerprint, state in weights.items():
        other = other_weights[fingerprint]
        assert state.keys() == other.keys()
        assert all(torch.equal(state[name], other[name]) for name in state)


class Attacked(NamedTuple):
    """A command that is killed, and what has to come of it in the end."""

    words: Callable[[Path], Sequence[object]]
    """The command, by its folder."""
    again: Callable[[Path], Sequence[object]]
    """What goes on after it was killed."""
    assert_done: Callable[[Path, Path], object]
    """Holds the folder of a whole run against one that was killed."""
    moments: int
    """How often in CI."""
    quick: bool = False
    """Whether it measures, as little as can be."""


def search_again(folder: Path) -> Sequence[object]:
    run = folder / "a"
    return (
        ("search", "--resume", run, "--no-report")
        if run.exists()
        else ATTACKED["search"].words(folder)
    )


def assert_same_bytes(*names: str) -> Callable[[Path, Path], object]:
    def compare(first: Path, second: Path) -> None:
        for name in names:
            assert (first / name).read_bytes() == (second / name).read_bytes()

    return compare


def assert_table(name: str, networks: int) -> Callable[[Path, Path], object]:
    def compare(first: Path, second: Path) -> None:
        tables = [LatencyTable.load(folder / name) for folder in (first, second)]
        keys = [{row.key for row in table.rows} for table in tables]
        assert keys[0] == keys[1]
        assert all(isinstance(row, Measured) for row in tables[1].rows)
        assert len(tables[1].last_calibration.networks) >= networks

    return compare


TINY = (
    *("profile", "--cells", "1", "--channels", "4", "--input", "1x8x8", "--target", "100"),
    *("--operators", "skip_connect", "--networks", "2"),
)
TRAINING = (
    *("train", "run", "--epochs", "3", "--batch-size", "256", "--train-device", "cpu"),
    *("--threads", "1"),
)
SHRINKING = (
    *("shrink", "run", "--step", "2", "--budget", "60kFLOPs", "--epochs", "2"),
    *("--batch-size", "64", "--train-device", "cpu", "--threads", "1", "--no-report"),
)


def pick_in(folder: Path) -> tuple[object, ...]:
    return (
        *("pick", "--zoo", folder / "models", "--accuracies", folder / "accuracies.csv"),
        *("--exhaustive", "--target", "50", "--out", folder / "zoo.json"),
    )


ATTACKED = {
    "search": Attacked(
        lambda folder: (*SHORT_SEARCH, "--out", folder / "a"),
        search_again,
        lambda whole, folder: assert_same(whole / "a", folder / "a"),
        moments=2,
    ),
    "train": Attacked(
        lambda folder: (*TRAINING, "--out", folder / "a"),
        lambda folder: (*TRAINING, "--out", folder / "a"),
        lambda whole, folder: assert_same_training(whole / "a", folder / "a"),
        moments=0,
    ),
    "export": Attacked(
        lambda folder: ("export", "run", "--out", folder / "net.onnx", "--force"),
        lambda folder: ("export", "run", "--out", folder / "net.onnx", "--force"),
        assert_same_bytes("net.onnx"),
        moments=0,
    ),
    "report": Attacked(
        lambda folder: ("report", "run", "--out", folder / "report.html"),
        lambda folder: ("report", "run", "--out", folder / "report.html"),
        assert_same_bytes("report.html"),
        moments=0,
    ),
    "profile": Attacked(
        lambda folder: (*TINY, "--out", folder / "cpu.json"),
        lambda folder: (*TINY, "--out", folder / "cpu.json"),
        assert_table("cpu.json", 2),
        moments=0,
        quick=True,
    ),
    "calibrate": Attacked(
        lambda folder: ("lut", "calibrate", folder / "cpu.json", "--networks", "2"),
        lambda folder: ("lut", "calibrate", folder / "cpu.json", "--networks", "2"),
        assert_table("cpu.json", 4),
        moments=0,
        quick=True,
    ),
    "pick": Attacked(
        pick_in,
        pick_in,
        lambda whole, folder: assert_all_picked(folder),
        moments=0,
        quick=True,
    ),
    "shrink": Attacked(
        lambda folder: (*SHRINKING, "--out", folder / "a"),
        lambda folder: (
            ("search", "--resume", folder / "a", "--no-report")
            if (folder / "a").exists()
            else ATTACKED["shrink"].words(folder)
        ),
        lambda whole, folder: assert_same(whole / "a", folder / "a"),
        moments=0,
    ),
    "fleet": Attacked(
        lambda folder: (*TINY, "--devices", folder / "two.toml", "--out", folder / "lut"),
        lambda folder: (*TINY, "--devices", folder / "two.toml", "--out", folder / "lut"),
        assert_table("lut/one.json", 2),
        moments=0,
    ),
}


def begin(name: str, folder: Path) -> None:
    """Make what a command is given in its folder."""
    folder.mkdir()
    (folder / "two.toml").write_text("[one]\ncores = [0]\n[two]\ncores = [0]\n")
    if name == "calibrate":
        shutil.copy("cpu.json", folder)
    if name == "pick":
        write_models(folder)


def find_marked(mark: str) -> list[str]:
    """Processes that were started with a mark in their environment."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended
            if mark.encode() in environ.read_bytes():
                found.append(environ.parent.name)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, a in ATTACKED.items() if EXAMPLES or a.moments])
def test_kill_9_loses_nothing_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """At random moments, and before operations on files that are drawn."""
    attacked = ATTACKED[name]
    monkeypatch.chdir(tmp_path)
    said, mark, temporary = tmp_path / "said", f"MARK={tmp_path}", tmp_path / "tmp"
    temporary.mkdir()
    environment = {"MARK": str(tmp_path), "TMPDIR": str(temporary)}

    def forked(*words: object, **how: Any) -> Forked:
        return Forked(*words, said=said, environment=environment, quick=attacked.quick, **how)

    if name in ("train", "export", "report", "shrink"):
        forked(*SEARCH, "--out", "run").finish()
    if name == "calibrate":
        forked(*TINY, "--out", "cpu.json").finish()
    whole = tmp_path / "whole"
    begin(name, whole)
    began = time.monotonic()
    forked(*attacked.words(whole), files=whole).finish()
    lasts_s = time.monotonic() - began
    operations = int(said.with_suffix(".count").read_text())

    random_ = random.Random(name)
    killed = 0
    for attempt in range(EXAMPLES or attacked.moments):
        folder = tmp_path / f"{attempt}"
        begin(name, folder)
        if attempt % 2:
            die_at = random_.randint(1, operations)
            process = forked(*attacked.words(folder), files=folder, die_at=die_at)
            process.wait()
        else:
            process = forked(*attacked.words(folder))
            time.sleep(random_.uniform(0, lasts_s))
            process.kill()
        killed += process.status == -signal.SIGKILL
        deadline = time.monotonic() + 60
        while orphans := find_marked(mark):
            assert time.monotonic() < deadline, (attempt, orphans)
            time.sleep(0.05)
        assert_every_file_is_readable(folder)
        forked(*attacked.again(folder)).finish()
        assert_every_file_is_readable(folder)
        attacked.assert_done(whole, folder)
        names = [path.name for path in folder.rglob("*")]
        assert not [n for n in names if n.startswith(".") or n.endswith(".visits")]
        assert not [*temporary.glob("goldnas-*")]
    print(f"{name}: {killed} of {EXAMPLES or attacked.moments} killed")
    assert killed


@at_night
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143)],
)
def test_a_signal_to_all_its_processes_saves_the_step_under_way(
    tmp_path: Path, number: int, status: int
) -> None:
    folder = tmp_path / "a"
    process = start(*SEARCH, "--workers", "1", "--out", folder, new_session=True)
    wait_until_started(folder)
    deadline = time.monotonic() + 60
    log = folder / "events.jsonl"
    while not (log.exists() and '"event": "epoch"' in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == status, stderr
    assert "interrupted after step" in stderr
    assert stderr.strip().endswith(f"continue with: goldnas search --resume {folder}")
    assert "Traceback" not in stderr
    assert_every_file_is_readable(folder)
    Forked("search", "--resume", folder, "--no-report", said=tmp_path / "said").finish()
