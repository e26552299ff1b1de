"""Timing calls that a device runs asynchronously, in a stream.

A clock of the host would time the launch. So two events of the device stand around K calls,
which together take a millisecond: events tick in half microseconds, and a launch itself takes
microseconds. This module does not use CUDA, so tests need no GPU.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

SAMPLE_MS = 1.0
"""The least time between two events."""

COLD_WARMUP_MS = 200.0
"""Where the device may have been idle, as before a round: it takes that long to notice."""

LAUNCH_BOUND = 0.95
"""A call whose launch takes this share of its time, or more, is bound by launching."""

_LONGEST_WARMUP_MS = 2000.0
_STEADY = 0.01
_MOST_CALLS = 100_000


class Device(Protocol):
    """A device with one stream of work."""

    def clock_ns(self) -> int:
        """The host's clock."""

    def record(self) -> Any:
        """Put an event behind the work that is in the stream."""

    def elapsed_us(self, start: Any, end: Any) -> float:
        """Wait for the second event; the device's time between the two."""

    def synchronize(self) -> None:
        """Wait until the stream is empty."""

    def clock_mhz(self) -> float | None:
        """How fast it runs now; None if it does not tell."""


def warm_up(call: Callable[[], object], device: Device, warmup_ms: float) -> None:
    """Call for a time, and on until the device has stopped to change its clock.

    An idle GPU takes a fraction of a second to come up to speed. It is taken to be there once
    its clock is the same after a quarter of the time.
    """
    begin_ns = device.clock_ns()
    before: float | None = None
    while True:
        part_ns = device.clock_ns()
        while device.clock_ns() < part_ns + warmup_ms / 4 * 1e6:
            call()
            device.synchronize()
        passed_ms = (device.clock_ns() - begin_ns) / 1e6
        now = device.clock_mhz()
        steady = now is None or (before is not None and abs(now - before) <= _STEADY * before)
        if passed_ms >= _LONGEST_WARMUP_MS or (passed_ms >= warmup_ms and steady):
            return
        before = now


def count_calls(call: Callable[[], object], device: Device) -> int:
    """How many calls fill a sample."""
    calls = 1
    while calls < _MOST_CALLS:
        took_us = _sample(call, device, calls)[0]
        if took_us >= 1000 * SAMPLE_MS:
            return calls
        # A tenth above, or the next sample would fall short again by chance.
        lacking = min(10.0, 1100 * SAMPLE_MS / max(took_us, 1.0))
        calls = max(calls + 1, int(calls * lacking))
    return _MOST_CALLS


def visit(
    call: Callable[[], object],
    device: Device,
    *,
    warmup_ms: float,
    visit_ms: float,
    min_calls: int,
) -> dict[str, float]:
    """Warm up, then take samples of several calls each.

    Args:
        call: Puts the work into the stream, and does not wait for it.
        device: The device of the stream.
        warmup_ms: Minimum time of the warm-up.
        visit_ms: Minimum time of all samples.
        min_calls: Minimum number of samples.

    Returns:
        As ``runner.visit`` does, in microseconds of the device: ``calls``, and quantiles over
        samples. Also ``enqueue_us``, the host's time for one call into an empty stream.
    """
    warm_up(call, device, warmup_ms)
    calls = count_calls(call, device)
    samples_us: list[float] = []
    enqueued_us: list[float] = []
    end_ns = device.clock_ns() + visit_ms * 1e6
    while len(samples_us) < min_calls or device.clock_ns() < end_ns:
        took_us, enqueue_us = _sample(call, device, calls)
        samples_us.append(took_us / calls)
        enqueued_us.append(enqueue_us)
    low, p10, p25, median = np.quantile(samples_us, [0, 0.1, 0.25, 0.5]).tolist()
    return {
        "calls": calls * len(samples_us),
        "min_us": low,
        "p10_us": p10,
        "p25_us": p25,
        "median_us": median,
        "enqueue_us": float(np.median(enqueued_us)),
    }


def _sample(call: Callable[[], object], device: Device, calls: int) -> tuple[float, float]:
    """The device's time for some calls, and the host's for one before them.

    That one is not timed by the device: an event in an empty stream would pass at once, and the
    time until the first launch arrives would count. And it alone finds an empty queue for
    certain: a full one holds the host up, and launching would seem to take as long as the work.
    """
    device.synchronize()
    begin_ns = device.clock_ns()
    call()
    enqueue_us = (device.clock_ns() - begin_ns) / 1000
    start = device.record()
    for _ in range(calls):
        call()
    return device.elapsed_us(start, device.record()), enqueue_us
