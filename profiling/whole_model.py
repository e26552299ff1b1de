"""How long a whole model takes, and which of its nodes take it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from goldnas.errors import MeasurementError
from goldnas.profiling.backend import Failure, NodeTime, NoProfiler, ProcessDiedError
from goldnas.profiling.measuring import Estimate
from goldnas.profiling.rejections import explain_rejection
from goldnas.profiling.session import Session

_PROFILES = 3
"""Processes that profile the nodes; of each node the fastest counts."""


class RejectedModelError(MeasurementError):
    """The runtime does not take the model, or its process dies of it."""


@dataclass(frozen=True)
class ModelLatency:
    """What a model takes, and its nodes."""

    latency_us: float
    interval_us: float
    """Half-width of the 95 % confidence interval."""
    nodes: tuple[NodeTime, ...]
    """In the order they run; they add up to ``latency_us`` less ``outside_us``."""
    outside_us: float | None
    """Spent between nodes; None if the runtime has no profiler, and so no nodes are known."""
    profiling_us: float
    """Taken off each node: what it takes longer under the profiler."""
    varies: bool
    """Whether other nodes ran in one process than in another."""


def measure_model(session: Session, model: bytes) -> ModelLatency:
    """Measure a model as any other, and profile its nodes.

    The runtime's profiler makes all nodes slower by about the same time. So a node's latency is
    its time under the profiler less a constant, chosen so that all nodes add up to the latency
    that was measured without the profiler.

    Raises:
        RejectedModelError: If the runtime rejects the model.
        MeasurementError: If the machine is too noisy, or cannot be reached.
    """
    estimate = Estimate({"model": 1.0})
    results = session.measure({"model": model}, [estimate])
    if isinstance(results["model"], Failure):
        raise RejectedModelError(explain_rejection(results["model"].error))
    latency_us = estimate.latency_us(results)
    interval_us = estimate.interval_us(results)
    profiles = []
    for _ in range(_PROFILES):
        profile = _profile(session, model)
        if profile is None:
            return ModelLatency(latency_us, interval_us, (), None, 0.0, varies=False)
        profiles.append(profile)
    nodes = merge_profiles(profiles)
    profiling_us = _excess([node.latency_us for node in nodes], latency_us)
    nodes = [replace(n, latency_us=max(0.0, n.latency_us - profiling_us)) for n in nodes]
    return ModelLatency(
        latency_us=latency_us,
        interval_us=interval_us,
        nodes=tuple(nodes),
        outside_us=max(0.0, latency_us - sum(node.latency_us for node in nodes)),
        profiling_us=profiling_us,
        varies=any(len(profile) < len(nodes) for profile in profiles),
    )


def _profile(session: Session, model: bytes) -> tuple[NodeTime, ...] | None:
    """The nodes of a model, as one process has them; None if the runtime has no profiler."""
    try:
        profile = session.nodes({"model": model})["model"]
    except ProcessDiedError as error:  # it lived while it was measured
        raise RejectedModelError(f"while its nodes were profiled: {error}") from None
    if isinstance(profile, NoProfiler):
        return None
    if isinstance(profile, Failure):
        raise RejectedModelError(explain_rejection(profile.error))
    return profile


def merge_profiles(profiles: Iterable[Sequence[NodeTime]]) -> list[NodeTime]:
    """Each node where it was fastest; not all processes need have run all of them."""
    found: dict[tuple[str, str, int], NodeTime] = {}
    for profile in profiles:
        seen: Counter[tuple[str, str]] = Counter()
        for node in profile:
            name = (node.node, node.operator)
            key = (*name, seen[name])  # names need not differ
            seen[name] += 1
            before = found.get(key, node)
            found[key] = min(before, node, key=lambda one: one.latency_us)
    return list(found.values())


def _excess(values: Sequence[float], total: float) -> float:
    """What to take off each value, down to 0 at most, so that they add up to no more."""
    largest = sorted(values, reverse=True)
    above = 0.0
    for count, value in enumerate(largest, start=1):
        above += value
        excess = (above - total) / count
        if count == len(largest) or excess >= largest[count]:
            return max(0.0, excess)
    return 0.0
