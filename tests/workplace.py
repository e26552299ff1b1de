"""A folder to make mistakes in (the fixture ``workplace``), the mistakes, what comes of them.

It holds two latency tables, ``cpu.json`` and ``pi5.json``; a finished search, ``run``; data
sets, ``data.npz`` and ``images``; and ``a_file``.
"""

import contextlib
import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from goldnas.cli.main import app
from goldnas.lut import LatencyTable
from goldnas.spaces import GoldSpace

SPACE = GoldSpace(cells=2, channels=4, input_shape=(1, 8, 8))
SETTINGS = (
    "--cells 2 --channels 4 --epochs 1 --batch-size 512 --auxiliary-weight 0 "
    "--train-device cpu --no-report"
)
SEARCH = f"search --data digits {SETTINGS} --out new"
WITHIN = f"{SEARCH} --budget 100kFLOPs"
TIMED = f"{SEARCH} --latency-lut cpu.json"
RESUME = "search --resume run"
EXPORT = "export run --out net.onnx"
PROFILE = "profile --cells 1 --channels 4 --input 1x8x8 --networks 0 --out new.json"
LONG = "m" * 300

NOT_A_TABLE = "cpu.json is not a latency table: "
RESTORE = "restore it, .*: goldnas profile .*cpu.json"

Spoil = Callable[[], object]


def nothing() -> None:
    """Leave the folder as it is: the command line alone is wrong."""


def written(path: str, content: bytes = b"") -> Spoil:
    return lambda: Path(path).write_bytes(content)


def halved(path: str) -> Spoil:
    return lambda: os.truncate(path, os.path.getsize(path) // 2)


def removed(path: str) -> Spoil:
    return lambda: Path(path).unlink()


def changed(path: str, **fields: Any) -> Spoil:
    """Change fields of a JSON file."""

    def change() -> None:
        content = json.loads(Path(path).read_bytes())
        Path(path).write_text(json.dumps(content | fields))

    return change


class Case(NamedTuple):
    command: str
    message: str
    """Pattern that the whole line contains: the value in hand, and the next step."""
    spoil: Spoil = nothing
    """What is wrong in the folder."""


def fill(folder: Path, make_table: Callable[..., LatencyTable]) -> None:
    """Make what the head of this file lists."""
    with contextlib.chdir(folder):
        make_table(Path("cpu.json"), SPACE)
        make_table(Path("pi5.json"), SPACE, scale=3.0)
        code, stderr = goldnas(f"{TIMED} --budget 100kFLOPs --out run")
        assert code == 0, stderr
        Path("a_file").write_text("not a folder")
        labels = np.arange(40) % 4
        images = np.random.default_rng(0).integers(256, size=(48, 8, 8), dtype=np.uint8)
        np.savez(
            "data.npz",
            **{"x_train": images[:40], "y_train": labels},
            **{"x_test": images[40:], "y_test": labels[:8]},
        )
        noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
        for place, name in enumerate(("train/cat", "train/dog", "test/cat", "test/dog")):
            Path("images", name).mkdir(parents=True)
            for number in range(3):
                darker = 3 * place + number + 1
                Image.fromarray(noise // darker).save(f"images/{name}/{number}.png")


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    """Run a command: its exit status, and what it says on both streams."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def goldnas(command: str) -> tuple[int, str]:
    """Return the status and what stands on stderr; a traceback fails the test."""
    code, _, stderr = invoke(*shlex.split(command))
    return code, stderr


def on_disk(folder: str = ".") -> dict[str, bytes | None]:
    """Every name below a folder, and the bytes of the files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in Path(folder).rglob("*")
    }


def assert_refused(case: Case, run: Callable[[str], tuple[int, str]] = goldnas) -> None:
    """One clear line, exit status 2, and the disk as it was."""
    case.spoil()
    before = on_disk()
    code, stderr = run(case.command)
    assert_one_line(code, stderr, case.message)
    touched = {name for name, _ in before.items() ^ on_disk().items()}
    assert not touched, touched


def assert_one_line(code: int, stderr: str, message: str) -> None:
    assert code == 2, stderr
    assert stderr.startswith("error: ")
    assert stderr.endswith("\n")
    assert len(stderr.splitlines()) == 1, stderr
    assert re.search(message, stderr), stderr
