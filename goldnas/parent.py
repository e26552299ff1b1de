"""A process that ends when its parent has ended, for whatever reason."""

import os
import signal
import threading
import time

_POLL_S = 0.5
_GRACE_S = 60.0
"""For saving what there is, and cleaning up."""


def end_with_parent(parent: int | None = None, number: int = signal.SIGINT) -> None:
    """Send this process a signal when its parent has ended; end it if it ignores the signal.

    Args:
        parent: Number of the process that is the parent; whichever it is now unless given.
        number: Of the signal.
    """
    theirs = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == theirs:
            time.sleep(_POLL_S)
        os.kill(os.getpid(), number)
        time.sleep(_GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
