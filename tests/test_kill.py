"""A search survives whatever kills it: kill -9 at random moments, signals, a second start."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import torch

from forked import Forked
from goldnas.searching.front import Front

GOLDNAS = str(Path(sys.executable).with_name("goldnas"))
SEARCH = (
    *("search", "--data", "digits", "--cells", "2", "--channels", "4", "--epochs", "6"),
    *("--budget", "100kFLOPs", "--batch-size", "256", "--auxiliary-weight", "0"),
    *("--train-device", "cpu", "--threads", "1", "--no-report"),
)
MOMENTS = 20


def start(*words: object, new_session: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [GOLDNAS, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=new_session,
    )


def finish(*words: object) -> None:
    process = start(*words)
    output = "".join(process.communicate())
    assert process.returncode == 0, output


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


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    whole, said = tmp_path / "whole", tmp_path / "said"
    search = Forked(*SEARCH, "--out", whole, said=said)
    wait_until_started(whole)
    began = time.monotonic()
    search.finish()
    lasts_s = time.monotonic() - began

    moments = random.Random(0)
    killed = 0
    for attempt in range(MOMENTS):
        folder = tmp_path / str(attempt)
        search = Forked(*SEARCH, "--out", folder, said=said)
        wait_until_started(folder)
        time.sleep(moments.uniform(0, lasts_s))
        killed += search.kill()
        assert_every_file_is_readable(folder)
        Forked("search", "--resume", folder, "--no-report", said=said).finish()
        assert_every_file_is_readable(folder)
        assert_same(whole, folder)
        assert not list(folder.rglob("*.tmp"))
    assert killed >= MOMENTS / 4  # the others had ended before their moment came


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
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
    assert stderr.strip().endswith(f"go on with: goldnas search --resume {folder}")
    assert "Traceback" not in stderr
    assert_every_file_is_readable(folder)
    if number == signal.SIGINT:
        finish("search", "--resume", folder)
