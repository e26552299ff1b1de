"""The cores of this machine, where other work runs on them too."""

import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goldnas.errors import count_of

_SAMPLES, _PAUSE_S = 9, 0.03


def read_core_times_s() -> tuple[float, float] | None:
    """Seconds that the main thread ran, and that it waited for a core, so far.

    None where the system does not count them: only Linux does.
    """
    try:
        ran_ns, waited_ns, _ = Path("/proc/self/schedstat").read_text().split()
    except (OSError, ValueError):
        return None
    return int(ran_ns) / 1e9, int(waited_ns) / 1e9


def count_free_cores() -> int | None:
    """Cores that this process may use and that no other work uses now; at least 1.

    None where the system does not say what runs: only Linux does.
    """
    others = []
    for _ in range(_SAMPLES):
        try:
            running = Path("/proc/loadavg").read_text().split()[3].partition("/")[0]
        except (OSError, IndexError):
            return None
        others.append(int(running) - 1)  # which this process is
        time.sleep(_PAUSE_S)
    free = (os.cpu_count() or 1) - round(statistics.median(others))
    return max(1, min(free, len(os.sched_getaffinity(0))))


def take_free_cores(settings: Mapping[str, Any]) -> str:
    """Train on as many threads as there are free cores, unless the user said how many.

    The threads of a step wait for each other. Where one of them has no core, all wait, and a
    step takes many times longer than on one thread.

    Returns:
        What to say of it when the training begins; "" if nothing changed.
    """
    import torch

    threads = torch.get_num_threads()
    if "threads" in settings or threads == 1 or torch.accelerator.is_available():
        return ""
    free = count_free_cores()
    if free is None or free >= threads:
        return ""
    torch.set_num_threads(free)
    return (
        f"other work uses {threads - free} of {threads} cores: training on "
        f"{count_of(free, 'thread')}; --threads sets another number"
    )
