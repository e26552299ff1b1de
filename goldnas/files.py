"""Writing files so that a reader never meets half of one, and nothing is left behind."""

import contextlib
import errno
import mmap
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from goldnas.errors import ConfigError, WriteError

_DAY_S = 86_400


def write_atomic(path: Path, data: bytes | str, *, make_folders: bool = True) -> None:
    """Replace ``path`` by ``data`` in one step: a reader sees the old file or the new.

    A link stays a link, and a file that is replaced hands on its mode and its group.

    Args:
        path: Of the file.
        data: Its content; text becomes UTF-8.
        make_folders: Whether to make the folders on the way to it.

    Raises:
        WriteError: If the disk refuses. What was at ``path`` is still there, whole.
    """
    content = data.encode() if isinstance(data, str) else data
    with ExitStack() as stack:
        if make_folders:
            stack.enter_context(folders_made(path))
        temporary, target = stack.enter_context(_temporary_beside(path))
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if target.exists():
                _hand_on(target.stat(), file.fileno())
            os.fsync(file.fileno())
        temporary.replace(target)


def _hand_on(before: os.stat_result, descriptor: int) -> None:
    """Give a new file the group and the mode of the one that it replaces."""
    if before.st_gid != os.fstat(descriptor).st_gid:
        with contextlib.suppress(PermissionError):  # who is not of the group cannot
            os.fchown(descriptor, -1, before.st_gid)
    os.fchmod(descriptor, before.st_mode & 0o777)


# -- what is written first under another name --------------------------------------------------


def name_temporary(path: Path) -> Path:
    """The temporary file for ``path``: beside it, with the name of this process."""
    return path.with_name(f"{_beginning(path)}{socket.gethostname()}-{os.getpid()}.tmp")


def _beginning(path: Path) -> str:
    return f".{path.name[:40]}."  # however long the name is, that of its process fits


_TEMPORARY = re.compile(r"(\..+[.-])(\d+)\.tmp")


def remove_leftovers(candidates: Iterable[Path]) -> None:
    """Remove those of these files and folders that a killed process has left half-written.

    A process of another machine may be at work still: what it left is removed after a day.
    """
    for path in candidates:
        named = _TEMPORARY.fullmatch(path.name)
        if named is None:
            continue
        with contextlib.suppress(OSError):  # it is gone already, or not ours to remove
            here = named[1].endswith(f".{socket.gethostname()}-")
            age_s = time.time() - path.lstat().st_mtime
            if age_s < _DAY_S and not (here and _is_over(int(named[2]))):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def list_temporaries(path: Path) -> list[Path]:
    """What processes write, or have left, that was to become ``path``."""
    beginning = _beginning(path)
    try:
        names = os.listdir(path.parent)
    except OSError:
        return []
    return [path.with_name(n) for n in names if n.startswith(beginning) and n.endswith(".tmp")]


def _is_over(process: int) -> bool:
    """Whether a process of this machine has ended; also one that nobody has reaped yet."""
    try:
        os.kill(process, 0)
        told = Path(f"/proc/{process}/stat").read_bytes()
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it is somebody else's, or the system has no such files
        return False
    return told.rpartition(b") ")[2][:1] in b"ZX"


def _refused(path: Path, error: OSError) -> WriteError:
    return WriteError(
        f"cannot write {path}: {explain_refusal(error)}; any earlier version of it is intact. "
        "Make room, or choose another place"
    )


def explain_refusal(error: OSError) -> str | None:
    """Why the system does not make a file or a folder."""
    blocked = isinstance(error, FileExistsError | NotADirectoryError)
    return "a folder of this path is a file" if blocked else error.strerror


def check_writable(path: Path) -> None:
    """Refuse a place that cannot be written, before work is lost on it.

    Folders on the way to it are not left behind.

    Raises:
        WriteError: If the disk refuses; it may still fill up later.
    """
    with folders_made(path), _temporary_beside(path) as (temporary, _):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary.write_bytes(b"1")


def check_replaceable(
    path: Path, *, force: bool, setting: str = "out", mark: bytes | None = None
) -> None:
    """Refuse to replace a file, unless the user said so, or the same command made it.

    Args:
        path: The file to write.
        force: Whether the user said so.
        setting: The setting that names the file.
        mark: Bytes in every file that this command makes.

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
def folders_made(path: Path) -> Iterator[None]:
    """Make the folders on the way to a file; remove them again if nothing came into them.

    Raises:
        WriteError: If the disk refuses.
    """
    folder = Path(os.path.realpath(path)).parent  # where a link leads
    new = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for one in new:  # the innermost first
                one.rmdir()


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[tuple[Path, Path]]:
    """Where to write what is to become a file, and where the file is."""
    target = Path(os.path.realpath(path))
    temporary = name_temporary(target)
    try:
        if target.exists() and not (target.is_file() or target.is_dir()):
            # As root, a rename over /dev/null would succeed.
            raise OSError(errno.EINVAL, "it is a device or a pipe")
        remove_leftovers(list_temporaries(target))
        yield temporary, target
    except OSError as error:
        raise _refused(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
