"""The protocol, on a device whose noise is known."""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from goldnas.errors import MeasurementError, WriteError
from goldnas.profiling.backend import Failure, ProcessDiedError, Visit
from goldnas.profiling.journal import Journal
from goldnas.profiling.measuring import Estimate, check_quiet, measure
from simulated_device import WITHOUT_TARGET, SimulatedDevice, noisy, true_us

pytestmark = pytest.mark.usefixtures("noise_counts")


def model(nodes: int) -> bytes:
    names = ["input", *(f"v{i}" for i in range(nodes - 1)), "output"]
    graph = helper.make_graph(
        [helper.make_node("Relu", [a], [b]) for a, b in pairwise(names)],
        "model",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 4])],
    )
    return bytes(helper.make_model(graph).SerializeToString())


MODELS = {"small": model(10), "large": model(50)}
SLOPE = Estimate({"small": -0.25, "large": 0.25})
TRUTH_US = (true_us(MODELS["large"]) - true_us(MODELS["small"])) / 4


def run(device: SimulatedDevice, path: Path | None = None, estimate: Estimate = SLOPE) -> dict:
    journal = Journal(path, device.conditions(batch=1))
    return measure(device, MODELS, [estimate], sentinel=model(30), journal=journal).results


@pytest.mark.parametrize("percent", [0.0, 0.3, 1.0])
def test_slow_phases_do_not_move_an_estimate(percent: float) -> None:
    results = run(SimulatedDevice(noisy(percent)))
    assert SLOPE.latency_us(results) == pytest.approx(TRUTH_US, rel=0.01 + percent / 100)


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(60):
        device = SimulatedDevice(
            lambda random, name: 1 + 0.01 * random.standard_normal(), protocol=WITHOUT_TARGET
        )
        device.random = np.random.default_rng(seed)
        results = run(device)
        # The low quartile of normal noise lies 0.67 standard deviations below its centre.
        truth_us = TRUTH_US * (1 - 0.00674)
        held += abs(SLOPE.latency_us(results) - truth_us) <= SLOPE.interval_us(results)
    assert 45 <= held <= 60


def test_what_slows_all_models_alike_is_taken_out() -> None:
    """The machine speeds up while two models are measured, and only one needs more visits."""
    device = SimulatedDevice(protocol=WITHOUT_TARGET)
    device.noise = lambda random, name: 1.1 - 0.02 * len(device.processes)
    results = run(device)
    fast = 1.1 - 0.02 * 11
    assert SLOPE.latency_us(results) == pytest.approx(fast * TRUTH_US, rel=0.02)
    assert SLOPE.interval_us(results) < 0.001 * TRUTH_US


def test_a_round_is_steadied_also_within_a_process() -> None:
    """The machine is a tenth slower for half of each process, all models alike."""
    protocol = msgspec.structs.replace(WITHOUT_TARGET, rounds=4)
    device = SimulatedDevice(protocol=protocol)
    visits: Counter[tuple[int, str]] = Counter()

    def noise(random: np.random.Generator, name: str) -> float:
        visits[len(device.processes), name] += 1
        return 1.1 if visits[len(device.processes), name] <= 2 else 1.0

    device.noise = noise
    results = run(device)
    assert SLOPE.latency_us(results) == pytest.approx(TRUTH_US)
    assert SLOPE.interval_us(results) < 0.001 * TRUTH_US


def test_slow_processes_widen_the_interval() -> None:
    def half_width(by_process: float, by_visit: float) -> float:
        device = SimulatedDevice(protocol=WITHOUT_TARGET)
        device.noise = lambda random, name: (
            1
            + by_process * (len(device.processes) % 3 - 1) * (name == "large")
            + by_visit * random.standard_normal()
        )
        estimate = Estimate({"large": 1.0})
        return estimate.interval_us(run(device, estimate=estimate))

    assert half_width(0.05, 0.001) > 5 * half_width(0.0, 0.001)


def test_visits_go_on_until_the_interval_is_within_the_target() -> None:
    quiet, loud = SimulatedDevice(), SimulatedDevice(noisy(20.0))
    run(quiet)
    run(loud)
    assert len(quiet.processes) == quiet.protocol.processes
    assert len(loud.processes) == 24


def test_only_what_is_not_known_well_is_visited_again() -> None:
    device = SimulatedDevice(
        lambda random, name: 1 + (name == "large") * 0.2 * random.standard_normal()
    )
    journal = Journal(None, device.conditions(batch=1))
    estimates = [Estimate({"small": 1.0}), Estimate({"large": 1.0})]
    measure(device, MODELS, estimates, sentinel=model(30), journal=journal)
    assert device.processes == [4] * 12 + [3] * 12  # with the two sentinels


def test_drift_and_the_difference_of_equals_are_reported() -> None:
    device = SimulatedDevice(protocol=WITHOUT_TARGET)
    device.noise = lambda random, name: (
        (1 + 0.1 * (len(device.processes) - 1)) * (1.04 if "again" in name else 1.0)
    )
    journal = Journal(None, device.conditions(batch=1))
    found = measure(device, MODELS, [SLOPE], sentinel=model(30), journal=journal)
    assert found.drift_percent == pytest.approx(100 * (2.1 - 1) / 1.55, rel=0.05)
    assert found.aa_percent == pytest.approx(4.0, abs=0.3)


