"""What a message says to type next can be typed, also where a path has spaces in it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from goldnas.cli.main import app
from goldnas.lut import LatencyTable
from workplace import SETTINGS, TIMED, goldnas, halved, invoke

FOLDER = "my runs/Ann's 1st"


def in_a_shell(command: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        shell=True,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path},
    )


@pytest.fixture
def moved(workplace: Path) -> Path:
    """The finished search, in a folder of another name."""
    folder = Path(FOLDER)
    folder.parent.mkdir()
    return Path("run").rename(folder)


def command_in(text: str, end: str = "$") -> str:
    found = re.search(rf"goldnas (?:search|export|lut|profile) .*?(?={end})", text, re.M)
    assert found, text
    return found.group()


@pytest.mark.usefixtures("quick")
def test_a_search_that_exists_can_be_continued(moved: Path) -> None:
    code, stderr = goldnas(f"search {SETTINGS} --budget 1MFLOPs --out {shlex.quote(FOLDER)}")
    assert code == 2
    _, *words = shlex.split(command_in(stderr, ", or choose another --out"))
    code, stdout, stderr = invoke(*words)
    assert code == 0, stderr
    assert f"{FOLDER}: " in stdout
    # And what that says to do next.
    code, stderr = goldnas(command_in(stdout).removeprefix("goldnas "))
    assert code == 0, stderr
    assert Path("net.onnx").exists()


def test_a_search_without_a_network_can_be_continued(moved: Path) -> None:
    for name in ("front.json", "checkpoint.pt", "events.jsonl"):  # as after half an epoch
        (moved / name).unlink()
    code, stderr = goldnas(f"export {shlex.quote(FOLDER)} --out net.onnx")
    assert code == 2
    code, stderr = goldnas(command_in(stderr).removeprefix("goldnas "))
    assert code == 0, stderr
    assert (moved / "front.json").exists()


def test_a_damaged_copy_of_a_table_can_be_looked_at(moved: Path) -> None:
    halved(f"{FOLDER}/tables/cpu.json")()
    code, stderr = goldnas(f"search --resume {shlex.quote(FOLDER)}")
    assert code == 2
    done = in_a_shell(command_in(stderr, r" says what is wrong"))
    assert done.returncode == 2
    assert f"{FOLDER}/tables/cpu.json is not a latency table" in done.stderr


def test_a_missing_row_can_be_measured(workplace: Path) -> None:
    table = LatencyTable.load("cpu.json")
    LatencyTable(table.conditions, table.rows[1:], table.path).save()
    _, stderr = goldnas(f"{TIMED} --budget 1s")
    _, profile_word, *advised = shlex.split(command_in(stderr))
    profile = typer.main.get_command(app).commands[profile_word]
    given = {
        "out_": Path("cpu.json"),
        "device": "cpu",
        "space": "gold",
        "cells": 2,
        "channels": 4,
        "input_shape": "1x8x8",
        "classes": 10,
        "operators": "skip_connect,sep_conv_3x3",
        "batch": "1",
        "threads": 1,
    }
    assert given.items() <= profile.make_context("profile", advised).params.items()
