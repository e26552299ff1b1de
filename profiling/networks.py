"""Random whole networks, put together from exported operators and measured."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from goldnas.architecture import Architecture
from goldnas.errors import MeasurementError
from goldnas.exporting.onnx import to_onnx
from goldnas.lut import NetworkLatency, format_row_key
from goldnas.operators import Part
from goldnas.profiling.backend import Failure, Timing
from goldnas.profiling.compose import CompositionError, compose_network
from goldnas.profiling.measuring import Estimate, Results, get_timing
from goldnas.profiling.session import Session
from goldnas.spaces import SearchSpace


@dataclass(frozen=True)
class NetworkLatencies:
    """Whole networks as one session measured them."""

    networks: tuple[NetworkLatency, ...]
    noise_floor_percent: float
    """Mean difference between two measurements, each by half of the processes."""


def measure_networks(
    session: Session, space: SearchSpace, architectures: Iterable[Architecture]
) -> NetworkLatencies:
    """Measure whole networks, put together from their operators with random weights.

    Raises:
        ExportError: If a network cannot be exported.
        MeasurementError: If one cannot be measured.
        WriteError: If the journal cannot be written.
    """
    chosen = {a.fingerprint: a for a in architectures}
    models = compose_networks(session, space, chosen.values())
    counts = {name: Counter(space.plan(network).parts()) for name, network in chosen.items()}
    return measure_models(session, models, counts)


def measure_models(
    session: Session, models: Mapping[str, bytes], counts: Mapping[str, Mapping[Part, int]]
) -> NetworkLatencies:
    """Measure whole networks side by side.

    Args:
        session: The session that measures.
        models: The networks as ONNX, by fingerprint.
        counts: How often each network has each part.

    Raises:
        MeasurementError: If most of the networks cannot be measured.
        WriteError: If the journal cannot be written.
    """
    estimates = {name: Estimate({name: 1.0}) for name in models}
    results = session.measure(models, estimates.values())
    failed = {n: r.error for n, r in results.items() if isinstance(r, Failure)}
    for name, error in failed.items():
        session.warn(f"network {name} is left out: {error}")
    if 2 * len(failed) > len(models):
        name, error = next(iter(failed.items()))
        raise MeasurementError(
            f"{len(failed)} of {len(models)} networks could not be measured; {name}: {error}"
        )
    kept = [name for name in models if name not in failed]
    networks = tuple(
        NetworkLatency(
            fingerprint=name,
            parts={format_row_key(*part): count for part, count in counts[name].items()},
            latency_us=round(estimates[name].latency_us(results), 3),
            interval_us=round(estimates[name].interval_us(results), 3),
        )
        for name in kept
    )
    return NetworkLatencies(networks, estimate_noise_floor_percent(results, kept))


def compose_networks(
    session: Session, space: SearchSpace, architectures: Iterable[Architecture]
) -> dict[str, bytes]:
    """Networks put together from the session's operators, by fingerprint."""
    return {a.fingerprint: _compose(session, space, a) for a in architectures}


def _compose(session: Session, space: SearchSpace, architecture: Architecture) -> bytes:
    """A network as ONNX; exported as a whole, which is slower, if it does more than join."""
    shape = (session.batch, *space.input_shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same model again after an interruption
        network = space.build(architecture)
    try:
        return compose_network(
            network, partial(session.operator, build=space.build_part), shape
        )
    except CompositionError:
        return to_onnx(network, shape)


def estimate_noise_floor_percent(results: Results, names: Iterable[str]) -> float:
    """How far two measurements of the same networks are apart, by half the processes each."""
    differences = []
    for name in names:
        visits = get_timing(results, name).visits
        processes = sorted({visit.process for visit in visits})
        half = set(processes[::2])
        one = Timing(tuple(v for v in visits if v.process in half))
        other = Timing(tuple(v for v in visits if v.process not in half))
        differences.append(abs(one.latency_us / other.latency_us - 1))
    return 100 * float(np.mean(differences))
