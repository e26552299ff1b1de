"""The goldnas command in a process of its own that need not import torch first.

Such a process is forked from a server that has imported it. Whatever a process of its own is
needed for, it has: it can be killed, has its own memory, and writes the same files.
"""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        *("goldnas.cli.main", "goldnas.searching.start", "goldnas.training.start"),
        *("sklearn.datasets", "torch._dynamo"),
    ]
)


class Forked:
    """A command under way.

    Args:
        words: Of the command line, after ``goldnas``.
        said: What becomes of both output streams.
    """

    def __init__(self, *words: object, said: Path) -> None:
        self._said = said
        self._process = SERVER.Process(target=_run, args=([*map(str, words)], said))
        self._process.start()

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> bool:
        """End it as ``kill -9`` does; whether that is how it ended."""
        self._process.kill()
        self._process.join()
        return self._process.exitcode == -signal.SIGKILL

    def finish(self) -> None:
        """Let it end; it has to end well."""
        self._process.join()
        assert self._process.exitcode == 0, self._said.read_text()


def _run(words: list[str], said: Path) -> None:
    from goldnas.cli.main import app

    with said.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = ["goldnas", *words]
    app()
