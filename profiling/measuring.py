"""How models are measured on a machine that is not quiet: the protocol, for every backend.

A model is visited in shuffled rounds by several fresh processes, until what is worked out from
its times is known well enough. Two copies of one model, the sentinels, are visited beside all
others: their difference says what a difference means, their course over time shows drift.
"""

import datetime
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import numpy.typing as npt

from goldnas.errors import MeasurementError, NoisyMachineError
from goldnas.files import write_atomic
from goldnas.lut import Conditions
from goldnas.profiling.backend import (
    Failure,
    MeasurementBackend,
    Timing,
    Visit,
    quantile,
)

MOST_PROCESSES = 16
"""After which an estimate whose interval is still too wide is taken as it is."""

NOISE_WARNS, NOISE_REFUSES = 2.0, 10.0
"""Differences of the two sentinels, in percent."""

SENTINELS = ("sentinel", "sentinel, again")

Results = dict[str, Timing | Failure]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A latency that is worked out from the times of one or more models."""

    terms: Mapping[str, float]
    """By model: the latency is the sum of these factors times the models' latencies."""

    def latency_us(self, results: Mapping[str, Timing | Failure]) -> float:
        """The latency in microseconds.

        Raises:
            MeasurementError: If one of the models could not be measured.
        """
        return sum(f * timing.latency_us for f, timing in self._timings(results))

    def interval_us(self, results: Mapping[str, Timing | Failure]) -> float:
        """Half-width of its 95 % confidence interval.

        A bootstrap: of the processes, which may be slow from birth to death, the same for all
        models, and of the visits within them.

        Raises:
            MeasurementError: If one of the models could not be measured.
        """
        resamples = 400
        random = np.random.default_rng(0)
        drawn = np.zeros(resamples)
        processes: IntArray | None = None
        for factor, timing in self._timings(results):
            if not factor:
                continue
            p10s = _by_process(timing)
            if processes is None or processes.max() >= len(p10s):
                processes = random.integers(len(p10s), size=(resamples, len(p10s)))
            rounds = random.integers(p10s.shape[1], size=(*processes.shape, p10s.shape[1]))
            samples = p10s[processes[..., None], rounds].reshape(resamples, -1)
            drawn += factor * np.quantile(samples, 0.25, axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        return float(high - low) / 2

    def _timings(
        self, results: Mapping[str, Timing | Failure]
    ) -> Iterable[tuple[float, Timing]]:
        for name, factor in self.terms.items():
            yield factor, timing_of(results, name)


def _by_process(timing: Timing) -> npt.NDArray[np.float64]:
    """P10 of each visit, ``(processes, visits)``; the last of longer rows are left out."""
    rows: dict[int, list[float]] = {}
    for visit in timing.visits:
        rows.setdefault(visit.process, []).append(visit.p10_us)
    shortest = min(map(len, rows.values()))
    return np.array([row[:shortest] for row in rows.values()])


def timing_of(results: Mapping[str, Timing | Failure], name: str) -> Timing:
    """The timing of a model.

    Raises:
        MeasurementError: If it could not be measured.
    """
    result = results[name]
    if isinstance(result, Failure):
        raise MeasurementError(result.error)
    return result


class Journal:
    """Visits, written down as they are made, so that an interrupted campaign goes on.

    Args:
        path: Of the file, one line per model and process; None keeps nothing.
        conditions: Visits under others are forgotten.
    """

    def __init__(self, path: Path | None, conditions: Conditions) -> None:
        self._path = path
        # As for a table: a system update or another day does not start anew.
        lasting = msgspec.structs.replace(conditions, os="-", measured_on=datetime.date.min)
        self._lines = [msgspec.json.encode(lasting, order="sorted").decode()]
        self._kept: dict[str, list[Visit]] = {}
        try:
            found = path.read_text(encoding="utf-8").splitlines() if path else []
        except (OSError, UnicodeDecodeError):
            return
        if found[:1] != self._lines:
            return
        for line in found[1:]:
            try:
                model, visits = json.loads(line)
                self._kept.setdefault(model, []).extend(Visit(*v) for v in visits)
            except (ValueError, TypeError):
                break
            self._lines.append(line)

    def visits(self, name: str, model: bytes) -> tuple[Visit, ...]:
        """What is known of a model."""
        return tuple(self._kept.get(self._key(name, model), ()))

    def add(self, models: Mapping[str, bytes], visits: Mapping[str, Sequence[Visit]]) -> None:
        """Write down what one process found.

        Raises:
            WriteError: If the disk refuses.
        """
        for name, new in visits.items():
            key = self._key(name, models[name])
            self._kept.setdefault(key, []).extend(new)
            self._lines.append(json.dumps([key, [astuple(visit) for visit in new]]))
        if self._path is not None:
            write_atomic(self._path, "\n".join(self._lines) + "\n")

    def forget(self) -> None:
        """Remove the file; the table holds what came of it."""
        self._kept.clear()
        del self._lines[1:]
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _key(self, name: str, model: bytes) -> str:
        return f"{name} {hashlib.sha256(model).hexdigest()[:16]}"


@dataclass(frozen=True)
class Measurements:
    """What :func:`measure` found."""

    results: Results
    aa_percent: float
    """Difference of the two sentinels."""
    drift_percent: float
    """Range of the sentinels over the processes, relative to their median."""


def measure(
    backend: MeasurementBackend,
    models: Mapping[str, bytes],
    estimates: Iterable[Estimate],
    *,
    sentinel: bytes,
    journal: Journal,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Measurements:
    """Visit models until each estimate is within the protocol's target.

    Args:
        backend: Visits them.
        models: ONNX models by name.
        estimates: What they are measured for.
        sentinel: An ONNX model that takes some tens of microseconds or more.
        journal: Holds what an interrupted campaign found, and is added to.
        on_progress: Told how many visits are done, of how many as far as is known.

    Raises:
        MeasurementError: If the runtime cannot measure the sentinel.
        WriteError: If the journal cannot be written.
    """
    protocol = backend.protocol
    everything = {**models, **dict.fromkeys(SENTINELS, sentinel)}
    failures: dict[str, Failure] = {}
    courses: list[float] = []
    done = 0

    needed = protocol.processes * protocol.rounds
    most = MOST_PROCESSES * protocol.rounds

    def results() -> Results:
        found: Results = {}
        for name, model in everything.items():
            visits = journal.visits(name, model)
            failed = name in failures and len(visits) < needed
            found[name] = failures[name] if failed else Timing(visits)
        return steadied(found)

    def due() -> set[str]:
        """Models of which more visits are needed."""
        now, names = results(), set[str]()
        for estimate in estimates:
            if failures.keys() & estimate.terms.keys():
                continue
            visits = {name: len(timing_of(now, name).visits) for name in estimate.terms}
            names |= {name for name, count in visits.items() if count < needed}
            if min(visits.values()) < needed or not protocol.target_percent:
                continue
            weighty = {name for name, factor in estimate.terms.items() if factor}
            width = estimate.interval_us(now)
            if width > protocol.target_percent / 100 * abs(estimate.latency_us(now)):
                names |= {name for name in weighty if visits[name] < most}
        return names

    while names := due():
        batch = {n: m for n, m in everything.items() if n in names or n in SENTINELS}
        visited = [len(journal.visits(n, everything[n])) for n in names]
        # The sentinels are in every process, so they know the number of the last.
        last = [v.process for n in SENTINELS for v in journal.visits(n, sentinel)]
        seed = 1 + max(last, default=-1)
        expected = sum(max(protocol.rounds, needed - count) for count in visited)
        on_progress(done, done + expected)
        found = _visit(backend, batch, seed)
        failures |= {n: r for n, r in found.items() if isinstance(r, Failure)}
        visits = {n: r for n, r in found.items() if not isinstance(r, Failure)}
        journal.add(everything, visits)
        courses += [
            quantile([visit.p10_us for visit in visits[name]], 0.25)
            for name in SENTINELS
            if name in visits
        ]
        done += len(names) * protocol.rounds
    on_progress(done, done)

    final = results()
    one, other = (timing_of(final, name).latency_us for name in SENTINELS)
    # All of it may have been in the journal.
    courses = courses or [one]
    return Measurements(
        {name: final[name] for name in models},
        aa_percent=100 * (max(one, other) / min(one, other) - 1),
        drift_percent=100 * (max(courses) - min(courses)) / quantile(courses, 0.5),
    )


def steadied(results: Results) -> Results:
    """Bring the visits of all processes to one speed of the machine.

    For tens of seconds a machine may be some percent slower, all models alike. With
    ``log t = model + process``, fitted by medians, each visit is scaled from the speed of its
    process to that of a fast one, the tenth percentile.
    """
    logs: dict[str, dict[int, float]] = {}
    for name, result in results.items():
        if isinstance(result, Timing) and result.visits:
            by_process: dict[int, list[float]] = {}
            for visit in result.visits:
                by_process.setdefault(visit.process, []).append(visit.p10_us)
            logs[name] = {p: math.log(quantile(us, 0.25)) for p, us in by_process.items()}
    processes = {process for log in logs.values() for process in log}
    slow = dict.fromkeys(processes, 0.0)
    for _ in range(10):
        level = {n: median(us - slow[p] for p, us in log.items()) for n, log in logs.items()}
        slow = {
            process: median(
                log[process] - level[n] for n, log in logs.items() if process in log
            )
            for process in processes
        }
    if not slow:
        return results
    fast = quantile(list(slow.values()), 0.1)
    factor = {process: math.exp(fast - by) for process, by in slow.items()}
    return {
        name: Timing(tuple(visit.scaled(factor[visit.process]) for visit in result.visits))
        if isinstance(result, Timing)
        else result
        for name, result in results.items()
    }


def check_quiet(
    backend: MeasurementBackend, sentinel: bytes, *, on_warning: Callable[[str], None]
) -> None:
    """See whether two copies of one model take the same time here, before anything else.

    Raises:
        NoisyMachineError: If they differ too much for any measurement to mean something.
    """
    differences = []
    for _ in range(3):
        found = measure(
            backend,
            {},
            [Estimate(dict.fromkeys(SENTINELS, 0.5))],
            sentinel=sentinel,
            journal=Journal(None, backend.conditions(batch=1)),
        )
        differences.append(found.aa_percent)
        if found.aa_percent <= NOISE_WARNS:
            return
    percent = quantile(differences, 0.5)
    noise = f"two copies of one model differ by {percent:.1f} % on this machine"
    if percent > NOISE_REFUSES:
        raise NoisyMachineError(
            f"{noise}: such times would mislead. Stop other programs, or measure when the "
            "machine is idle"
        )
    on_warning(f"{noise}; stop other programs for a better table")


def _visit(
    backend: MeasurementBackend, models: Mapping[str, bytes], seed: int
) -> dict[str, tuple[Visit, ...] | Failure]:
    """Visit together; if that breaks the runtime, by halves, to find who does it."""
    try:
        return backend.visit(models, seed=seed)
    except MeasurementError as error:
        if len(models) == 1:
            return dict.fromkeys(models, Failure(str(error)))
    names = list(models)
    found: dict[str, tuple[Visit, ...] | Failure] = {}
    for half in (names[: len(names) // 2], names[len(names) // 2 :]):
        found |= _visit(backend, {name: models[name] for name in half}, seed)
    return found
