"""The protocol that measures models on a machine with other load, for every backend.

Several fresh processes visit the models in shuffled rounds, until the computed latencies are
precise enough. Two copies of one model, the sentinels, are visited beside all others: their
difference is the noise. A change that all models of a process share shows drift.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from goldnas.errors import MeasurementError, NoisyMachineError
from goldnas.lut import MeasuringProtocol
from goldnas.profiling.backend import (
    Failure,
    MeasurementBackend,
    ProcessDiedError,
    Timing,
    Visit,
)
from goldnas.profiling.journal import Journal
from goldnas.profiling.steadying import steady

MOST_PROCESSES = 24
"""Processes after which an estimate is accepted even if its interval is too wide."""

NOISE_WARNS, NOISE_REFUSES = 2.0, 10.0
"""Differences of the two sentinels, in percent."""

SENTINELS = ("sentinel", "sentinel, again")

Results = dict[str, Timing | Failure]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A latency that is computed from the times of one or more models."""

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
            uneven = list(_by_process(timing.visits).values())
            p10s = np.array([row[: min(map(len, uneven))] for row in uneven])
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
            yield factor, get_timing(results, name)


def _by_process(visits: Iterable[Visit]) -> dict[int, list[float]]:
    """P10 of each visit, by the process that made it."""
    p10s: dict[int, list[float]] = {}
    for visit in visits:
        p10s.setdefault(visit.process, []).append(visit.p10_us)
    return p10s


def _slowness(visited: Iterable[Sequence[Visit]]) -> list[float]:
    """Slowness of the machine in each process; 1 is the usual speed.

    This is the median over models of a model's time in the process, relative to its usual time.
    Sentinels do not count: libraries such as cuDNN choose algorithms by timing them, and choose
    another one for a small model in every process.
    """
    relative: dict[int, list[float]] = {}
    for visits in visited:
        took = {process: np.quantile(p, 0.25) for process, p in _by_process(visits).items()}
        usual = np.median(list(took.values()))
        for process, us in took.items():
            relative.setdefault(process, []).append(float(us / usual))
    return [float(np.median(ratios)) for ratios in relative.values()]


def get_timing(results: Mapping[str, Timing | Failure], name: str) -> Timing:
    """The timing of a model.

    Raises:
        MeasurementError: If it could not be measured.
    """
    result = results[name]
    if isinstance(result, Failure):
        raise MeasurementError(result.error)
    return result


@dataclass(frozen=True)
class Measurements:
    """What :func:`measure` found."""

    results: Results
    aa_percent: float
    """Difference of the two sentinels."""
    drift_percent: float
    """Range over the processes of how slow the machine was there, relative to the median."""


def measure(
    backend: MeasurementBackend,
    models: Mapping[str, bytes],
    estimates: Iterable[Estimate],
    *,
    sentinel: bytes,
    journal: Journal,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    is_decided: Callable[[Estimate, Results], bool] = lambda estimate, results: False,
) -> Measurements:
    """Visit models until each estimate is within the protocol's target.

    Args:
        backend: The backend that visits the models.
        models: ONNX models by name.
        estimates: The latencies to compute from the models' times.
        sentinel: An ONNX model that takes some tens of microseconds or more.
        journal: Holds the visits of an interrupted campaign; new visits are added.
        on_progress: Called with the number of visits done and, as far as known, of all visits.
        is_decided: Whether an estimate is precise enough, whatever the protocol says.

    Raises:
        MeasurementError: If the runtime cannot measure the sentinel.
        WriteError: If the journal cannot be written.
    """
    estimates = list(estimates)
    sentinels = dict.fromkeys(SENTINELS, sentinel)
    everything = {**models, **sentinels}
    rounds = backend.protocol.rounds
    enough = backend.protocol.processes * rounds
    failures: dict[str, Failure] = {}
    together = len(models)
    done = 0

    def results() -> Results:
        known = {name: journal.visits(name, model) for name, model in everything.items()}
        failed = {n: f for n, f in failures.items() if len(known[n]) < enough}
        return steady({n: failed.get(n, Timing(visits)) for n, visits in known.items()})

    def due() -> set[str]:
        known = results()
        open_ = [e for e in estimates if not (_is_begun(e, known) and is_decided(e, known))]
        return _due(open_, known, backend.protocol) - failures.keys()

    while names := due():
        lacking = [enough - len(journal.visits(n, everything[n])) for n in names]
        on_progress(done, done + sum(max(rounds, visits) for visits in lacking))
        batch = {n: m for n, m in models.items() if n in names}
        # The sentinels are in every process, so they know the number of the last.
        last = [v.process for n in SENTINELS for v in journal.visits(n, sentinel)]
        seed = 1 + max(last, default=-1)
        found, together = _visit(backend, batch, sentinels, seed, together)
        failures |= {n: r for n, r in found.items() if isinstance(r, Failure)}
        journal.add(everything, {n: r for n, r in found.items() if not isinstance(r, Failure)})
        done += len(names) * rounds
    if done:
        on_progress(done, done)

    final = results()
    one, other = (get_timing(final, name).latency_us for name in SENTINELS)
    visited = {name: journal.visits(name, model) for name, model in everything.items()}
    of_models = [visits for name, visits in visited.items() if name in models and visits]
    slowness = _slowness(of_models or [visited[name] for name in SENTINELS])
    slowest, usual, fastest = np.quantile(slowness, [1, 0.5, 0])
    return Measurements(
        {name: final[name] for name in models},
        aa_percent=100 * (max(one, other) / min(one, other) - 1),
        drift_percent=100 * float((slowest - fastest) / usual),
    )


