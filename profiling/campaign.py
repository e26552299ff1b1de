"""Filling a latency table: what it lacks is exported, measured and written, chunk by chunk."""

import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from goldnas.errors import ExportError, MeasurementError, TableError
from goldnas.export import to_onnx
from goldnas.files import check_writable
from goldnas.lut import Failed, LatencyTable, Measured, Row
from goldnas.operators import build_operator
from goldnas.profiling.backend import Failure, MeasurementBackend, Timing
from goldnas.site import Site

CHUNK = 8
"""Rows measured and written together: what an interruption can cost."""


def profile(
    rows: Iterable[tuple[str, Site]],
    backend: MeasurementBackend,
    out: Path,
    *,
    batch: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> LatencyTable:
    """Measure the rows that the table at ``out`` lacks, and write it after each chunk.

    Rows that are there stay as they are; failed ones are tried again. A row that cannot be
    measured is recorded as failed, and the others go on.

    Args:
        rows: Operators and sites, as a space's ``rows()`` gives them.
        backend: Measures them.
        out: The table; made if it is not there.
        batch: Images per call.
        on_progress: Told how many of how many missing rows are done, from 0 on.

    Raises:
        TableError: If ``out`` is unreadable, or was measured under other conditions.
        WriteError: If it cannot be written; the finished chunks are in it.
    """
    conditions = backend.conditions(batch=batch)
    table = LatencyTable(conditions, (), out)
    if os.path.exists(out):  # unlike Path.exists, no error where it may not look
        table = LatencyTable.load(out)
        if differences := table.conditions.differences(conditions):
            raise TableError(
                f"{out} was measured under other conditions: {'; '.join(differences)}. "
                "Choose another --out"
            )
        table = dataclasses.replace(
            table,
            conditions=msgspec.structs.replace(
                table.conditions, os=conditions.os, measured_on=conditions.measured_on
            ),
        )
    todo = table.missing(dict.fromkeys(rows))
    if todo:
        check_writable(out)
    on_progress(0, len(todo))
    for start in range(0, len(todo), CHUNK):
        chunk = todo[start : start + CHUNK]
        table = table.with_rows(_measure_rows(chunk, backend, batch))
        table.save()
        on_progress(start + len(chunk), len(todo))
    return table


def _measure_rows(
    chunk: Iterable[tuple[str, Site]], backend: MeasurementBackend, batch: int
) -> list[Row]:
    results: dict[tuple[str, Site], Timing | Failure] = {}
    models: dict[str, bytes] = {}
    for operator, site in chunk:
        module = build_operator(operator, site).eval()
        try:
            with _interrupts_held_back():
                models[f"{operator} {site}"] = to_onnx(module, (batch, *site.input_shape))
        except ExportError as error:
            results[operator, site] = Failure(str(error))
    timings = _measure(backend, models)
    return [_row(*part, results.get(part) or timings[f"{part[0]} {part[1]}"]) for part in chunk]


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block: torch's exporter would now and then eat it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread
        return
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _measure(
    backend: MeasurementBackend, models: dict[str, bytes]
) -> dict[str, Timing | Failure]:
    """Measure together; if that breaks the runtime, each alone, to find who does it."""
    if not models:
        return {}
    try:
        return backend.measure(models)
    except MeasurementError as error:
        if len(models) == 1:
            return dict.fromkeys(models, Failure(str(error)))
    results: dict[str, Timing | Failure] = {}
    for name, model in models.items():
        results |= _measure(backend, {name: model})
    return results


def _row(operator: str, site: Site, result: Timing | Failure) -> Row:
    if isinstance(result, Failure):
        return Failed(operator=operator, site=str(site), error=result.error)
    return Measured(
        operator=operator,
        site=str(site),
        latency_us=round(result.latency_us, 3),
        min_us=round(result.min_us, 3),
        p10_us=round(result.p10_us, 3),
        p25_us=round(result.p25_us, 3),
        median_us=round(result.median_us, 3),
        spread=round(result.spread, 4),
        count=result.count,
        visits=len(result.visits),
    )
