"""Files are read where they are files, and up to a size; pipes as long as something comes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from goldnas import bounded
from goldnas.architecture import Architecture
from goldnas.bounded import open_regular, read_bounded
from goldnas.cli.profile_fleet import read_fleet
from goldnas.comparison.truth import Truth
from goldnas.data.datasets import load_dataset
from goldnas.errors import GoldnasError
from goldnas.lut import LatencyTable
from goldnas.lut.fit.networks_csv import Networks
from goldnas.lut.importers import import_table
from goldnas.lut.published import read_published
from goldnas.profiling.bundle_main import Archive, BadFileError
from goldnas.profiling.onnx_file import read_onnx

READERS: dict[str, Callable[[Path], object]] = {
    "a table": LatencyTable.load,
    "a table of others": lambda path: import_table(path, "ofa", path, device="phone"),
    "networks": Networks.read,
    "a published network": read_published,
    "an architecture": Architecture.load,
    "devices": read_fleet,
    "truth": Truth.read,
    "a bundle": Archive,
    "a model": read_onnx,
    "data": lambda path: load_dataset(str(path)),
}


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bounded, "SILENCE_S", 0.05)
    path = tmp_path / "pipe.npz"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_pipe_into_which_nobody_writes_is_not_waited_for(
    pipe: Path, read: Callable[[Path], object]
) -> None:
    with pytest.raises((GoldnasError, BadFileError), match="pipe"):
        read(pipe)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_device_is_not_read(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "zeros.npz"
    path.symlink_to("/dev/zero")
    with pytest.raises((GoldnasError, BadFileError), match="device"):
        read(path)


def test_pipes_beside_what_is_read_are_not_waited_for(pipe: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / "images" / part / name).mkdir(parents=True)
            os.mkfifo(tmp_path / "images" / part / name / "0.png")
    with pytest.raises(GoldnasError, match="pipe"):
        load_dataset(str(tmp_path / "images"))


def test_what_comes_out_of_a_pipe_is_read_until_its_end(pipe: Path) -> None:
    writer = [sys.executable, "-c", f"open({str(pipe)!r}, 'wb').write(b'a' * 10**6)"]
    bounded.SILENCE_S = 5.0  # the fixture takes it back
    with subprocess.Popen(writer):
        assert read_bounded(pipe) == b"a" * 10**6


def test_a_pipe_without_end_is_read_up_to_a_size(pipe: Path) -> None:
    bounded.SILENCE_S = 5.0
    writer = [sys.executable, "-c", f"open({str(pipe)!r}, 'wb').write(bytes(10**7))"]
    with (
        subprocess.Popen(writer, stderr=subprocess.DEVNULL),  # which sees its reader go
        pytest.raises(OSError, match="larger than 2 MiB"),
    ):
        read_bounded(pipe, 2**21)


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "holes.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(GoldnasError, match="larger than 128 MiB"):
        LatencyTable.load(path)
    with open_regular(path) as file:
        assert file.read(1) == b"\0"
