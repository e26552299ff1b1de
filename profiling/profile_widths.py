"""How the latency of a shrunk network depends on its widths and branches.

goldnas does not measure single layers. It measures whole networks of all sizes, and fits a cost
of each block of each layer to them. A first fit finds the cost of each kind of layer per
multiply-add, per output and per weight. These costs are the prior of the fit of the blocks.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from goldnas.exporting.narrowed import Narrowed
from goldnas.lut import LatencyTable, NetworkLatency, format_row_key
from goldnas.lut.fit import count_parts
from goldnas.operators import Part
from goldnas.profiling.backend import MeasurementBackend
from goldnas.profiling.calibration import fit_calibration
from goldnas.profiling.fill import open_table
from goldnas.profiling.gpu_backend import forget_engines
from goldnas.profiling.networks import NetworkLatencies, measure_models
from goldnas.profiling.session import Session
from goldnas.spaces.shrunk import ShrunkSpace, Size

NETWORKS = 32
"""Default number of networks to measure."""

_DRAWS = 10
"""How often networks are drawn, where most of them were measured before."""


def profile_widths(
    space: ShrunkSpace,
    out: Path,
    backend: MeasurementBackend,
    *,
    batch: int = 1,
    networks: int = NETWORKS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> LatencyTable:
    """Measure networks of all sizes, and write a table that predicts the others.

    Finished measurements are kept beside the table until it is written, so an interrupted call
    can continue. A table that has enough networks of the space stays unchanged.

    Args:
        space: The sizes of a network.
        out: Path of the table, which need not exist.
        backend: The backend that measures.
        batch: Images per call.
        networks: Number of networks to measure, including the whole network.
        on_progress: Called with the number of visits done and, as far as known, of all visits.
        on_warning: Called with a warning if something may spoil the measurements.

    Raises:
        ExportError: If the network cannot be exported.
        MeasurementError: If the device cannot measure, or is too noisy.
        TableError: If the file is unreadable, or was measured under other conditions.
        WriteError: If the disk refuses.
    """
    session = Session(
        backend,
        batch=batch,
        journal=Path(f"{out}.visits"),
        on_progress=on_progress,
        on_warning=on_warning,
    )
    before = open_table(out, session.conditions)
    known = before.calibration_for(space.name, space.settings)
    had = known.networks if known is not None and known.space == space.name else ()
    if len(had) >= networks:
        return before
    fresh = _draw_fresh(space, networks - len(had), {n.fingerprint for n in had})
    if not fresh:
        return before
    found = measure_sizes(session, space, fresh)
    measured, noise_floor_percent = (*had, *found.networks), found.noise_floor_percent
    if known is not None and known.noise_floor_percent is not None:  # a mean over all networks
        noise_floor_percent = float(
            np.average(
                [known.noise_floor_percent, noise_floor_percent],
                weights=[len(had), len(found.networks)],
            )
        )
    table = before.with_calibration(
        fit_calibration(
            space, measured, noise_floor_percent, estimate_costs_us(space, measured)
        )
    )
    table = session.finish(table, before)
    forget_engines(backend)
    return table


def _draw_fresh(space: ShrunkSpace, count: int, had: Collection[str]) -> dict[str, Size]:
    """Networks that a table lacks, by fingerprint; fewer where there are hardly as many."""
    fresh: dict[str, Size] = {}
    # Seeded by what is known: others than before, and the same after an interruption.
    for seed in range(len(had), len(had) + _DRAWS):
        for size in draw_sizes(space, count - len(fresh), seed=seed):
            name = space.describe(size).fingerprint
            if name not in had:
                fresh[name] = size
        if len(fresh) == count:
            break
    return fresh


def draw_sizes(space: ShrunkSpace, count: int, *, seed: int) -> list[Size]:
    """Networks to measure; the first ones of a table, of seed 0, begin with the whole one."""
    if seed:
        return space.draw(count, seed=seed)
    return [space.whole, *space.draw(count - 1, seed=seed)]


def measure_sizes(
    session: Session, space: ShrunkSpace, sizes: Mapping[str, Size]
) -> NetworkLatencies:
    """Measure networks side by side.

    Args:
        session: The session that measures.
        space: Space of the networks.
        sizes: Sizes of the networks, by fingerprint.

    Raises:
        ExportError: If the network cannot be exported.
        MeasurementError: If most of them cannot be measured.
    """
    narrowed = Narrowed(space, session.batch)
    models = {name: narrowed.model(size) for name, size in sizes.items()}
    return measure_models(session, models, {n: space.count(s) for n, s in sizes.items()})


def estimate_costs_us(
    space: ShrunkSpace, networks: Sequence[NetworkLatency]
) -> dict[str, float]:
    """What each part costs if all parts of a kind cost alike for what they do.

    Args:
        space: Space of the networks.
        networks: The measured networks.

    Returns:
        Microseconds by the key of a part; of every part of the space.
    """
    from scipy.optimize import nnls

    work = {term.part: dict(term.work) for term in space.terms}
    rows: tuple[Part, ...] = space.rows()
    for part in rows:
        work.setdefault(part, {part[0]: 1.0})  # beyond each size of its own
    kinds = sorted({kind for of_part in work.values() for kind in of_part})
    amounts = np.array([[work[part].get(kind, 0.0) for kind in kinds] for part in rows])
    keys = [format_row_key(*part) for part in rows]
    counts: npt.NDArray[np.float64] = count_parts(networks, keys)
    latencies_us = np.array([network.latency_us for network in networks])
    # Relative errors count; and each column is scaled, for the solver.
    columns = np.column_stack([np.ones(len(networks)), counts @ amounts])
    columns /= latencies_us[:, None]
    scale = np.maximum(np.abs(columns).max(axis=0), 1e-300)
    per_kind, _ = nnls(columns / scale, np.ones(len(networks)))
    costs_us = amounts @ (per_kind / scale)[1:]
    return dict(zip(keys, costs_us.tolist(), strict=True))
