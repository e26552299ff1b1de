"""Calibrations: a table's rows fitted to whole networks, to predict their latencies."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from goldnas.architecture import Architecture
from goldnas.lut import (
    Calibration,
    LatencyTable,
    Measured,
    NetworkLatency,
    format_row_key,
    parse_row_key,
)
from goldnas.lut.accuracy import compute_accuracy
from goldnas.lut.fit import count_parts, fit_additive
from goldnas.operators import CANDIDATES
from goldnas.profiling.loop_calibration import fit_loop
from goldnas.profiling.networks import measure_networks
from goldnas.profiling.session import Session
from goldnas.spaces import SearchSpace, make_space
from goldnas.spaces.sampling import draw_architectures


def calibrate(
    session: Session, table: LatencyTable, space: SearchSpace, *, networks: int
) -> LatencyTable:
    """Measure random networks of a space, fit the rows to them, and write the table.

    The measured rows are the prior of the fit.

    Args:
        session: The session that measures.
        table: Holds the rows of the space. Networks of the space that it already has count.
        space: The space to draw networks from.
        networks: Number of networks for the calibration.

    Raises:
        ExportError: If a network cannot be exported.
        MeasurementError: If networks cannot be measured.
        TableError: If the table lacks a row.
        WriteError: If the disk refuses; what was measured is in the session's journal.
    """
    before = table.calibration_for(space.name, space.settings)
    rows_us = {
        format_row_key(*part): table.latency_us(*part, space=space.call)
        for part in space.rows()
    }
    # What a transferred row was before it was fitted; else the fit would know its networks.
    prior_us = {**rows_us, **(before.prior_us if before else {})}
    for row in table.rows:
        if isinstance(row, Measured):
            prior_us[row.key] = row.latency_us
    known = before.networks if before else ()
    fresh = draw_lacking(table, space, networks)
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
    fitted = fit_calibration(
        space,
        (*known, *found.networks),
        noise_floor_percent,
        {key: us for key, us in prior_us.items() if key in keys},
    )
    if before and before.loop:  # the same networks in the loop, predicted anew
        loop = fit_loop(fitted, before.loop.networks)
        fitted = msgspec.structs.replace(fitted, loop=loop)
    table = table.with_calibration(fitted)
    table.save()
    return table


def draw_lacking(table: LatencyTable, space: SearchSpace, networks: int) -> list[Architecture]:
    """Networks to measure until the table's calibration for the space has as many."""
    before = table.calibration_for(space.name, space.settings)
    known = before.networks if before else ()
    missing = networks - len(known)
    rows = {format_row_key(*part) for part in space.rows()}
    if before and not rows <= before.latencies_us.keys():
        missing = networks  # those known lack an operator of the space
    # Seeded by what is known: others than before, and the same after an interruption.
    drawn = draw_architectures(space, missing, seed=len(known))
    fingerprints = {network.fingerprint for network in known}
    return [a for a in drawn if a.fingerprint not in fingerprints]


def fit_calibration(
    space: SearchSpace,
    networks: Sequence[NetworkLatency],
    noise_floor_percent: float,
    prior_us: Mapping[str, float],
) -> Calibration:
    """Fit the costs of a space's parts to measured networks.

    Args:
        space: The space of the networks.
        networks: At least two.
        noise_floor_percent: Difference between two measurements of the same networks.
        prior_us: Expected cost of each part, by the key of its row.
    """
    latencies_us = np.array([network.latency_us for network in networks])
    fitted = fit_additive(
        count_parts(networks, list(prior_us)),
        latencies_us,
        prior=np.array(list(prior_us.values())),
    )
    return Calibration(
        space=space.name,
        settings=space.settings,
        intercept_us=round(fitted.intercept, 3),
        latencies_us=dict(zip(prior_us, fitted.costs.round(4).tolist(), strict=True)),
        prior_us={key: round(us, 4) for key, us in prior_us.items()},
        accuracy=compute_accuracy(fitted.held_out, latencies_us),
        noise_floor_percent=round(noise_floor_percent, 3),
        networks=tuple(networks),
    )


def rebuild_space(calibration: Calibration) -> SearchSpace:
    """The space of a table's calibration, with the candidates that have costs."""
    space = make_space(calibration.space, **calibration.settings)
    keys = dict.fromkeys(parse_row_key(key)[0] for key in calibration.latencies_us)
    names = {name for name in keys if name in CANDIDATES}
    # In the space's own order where it has them: on it depends which networks are drawn.
    own = [name for name in space.operators if name in names]
    return space.with_operators((*own, *sorted(names.difference(own))))
