"""Locks: only one command at a time writes to a folder or a table.

A lock is a file that the operating system locks for a process (flock), and so ends with it.
Whoever only reads needs none.
"""

import contextlib
import datetime
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from goldnas.bounded import read_bounded
from goldnas.errors import BusyError, GoldnasError, WriteError
from goldnas.files import explain_refusal, folders_made, list_temporaries, remove_leftovers

if TYPE_CHECKING:
    from filelock import BaseFileLock

_POLL_S = 0.5


class _Holder(msgspec.Struct):
    """The content of the file: who works there."""

    process: int
    host: str
    command: str
    since: str


class Lock:
    """A lock on a folder or a file, held by this process until it is released.

    Args:
        path: Of the file that is locked; it is there while somebody works, and after a
            process that was killed.
        what: Is protected by it, for messages.
    """

    def __init__(self, path: Path, what: Path) -> None:
        self.path = path
        self.what = what
        self._lock: BaseFileLock | None = None
        self._folder: os.stat_result | None = None

    def take(self) -> bool:
        """Take the lock, if nobody has it.

        Raises:
            WriteError: If the disk refuses.
        """
        from filelock import FileLock, Timeout

        # Any thread may release it: a loop may end in another thread than it began in.
        lock = FileLock(self.path, timeout=0, thread_local=False)
        try:
            with warnings.catch_warnings():  # of a lock without flock, which does as well
                warnings.simplefilter("ignore", UserWarning)
                lock.acquire()
            self._folder = self.path.parent.stat()
        except Timeout:
            return False
        except OSError as error:
            raise WriteError(
                f"cannot write {self.what}: {explain_refusal(error)}. Make room, or choose "
                "another place"
            ) from None
        self._lock = lock
        if not hasattr(lock, "pid"):  # of a file system without flock: there it says who
            with contextlib.suppress(OSError):  # of a full disk: others do not learn who
                self.path.write_bytes(msgspec.json.encode(_this_process()))
        return True

    def release(self) -> None:
        """Let others work there."""
        if self._lock is None:
            return
        if self.is_in_place():
            with contextlib.suppress(OSError):
                self.path.unlink()  # who waits for it sees that, and makes another one
        self._lock.release()
        self._lock = None

    def is_in_place(self) -> bool:
        """Whether the folder in which it was taken is there still, and is the same."""
        if self._folder is None:
            return True
        try:
            return os.path.samestat(self.path.parent.stat(), self._folder)
        except OSError:
            return False

    def describe_holder(self) -> str:
        """Who works there: the process, its machine, and since when."""
        told = b""
        try:
            told = read_bounded(self.path, 2**16)
            holder = msgspec.json.decode(told, type=_Holder)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # Without flock the library writes two lines of its own: the process, its machine.
            number, host, *_ = *told.decode(errors="replace").splitlines(), "", ""
            return f"process {number} on {host}" if number.isdigit() else "another process"
        whose = "" if holder.host == socket.gethostname() else f" on {holder.host}"
        return f"process {holder.process}{whose} ({holder.command}), since {holder.since}"


def _this_process() -> _Holder:
    program = Path(sys.argv[0]).stem or "python"
    words = [program, *sys.argv[1:2]] if program == "goldnas" else [program]
    return _Holder(
        process=os.getpid(),
        host=socket.gethostname(),
        command=" ".join(words),
        since=f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
    )


def take_lock(
    take: Callable[[], str],
    what: Path,
    *,
    wait: bool,
    tell: Callable[[str], object],
    common: Callable[[GoldnasError], BaseException] = lambda error: error,
) -> None:
    """Take a lock, at once or when it is free.

    Args:
        take: Tries to; says who has it, or nothing if it was free.
        what: Is locked.
        wait: Whether to wait until it is free.
        tell: Told whom we wait for.
        common: Makes of the error what each of several processes raises.

    Raises:
        BusyError: If somebody else has it, and we do not wait.
    """
    told = False
    while holder := take():
        if not wait:
            raise common(
                BusyError(
                    f"{what} is being written by {holder}. Let it end, or wait for it with "
                    "`wait=True`"
                )
            )
        if not told:
            tell(f"waiting for {holder}, which writes {what}")
            told = True
        time.sleep(_POLL_S)


@contextlib.contextmanager
def file_locked(
    path: Path, *, wait: bool = False, tell: Callable[[str], object] = lambda text: None
) -> Iterator[None]:
    """Be the only one that changes a file, which need not be there yet.

    Args:
        path: Of the file; links to one file have one lock.
        wait: Whether to wait until another process has done with it.
        tell: Told whom we wait for.

    Raises:
        BusyError: If another process changes it, and we do not wait.
        WriteError: If the disk refuses.
    """
    target = Path(os.path.realpath(path))
    lock = Lock(target.with_name(f".{target.name}.lock"), path)
    with folders_made(path):
        take_lock(
            lambda: "" if lock.take() else lock.describe_holder(),
            path,
            wait=wait,
            tell=tell,
        )
        try:
            remove_leftovers(list_temporaries(target))
            yield
        finally:
            lock.release()
