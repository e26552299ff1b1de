"""Rows of a latency table: exported, measured in context, and written."""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
from scipy.stats import truncnorm

from goldnas.errors import ExportError, MeasurementError
from goldnas.files import check_writable
from goldnas.lut import Failed, LatencyTable, Measured, ModelTiming, Row, format_row_key
from goldnas.operators import Part, PartBuilder, build_operator
from goldnas.profiling.backend import CPU, Failure, Timing
from goldnas.profiling.context import RowModels, make_row_models
from goldnas.profiling.measuring import Estimate, Results, get_timing
from goldnas.profiling.processor_runtimes import PROCESSOR_RUNTIMES
from goldnas.profiling.runtimes import BACKENDS
from goldnas.profiling.session import Session

# These have none to leave nodes to. Of those of a GPU it is onnxruntime's alone that has.
_ALONE = {CPU, *PROCESSOR_RUNTIMES, *(b.provider for b in BACKENDS.values())} - {
    BACKENDS["onnxruntime-cuda"].provider
}


def measure_rows(
    session: Session,
    table: LatencyTable,
    rows: Iterable[Part],
    *,
    build: PartBuilder = build_operator,
    strict: bool = False,
    also: Mapping[str, bytes] | None = None,
) -> LatencyTable:
    """Measure the rows that a table lacks, and write the table.

    Existing rows stay unchanged; failed rows are measured again. A row that cannot be measured
    is recorded as failed, and does not stop the others.

    Args:
        session: The session that measures.
        table: From :func:`goldnas.profiling.fill.open_table`.
        rows: Operators and sites, as a space's ``rows()`` gives them.
        build: Builds the operators.
        strict: Whether a row fails if the provider leaves one of its nodes to another.
        also: Models by name that are needed next. The same processes measure them, and the
            session keeps their times.

    Raises:
        MeasurementError: If the runtime cannot start, or the machine is too noisy.
        WriteError: If the disk refuses; what was measured is in the session's journal.
    """
    measured = {row.key for row in table.rows if isinstance(row, Measured)}
    todo = [p for p in dict.fromkeys(rows) if format_row_key(*p) not in measured]
    if not todo:
        return table
    check_writable(table.path)
    plans: dict[Part, RowModels] = {}
    failed: dict[Part, str] = {}
    for part in todo:
        try:
            operator = session.operator(part, build)
            plans[part] = make_row_models(operator, part[1], batch=session.batch)
        except ExportError as error:
            failed[part] = str(error)
    models = {
        _name(part, label): model
        for part, plan in plans.items()
        for label, model in plan.models.items()
    }
    estimates = {
        part: Estimate({_name(part, label): f for label, f in plan.terms.items()})
        for part, plan in plans.items()
    }
    also = also or {}
    others = [Estimate({name: 1.0}) for name in also]
    results = session.measure({**models, **also}, [*estimates.values(), *others])
    elsewhere = _elsewhere(session, {p: m.models["isolated"] for p, m in plans.items()})
    target_percent = session.backend.protocol.target_percent
    found: list[Row] = []
    for part in todo:
        try:
            if part in failed:
                raise MeasurementError(failed[part])
            row = _row(part, plans[part], estimates[part], results, target_percent)
            left = elsewhere[part]
            if not isinstance(left, Failure):
                row = msgspec.structs.replace(row, elsewhere=left)
            if strict and left:
                raise MeasurementError(
                    f"{session.backend.provider} leaves nodes: {_list_left(left)}"
                )
            found.append(row)
        except MeasurementError as error:
            found.append(Failed(operator=part[0], site=str(part[1]), error=str(error)))
    table = table.with_rows(found)
    table.save()
    return table


def _elsewhere(
    session: Session, models: dict[Part, bytes]
) -> dict[Part, dict[str, int] | Failure]:
    """By row: how many of its nodes other providers run than the one that was asked for."""
    wanted = session.backend.provider
    if wanted in _ALONE:
        return {part: {} for part in models}
    nodes = session.nodes({_name(part, "isolated"): m for part, m in models.items()})
    found: dict[Part, dict[str, int] | Failure] = {}
    for part in models:
        profile = nodes[_name(part, "isolated")]
        if isinstance(profile, Failure) or not profile:
            found[part] = Failure("unknown, the runtime does not report them")
        else:
            others = Counter(node.provider for node in profile if node.provider != wanted)
            found[part] = dict(others)
    return found


def _list_left(left: dict[str, int] | Failure) -> str:
    if isinstance(left, Failure):
        return left.error
    return ", ".join(f"{count} to {other}" for other, count in left.items())


def _name(part: Part, label: str) -> str:
    return f"{format_row_key(*part)}: {label}"


def _row(
    part: Part,
    plan: RowModels,
    estimate: Estimate,
    results: Results,
    target_percent: float | None,
) -> Measured:
    interval_us = estimate.interval_us(results)
    difference_us = estimate.latency_us(results)
    latency_us = _above_zero(difference_us, interval_us)
    if difference_us < -interval_us or latency_us < 0.001:
        raise MeasurementError(
            f"one more copy of the operator takes {difference_us:.3f} us +- {interval_us:.3f} "
            "us: the runtime leaves the operator out, or merges its copies"
        )
    timings = {label: get_timing(results, _name(part, label)) for label in plan.models}
    return Measured(
        operator=part[0],
        site=str(part[1]),
        latency_us=round(latency_us, 3),
        interval_us=round(interval_us, 3),
        converged=interval_us <= (target_percent or 100) / 100 * latency_us,
        isolated_us=round(timings["isolated"].latency_us, 3),
        method=plan.method,
        launch_bound=any(t.launch_bound for n, t in timings.items() if plan.terms[n]),
        timings=tuple(_timing(t, label) for label, t in timings.items()),
    )


def _above_zero(latency_us: float, interval_us: float) -> float:
    """Expected value of a positive latency, given this measurement.

    It is the mean of a normal distribution cut off at 0. This matters for very small operators,
    whose difference of two times may be negative.
    """
    if latency_us > interval_us:
        return latency_us
    deviation_us = max(interval_us / 1.96, 1e-9)
    return float(truncnorm.mean(-latency_us / deviation_us, np.inf, latency_us, deviation_us))


def _timing(timing: Timing, label: str) -> ModelTiming:
    return ModelTiming(
        model=label,
        min_us=round(timing.min_us, 3),
        p10_us=round(timing.p10_us, 3),
        p25_us=round(timing.p25_us, 3),
        median_us=round(timing.median_us, 3),
        spread=round(timing.spread, 4),
        calls=timing.count,
        visits=len(timing.visits),
    )
