"""Signals that ask a long command to stop: noted, so that it can save first."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_noted(*, torchrun: bool = False) -> Iterator[Callable[[], int]]:
    """Note Ctrl-C, SIGTERM and SIGHUP instead of ending; gives what came, 0 for nothing.

    SIGHUP comes when a terminal is closed; under nohup it is ignored, and stays so.

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

    noticed = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        noticed.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in noticed}
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        if not torchrun:
            for number, handler in before.items():
                signal.signal(number, handler)
