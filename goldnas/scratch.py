"""Temporary folders, and what to do where there is no place for one."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from goldnas.errors import WriteError


def make_scratch() -> Path:
    """Make a temporary folder, which the caller removes.

    Raises:
        WriteError: If there is no place for one; with the place.
    """
    try:
        return Path(tempfile.mkdtemp(prefix="goldnas-"))
    except OSError as error:
        raise explain_no_scratch(error) from None


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder that is gone afterwards.

    Raises:
        WriteError: If there is no place for one, or no room in it.
    """
    folder = make_scratch()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_scratch() -> None:
    """Refuse a machine without a place for temporary files, which other libraries need.

    Raises:
        WriteError: If there is none, or no room in it.
    """
    try:
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(b"1")
    except OSError as error:
        raise explain_no_scratch(error) from None


def explain_no_scratch(error: OSError) -> WriteError:
    """What to do about temporary files that cannot be written."""
    place = f" in {tempfile.tempdir}" if tempfile.tempdir else ""
    return WriteError(
        f"cannot write temporary files{place}: {error.strerror or error}. Make room there, or "
        "name another folder in the environment variable TMPDIR"
    )
