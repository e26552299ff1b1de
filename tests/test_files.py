"""Files appear whole or not at all, whatever the disk does."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldnas.errors import WriteError
from goldnas.files import write_atomic

MIB = 2**20


def mount(folder: Path) -> bool:
    """Put a file system of 64 KiB at ``folder``; return False where that is not allowed."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[str]:
    """Let less than a megabyte fit into ``folder``; yield the reason the system gives."""
    if mount(folder):
        try:
            yield "No space left on device"
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB // 16, hard))
        try:
            yield "File too large"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[str]:
    """Allow no change in ``folder``; yield the reason the system gives."""
    if os.geteuid() != 0:
        folder.chmod(0o500)
        try:
            yield "Permission denied"
        finally:
            folder.chmod(0o700)
    elif mount(folder):
        try:
            (folder / "table.json").write_text("old")
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
            yield "Read-only file system"
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    else:
        pytest.skip("root may write everywhere, and may not mount here")


@pytest.mark.parametrize("data", ["text, ä", b"\x00bytes"], ids=["text", "bytes"])
def test_a_file_is_made_with_its_folder_and_nothing_else(
    tmp_path: Path, data: bytes | str
) -> None:
    path = tmp_path / "new" / "folder" / "table.json"
    write_atomic(path, data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert list(path.parent.iterdir()) == [path]


def test_an_earlier_version_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    write_atomic(path, "a long first version")
    write_atomic(path, "short")
    assert path.read_text() == "short"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_earlier_version_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    with small_disk(tmp_path) as reason:
        write_atomic(path, "old")
        with pytest.raises(WriteError, match=rf"cannot write .*table\.json: {reason}"):
            write_atomic(path, b"x" * MIB)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def test_a_read_only_folder_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text("old")
    with read_only(tmp_path) as reason:
        with pytest.raises(WriteError, match=rf"cannot write .*table\.json: {reason}"):
            write_atomic(path, "new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def test_a_file_where_a_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "lut").write_text("a file")
    with pytest.raises(WriteError, match=r"cannot write .*lut/table\.json"):
        write_atomic(tmp_path / "lut" / "table.json", "new")


def test_a_folder_where_the_file_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "table.json").mkdir()
    with pytest.raises(WriteError, match="Is a directory"):
        write_atomic(tmp_path / "table.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


WRITE_FOR_EVER = f"""
import itertools, pathlib, sys
from goldnas.files import write_atomic

for letter in itertools.cycle([b"a", b"b"]):
    write_atomic(pathlib.Path(sys.argv[1]), letter * {MIB})
"""


def test_a_reader_never_meets_half_a_file_even_if_the_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    whole = (b"a" * MIB, b"b" * MIB)
    write_atomic(path, whole[0])
    with subprocess.Popen([sys.executable, "-P", "-c", WRITE_FOR_EVER, str(path)]) as writer:
        previous, changes, limit = whole[0], 0, time.monotonic() + 120
        while changes < 20 and time.monotonic() < limit:
            content = path.read_bytes()
            assert content in whole
            changes += content != previous
            previous = content
        writer.kill()
    assert changes == 20, "the writer wrote too little for this test to mean anything"
    assert path.read_bytes() in whole
