"""Picking: measuring every network that may be the answer, until one is certain."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from goldnas.errors import ConfigError, ExportError, TableError, list_some
from goldnas.lut import Loop
from goldnas.lut.loop import QuantileName
from goldnas.picking.choose import (
    Limits,
    Unmeasured,
    choose,
    count_unmeasured,
    find_front,
    is_open,
    list_needed,
    list_runners_up,
)
from goldnas.picking.config import WHOLE_NETWORKS, PickConfig
from goldnas.picking.options import Measurable, Option, is_meant, list_options
from goldnas.profiling.backend import Failure, join_calls
from goldnas.profiling.calls import CALLS_NEEDED, describe_lacking, summarize_calls
from goldnas.profiling.measuring import Estimate, Results, get_timing
from goldnas.profiling.rejections import explain_rejection
from goldnas.profiling.session import Session
from goldnas.resource_names import (
    FLOPS,
    PARAMETERS,
    is_energy,
    is_latency,
    name_latency,
    read_precision,
)
from goldnas.resources import Budget, parse_budget
from goldnas.zoo.file import CallsInLoop, Candidate, Failed, Measured, Row, Zoo, load_zoo

_CLEARLY, _SOON = 1.05, 1.2
"""Times a limit: over the second after one process, or over the first after several, the
measuring of a network ends."""

AT_ONCE = 4
"""Networks that an exhaustive run measures side by side."""

MOST_BYTES = 1_500_000_000
"""Of models that are held at once."""


@dataclass(frozen=True)
class Picked:
    """The answer of a pick, and the measurements behind it.

    Example:
        >>> found = goldnas.pick(
        ...     budgets=["1s"], networks=["squeezenet1_1"], size=[32], target_percent=20
        ... )
        >>> found.row(found.choice).latency_us < 1e6
        True
        >>> [budget.text for budget in found.budgets]
        ['1s']
    """

    zoo: Zoo
    limits: Limits
    budgets: tuple[Budget, ...]
    options: tuple[Option, ...]
    choice: Option | None
    """The chosen network; None if no network is within the limits."""
    front: tuple[Option, ...]
    """Measured networks within the limits, the fastest first. Each is more accurate than those
    before it."""
    runners_up: tuple[Option, ...]
    """More accurate networks that are within the noise of the latency limit."""
    unmeasured: Unmeasured
    left_out: dict[str, str]
    """Networks that are not options, with the reasons."""
    seconds: float
    """Time for listing and measuring."""

    def row(self, option: Option) -> Row | None:
        """The measurement of an option; None if it was not measured.

        With a budget of a quantile of single calls, its latency is that quantile.
        """
        return _find_rows(self.zoo, [option], self.limits.quantile).get(option.key)

    def limits_us(self, row: Measured) -> tuple[float, float]:
        """The ends of a latency's 95 % interval; in a loop, the two limits of the quantile.

        Args:
            row: From :meth:`row`.
        """
        if row.loop:
            one = row.loop.quantiles[self.limits.quantile or "p50"]
            return one.low_us, one.high_us
        return row.shortest_us, row.latency_us + row.interval_us

    @property
    def latency(self) -> str:
        """What a latency is of, in words."""
        return self.zoo.loop.explain(self.limits.quantile or "", measured=True)


def read_budgets(
    config: PickConfig, name: str, loop: Loop, *, measures: bool = True
) -> tuple[tuple[Budget, ...], Limits]:
    """The budgets, and the tightest limit of each resource.

    Args:
        config: The settings.
        name: Name of the file, which budgets of latency use.
        loop: The loop that the networks are called in.
        measures: Whether the pick measures.

    Raises:
        ConfigError: If a budget cannot be read, is of a quantile that is not measured, or of
            another quantile than the others; or if there is no budget of latency and the pick
            does not measure all networks.
    """
    budgets = tuple(parse_budget(text, [name], energy_tables=[name]) for text in config.budgets)
    for budget in budgets:
        if is_energy(budget.resource):
            raise ConfigError(
                f"budget {budget.text} is an energy, and goldnas measures only times: give a "
                "latency, FLOPs or params"
            )
        if read_precision(budget.resource) is not None:
            raise ConfigError(
                f"budget {budget.text} is of an exported file, and ready-made networks are not "
                "exported to be picked: give a latency, FLOPs or params"
            )

    def least(kind: Callable[[str], bool]) -> float | None:
        return min((b.limit for b in budgets if kind(b.resource)), default=None)

    limits = Limits(
        latency_us=least(is_latency),
        flops=least(FLOPS.__eq__),
        parameters=least(PARAMETERS.__eq__),
        quantile=_find_quantile(budgets, name, loop),
    )
    if measures and limits.quantile:
        needed = CALLS_NEEDED[limits.quantile]
        if config.calls < needed:
            raise ConfigError(
                f"`calls={config.calls}` do not bound {limits.quantile}: give "
                f"`calls={needed}` or more"
            )
    if measures and limits.latency_us is None and not config.exhaustive:
        raise ConfigError(
            "without a latency in `budgets`, every network may be the answer: give one, as in "
            "`budgets=['10ms']`, or measure all networks with `exhaustive=True`"
        )
    return budgets, limits


def _find_quantile(budgets: Iterable[Budget], name: str, loop: Loop) -> QuantileName | None:
    """The quantile of single calls that budgets limit; None if they limit none.

    Raises:
        ConfigError: If the loop is hot, or they limit several.
    """
    asked: dict[QuantileName, Budget] = {}
    for budget in budgets:
        if not is_latency(budget.resource):
            continue
        named = [q for q in CALLS_NEEDED if budget.resource == name_latency(name, q)]
        if named and loop.is_hot:
            raise ConfigError(
                f"budget {budget.text} is a quantile of single calls, and these networks are "
                "measured hot: measure them in the loop of the product, as in "
                "`loop='paced:15/s'`, or name no quantile"
            )
        asked.setdefault(named[0] if named else "p50", budget)
    if len(asked) > 1:
        told = " and ".join(budget.text for budget in asked.values())
        raise ConfigError(
            f"budgets {told} are of {' and '.join(asked)}, and networks are compared by one "
            "quantile: keep one of them"
        )
    return None if loop.is_hot else next(iter(asked), None)


def pick_network(
    config: PickConfig,
    out: Path,
    *,
    keep: bool,
    on_look: Callable[[int, int], None],
    on_progress: Callable[[int, int], None],
    on_row: Callable[[str, Row], None],
    on_warning: Callable[[str], None],
) -> Picked:
    """Measure what may be the most accurate ready-made network within the budgets.

    Args:
        config: The settings.
        out: The file; networks in it are not measured again.
        keep: Whether to write the file.
        on_look: Called with the number of networks looked at, and of all networks.
        on_progress: Told how many visits are done, of how many as far as is known.
        on_row: Called with the number format and the row of each measured network.
        on_warning: Told what may spoil the measurements.

    Raises:
        ConfigError: If a setting is wrong, or no network is left.
        TableError: If the file cannot be read, or was measured under other conditions.
        MeasurementError: If the device cannot measure; the file keeps finished measurements.
        WriteError: If the disk refuses.
    """
    began = time.monotonic()
    budgets, limits = read_budgets(config, out.stem, Loop.parse(config.loop))
    zoo = Zoo(out, config.classes)
    if keep and out.exists():
        zoo = load_zoo(out).without_failures()  # which are tried again
    if zoo.classes != config.classes:
        raise ConfigError(
            f"the networks of {out} have {zoo.classes} classes, not {config.classes}: give "
            f"`classes={zoo.classes}`, or measure into another file"
        )
    found = list_options(config, on_progress=on_look)
    with ExitStack() as stack:
        work = _Measuring(config, zoo, limits, keep, stack, on_progress, on_row, on_warning)
        work.connect()
        if config.exhaustive:
            work.measure_all(found.options)
        else:
            work.measure_needed(found.options)
        work.finish()
    return _conclude(
        work.zoo, budgets, limits, found.options, found.left_out, time.monotonic() - began
    )


def pick_measured(
    config: PickConfig,
    file: Path,
    precisions: Sequence[str] = (),
    *,
    on_warning: Callable[[str], None],
) -> Picked:
    """Choose among networks that were measured before, without measuring.

    Args:
        config: The budgets, and optionally networks and sizes to choose from.
        file: The measured networks, perhaps of another device.
        precisions: Number formats to choose from; all by default.
        on_warning: Called if the file lacks a measurement that the choice may need.

    Raises:
        ConfigError: If a budget cannot be read, or the file has no such network.
        TableError: If the file cannot be read.
    """
    zoo = load_zoo(file)
    options = tuple(
        Option(row, precision)
        for precision, row in zoo.measured()
        if (not precisions or precision in precisions)
        and (not config.size or row.image_size in config.size)
        and is_meant(row.network, config.networks)
    )
    failed = [row for part in zoo.parts for row in part.rows if isinstance(row, Failed)]
    if not options:
        given = {"networks": config.networks, "size": config.size, "precision": precisions}
        named = [f"`{name}={list(value)}`" for name, value in given.items() if value]
        if named or not failed:
            raise ConfigError(
                f"{file} has no measured network{' with ' * bool(named)}"
                f"{' and '.join(named)}: choose others, or measure them"
            )
        raise ConfigError(
            f"every network of {file} failed, {failed[0].key} with: {failed[0].error}. Measure "
            "other networks, or use another device"
        )
    budgets, limits = read_budgets(config, file.stem, zoo.loop, measures=False)
    options = _with_quantile(zoo, options, limits.quantile, on_warning)
    rows = _find_rows(zoo, options, limits.quantile)
    if halves := [o.candidate.key for o in options if is_open(rows[o.key], limits)]:
        on_warning(
            f"{list_some(halves)} may be within the limits, but {file} does not tell: their "
            "measurement ended early, for another limit. Measure them again on the device"
        )
    return _conclude(zoo, budgets, limits, options, {}, 0.0)


def _with_quantile(
    zoo: Zoo,
    options: tuple[Option, ...],
    quantile: QuantileName | None,
    warn: Callable[[str], None],
) -> tuple[Option, ...]:
    """The networks of a file that have a quantile.

    Raises:
        TableError: If none has it.
    """
    rows = _find_rows(zoo, options, quantile)
    kept = tuple(option for option in options if option.key in rows)
    lacking = [option.candidate.key for option in options if option.key not in rows]
    if quantile is not None and lacking:
        needed = CALLS_NEEDED[quantile]
        told = (
            f"{list_some(lacking)} of {zoo.path} have no {quantile}: so few calls do not bound "
            f"it. Measure them again with `calls={needed}` or more"
        )
        if not kept:
            raise TableError(told)
        warn(told)
    return kept


def _conclude(
    zoo: Zoo,
    budgets: tuple[Budget, ...],
    limits: Limits,
    options: tuple[Option, ...],
    left_out: dict[str, str],
    seconds: float,
) -> Picked:
    """The answer from the measured networks."""
    rows = _find_rows(zoo, options, limits.quantile)
    best = choose(options, rows, limits)
    return Picked(
        zoo=zoo,
        limits=limits,
        budgets=budgets,
        options=options,
        choice=best,
        front=tuple(find_front(options, rows, limits)),
        runners_up=tuple(list_runners_up(options, rows, limits, best)),
        unmeasured=count_unmeasured(options, rows, limits, best),
        left_out=left_out,
        seconds=seconds,
    )


def _find_rows(
    zoo: Zoo, options: Iterable[Option], quantile: QuantileName | None
) -> dict[tuple[str, str], Row]:
    """What was measured of some networks, by number format and key.

    Their latencies are the quantile; those that do not have it are left out.
    """
    wanted = {option.key for option in options}
    return {
        key: found
        for part in zoo.parts
        for row in part.rows
        if (key := (part.conditions.precision, row.key)) in wanted
        and (found := row.at(quantile) if isinstance(row, Measured) else row) is not None
    }


class _Measuring:
    """Measures networks into a zoo, in a session for each number format."""

    def __init__(
        self,
        config: PickConfig,
        zoo: Zoo,
        limits: Limits,
        keep: bool,
        stack: ExitStack,
        on_progress: Callable[[int, int], None],
        on_row: Callable[[str, Row], None],
        on_warning: Callable[[str], None],
    ) -> None:
        self.zoo = zoo
        self._config = config
        self._limits = limits
        self._keep = keep
        self._stack = stack
        self._on_progress = on_progress
        self._on_row = on_row
        self._on_warning = on_warning
        self._sessions: dict[str, Session] = {}
        self._counts: dict[str, int] = {}
        self._told_lacking = False

    def connect(self) -> None:
        """Check that the device is there, and that the file belongs to it.

        Raises:
            MeasurementError: If the device cannot be reached.
            TableError: If the file was measured under other conditions.
        """
        for precision in self._config.precisions:
            self._session(precision)

    def measure_all(self, options: Sequence[Measurable]) -> None:
        """Measure every network to the end."""
        found = _find_rows(self.zoo, options, self._limits.quantile)
        todo = [o for o in options if not _is_done(found.get(o.key))]
        for precision in dict.fromkeys(option.precision for option in todo):
            of_format = [option for option in todo if option.precision == precision]
            for start in range(0, len(of_format), AT_ONCE):
                self._measure(of_format[start : start + AT_ONCE], None)

    def measure_needed(self, options: Sequence[Measurable]) -> None:
        """Measure until the answer is safe."""
        limits = self._limits
        while todo := list_needed(
            options,
            _find_rows(self.zoo, options, limits.quantile),
            limits,
            front=self._config.front,
        ):
            for precision in dict.fromkeys(option.precision for option in todo):
                of_format = [option for option in todo if option.precision == precision]
                self._measure(of_format, limits.latency_us)

    def _measure(self, options: Sequence[Measurable], limit_us: float | None) -> None:
        """Measure networks of one number format side by side, and write down what they take."""
        models: dict[str, bytes] = {}
        rows: list[Row] = []
        waiting = list(options)
        while waiting and sum(map(len, models.values())) < MOST_BYTES:
            option = waiting.pop(0)
            try:
                models[option.candidate.key] = option.make()
            except (ExportError, ConfigError) as error:
                rows.append(_failed(option.candidate, str(error)))
        session = self._session(options[0].precision)
        candidates = [o.candidate for o in options if o.candidate.key in models]
        if session.conditions.called.is_hot:
            rows += self._visit(session, candidates, models, limit_us)
        else:
            rows += self._call(session, candidates, models)
        self._note(session, rows)
        if waiting:
            self._measure(waiting, limit_us)

    def _visit(
        self,
        session: Session,
        candidates: Sequence[Candidate],
        models: Mapping[str, bytes],
        limit_us: float | None,
    ) -> Iterator[Row]:
        """Measure the undisturbed latencies of networks."""
        estimates = {name: Estimate({name: 1.0}) for name in models}

        def is_decided(estimate: Estimate, results: Results) -> bool:
            return limit_us is not None and _is_over(estimate, results, limit_us)

        results = session.measure(models, estimates.values(), is_decided=is_decided)
        for candidate in candidates:
            estimate = estimates[candidate.key]
            row = describe_row(candidate, estimate, results)
            if isinstance(row, Measured) and is_decided(estimate, results):
                row = replace(row, complete=row.visits >= _full(session))
            yield row

    def _call(
        self, session: Session, candidates: Sequence[Candidate], models: Mapping[str, bytes]
    ) -> Iterator[Row]:
        """Call networks in the loop of the conditions."""
        found = session.time_calls(models, calls=self._config.calls)
        for candidate in candidates:
            result = found[candidate.key]
            if isinstance(result, Failure):
                yield _failed(candidate, explain_rejection(result.error))
                continue
            together = join_calls(result)
            times = summarize_calls(together.calls_us)
            lacking = describe_lacking(times)
            if lacking and not self._told_lacking:
                self._on_warning(lacking)
                self._told_lacking = True
            p50 = times.quantiles["p50"]
            row = Measured(
                **_fields(candidate),
                latency_us=p50.latency_us,
                interval_us=0.0,
                visits=len(together.visits),
                complete=True,
                loop=CallsInLoop(calls=times.calls, quantiles=dict(times.quantiles)),
            ).at("p50")
            assert row is not None  # 20 calls bound p50
            yield row

    def _note(self, session: Session, rows: Sequence[Row]) -> None:
        precision = session.conditions.precision
        self.zoo = self.zoo.with_rows(session.conditions, rows)
        self._counts[precision] = self._counts.get(precision, 0) + len(rows)
        if self._keep:
            self.zoo.save()
        session.journal.forget()
        for row in rows:
            self._on_row(precision, row)

    def _session(self, precision: str) -> Session:
        """Measures in a number format; begun when it is needed."""
        if precision not in self._sessions:
            backend = self._config.make_backend(
                precision=precision, protocol=WHOLE_NETWORKS, on_warning=self._on_warning
            )
            self._stack.enter_context(closing(backend))
            journal = self.zoo.path.with_name(f"{self.zoo.path.name}.{precision}.visits")
            session = Session(
                backend,
                batch=self._config.batch,
                journal=journal if self._keep else None,
                on_progress=self._on_progress,
                on_warning=self._on_warning,
            )
            self.zoo.check_conditions(session.conditions)
            self._sessions[precision] = session
        return self._sessions[precision]

    def finish(self) -> None:
        """Note how quiet the machine was."""
        for precision, session in self._sessions.items():
            rows = self._counts.get(precision, 0)
            if not session.conditions.called.is_hot:
                continue  # no two copies of one model were called: it is not known
            campaign = session.describe_campaign(rows=rows, networks=rows)
            if rows:
                self.zoo = self.zoo.with_campaign(precision, campaign)
        if self._keep and self._counts:
            self.zoo.save()


def _is_done(row: Row | None) -> bool:
    return isinstance(row, Failed) or (isinstance(row, Measured) and row.complete)


def _is_over(estimate: Estimate, results: Results, limit_us: float) -> bool:
    """Whether a network is so far over a limit that more visits would not change it."""
    (name,) = estimate.terms
    processes = {visit.process for visit in get_timing(results, name).visits}
    factor = _SOON if len(processes) < 3 else _CLEARLY
    return estimate.latency_us(results) - estimate.interval_us(results) > factor * limit_us


def _full(session: Session) -> int:
    """Visits of a network that is measured to the end, at least."""
    protocol = session.backend.protocol
    return protocol.processes * protocol.rounds


def describe_row(candidate: Candidate, estimate: Estimate, results: Results) -> Row:
    """What came of measuring a network to the end."""
    (name,) = estimate.terms
    result = results[name]
    if isinstance(result, Failure):
        return _failed(candidate, explain_rejection(result.error))
    return Measured(
        **_fields(candidate),
        latency_us=round(estimate.latency_us(results), 3),
        interval_us=round(estimate.interval_us(results), 3),
        visits=len(result.visits),
        complete=True,
    )


def _failed(candidate: Candidate, error: str) -> Failed:
    return Failed(**_fields(candidate), error=error)


def _fields(candidate: Candidate) -> dict[str, Any]:
    return {name: getattr(candidate, name) for name in Candidate.__struct_fields__}
