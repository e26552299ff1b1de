"""Where the events of a run go: its log, its loggers, and whoever watches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from goldnas.loggers.listener import Loggers
from goldnas.run_folder import RunFolder

Observer = Callable[[str, dict[str, Any]], object]
"""Told the name of an event and its fields: those of the log, ``step`` after each step, and
``logger_failed`` with the ``logger`` and the ``reason``."""


class Events:
    """Tells the log, the loggers and an observer of every event.

    Args:
        run: The folder with the log.
        writes: Whether this process writes it.
    """

    def __init__(self, run: RunFolder, *, writes: bool) -> None:
        self.observer: Observer = lambda event, fields: None
        self._run = run
        self._writes = writes
        self._loggers = Loggers()

    @contextmanager
    def logged(self, names: Sequence[str], settings: Mapping[str, Any]) -> Iterator[None]:
        """Let loggers follow while the context lasts."""
        mine = names if self._writes else ()
        with Loggers(mine, self._run, settings, self._tell_of_logger) as self._loggers:
            yield

    def emit(self, event: str, **fields: Any) -> None:
        """Tell everyone of an event.

        Raises:
            WriteError: If the disk refuses.
        """
        if self._writes:
            self._run.log(event, **fields)
            self._loggers.tell(event, fields)
        self.observer(event, fields)

    def emit_unlogged(self, event: str, **fields: Any) -> None:
        """Tell the observer alone, of what happens too often, or too early, for a log."""
        self.observer(event, fields)

    def _tell_of_logger(self, name: str, reason: str) -> None:
        self.emit_unlogged("logger_failed", logger=name, reason=reason)
