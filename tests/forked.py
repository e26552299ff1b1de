"""The goldnas command in a process of its own that need not import torch first.

Such a process is forked from a server that has imported it. Whatever a process of its own is
needed for, it has: it can be killed, has its own memory, and writes the same files.
"""

import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        *("goldnas.cli.main", "goldnas.searching.start", "goldnas.training.start"),
        *("sklearn.datasets", "torch._dynamo"),
    ]
)


_OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
"""On files, as the interpreter tells of them before they are done."""


class Forked:
    """A command under way.

    Args:
        words: Of the command line, after ``goldnas``.
        said: What becomes of both output streams.
        environment: Variables besides those of this process.
        folder: To be in; that of this process unless given.
        files: Folder whose files are counted below.
        die_at: The operation on a file below that folder before which it kills itself; 0 for
            none.
        quick: Whether what it measures is measured badly, and soon.
    """

    def __init__(
        self,
        *words: object,
        said: Path,
        environment: dict[str, str] | None = None,
        folder: Path | None = None,
        files: Path | None = None,
        die_at: int = 0,
        quick: bool = False,
    ) -> None:
        self._said = said
        args = (
            [*map(str, words)],
            said,
            environment or {},
            folder or Path.cwd(),
            files,
            die_at,
            quick,
        )
        self._process = SERVER.Process(target=_run, args=args)
        self._process.start()

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    @property
    def status(self) -> int | None:
        """With which it has ended."""
        return self._process.exitcode

    def kill(self) -> bool:
        """End it as ``kill -9`` does; whether that is how it ended."""
        self._process.kill()
        self._process.join()
        return self._process.exitcode == -signal.SIGKILL

    def send(self, number: int) -> None:
        """Let it have a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self) -> None:
        """Let it end, however it does."""
        self._process.join()

    def finish(self) -> None:
        """Let it end; it has to end well."""
        self._process.join()
        assert self._process.exitcode == 0, self._said.read_text()


def _run(
    words: list[str],
    said: Path,
    environment: dict[str, str],
    folder: Path,
    files: Path | None,
    die_at: int,
    quick: bool,
) -> None:
    import msgspec

    from goldnas.cli.main import app
    from goldnas.profiling import measuring
    from goldnas.profiling import onnxruntime_backend as backend

    with said.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["goldnas", *words]
    if quick:
        backend.IN_CONTEXT = msgspec.structs.replace(
            backend.IN_CONTEXT, processes=4, visit_ms=4.0, warmup_ms=1.0
        )
        measuring.NOISE_WARNS = measuring.NOISE_REFUSES = math.inf
    if files is not None:
        sys.addaudithook(_counter(str(files), said.with_suffix(".count"), die_at))
    app()


def _counter(
    folder: str, count: Path, die_at: int
) -> Callable[[str, tuple[object, ...]], None]:
    """A hook that counts what changes files in a folder, and kills the process at a number."""
    done = 0
    told = os.open(count, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal done
        if event not in _OPERATIONS or not str(args[0]).startswith(folder):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & _WRITES):
            return
        done += 1
        if done == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.pwrite(told, str(done).encode(), 0)

    return hook


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
