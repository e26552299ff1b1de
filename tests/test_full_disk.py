"""A disk that is full or fills up: one clear line, whole files, and a way to go on."""

import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from goldnas.lut import LatencyTable
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.spaces import GoldSpace
from simulated_device import visit_by_size
from workplace import PROFILE, TIMED, WITHIN, assert_one_line, goldnas, on_disk

PAGE = 4096
FULL = "(No space left on device|File too large)"


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
        before = on_disk()
        code, stderr = goldnas(command)
        assert_one_line(code, stderr, f"cannot write {file}: {FULL}.* Make room, or choose")
        assert on_disk() == before


def test_a_profile_whose_disk_fills_goes_on_once_there_is_room(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring is not the subject: a model takes 1 us per 100 bytes, the rest is real."""
    monkeypatch.setattr(OnnxruntimeBackend, "visit", visit_by_size)
    command = f"{PROFILE} --networks 0 --out disk/cpu.json"
    with small_disk(2 * PAGE) as make_room:
        code, stderr = goldnas(command)
        assert code == 2, stderr
        error = stderr.splitlines()[-1]
        assert re.match(rf"error: cannot write disk/cpu\.json\S*: {FULL}", error), stderr
        assert stderr.count("error: ") == 1
        assert_whole(Path("disk"))
        make_room()
        code, stderr = goldnas(command)
        assert code == 0, stderr
        space = GoldSpace(cells=1, channels=4, input_shape=(1, 8, 8))
        assert LatencyTable.load("disk/cpu.json").missing(space.rows()) == ()
        assert on_disk("disk").keys() - {"other"} == {"cpu.json"}


def test_a_search_whose_disk_fills_goes_on_once_there_is_room(workplace: Path) -> None:
    with small_disk(400_000) as make_room:
        code, stderr = goldnas(f"{TIMED} --budget 100kFLOPs --out disk/run")
        assert code == 2, stderr
        error = stderr.splitlines()[-1]
        assert re.match(rf"error: cannot write disk/run/\S+\.(pt|json): {FULL}", error)
        assert error.endswith("; then continue with: goldnas search --resume disk/run")
        assert stderr.count("error: ") == 1
        assert_whole(Path("disk"))
        make_room()
        code, stderr = goldnas("search --resume disk/run")
        assert code == 0, stderr
        assert_whole(Path("disk"))
        for name in on_disk("run/weights") | {"../front.json": None}:
            there = Path("disk/run/weights", name)
            assert there.read_bytes() == Path("run/weights", name).read_bytes()


def test_a_training_whose_disk_fills_goes_on_once_there_is_room(workplace: Path) -> None:
    command = "train run --epochs 2 --batch-size 256 --train-device cpu --out disk/new"
    with small_disk(300_000) as make_room:
        code, stderr = goldnas(command)
        assert code == 2, stderr
        error = stderr.splitlines()[-1]
        assert re.match(rf"error: cannot write disk/new/\S+\.pt: {FULL}", error), error
        assert error.endswith("; then run the same command again to continue")
        assert_whole(Path("disk"))
        assert not Path("disk/new/result.json").exists()
        make_room()
        code, stderr = goldnas(command)
        assert code == 0, stderr
        assert_whole(Path("disk"))
        assert Path("disk/new/result.json").exists()


def test_an_export_that_does_not_fit_leaves_nothing(workplace: Path) -> None:
    with small_disk(2 * PAGE) as make_room:
        before = on_disk()
        command = "export run --out disk/net.onnx --python-out disk/net.py"
        code, stderr = goldnas(command)
        assert_one_line(code, stderr, f"cannot write disk/net.onnx: {FULL}")
        assert on_disk() == before
        make_room()
        code, stderr = goldnas(command)
        assert code == 0, stderr
        names = {"net.onnx", "net.pt", "net.py"}
        assert names <= set(on_disk("disk"))
        assert_whole(Path("disk"))
