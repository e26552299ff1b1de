"""Quantiles of the single calls of a network in a loop, and how well they are known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from goldnas.errors import MeasurementError
from goldnas.lut import QUANTILES, CallQuantile
from goldnas.lut.loop import QuantileName
from goldnas.profiling.backend import Failure, join_calls
from goldnas.profiling.session import Session

_CONFIDENCE = 0.95

CALLS_NEEDED: dict[QuantileName, int] = {
    name: math.ceil(math.log(1 - _CONFIDENCE) / math.log(max(share, 1 - share)))
    for name, share in QUANTILES.items()
}
"""Calls of which the slowest bounds a quantile from above, with 95 % confidence."""


@dataclass(frozen=True)
class LoopTimes:
    """The single calls of one network in a loop."""

    calls: int
    quantiles: Mapping[QuantileName, CallQuantile]
    """Those that so many calls bound: p50 of 5, p90 of 29 and p99 of 299 calls."""
    around: Mapping[QuantileName, CallQuantile] = field(default_factory=dict)
    """Of what each call took besides the network; empty without a pipeline."""


def summarize_calls(calls_us: Sequence[float], around_us: Sequence[float] = ()) -> LoopTimes:
    """Quantiles of single calls with distribution-free limits, from their order statistics.

    The k-th smallest of n calls is above the q-th quantile if at most k - 1 calls are below
    it, which a binomial distribution of n and q says the probability of. The calls count as
    independent.

    Args:
        calls_us: Microseconds of each call.
        around_us: What of them was not the network.
    """
    return LoopTimes(len(calls_us), _find_quantiles(calls_us), _find_quantiles(around_us))


def _find_quantiles(calls_us: Sequence[float]) -> dict[QuantileName, CallQuantile]:
    from scipy.stats import binom

    ordered = np.sort(np.asarray(calls_us, float))
    count = len(ordered)
    quantiles: dict[QuantileName, CallQuantile] = {}
    for name, needed in CALLS_NEEDED.items():
        if count < needed:
            continue
        share = QUANTILES[name]
        below = int(binom.ppf(_CONFIDENCE, count, share))
        above = int(binom.ppf(1 - _CONFIDENCE, count, share))
        quantiles[name] = CallQuantile(
            latency_us=round(float(np.quantile(ordered, share)), 3),
            low_us=round(float(ordered[max(above - 1, 0)]), 3),
            high_us=round(float(ordered[min(below, count - 1)]), 3),
        )
    return quantiles


def measure_calls(session: Session, model: bytes, *, calls: int) -> LoopTimes:
    """Call one model in the loop of a session.

    Raises:
        MeasurementError: If it cannot be called so, such as at a rate that is too high.
    """
    found = session.time_calls({"model": model}, calls=calls)["model"]
    if isinstance(found, Failure):
        raise MeasurementError(found.error)
    together = join_calls(found)
    return summarize_calls(together.calls_us, together.around_us)


def describe_lacking(times: LoopTimes) -> str:
    """What so few calls do not tell, and what would; empty if they tell all."""
    lacking = [name for name in CALLS_NEEDED if name not in times.quantiles]
    if not lacking:
        return ""
    return (
        f"{times.calls} calls do not bound {' and '.join(lacking)}: for {lacking[-1]} give "
        f"`calls={CALLS_NEEDED[lacking[-1]]}` or more"
    )