def _is_begun(estimate: Estimate, results: Results) -> bool:
    """Whether each of its models was visited."""
    timings = [results[name] for name in estimate.terms]
    return all(isinstance(timing, Timing) and timing.visits for timing in timings)


def _due(
    estimates: Iterable[Estimate], results: Results, protocol: MeasuringProtocol
) -> set[str]:
    """Models of which more visits are needed."""
    due: set[str] = set()
    for estimate in estimates:
        timings = {name: results[name] for name in estimate.terms}
        visits = {n: len(t.visits) for n, t in timings.items() if isinstance(t, Timing)}
        if len(visits) < len(timings):
            continue  # without the models that failed, the others say nothing
        few = {n for n, count in visits.items() if count < protocol.processes * protocol.rounds}
        due |= few
        if few or not protocol.target_percent:
            continue
        width_us = protocol.target_percent / 100 * abs(estimate.latency_us(results))
        if estimate.interval_us(results) > width_us:
            most = MOST_PROCESSES * protocol.rounds
            due |= {n for n, factor in estimate.terms.items() if factor and visits[n] < most}
    return due


def check_quiet(
    backend: MeasurementBackend, sentinel: bytes, *, on_warning: Callable[[str], None]
) -> None:
    """Check first whether two copies of one model take the same time here.

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
    percent = float(np.median(differences))
    noise = f"two copies of one model differ by {percent:.1f} % on this machine"
    if percent > NOISE_REFUSES:
        raise NoisyMachineError(
            f"{noise}: such times would mislead. Stop other programs, or measure when the "
            "machine is idle"
        )
    on_warning(f"{noise}; stop other programs for a better table")


def _visit(
    backend: MeasurementBackend,
    models: Mapping[str, bytes],
    sentinels: Mapping[str, bytes],
    seed: int,
    together: int,
) -> tuple[dict[str, tuple[Visit, ...] | Failure], int]:
    """Visit models in groups; if a process dies, halve its group.

    The cause may be one model, or too many models for the memory of a small board. Each group
    has its own process, with the sentinels, and process numbers count on from the seed.

    Returns:
        The visits, and how many models can be visited together.

    Raises:
        MeasurementError: If no model is to blame.
    """
    names, fewer = list(models), together
    if len(names) <= together:
        try:
            return backend.visit({**models, **sentinels}, seed=seed), together
        except ProcessDiedError as error:
            if not models:
                raise
            if len(models) == 1:  # which is to blame if the sentinels live without it
                alone = backend.visit(sentinels, seed=seed)
                return {**alone, **dict.fromkeys(models, Failure(str(error)))}, together
        fewer = (len(names) + 1) // 2
    found: dict[str, tuple[Visit, ...] | Failure] = {}
    survived = []
    for start in range(0, len(names), fewer):
        group = {name: models[name] for name in names[start : start + fewer]}
        numbered = [v.process for r in found.values() if not isinstance(r, Failure) for v in r]
        following = max([seed - 1, *numbered]) + 1
        part, most = _visit(backend, group, sentinels, following, fewer)
        survived.append(most)
        for name, result in part.items():
            before = found.get(name, ())
            joined = not isinstance(before, Failure) and not isinstance(result, Failure)
            found[name] = (*before, *result) if joined else result  # type: ignore[misc]
    # If one model was to blame, the others can still be visited together.
    blamed = any(isinstance(result, Failure) for result in found.values())
    return found, together if blamed else min(survived)
