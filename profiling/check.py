"""A check of a table: its predictions against fresh measured networks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.lut import Accuracy, LatencyTable
from goldnas.lut.accuracy import compute_accuracy
from goldnas.profiling.networks import NetworkLatencies, measure_networks
from goldnas.profiling.profile_widths import draw_sizes, measure_sizes
from goldnas.profiling.session import Session
from goldnas.resources import HOT, Latency
from goldnas.resources.costs import sum_costs
from goldnas.spaces import SearchSpace
from goldnas.spaces.sampling import draw_architectures
from goldnas.spaces.shrunk import ShrunkSpace

_MEASURED_AGAIN = 5
"""Networks of the calibration in a check."""


@dataclass(frozen=True)
class Check:
    """A table's predictions against fresh measured networks."""

    accuracy: Accuracy
    predicted_us: dict[str, float]
    """By fingerprint."""
    measured: NetworkLatencies
    slowdown: float | None
    """Latency now over latency then, for some of the calibration's networks, measured again;
    None if none of these networks can be drawn again."""
    at_its_speed: Accuracy | None
    """Accuracy of the predictions times that factor: the table's error without the change in
    the machine's speed."""
    seed: int
    """Seed that draws the same networks again."""


def check_table(
    session: Session, table: LatencyTable, space: SearchSpace, *, networks: int, seed: int
) -> Check:
    """Measure random networks of a space, and compare them with a table's predictions.

    The check also measures a few networks of the calibration again: if these differ from
    before, the machine changed, not the table. All of it is hot, whatever the table's loop is.

    Raises:
        ConfigError: If there are fewer than 2 networks.
        ExportError: If a network cannot be exported.
        MeasurementError: If networks cannot be measured.
        TableError: If the table lacks a row.
    """
    if networks < 2:
        raise ConfigError(f"`networks={networks}`: a check needs 2 networks or more")
    latency = Latency(table, space, HOT)
    # Far from the seeds of calibrations, which count up from 0.
    drawn = _draw(space, networks, seed=2**32 + seed)
    predicted_us = {a.fingerprint: sum_costs(latency, space.plan(a).parts()) for a in drawn}
    then_us = _calibrated_us(table, space)
    again = _calibrated_first(table, space, then_us)
    found = _measure(session, space, [*drawn, *again])
    measured_us = {network.fingerprint: network.latency_us for network in found.networks}

    fresh = [name for name in predicted_us if name in measured_us]
    latencies_us = np.array([measured_us[name] for name in fresh])
    predictions = np.array([predicted_us[name] for name in fresh])
    ratios = [us / then_us[name] for name, us in measured_us.items() if name in then_us]
    slowdown = float(np.median(ratios)) if ratios else None
    return Check(
        compute_accuracy(predictions, latencies_us),
        predicted_us,
        found,
        slowdown,
        None if slowdown is None else compute_accuracy(slowdown * predictions, latencies_us),
        seed,
    )


def _draw(space: SearchSpace, count: int, *, seed: int) -> list[Architecture]:
    if isinstance(space, ShrunkSpace):
        return [space.describe(size) for size in draw_sizes(space, count, seed=seed)]
    return list(draw_architectures(space, count, seed=seed))


def _measure(
    session: Session, space: SearchSpace, networks: Sequence[Architecture]
) -> NetworkLatencies:
    if isinstance(space, ShrunkSpace):
        sizes = {network.fingerprint: space.size_of(network) for network in networks}
        return measure_sizes(session, space, sizes)
    return measure_networks(session, space, networks)


def _calibrated_us(table: LatencyTable, space: SearchSpace) -> dict[str, float]:
    """Latencies of the calibration's networks, by fingerprint."""
    calibration = table.calibration_for(space.name, space.settings)
    return {n.fingerprint: n.latency_us for n in calibration.networks} if calibration else {}


def _calibrated_first(
    table: LatencyTable, space: SearchSpace, known: Collection[str]
) -> list[Architecture]:
    """Some of the networks that a table was calibrated with first.

    A table has their fingerprints alone, so they are drawn again: as many as a campaign had,
    since their number shapes the draw.
    """
    for count in dict.fromkeys([*(c.networks for c in table.campaigns), len(known)]):
        first = _draw(space, count, seed=0)[:_MEASURED_AGAIN]
        if again := [a for a in first if a.fingerprint in known]:
            return again
    return []
