"""Signals that ask a long command to stop: noted, so that it can save first."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_noted(*, impatient: bool = True) -> Iterator[Callable[[], int]]:
    """Note Ctrl-C and SIGTERM instead of ending at once; gives what was noted, 0 for nothing.

    Args:
        impatient: Whether a second Ctrl-C ends at once. Not for processes that torchrun
            started: from a terminal each Ctrl-C reaches them twice.
    """
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if impatient and number == signal.SIGINT and number in noted:
            raise KeyboardInterrupt
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
