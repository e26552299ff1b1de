"""What turns sums of rows into latencies of networks: measured on random whole networks."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError, ExportError, MeasurementError
from goldnas.exporting.onnx import to_onnx
from goldnas.lut import (
    Accuracy,
    Calibration,
    Interpolated,
    LatencyTable,
    Measured,
    NetworkLatency,
    row_key,
)
from goldnas.lut.accuracy import accuracy
from goldnas.lut.fit import fit_additive
from goldnas.operators import CANDIDATES, Part
from goldnas.profiling.backend import Failure, Timing
from goldnas.profiling.campaign import profile
from goldnas.profiling.compose import CompositionError, compose_network
from goldnas.profiling.measuring import Estimate, Results, timing_of
from goldnas.profiling.session import Session
from goldnas.resources import Latency
from goldnas.resources.costs import total_cost
from goldnas.spaces import SearchSpace, space_named
from goldnas.spaces.sampling import random_architectures

Counts = npt.NDArray[np.float64]
_MEASURED_AGAIN = 5
"""Networks of the calibration in a check."""


@dataclass(frozen=True)
class NetworkLatencies:
    """Whole networks as one session measured them."""

    networks: tuple[NetworkLatency, ...]
    noise_floor_percent: float
    """Mean difference of the same networks, by every other process and by the rest."""


def fill(
    session: Session,
    table: LatencyTable,
    space: SearchSpace,
    *,
    networks: int,
    strict: bool = False,
) -> LatencyTable:
    """Measure what a table lacks of a space: rows, and networks that it is calibrated with.

    All in the same processes. A machine may be a percent slower for some minutes, and what is
    spread over more of them sees more of its fast ones.

    Args:
        session: Measures.
        table: There or empty, as :func:`goldnas.profiling.campaign.open_table` gives it.
        space: To measure.
        networks: How many the calibration is to rest on.
        strict: Whether a row fails if the provider leaves one of its nodes to another.

    Returns:
        The table; without a calibration where a row failed.

    Raises:
        ExportError: If a network cannot be exported.
        MeasurementError: If the runtime cannot start, or the machine is too noisy.
        WriteError: If the disk refuses; what was measured is in the session's journal.
    """
    rows = space.rows()
    models: dict[str, bytes] = {}
    if table.missing(rows):
        with suppress(ExportError):  # of a row, which fails, and then no network is wanted
            models = _models(session, space, _lacking(table, space, networks))
    table = profile(session, table, rows, build=space.build_part, strict=strict, also=models)
    if table.missing(rows):
        return table
    return calibrate(session, table, space, networks=networks)


def measure_networks(
    session: Session, space: SearchSpace, architectures: Iterable[Architecture]
) -> NetworkLatencies:
    """Measure whole networks, put together from their operators with random weights.

    Raises:
        ExportError: If a network cannot be exported.
        MeasurementError: If one cannot be measured.
        WriteError: If the journal cannot be written.
    """
    chosen = {a.fingerprint: a for a in architectures}
    models = _models(session, space, chosen.values())
    estimates = {name: Estimate({name: 1.0}) for name in models}
    results = session.measure(models, estimates.values())
    failed = {n: r.error for n, r in results.items() if isinstance(r, Failure)}
    for name, error in failed.items():
        session.warn(f"network {name} is left out: {error}")
    if 2 * len(failed) > len(models):
        name, error = next(iter(failed.items()))
        raise MeasurementError(
            f"{len(failed)} of {len(models)} networks could not be measured; {name}: {error}"
        )
    kept = [name for name in models if name not in failed]
    networks = tuple(
        NetworkLatency(
            fingerprint=name,
            parts=dict(Counter(map(_key, space.plan(chosen[name]).parts()))),
            latency_us=round(estimates[name].latency_us(results), 3),
            interval_us=round(estimates[name].interval_us(results), 3),
        )
        for name in kept
    )
    return NetworkLatencies(networks, _noise_floor_percent(results, kept))


def calibrate(
    session: Session, table: LatencyTable, space: SearchSpace, *, networks: int
) -> LatencyTable:
    """Measure random networks of a space until the table has as many, fit them, and write it.

    The rows as they were measured are the prior of the fit.

    Args:
        session: Measures.
        table: Holds the rows of the space. Networks that it has of the space stay.
        space: To draw networks from.
        networks: How many the calibration is to rest on.

    Raises:
        ExportError: If a network cannot be exported.
        MeasurementError: If networks cannot be measured.
        TableError: If the table lacks a row.
        WriteError: If the disk refuses; what was measured is in the session's journal.
    """
    before = table.calibration_for(space.name, space.settings)
    rows_us = {_key(part): table.latency_us(*part) for part in space.rows()}
    # What a transferred row was before it was fitted; else the fit would know its networks.
    prior_us = {**rows_us, **(before.prior_us if before else {})}
    for row in table.rows:
        if isinstance(row, Measured):
            prior_us[row_key(row.operator, row.site)] = row.latency_us
    known = before.networks if before else ()
    fresh = _lacking(table, space, networks)
    if not fresh:
        return table
    found = measure_networks(session, space, fresh)
    keys = {*rows_us, *(key for n in known for key in n.parts)}
    noise_floor_percent = found.noise_floor_percent
    if before and before.noise_floor_percent is not None:  # a mean over all networks
        noise_floor_percent = float(
            np.average(
                [before.noise_floor_percent, noise_floor_percent],
                weights=[len(known), len(found.networks)],
            )
        )
    table = table.with_calibration(
        _fit(
            space,
            (*known, *found.networks),
            noise_floor_percent,
            {key: us for key, us in prior_us.items() if key in keys},
        )
    )
    table.save()
    return table


def transfer(
    session: Session,
    table: LatencyTable,
    space: SearchSpace,
    other: LatencyTable,
    *,
    networks: int,
) -> LatencyTable:
    """Make a table from another device's and a few whole networks on this one, and write it.

    Args:
        session: Measures.
        table: Of this device, empty.
        space: To draw networks from.
        other: Has the rows of the space; its costs are the prior of the fit.
        networks: How many to measure here.

    Raises:
        ConfigError: If the table is not empty.
        ExportError: If a network cannot be exported.
        MeasurementError: If networks cannot be measured.
        TableError: If the other table lacks a row.
        WriteError: If the disk refuses; what was measured is in the session's journal.
    """
    if table.rows or table.calibrations:
        raise ConfigError(
            f"{table.path} has rows already, and --transfer makes a new table. "
            "Choose another --out"
        )
    latency = Latency(other, space)
    prior_us = {_key(part): latency.cost(*part) for part in space.rows()}
    found = measure_networks(session, space, random_architectures(space, networks, seed=0))
    fitted = _fit(space, found.networks, found.noise_floor_percent, prior_us)
    source = f"{other.path.name}, fitted to {networks} networks on this device"
    table = table.with_rows(
        Interpolated(
            operator=operator,
            site=str(site),
            latency_us=fitted.latencies_us[_key((operator, site))],
            source=source,
        )
        for operator, site in space.rows()
    ).with_calibration(fitted)
    table.save()
    return table


def _lacking(table: LatencyTable, space: SearchSpace, networks: int) -> list[Architecture]:
    """Networks to measure until the table's calibration for the space has as many."""
    before = table.calibration_for(space.name, space.settings)
    known = before.networks if before else ()
    missing = networks - len(known)
    if before and any(_key(part) not in before.latencies_us for part in space.rows()):
        missing = networks  # those known lack an operator of the space
    # Seeded by what is known: others than before, and the same after an interruption.
    drawn = random_architectures(space, missing, seed=len(known))
    fingerprints = {network.fingerprint for network in known}
    return [a for a in drawn if a.fingerprint not in fingerprints]


