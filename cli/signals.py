"""Signals that ask a long command to stop: noted, so that it can save first."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_noted(*, torchrun: bool = False) -> Iterator[Callable[[], int]]:
    """Note Ctrl-C and SIGTERM instead of ending at once; gives what was noted, 0 for nothing.

    Args:
        torchrun: Whether torchrun started this process. Else a second Ctrl-C ends at once;
            but torchrun repeats each. And it sends SIGTERM to the others when one has ended,
            which goes on being noted, so that it does not cut off what they have to say.
    """
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if not torchrun and number == signal.SIGINT and number in noted:
            raise KeyboardInterrupt
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        if not torchrun:
            for number, handler in before.items():
                signal.signal(number, handler)
