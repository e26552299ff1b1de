"""What a measurement backend is, and what it returns."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from goldnas.errors import MeasurementError
from goldnas.lut import Conditions, Loop, MeasuringProtocol
from goldnas.profiling.stream_timing import LAUNCH_BOUND

CPU = "CPUExecutionProvider"
"""The provider that leaves nothing to others."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One uninterrupted series of timed calls of one model; quantiles in microseconds."""

    process: int
    """Number of the process that made the visit; visits of one process are alike."""
    calls: int
    min_us: float
    p10_us: float
    p25_us: float
    median_us: float
    enqueue_us: float = 0.0
    """The host's time to launch a call, on a device that runs it later; else 0."""

    def scaled(self, factor: float) -> "Visit":
        """The visit at another speed of the machine."""
        times_us = (self.min_us, self.p10_us, self.p25_us, self.median_us, self.enqueue_us)
        return Visit(self.process, self.calls, *(factor * us for us in times_us))


@dataclass(frozen=True, slots=True)
class Timing:
    """All visits to one model. The samples are kept; statistics are derived.

    Machines have fast and slow phases that last from under a millisecond to a second, so a
    visit's quantile says little alone. The low quartile over visits that are spread over
    time and processes repeats within 2 %; means and medians of one process do not.
    """

    visits: tuple[Visit, ...]

    @property
    def latency_us(self) -> float:
        """P25 over visits of p10 within a visit: what tables and verification use."""
        return self.p10_us

    @property
    def min_us(self) -> float:
        """P25 over visits of the fastest call."""
        return float(np.quantile([visit.min_us for visit in self.visits], 0.25))

    @property
    def p10_us(self) -> float:
        """P25 over visits of p10 within a visit."""
        return float(np.quantile([visit.p10_us for visit in self.visits], 0.25))

    @property
    def p25_us(self) -> float:
        """P25 over visits of p25 within a visit."""
        return float(np.quantile([visit.p25_us for visit in self.visits], 0.25))

    @property
    def median_us(self) -> float:
        """P25 over visits of the median within a visit."""
        return float(np.quantile([visit.median_us for visit in self.visits], 0.25))

    @property
    def launch_bound(self) -> bool:
        """Whether the host's launches take as long as the work that they launch, or longer."""
        bound = [v.enqueue_us >= LAUNCH_BOUND * v.median_us for v in self.visits]
        return 2 * sum(bound) > len(bound)

    @property
    def spread(self) -> float:
        """Interquartile range over visits of p10 within a visit, relative to its median."""
        low, middle, high = np.quantile([v.p10_us for v in self.visits], [0.25, 0.5, 0.75])
        return float((high - low) / middle)

    @property
    def count(self) -> int:
        """Timed calls."""
        return sum(visit.calls for visit in self.visits)


@dataclass(frozen=True, slots=True)
class LoopCalls:
    """Single calls of one model in a loop, and hot visits to it in the same minutes."""

    calls_us: tuple[float, ...]
    """In order."""
    visits: tuple[Visit, ...]
    """One before each series of calls."""
    around_us: tuple[float, ...] = ()
    """What each call took besides the model, in its pipeline; empty without one."""


def join_calls(parts: Iterable[LoopCalls]) -> LoopCalls:
    """All calls and visits of a model."""
    parts = list(parts)
    return LoopCalls(
        tuple(us for part in parts for us in part.calls_us),
        tuple(visit for part in parts for visit in part.visits),
        tuple(us for part in parts for us in part.around_us),
    )


class ProcessDiedError(MeasurementError):
    """The measuring process ended by itself; one of its models may be to blame."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A model that could not be measured, and why, in one line."""

    error: str


class NoProfiler(Failure):
    """The runtime times no nodes, of any model: the model itself may be good."""