def _models(
    session: Session, space: SearchSpace, architectures: Iterable[Architecture]
) -> dict[str, bytes]:
    """Networks put together from the session's operators, by fingerprint."""
    return {a.fingerprint: _model(session, space, a) for a in architectures}


def _model(session: Session, space: SearchSpace, architecture: Architecture) -> bytes:
    """A network as ONNX: as a whole, which takes longer, if its parts are not just joined."""
    shape = (session.batch, *space.input_shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same model again after an interruption
        network = space.build(architecture)
    try:
        return compose_network(
            network, partial(session.operator, build=space.build_part), shape
        )
    except CompositionError:
        return to_onnx(network, shape)


def _fit(
    space: SearchSpace,
    networks: Sequence[NetworkLatency],
    noise_floor_percent: float,
    prior_us: Mapping[str, float],
) -> Calibration:
    latencies_us = np.array([network.latency_us for network in networks])
    fitted = fit_additive(
        counts_of(networks, list(prior_us)),
        latencies_us,
        prior_us=np.array(list(prior_us.values())),
    )
    return Calibration(
        space=space.name,
        settings=space.settings,
        intercept_us=round(fitted.intercept_us, 3),
        latencies_us=dict(zip(prior_us, fitted.costs_us.round(4).tolist(), strict=True)),
        prior_us={key: round(us, 4) for key, us in prior_us.items()},
        accuracy=accuracy(fitted.held_out_us, latencies_us),
        noise_floor_percent=round(noise_floor_percent, 3),
        networks=tuple(networks),
    )


@dataclass(frozen=True)
class Check:
    """A table's predictions against networks that were measured for the purpose."""

    accuracy: Accuracy
    predicted_us: dict[str, float]
    """By fingerprint."""
    measured: NetworkLatencies
    slowdown: float | None
    """How much longer than then some of the networks take that the table was calibrated with,
    measured again; None where none of them can be drawn again."""
    at_its_speed: Accuracy | None
    """Of the predictions times that: what the table is off by, but for the machine's speed."""


def check_networks(
    session: Session, table: LatencyTable, space: SearchSpace, *, networks: int, seed: int
) -> Check:
    """Measure random networks of a space, and compare with what a table predicts.

    A few of the networks that it was calibrated with are measured besides: what they differ
    from then is the machine, not the table.

    Raises:
        ExportError: If a network cannot be exported.
        MeasurementError: If networks cannot be measured.
        TableError: If the table lacks a row.
    """
    latency = Latency(table, space)
    # Far from the seeds of calibrations, which count up from 0.
    drawn = list(random_architectures(space, networks, seed=2**32 + seed))
    predicted_us = {a.fingerprint: total_cost(latency, space.plan(a).parts()) for a in drawn}
    then_us = _calibrated_us(table, space)
    again = _calibrated_first(table, space, then_us)
    found = measure_networks(session, space, [*drawn, *again])
    measured_us = {network.fingerprint: network.latency_us for network in found.networks}

    fresh = [name for name in predicted_us if name in measured_us]
    latencies_us = np.array([measured_us[name] for name in fresh])
    predictions = np.array([predicted_us[name] for name in fresh])
    ratios = [us / then_us[name] for name, us in measured_us.items() if name in then_us]
    slowdown = float(np.median(ratios)) if ratios else None
    return Check(
        accuracy(predictions, latencies_us),
        predicted_us,
        found,
        slowdown,
        None if slowdown is None else accuracy(slowdown * predictions, latencies_us),
    )


def _calibrated_us(table: LatencyTable, space: SearchSpace) -> dict[str, float]:
    """Latencies of the networks that the table was calibrated with, by fingerprint."""
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
        first = islice(random_architectures(space, count, seed=0), _MEASURED_AGAIN)
        if again := [a for a in first if a.fingerprint in known]:
            return again
    return []


def space_of_calibration(calibration: Calibration) -> SearchSpace:
    """The space that a table was calibrated for, with the candidates it has costs of."""
    space = space_named(calibration.space, **calibration.settings)
    keys = dict.fromkeys(key.split(" ")[0] for key in calibration.latencies_us)
    names = {name for name in keys if name in CANDIDATES}
    # In the space's own order where it has them: on it depends which networks are drawn.
    own = [name for name in space.operators if name in names]
    return space.with_operators((*own, *sorted(names.difference(own))))


def counts_of(networks: Sequence[NetworkLatency], keys: Sequence[str]) -> Counts:
    """How often each network has each part, ``(N, K)``."""
    return np.array([[n.parts.get(key, 0) for key in keys] for n in networks], dtype=float)


def _key(part: Part) -> str:
    operator, site = part
    return f"{operator} {site}"


def _noise_floor_percent(results: Results, names: Iterable[str]) -> float:
    """How far two measurements of the same networks are apart, by half the processes each."""
    differences = []
    for name in names:
        visits = timing_of(results, name).visits
        processes = sorted({visit.process for visit in visits})
        half = set(processes[::2])
        one = Timing(tuple(v for v in visits if v.process in half))
        other = Timing(tuple(v for v in visits if v.process not in half))
        differences.append(abs(one.latency_us / other.latency_us - 1))
    return 100 * float(np.mean(differences))
