"""Measuring a space into a latency table."""

from collections.abc import Callable
from pathlib import Path

from goldnas.lut import LatencyTable
from goldnas.profiling.backend import MeasurementBackend
from goldnas.profiling.config import CALLS
from goldnas.profiling.fill import fill_table, open_table
from goldnas.profiling.gpu_backend import forget_engines
from goldnas.profiling.loop_calibration import calibrate_loop
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.quality import warn_of_quality
from goldnas.profiling.session import Session
from goldnas.profiling.transfer import transfer_table
from goldnas.spaces import SearchSpace


def profile_space(
    space: SearchSpace,
    out: Path,
    backend: MeasurementBackend | None = None,
    *,
    batch: int = 1,
    networks: int = 20,
    calls: int = CALLS,
    strict: bool = False,
    transfer: str | Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> LatencyTable:
    """Measure the rows and networks that a table lacks for a space, and write the table.

    Finished measurements are kept beside the table until it is written, so an interrupted call
    can continue.

    Args:
        space: The space of the rows and networks.
        out: Path of the table, which need not exist.
        backend: The backend that measures; by default onnxruntime on this machine's processor.
        batch: Images per call.
        networks: Number of random whole networks to measure, too. The rows are fitted to them;
            0 for none.
        calls: Calls of each network in the backend's loop, if that is not hot.
        strict: Whether a row fails if nodes of it run on another provider than the backend's.
        transfer: Another device's table. Its rows are fitted to the networks, and no row is
            measured.
        on_progress: Called with the number of visits done and, as far as known, of all visits.
        on_warning: Called with a warning if something may spoil the measurements.

    Returns:
        The table. It marks rows that could not be measured as failed.

    Raises:
        MeasurementError: If nothing can be measured, or the machine is too noisy.
        TableError: If a file is unreadable, or was measured under other conditions.
        WriteError: If the disk refuses.
    """
    backend = backend or OnnxruntimeBackend(on_warning=on_warning)
    journal = Path(f"{out}.visits")
    session = Session(
        backend, batch=batch, journal=journal, on_progress=on_progress, on_warning=on_warning
    )
    before = open_table(out, session.conditions)
    if transfer is not None:
        other = LatencyTable.load(transfer)
        table = transfer_table(session, before, space, other, networks=networks)
    else:
        table = fill_table(session, before, space, networks=networks, strict=strict)
    if not session.conditions.called.is_hot:
        fitted = table.calibration_for(space.name, space.settings)
        if fitted and not fitted.loop:
            table = calibrate_loop(session, table, space, calls=calls)
    if table is not before or journal.exists():
        table = session.finish(table, before)
        forget_engines(backend)
    warn_of_quality(table, space, on_warning)
    return table
