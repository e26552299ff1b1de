"""A space measured into a latency table."""

from collections.abc import Callable
from pathlib import Path

from goldnas.lut import LatencyTable
from goldnas.profiling.backend import MeasurementBackend
from goldnas.profiling.fill import fill_table, open_table
from goldnas.profiling.gpu_backend import forget_engines
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
    strict: bool = False,
    transfer: str | Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> LatencyTable:
    """Measure what a table lacks of a space, and write it.

    What is measured is kept beside the table until it is written, so that a call that was
    interrupted goes on.

    Args:
        space: Whose rows and networks are measured.
        out: The table, there or not.
        backend: Measures; onnxruntime on this machine's processor unless given.
        batch: Images per call.
        networks: Random whole networks to measure besides, to which the rows are fitted; 0 for
            none.
        strict: Whether rows fail of which nodes run elsewhere than on the backend's provider.
        transfer: Another device's table: no row is measured, but its rows are fitted to the
            networks.
        on_progress: Told how many visits are done, of how many as far as is known.
        on_warning: Told what may spoil the measurements.

    Returns:
        The table. Rows that could not be measured are in it as failed.

    Raises:
        MeasurementError: If nothing can be measured, or the machine is too noisy.
        TableError: If a file is unreadable, or of other conditions.
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
    if table is not before or journal.exists():
        table = session.finish(table, before)
        forget_engines(backend)
    warn_of_quality(table, space, on_warning)
    return table
