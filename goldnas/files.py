"""Writing files so that a reader never meets half of one."""

import contextlib
import os
from pathlib import Path

from goldnas.errors import WriteError


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace ``path`` by ``data`` in one step: a reader sees the old file or the new.

    Raises:
        WriteError: If the disk refuses. What was at ``path`` is still there, whole.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise WriteError(
            f"cannot write {path}: {error.strerror}; any earlier version of it is intact. "
            "Make room or choose another place, then run the command again"
        ) from None