@dataclass(frozen=True, slots=True)
class NodeTime:
    """One node of a model as the runtime runs it, fused and with changes of layout."""

    node: str
    operator: str
    provider: str
    """The provider that ran the node."""
    output: str
    """Shape: ``1x16x32x32``."""
    latency_us: float
    """Time from the runtime's own profiler, which includes the cost of profiling a node."""


@dataclass(frozen=True, slots=True)
class Health:
    """State of a device during a measurement; None where the device does not report it."""

    hottest_c: float | None = None
    slowest_mhz: float | None = None
    waited_s: float = 0.0
    """For it to cool down."""
    slowest_memory_mhz: float | None = None
    throttled: tuple[str, ...] = ()
    """Why the device slowed down, in the words of its driver."""

    def with_state(self, state: Mapping[str, Any]) -> "Health":
        """Add one more state of the device, as a runner reports it before a round."""
        temperatures = [self.hottest_c, state.get("temperature_c")]
        frequencies = [self.slowest_mhz, state.get("frequency_mhz")]
        memory = [self.slowest_memory_mhz, state.get("memory_mhz")]
        return Health(
            max((c for c in temperatures if c is not None), default=None),
            min((mhz for mhz in frequencies if mhz is not None), default=None),
            self.waited_s + state.get("waited_s", 0.0),
            min((mhz for mhz in memory if mhz is not None), default=None),
            tuple(sorted({*self.throttled, *state.get("throttled", ())})),
        )


class MeasurementBackend(Protocol):
    """Runs ONNX models on one device and times them.

    A backend is one file, ``profiling/<name>_backend.py``, which imports its runtime inside
    its methods, so that goldnas starts without it. ``tests/conformance/test_backends.py``
    runs over every backend.
    """

    @property
    def protocol(self) -> MeasuringProtocol:
        """How often and how long it visits a model."""

    @property
    def provider(self) -> str:
        """What is to run every node; see :class:`NodeTime`."""

    @property
    def health(self) -> Health:
        """State of the device, since the backend was made."""

    @property
    def loop(self) -> Loop:
        """The loop of :meth:`time_calls`; hot if the backend has none. Visits are hot."""

    def conditions(self, *, batch: int) -> Conditions:
        """The conditions that all measurements of this instance share, for this batch."""

    def visit(
        self, models: Mapping[str, bytes], *, seed: int
    ) -> dict[str, tuple[Visit, ...] | Failure]:
        """Time serialized ONNX models with static shapes and inputs of numbers.

        One fresh process does all rounds of the protocol. Each round visits every model once,
        in a new order. The times exclude compilation and copies to and from the device.

        Args:
            models: By name.
            seed: Seed of the orders; visits record it as their process.

        Returns:
            An entry for each model. A model that the runtime rejects is a Failure, and the
            other models are still measured: never a zero, never another device.

        Raises:
            ProcessDiedError: If the process dies of a model.
            MeasurementError: If the runtime cannot start or be reached, or exceeds its time.
        """

    def nodes(self, models: Mapping[str, bytes]) -> dict[str, tuple[NodeTime, ...] | Failure]:
        """List the nodes of models with their times, in the order they run.

        Returns:
            An entry for each model; :class:`NoProfiler` if the runtime times no nodes.

        Raises:
            MeasurementError: As for :meth:`visit`.
        """

    def time_calls(
        self, models: Mapping[str, bytes], *, calls: int, seed: int
    ) -> dict[str, LoopCalls | Failure]:
        """Time single calls of models in the backend's loop.

        One fresh process makes them in short series: each round has one of every model, in a
        new order, so that a slow minute of the machine is not one model's. A hot visit goes
        before each series.

        Args:
            models: By name.
            calls: Of each model, or a few more. Beside neighbours, short calls are more.
            seed: Seed of the orders; visits record it as their process.

        Returns:
            An entry for each model. A model that cannot keep the rate of the loop is a
            Failure, which says what rate it can keep.

        Raises:
            ProcessDiedError: If the process dies of a model.
            MeasurementError: As for :meth:`visit`; or if the backend has no loop.
        """
