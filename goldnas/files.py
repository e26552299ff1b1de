"""Writing files so that a reader never meets half of one."""

import contextlib
import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from goldnas.errors import ConfigError, WriteError


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace ``path`` by ``data`` in one step: a reader sees the old file or the new.

    Raises:
        WriteError: If the disk refuses. What was at ``path`` is still there, whole.
    """
    content = data.encode() if isinstance(data, str) else data
    with _temporary_beside(path) as temporary:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def check_writable(path: Path) -> None:
    """Refuse a place that cannot be written, before work is lost on it.

    Folders on the way to it are not left behind.

    Raises:
        WriteError: If the disk refuses; it may still fill up later.
    """
    new = [folder for folder in path.parents if not os.path.lexists(folder)]
    try:
        with _temporary_beside(path) as temporary:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            temporary.write_bytes(b"1")
    finally:
        with contextlib.suppress(OSError):
            for folder in new:  # the innermost first
                folder.rmdir()


def check_replaceable(
    path: Path, *, force: bool, setting: str = "out", mark: bytes | None = None
) -> None:
    """Refuse to replace a file, unless somebody said so, or it is certain who made it.

    Args:
        path: To be written.
        force: Whether somebody said so.
        setting: That names the file.
        mark: What a file has in it that was made by the same means.

    Raises:
        ConfigError: If it is there, and has no such mark.
    """
    if not force and path.exists() and not (mark and _holds(path, mark)):
        raise ConfigError(
            f"`{setting}` {path} is there already; name another file, or replace it with "
            "`force=True`"
        )


def _holds(path: Path, content: bytes) -> bool:
    """Whether these bytes are somewhere in a file; no if it cannot be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
            return m.find(content) >= 0
    except (OSError, ValueError):  # of an empty file there is no map
        return False


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not (path.is_file() or path.is_dir()):
            # As root, a rename over /dev/null would succeed.
            raise OSError(errno.EINVAL, "it is a device or a pipe")
        yield temporary
    except OSError as error:
        blocked = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "a folder of this path is a file" if blocked else error.strerror
        raise WriteError(
            f"cannot write {path}: {reason}; any earlier version of it is intact. "
            "Make room, or choose another place"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
