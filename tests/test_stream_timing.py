"""The timing of a device that works behind the host's back, with one whose times are known."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from goldnas.errors import NoisyMachineError
from goldnas.profiling.backend import Failure, Timing, Visit
from goldnas.profiling.gpu_backend import ON_A_GPU
from goldnas.profiling.measuring import check_quiet
from goldnas.profiling.stream_timing import COLD_WARMUP_MS, SAMPLE_MS, visit, warm_up
from simulated_device import SimulatedDevice


class FakeGpu:
    """A stream with a clock of its own; all times are in microseconds.

    Args:
        compute_us: What a call keeps the device busy.
        enqueue_us: What the host takes to launch it.
        latency_us: From a launch to its start, if the device is idle.
        mhz: The clock; compute times are those of 1000 MHz.
    """

    def __init__(
        self,
        compute_us: float = 20.0,
        enqueue_us: float = 2.0,
        latency_us: float = 8.0,
        mhz: Callable[[float], float] = lambda now_us: 1000.0,
    ) -> None:
        self.compute_us = compute_us
        self.enqueue_us = enqueue_us
        self.latency_us = latency_us
        self.mhz = mhz
        self.now_us = 0.0
        self.free_us = 0.0
        self.calls = 0
        self.waits = 0

    def call(self) -> None:
        self.calls += 1
        self.now_us += self.enqueue_us
        begins = max(self.free_us, self.now_us + self.latency_us)
        if self.free_us > self.now_us:
            begins = max(self.free_us, self.now_us)
        self.free_us = begins + self.compute_us * 1000 / self.mhz(begins)

    def clock_ns(self) -> int:
        self.now_us += 0.05
        return round(1000 * self.now_us)

    def record(self) -> float:
        return max(self.free_us, self.now_us)

    def elapsed_us(self, start: float, end: float) -> float:
        self.now_us = max(self.now_us, end)
        return round(2 * (end - start)) / 2  # events tick in half microseconds

    def synchronize(self) -> None:
        self.waits += 1
        self.now_us = max(self.now_us, self.free_us)

    def clock_mhz(self) -> float | None:
        return self.mhz(self.now_us)


def visited(gpu: FakeGpu, min_calls: int = 25) -> dict[str, float]:
    return visit(gpu.call, gpu, warmup_ms=20, visit_ms=25, min_calls=min_calls)


@pytest.mark.parametrize("compute_us", [0.8, 3.3, 20.0, 700.0, 5000.0])
def test_a_call_takes_what_the_device_takes_without_the_launch(compute_us: float) -> None:
    """Events tick in half microseconds: only many calls between two tell 0.8 from 1."""
    found = visited(FakeGpu(compute_us, enqueue_us=0.3))
    for quantile in ("min_us", "p10_us", "p25_us", "median_us"):
        assert found[quantile] == pytest.approx(compute_us, rel=0.002)


@pytest.mark.parametrize("compute_us", [0.8, 20.0, 5000.0])
def test_a_sample_takes_a_millisecond_and_there_are_25(compute_us: float) -> None:
    gpu = FakeGpu(compute_us, enqueue_us=0.3)
    found = visited(gpu)
    calls_per_sample = max(1, round(1000 * SAMPLE_MS / compute_us))
    assert found["calls"] >= 25 * calls_per_sample
    # Not much longer than it has to: each sample is a chance to meet a slow phase.
    assert found["calls"] <= 1.25 * max(25, 25_000 / (compute_us * calls_per_sample)) * (
        calls_per_sample + 1
    )


@pytest.mark.parametrize(("enqueue_us", "bound"), [(2.0, False), (18.0, False), (40.0, True)])
def test_a_call_whose_launch_takes_as_long_is_bound_by_launching(
    enqueue_us: float, bound: bool
) -> None:
    found = visited(FakeGpu(20.0, enqueue_us=enqueue_us))
    assert found["enqueue_us"] == pytest.approx(enqueue_us, abs=0.2)
    assert found["p10_us"] == pytest.approx(max(20.0, enqueue_us), rel=0.02)
    calls = int(found.pop("calls"))
    assert Timing((Visit(0, calls, **found),)).launch_bound == bound


def test_what_has_no_launch_is_not_bound_by_it() -> None:
    assert not Timing((Visit(0, 25, 1.0, 1.0, 1.0, 1.0),)).launch_bound


def test_warming_up_lasts_until_the_clock_is_steady() -> None:
    """The device comes up to speed within half a second, and then stays there."""

    def ramp(now_us: float) -> float:
        return min(1980.0, 345.0 + 1635.0 * now_us / 500_000)

    gpu = FakeGpu(mhz=ramp)
    warm_up(gpu.call, gpu, COLD_WARMUP_MS)
    found = visited(gpu)
    assert found["median_us"] == pytest.approx(20 * 1000 / 1980, rel=0.01)
    assert found["min_us"] > 0.98 * found["median_us"]


def test_warming_up_ends_on_a_device_that_never_is_steady() -> None:
    def restless(now_us: float) -> float:
        return 1000.0 + 500.0 * (now_us // 7_000 % 2)

    gpu = FakeGpu(mhz=restless)
    warm_up(gpu.call, gpu, 20)
    assert 20_000 <= gpu.now_us < 2_500_000


def test_a_device_that_does_not_tell_its_clock_is_warmed_up_for_the_time_alone() -> None:
    class Silent(FakeGpu):
        def clock_mhz(self) -> None:
            return None

    gpu = Silent()
    warm_up(gpu.call, gpu, 20)
    assert 20_000 <= gpu.now_us < 30_000


def test_a_call_that_takes_nothing_ends_too() -> None:
    found = visited(FakeGpu(0.0, enqueue_us=0.5, latency_us=0.0), min_calls=2)
    assert found["min_us"] == pytest.approx(0.5)  # bound by launching


class LoadedGpu(SimulatedDevice):
    """Measures as a GPU backend does, on a GPU that somebody else uses as well.

    Args:
        share: How much of a model's time the other takes, whenever it is at work.
    """

    def __init__(self, share: float) -> None:
        super().__init__(protocol=ON_A_GPU)
        self.share = share

    def visit(
        self, models: Mapping[str, bytes], *, seed: int
    ) -> dict[str, tuple[Visit, ...] | Failure]:
        found: dict[str, tuple[Visit, ...] | Failure] = {}
        for name in models:
            # It works while the second of the two copies is visited.
            gpu = FakeGpu(100.0 * (1 + self.share * ("again" in name)))
            visits = [
                visit(gpu.call, gpu, warmup_ms=4, visit_ms=2, min_calls=3)
                for _ in range(self.protocol.rounds)
            ]
            found[name] = tuple(Visit(seed, int(v.pop("calls")), **v) for v in visits)
        return found


@pytest.mark.usefixtures("noise_counts")
def test_a_gpu_that_somebody_else_uses_now_and_then_is_refused() -> None:
    warnings: list[str] = []
    check_quiet(LoadedGpu(0.01), b"", on_warning=warnings.append)
    assert warnings == []
    with pytest.raises(NoisyMachineError, match=r"differ by .* % .* Stop other programs"):
        check_quiet(LoadedGpu(0.5), b"", on_warning=warnings.append)


def test_the_protocol_is_that_of_a_gpu() -> None:
    assert np.prod([ON_A_GPU.processes, ON_A_GPU.rounds]) >= 24
    # Of a slow network a few samples have to do: each is a millisecond or a call.
    assert 5 <= ON_A_GPU.min_calls <= ON_A_GPU.visit_ms / SAMPLE_MS
