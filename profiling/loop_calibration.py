"""The loop of a table: a few networks called in it, and what it makes of hot latencies."""

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from goldnas.architecture import Architecture
from goldnas.errors import MeasurementError, count_of
from goldnas.lut import (
    Calibration,
    LatencyTable,
    LoopFit,
    LoopNetwork,
    QuantileFit,
    format_row_key,
)
from goldnas.lut.fit.loop import FEWEST, fit_quantile
from goldnas.lut.loop import QuantileName
from goldnas.profiling.backend import Failure, Timing, join_calls
from goldnas.profiling.calls import CALLS_NEEDED, describe_lacking, summarize_calls
from goldnas.profiling.networks import compose_networks
from goldnas.profiling.session import Session
from goldnas.spaces import SearchSpace
from goldnas.spaces.sampling import draw_architectures

LOOP_NETWORKS = 12
"""Networks that are called in the loop. The margin of p99 is 2.7 standard deviations of their
errors; with 8 networks it would be 3.2, and with 20, in a longer time, 2.4."""

_SEED = 2**33
"""Far from the seeds of calibrations and checks: networks that the table was not fitted to."""

_LARGEST_ERRORS_PERCENT: dict[QuantileName, float] = {"p50": 3.0, "p90": 10.0, "p99": 20.0}
"""Errors on networks left out, above which a factor and an offset do not describe a loop."""


_LARGEST_DRIFT_PERCENT = 3.0
"""Of the loop's speed, above which p50 at another time is further off than its error."""


def calibrate_loop(
    session: Session, table: LatencyTable, space: SearchSpace, *, calls: int
) -> LatencyTable:
    """Call fresh random networks in the loop of a session, fit to them, and write the table.

    The networks are not those that the rows were fitted to. So the errors of the fit, and the
    margins, have the error of the table in them.

    Args:
        session: The session that measures.
        table: Calibrated for the space.
        space: The space to draw networks from.
        calls: Calls of each network.

    Raises:
        MeasurementError: If too few networks can be called so, such as at a rate that is too
            high.
        WriteError: If the disk refuses; the calls are in the session's journal.
    """
    calibration = table.calibration_for(space.name, space.settings)
    assert calibration is not None
    drawn = {a.fingerprint: a for a in draw_loop_networks(space)}
    called = session.time_calls(compose_networks(session, space, drawn.values()), calls=calls)
    failed = {name: r.error for name, r in called.items() if isinstance(r, Failure)}
    for name, error in failed.items():
        session.warn(f"network {name} is left out of the loop: {error}")
    networks = []
    for name, processes in called.items():
        if isinstance(processes, Failure):
            continue
        together = join_calls(processes)
        times = summarize_calls(together.calls_us)
        parts = Counter(space.plan(drawn[name]).parts())
        networks.append(
            LoopNetwork(
                fingerprint=name,
                parts={format_row_key(*part): count for part, count in parts.items()},
                calls=times.calls,
                quantiles=dict(times.quantiles),
                hot_us=round(Timing(together.visits).latency_us, 3),
                medians_us=tuple(round(float(np.median(one.calls_us)), 3) for one in processes),
            )
        )
        lacking = describe_lacking(times)
    if len(networks) < FEWEST:
        why = next(iter(failed.values()), "the space has no more")
        raise MeasurementError(
            f"only {count_of(len(networks), 'network')} could be called in the loop "
            f"{session.conditions.called}, and a fit needs {FEWEST}: {why}"
        )
    if lacking:
        session.warn(lacking)
    fitted = fit_loop(calibration, networks)
    for name, fit in fitted.quantiles.items():
        if fit.error_percent > _LARGEST_ERRORS_PERCENT[name]:
            session.warn(_describe_misfit(session, name, fit))
    if fitted.drift_percent > _LARGEST_DRIFT_PERCENT:
        session.warn(
            f"the loop {session.conditions.called} changed its speed by "
            f"{fitted.drift_percent:.0f} % between three parts of the calls, so p50 at another "
            "time may differ as much. The margins of p90 and p99 include it. Measure on a "
            "quieter machine"
        )
    table = table.with_calibration(msgspec.structs.replace(calibration, loop=fitted))
    table.save()
    return table


def fit_loop(calibration: Calibration, networks: Sequence[LoopNetwork]) -> LoopFit:
    """Fit each quantile that all networks have to their predicted hot latencies.

    The speed of hot calls in the same minutes is noted, and not divided out: calls in a loop
    follow it by less than half.
    """
    predicted_us = np.array([calibration.predict_us(network.parts) for network in networks])
    slowdown = float(np.median([n.hot_us for n in networks] / predicted_us))
    medians_us = np.array([network.medians_us for network in networks])
    # Relative to a network's own mean, and by the median network: disturbed ones do not count.
    logs = np.log(medians_us)
    speeds = np.exp(np.median(logs - logs.mean(axis=1, keepdims=True), axis=0))
    known = [name for name in CALLS_NEEDED if all(name in n.quantiles for n in networks)]
    return LoopFit(
        networks=tuple(networks),
        quantiles={
            name: fit_quantile(
                name,
                predicted_us.tolist(),
                [network.quantiles[name].latency_us for network in networks],
                speeds=speeds.tolist(),
            )
            for name in known
        },
        slowdown=slowdown,
        drift_percent=100 * float(np.log(speeds).std(ddof=1)),
    )


def draw_loop_networks(space: SearchSpace) -> Iterator[Architecture]:
    """The networks of a space that are called in a loop, always the same."""
    return draw_architectures(space, LOOP_NETWORKS, seed=_SEED)


def _describe_misfit(session: Session, name: str, fit: QuantileFit) -> str:
    return (
        f"a factor and an offset do not describe {name} in the loop "
        f"{session.conditions.called} well: the mean error is {fit.error_percent:.1f} % on "
        "networks left out. Measure on a quieter machine, or with more `calls`"
    )
