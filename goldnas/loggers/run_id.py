"""The run of a tracking server that a search or a training logs to, kept in its folder."""

from pathlib import Path

from goldnas.bounded import read_bounded
from goldnas.files import write_atomic


def read_run_id(folder: Path, server: str) -> str | None:
    """The run that was logged to before; None if there was none."""
    path = _file(folder, server)
    return read_bounded(path, 4096).decode().strip() if path.exists() else None


def keep_run_id(folder: Path, server: str, run_id: str) -> None:
    """Note the run that is logged to."""
    write_atomic(_file(folder, server), run_id + "\n")


def _file(folder: Path, server: str) -> Path:
    return folder / f"{server}_run_id.txt"
