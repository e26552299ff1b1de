"""The id of a run on a tracking server, kept in the folder of the search or training."""

from pathlib import Path

from goldnas.bounded import read_bounded
from goldnas.files import write_atomic


def read_run_id(folder: Path, server: str) -> str | None:
    """The id of the run so far; None if there was none."""
    path = _file(folder, server)
    return read_bounded(path, 4096).decode().strip() if path.exists() else None


def keep_run_id(folder: Path, server: str, run_id: str) -> None:
    """Keep the id of the run."""
    write_atomic(_file(folder, server), run_id + "\n")


def _file(folder: Path, server: str) -> Path:
    return folder / f"{server}_run_id.txt"
