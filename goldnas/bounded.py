"""Reading files from unknown sources: only regular files, only up to a size.

A pipe or a device in a file's place would be waited for without end, and a file without end
would fill the memory. What is refused is an ``OSError``, as of a file that is not there.
"""

import errno
import os
import select
import stat
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 128 * 2**20
"""Of a file that is read as a whole, unless its reader says otherwise."""

SILENCE_S = 5.0
"""After so long without a byte a pipe is given up."""


def open_regular(path: Path | str) -> BinaryIO:
    """Open a file to read it in parts, or more than once.

    Raises:
        OSError: If it cannot be read, or is a folder, a pipe or a device.
    """
    file = _open(path)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _refusal("it is a pipe, not a file; write its content to a file")
    return file


def read_bounded(path: Path | str, most_bytes: int = MOST_BYTES) -> bytes:
    """Read a file as a whole; or what comes out of a pipe, as the shell makes of ``<(...)``.

    Raises:
        OSError: If it cannot be read, is a folder or a device, or is larger; if nothing comes
            out of a pipe for ``SILENCE_S``.
    """
    with _open(path) as file:
        status = os.fstat(file.fileno())
        is_pipe = stat.S_ISFIFO(status.st_mode)
        if status.st_size > most_bytes:
            raise _too_large(most_bytes)
        content = _drain(file.fileno(), most_bytes) if is_pipe else file.read(most_bytes + 1)
    if len(content) > most_bytes:  # it grew, or did not say how large it is
        raise _too_large(most_bytes)
    return content


def _open(path: Path | str) -> BinaryIO:
    """Open a file or a pipe, without waiting for who writes into it.

    Raises:
        OSError: If it is anything else, which is not opened: of a device that may do something.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise _refusal("it is a device and not a file")
    return open(path, "rb", opener=_open_at_once)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _drain(pipe: int, most_bytes: int) -> bytes:
    """What comes out of a pipe until its end, or until it is too much."""
    parts: list[bytes] = []
    while sum(map(len, parts)) <= most_bytes:
        if not select.select([pipe], [], [], SILENCE_S)[0]:
            raise _refusal(f"this pipe has sent nothing for {SILENCE_S:g} s")
        part = os.read(pipe, 2**20)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def _refusal(reason: str) -> OSError:
    return OSError(errno.EINVAL, reason)


def _too_large(most_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {most_bytes // 2**20} MiB")