def test_a_model_that_each_process_runs_at_another_speed_is_no_drift() -> None:
    """As cuDNN does: it chooses anew in every process among algorithms that are close."""
    device = SimulatedDevice(protocol=WITHOUT_TARGET)
    device.noise = lambda random, name: (
        1 + 0.1 * (len(device.processes) % 3) if "sentinel" in name else 1.0
    )
    journal = Journal(None, device.conditions(batch=1))
    models = {f"model {n}": model(10 * n) for n in range(1, 6)}
    estimates = [Estimate({name: 1.0}) for name in models]
    found = measure(device, models, estimates, sentinel=model(30), journal=journal)
    assert found.drift_percent < 1


@pytest.mark.parametrize(("percent", "warned"), [(1.0, 0), (5.0, 1)])
def test_a_noisy_machine_is_warned_of(percent: float, warned: int) -> None:
    warnings: list[str] = []
    device = SimulatedDevice(lambda _, name: 1 + percent / 100 * ("again" in name))
    check_quiet(device, model(30), on_warning=warnings.append)
    assert len(warnings) == warned
    assert all("differ by 5.0 %" in warning for warning in warnings)


def test_a_machine_on_which_nothing_can_be_told_apart_is_refused() -> None:
    device = SimulatedDevice(lambda _, name: 1 + 0.2 * ("again" in name))
    with pytest.raises(MeasurementError, match=r"differ by 20.0 % .* Stop other programs"):
        check_quiet(device, model(30), on_warning=lambda text: None)


def test_a_machine_that_cannot_measure_at_all_is_an_error_and_not_a_quiet_one() -> None:
    class Broken(SimulatedDevice):
        def visit(self, models: Mapping[str, bytes], *, seed: int) -> NoReturn:
            raise MeasurementError("no temporary folder for models to measure")

    with pytest.raises(MeasurementError, match="no temporary folder"):
        check_quiet(Broken(), model(30), on_warning=lambda text: None)


# -- processes that die ------------------------------------------------------------------------


class Deadly(SimulatedDevice):
    """Its process dies of one model."""

    def visit(
        self, models: Mapping[str, bytes], *, seed: int
    ) -> dict[str, tuple[Visit, ...] | Failure]:
        if "small" in models:
            raise ProcessDiedError("the process that measures ended with status -9")
        return super().visit(models, seed=seed)


def test_the_model_that_a_process_dies_of_is_found_and_the_others_are_measured() -> None:
    device = Deadly(protocol=WITHOUT_TARGET)
    journal = Journal(None, device.conditions(batch=1))
    large = Estimate({"large": 1.0})
    estimates = [Estimate({"small": 1.0}), large]
    found = measure(device, MODELS, estimates, sentinel=model(30), journal=journal)
    assert isinstance(found.results["small"], Failure)
    assert large.latency_us(found.results) == pytest.approx(true_us(MODELS["large"]))
    # Visits of one number are of one process.
    processes = [visit.process for visit in journal.visits("large", MODELS["large"])]
    assert len(processes) == len(set(processes)) * device.protocol.rounds


def test_a_device_that_cannot_be_reached_is_no_fault_of_a_model() -> None:
    class Gone(SimulatedDevice):
        tried = 0

        def visit(self, models: Mapping[str, bytes], *, seed: int) -> NoReturn:
            self.tried += 1
            raise MeasurementError("lost the connection")

    device = Gone()
    with pytest.raises(MeasurementError, match="lost the connection"):
        run(device)
    assert device.tried == 1


# -- the journal -------------------------------------------------------------------------------


def test_what_the_journal_holds_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "visits"
    first, second = SimulatedDevice(noisy(0.5)), SimulatedDevice(noisy(0.5))
    once, again = run(first, path), run(second, path)
    assert first.processes
    assert second.processes == []
    assert once == again


def test_a_journal_of_other_conditions_or_models_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "visits"
    run(SimulatedDevice(), path)
    other = SimulatedDevice(protocol=msgspec.structs.replace(WITHOUT_TARGET, rounds=4))
    run(other, path)
    assert len(other.processes) == 12
    changed = SimulatedDevice(protocol=other.protocol)
    measure(
        changed,
        {**MODELS, "large": model(60)},
        [SLOPE],
        sentinel=model(30),
        journal=Journal(path, changed.conditions(batch=1)),
    )
    assert len(changed.processes) == 12


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"{}\n", b""])
def test_a_damaged_journal_starts_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "visits"
    path.write_bytes(damage)
    device = SimulatedDevice()
    assert SLOPE.latency_us(run(device, path)) == pytest.approx(TRUTH_US)
    assert len(device.processes) == 12


def test_a_journal_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a_file").touch()
    with pytest.raises(WriteError, match="cannot write"):
        run(SimulatedDevice(), tmp_path / "a_file" / "visits")


def test_the_sentinel_is_a_real_model() -> None:
    onnx.checker.check_model(onnx.load_model_from_string(model(3)))
