"""Latencies as a product meets them: single calls in a loop, their quantiles and budgets."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import goldnas
from goldnas.cli.main import app
from goldnas.errors import ConfigError, MeasurementError, TableError
from goldnas.exporting.budget_check import check_budgets
from goldnas.exporting.onnx import to_onnx
from goldnas.lut import LatencyTable, Loop
from goldnas.lut.fit.loop import fit_quantile
from goldnas.operators import build_operator
from goldnas.profiling import runner_backend
from goldnas.profiling.backend import Failure, LoopCalls
from goldnas.profiling.calls import CALLS_NEEDED, summarize_calls
from goldnas.profiling.connection import RUNNER
from goldnas.profiling.deployed import measure_network
from goldnas.profiling.host import Host
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.profile_space import profile_space
from goldnas.resources import HOT, Latency, parse_budget
from goldnas.resources.costs import sum_costs
from goldnas.searching.budgets import build_feasibility, list_limits
from goldnas.site import Site
from goldnas.spaces import GoldSpace
from simulated_device import SimulatedDevice

MakeTable = Callable[..., LatencyTable]
SPACE = GoldSpace(cells=1, channels=4, nodes=2, input_shape=(1, 8, 8), classes=3)
SITE = Site(4, 4, 8, 8)


@pytest.fixture(scope="module")
def model() -> bytes:
    return to_onnx(build_operator("sep_conv_3x3", SITE), (1, *SITE.input_shape))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls beside busy processes go on no longer than they must."""
    monkeypatch.setattr(runner_backend, "_LEAST_S", 0.01)


# -- what is typed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "loop"),
    [
        ("hot", Loop()),
        ("paced:15/s", Loop(rate_hz=15)),
        ("paced:0.5/s", Loop(rate_hz=0.5)),
        ("loaded:2", Loop(neighbours=2)),
    ],
)
def test_a_loop_is_read_and_written(text: str, loop: Loop) -> None:
    assert Loop.parse(text) == loop
    assert str(loop) == text


@pytest.mark.parametrize(
    "text",
    ["", "cold", "paced", "paced:15", "paced:0/s", "paced:99999/s", "paced:-1/s", "loaded:0"],
)
def test_what_is_no_loop_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="`loop="):
        Loop.parse(text)


@pytest.mark.parametrize(
    ("text", "resource"),
    [
        ("5ms:p99", "latency@pi5:p99"),
        ("5ms@pi5:p50", "latency@pi5:p50"),
        ("5 ms @ pi5", None),
        ("5ms:p95", None),
        ("5MFLOPs:p99", None),
        ("5ms@t4:p99", None),
    ],
)
def test_a_budget_may_name_a_quantile(text: str, resource: str | None) -> None:
    if resource is None:
        with pytest.raises(ConfigError):
            parse_budget(text, ["pi5"])
    else:
        budget = parse_budget(text, ["pi5"])
        assert (budget.resource, budget.limit) == (resource, 5000)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"loop": "sometimes"}, "`loop="),
        ({"loop": "paced:15/s", "backend": "tensorrt"}, "`loop="),
        ({"loop": "paced:15/s", "networks": 0}, "`networks=0`"),
        ({"loop": "paced:15/s", "calls": 3}, "`calls`"),
        ({"calls": 299}, "`calls`"),
    ],
)
def test_settings_that_a_loop_cannot_have(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        goldnas.TableConfig(**settings)


def test_a_phone_without_python_has_no_loop() -> None:
    with pytest.raises(ConfigError, match=r"`perf_test`.*`loop="):
        OnnxruntimeBackend(host=Host(perf_test="perf_test"), loop=Loop(neighbours=1))


# -- quantiles and fits ------------------------------------------------------------------------


def test_a_quantile_is_told_only_of_calls_that_bound_it() -> None:
    assert CALLS_NEEDED == {"p50": 5, "p90": 29, "p99": 299}
    for name, needed in CALLS_NEEDED.items():
        assert name not in summarize_calls(range(1, needed)).quantiles
        assert summarize_calls(range(1, needed + 1)).quantiles[name].high_us <= needed


def test_limits_hold_for_95_percent_of_samples() -> None:
    random = np.random.default_rng(0)
    true_us = {
        name: float(np.exp(z)) for name, z in (("p50", 0), ("p90", 1.2816), ("p99", 2.3263))
    }
    held = {name: np.zeros(2) for name in true_us}
    for _ in range(400):
        for name, found in summarize_calls(np.exp(random.normal(size=320))).quantiles.items():
            assert found.low_us <= found.latency_us <= found.high_us
            held[name] += (found.low_us <= true_us[name], true_us[name] <= found.high_us)
    for shares in held.values():
        assert (shares / 400 >= 0.92).all()  # 0.95, less three standard deviations


def test_a_fit_finds_factor_and_offset_beside_a_disturbed_network() -> None:
    hot_us = np.linspace(100, 1000, 12)
    measured_us = 300 + 1.4 * hot_us
    measured_us[5] *= 3
    fit = fit_quantile("p50", hot_us.tolist(), measured_us.tolist())
    assert fit.factor == pytest.approx(1.4, rel=0.05)
    assert fit.offset_us == pytest.approx(300, rel=0.1)
    assert fit.margin_percent == 0
    with pytest.raises(ValueError, match="4 networks"):
        fit_quantile("p50", [1, 2, 3], [1, 2, 3])


@pytest.mark.parametrize("count", [8, 12])
def test_a_predicted_p99_holds_for_most_networks(count: int) -> None:
    random = np.random.default_rng(1)

    def draw(size: int) -> tuple[list[float], list[float]]:
        hot_us = random.uniform(100, 1000, size)
        return hot_us.tolist(), (
            2 * hot_us * np.exp(random.normal(scale=0.1, size=size))
        ).tolist()

    shares = []
    for _ in range(20):
        fit = fit_quantile("p99", *draw(count))
        hot_us, measured_us = draw(200)
        shares.append(np.mean(np.array(measured_us) <= [fit.predict_us(us) for us in hot_us]))
    assert np.mean(np.array(shares) >= 0.95) >= 0.9


def test_a_predicted_p99_holds_at_other_times() -> None:
    random = np.random.default_rng(2)
    kept = []
    for _ in range(60):
        hot_us = random.uniform(100, 1000, 12)
        speeds = np.exp(random.normal(scale=0.1, size=4))
        # The calls of the fit are of three times, and a new network is called at a fourth.
        errors = np.exp(random.normal(scale=0.03, size=12))
        now = float(np.exp(np.log(speeds[:3]).mean()))
        fit = fit_quantile(
            "p99", hot_us.tolist(), (2 * hot_us * errors * now).tolist(), speeds=speeds[:3]
        )
        new = 2 * np.exp(random.normal(scale=0.03, size=50)) * speeds[3]
        kept.append(np.mean(500 * new <= fit.predict_us(500)))
    assert np.mean(kept) >= 0.93


# -- tables ------------------------------------------------------------------------------------


def test_a_table_of_a_loop_predicts_quantiles_and_is_measured_once(tmp_path: Path) -> None:
    device = SimulatedDevice(loop="paced:15/s")
    path = tmp_path / "paced.json"
    table = profile_space(SPACE, path, device, networks=8)
    assert table.conditions.loop == "paced:15/s"
    (calibration,) = LatencyTable.load(path).calibrations
    assert calibration.loop
    assert all(network.calls == 300 for network in calibration.loop.networks)
    network = SPACE.architecture(SPACE.gates)
    parts = tuple(SPACE.plan(network).parts())
    hot_us = sum_costs(Latency(table, SPACE, HOT), parts)
    assert sum_costs(Latency(table, SPACE), parts) == pytest.approx(
        100 + 1.5 * hot_us, rel=0.05
    )
    assert Latency(table, SPACE).name == "latency@paced"
    p99 = Latency(table, SPACE, "p99")
    assert sum_costs(p99, parts) >= 1.9 * (100 + 1.5 * hot_us)
    assert p99.name == "latency@paced:p99"
    visited = len(device.processes)
    assert profile_space(SPACE, path, device, networks=8).calibrations == table.calibrations
    assert len(device.processes) == visited
    with pytest.raises(TableError, match="loop was paced:15/s, is now hot"):
        profile_space(SPACE, path, SimulatedDevice(), networks=8)


class SlowInTheLoop(SimulatedDevice):
    """Slower in each process that calls networks, and than while rows were measured."""

    def time_calls(
        self, models: Mapping[str, bytes], *, calls: int, seed: int
    ) -> dict[str, LoopCalls | Failure]:
        self.slowness = 1.6
        found = super().time_calls(models, calls=calls, seed=seed)
        return {
            name: LoopCalls(tuple(us * 1.05**seed for us in one.calls_us), one.visits)
            for name, one in found.items()
            if not isinstance(one, Failure)
        }


def test_a_table_tells_how_fast_the_machine_was_in_the_loop_and_how_it_drifted(
    tmp_path: Path,
) -> None:
    warnings: list[str] = []
    table = profile_space(
        SPACE,
        tmp_path / "paced.json",
        SlowInTheLoop(loop="paced:15/s"),
        networks=8,
        on_warning=warnings.append,
    )
    loop = table.calibrations[0].loop
    assert loop
    assert loop.slowdown == pytest.approx(1.6, rel=0.02)
    assert loop.drift_percent == pytest.approx(4.9, abs=0.1)
    assert any("changed its speed by 5 %" in text for text in warnings)
    # t of 2 degrees of freedom, for one more time beside the three known ones.
    limit = np.exp(2.92 * (1 + 1 / 3) ** 0.5 * np.log(1.05))
    assert loop.quantiles["p99"].margin_percent == pytest.approx(100 * (limit - 1), rel=0.01)


class Interrupted(SimulatedDevice):
    """Stops in one of the processes that call networks."""

    stops_at = 1

    def time_calls(
        self, models: Mapping[str, bytes], *, calls: int, seed: int
    ) -> dict[str, LoopCalls | Failure]:
        if seed == self.stops_at:
            raise KeyboardInterrupt
        return super().time_calls(models, calls=calls, seed=seed)


def test_calls_are_kept_when_a_profile_is_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "paced.json"
    with pytest.raises(KeyboardInterrupt):
        profile_space(SPACE, path, Interrupted(loop="paced:15/s"), networks=8)
    after = SimulatedDevice(loop="paced:15/s")
    table = profile_space(SPACE, path, after, networks=8)
    assert len(after.processes) == 2
    whole = profile_space(
        SPACE, tmp_path / "whole.json", SimulatedDevice(loop="paced:15/s"), networks=8
    )
    assert table.calibrations == whole.calibrations
    assert not path.with_name("paced.json.visits").exists()


def test_fewer_calls_are_not_taken_for_those_of_an_interrupted_profile(tmp_path: Path) -> None:
    path = tmp_path / "paced.json"
    with pytest.raises(KeyboardInterrupt):
        profile_space(SPACE, path, Interrupted(loop="paced:15/s"), networks=8, calls=60)
    after = SimulatedDevice(loop="paced:15/s")
    table = profile_space(SPACE, path, after, networks=8, calls=300)
    assert len(after.processes) == 3
    assert all(n.calls == 300 for n in table.calibrations[0].loop.networks)  # type: ignore[union-attr]


def test_networks_in_the_loop_are_kept_when_a_table_is_calibrated_again(tmp_path: Path) -> None:
    device = SimulatedDevice(loop="loaded:1")
    path = tmp_path / "loaded.json"
    before = profile_space(SPACE, path, device, networks=8)
    after = profile_space(SPACE, path, device, networks=12)
    (old,), (new,) = before.calibrations, after.calibrations
    assert len(new.networks) > len(old.networks)
    assert old.loop
    assert new.loop
    assert new.loop.networks == old.loop.networks


def test_too_few_calls_for_p99_leave_it_out_and_say_so(tmp_path: Path) -> None:
    warnings: list[str] = []
    table = profile_space(
        SPACE,
        tmp_path / "paced.json",
        SimulatedDevice(loop="paced:5/s"),
        networks=8,
        calls=60,
        on_warning=warnings.append,
    )
    assert any("299" in text for text in warnings)
    assert set(table.calibrations[0].loop.quantiles) == {"p50", "p90"}  # type: ignore[union-attr]
    with pytest.raises(TableError, match=r"no p99.*`calls`"):
        build_feasibility(SPACE, ["5ms:p99"], [table])


def test_budgets_of_quantiles_are_limits_of_their_own(tmp_path: Path) -> None:
    device = SimulatedDevice(loop="paced:15/s")
    table = profile_space(SPACE, tmp_path / "pi5.json", device, networks=8)
    feasibility = build_feasibility(SPACE, ["90ms", "95ms@pi5:p99"], [table])
    limits = {limit.resource: limit for limit in list_limits(feasibility)}
    assert limits["latency@pi5:p99"].budget is not None
    assert limits["latency@pi5:p99"].full > limits["latency@pi5"].full
    assert "latency@pi5:p90" not in limits
    with pytest.raises(ConfigError, match=r"90ms and 95ms:p50 .*keep one"):
        build_feasibility(SPACE, ["90ms", "95ms:p50"], [table])


def test_a_hot_table_has_no_quantiles_and_its_file_no_loop(
    tmp_path: Path, make_table: MakeTable
) -> None:
    table = make_table(tmp_path / "pi5.json", SPACE)
    assert '"loop"' not in table.to_json()
    with pytest.raises(TableError, match=r"no p99.*`profile\(space, loop="):
        build_feasibility(SPACE, ["5ms:p99"], [table])


# -- measuring ---------------------------------------------------------------------------------


def test_calls_wait_for_the_ticks_of_their_rate(model: bytes) -> None:
    backend = OnnxruntimeBackend(loop=Loop(rate_hz=10))
    began = time.monotonic()
    found = backend.time_calls({"model": model}, calls=10, seed=0)["model"]
    assert time.monotonic() - began > 10 / 10
    assert not isinstance(found, Failure), found.error
    assert len(found.calls_us) == 10
    assert all(us > 0 for us in found.calls_us)


def test_calls_come_in_short_series_with_a_hot_visit_before_each(model: bytes) -> None:
    backend = OnnxruntimeBackend(loop=Loop(neighbours=1))
    found = backend.time_calls({"one": model, "other": model}, calls=50, seed=4)
    for calls in found.values():
        assert not isinstance(calls, Failure), calls.error
        assert len(calls.calls_us) >= 50
        assert [visit.process for visit in calls.visits] == [4] * 3


def test_a_rate_that_the_device_cannot_keep_is_told_with_one_that_it_can() -> None:
    site = Site(64, 64, 64, 64)
    large = to_onnx(build_operator("sep_conv_5x5", site), (1, *site.input_shape))
    backend = OnnxruntimeBackend(loop=Loop(rate_hz=10_000))
    found = backend.time_calls({"large": large}, calls=100, seed=0)["large"]
    assert isinstance(found, Failure)
    assert "cannot keep 10000 calls a second" in found.error
    assert "at most" in found.error


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads processes in /proc")
def test_busy_processes_end_with_a_job_that_is_killed(model: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(model)
    job = {
        "models": {
            "model": {
                "path": str(tmp_path / "model.onnx"),
                "sha256": hashlib.sha256(model).hexdigest(),
            }
        },
        **{"provider": "CPUExecutionProvider", "provider_options": {}, "threads": 1},
        **{"rounds": 1, "warmup_ms": 1, "visit_ms": 1, "min_calls": 7, "hot_c": 80, "seed": 0},
        "loop": {
            **{"rate_hz": 1.0, "neighbours": 2, "calls": 1000},
            **{"warmup_calls": 3, "least_s": 0.5},
        },
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-P", str(RUNNER), str(tmp_path / "job.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as runner:
        children = Path(f"/proc/{runner.pid}/task/{runner.pid}/children")
        busy: list[str] = []
        while len(busy) < 2:
            assert runner.poll() is None
            busy = children.read_text().split()
            time.sleep(0.02)
        os.kill(runner.pid, signal.SIGKILL)
    until = time.monotonic() + 60
    while any(_runs(pid) for pid in busy):
        assert time.monotonic() < until
        time.sleep(0.02)


def _runs(pid: str) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_export_is_measured_in_the_loop_of_its_table(tmp_path: Path, quick: None) -> None:
    conditions = OnnxruntimeBackend(loop=Loop(neighbours=1)).conditions(batch=1)
    simulated = profile_space(SPACE, tmp_path / "pc.json", SimulatedDevice(loop="loaded:1"))
    table = replace(simulated, conditions=conditions)
    architecture = SPACE.architecture(SPACE.gates)
    network = SPACE.build(architecture)
    found, unverified = measure_network(network, SPACE.input_shape, [table])
    assert not unverified
    latency = Latency(table, SPACE, "p99")
    measured_us, limits = found["pc"].find("p99")
    assert limits
    assert limits[0] <= measured_us <= limits[1]
    assert found["pc"].find("")[0] == found["pc"].find("p50")[0] <= measured_us
    (check, *_) = check_budgets(
        network,
        tuple(SPACE.plan(architecture).parts()),
        SPACE.input_shape,
        predicted=[latency],
        budgets=[parse_budget("1us:p99", ["pc"])],
        measured_us={latency.name: measured_us},
        limits_us={latency.name: limits},
        unverified={},
    )
    assert check.verdict == "FAIL"
    assert check.limits == limits


@pytest.mark.parametrize(
    "command",
    [
        "profile --model model.onnx --loop now",
        "profile --bundle new.zip --loop paced:15/s",
    ],
)
def test_what_cannot_be_had_is_one_line(
    command: str, model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(model)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "--loop" in done.stderr
    assert not (tmp_path / "new.zip").exists()


# -- before and after a model ------------------------------------------------------------------

STEPS = """
import time
import numpy as np


def steps():
    print("loading")
    return before, after


def before():
    print("{}")
    time.sleep(0.004)
    return np.zeros((1, 4, 8, 8), np.float32)


def after(outputs):
    assert outputs[0].shape == (1, 4, 8, 8)
    time.sleep(0.004)


def broken():
    return lambda: 1 / 0, after


def no_pair():
    return before
"""


@pytest.fixture
def steps(model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, and a module of somebody's own beside it."""
    (tmp_path / "steps_of_mine.py").write_text(STEPS)
    (tmp_path / "model.onnx").write_bytes(model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "steps_of_mine", raising=False)
    return tmp_path / "model.onnx"


def test_profile_of_a_model_tells_quantiles_of_its_calls_with_a_pipeline(
    steps: Path, quick: None
) -> None:
    command = f"profile --model {steps} --loop paced:10/s --calls 30 --json"
    done = CliRunner().invoke(app, [*command.split(), "--pipeline", "steps_of_mine:steps"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["loop"]["calls"] == 30
    quantiles = found["loop"]["quantiles"]
    assert 8000 < quantiles["p50"]["low_us"] <= quantiles["p50"]["latency_us"]
    assert quantiles["p50"]["latency_us"] <= quantiles["p90"]["latency_us"]
    assert "p99" not in quantiles
    assert "299" in done.stderr
    assert found["conditions"]["loop"] == "paced:10/s"
    assert found["pipeline"] == "steps_of_mine:steps"
    assert found["latency_us"] < 8000
    around = found["loop"]["around"]
    assert set(around) == {"p50", "p90"}
    assert 8000 <= around["p50"]["latency_us"] < quantiles["p50"]["latency_us"]


def test_a_pipeline_that_fails_is_told_by_name(steps: Path) -> None:
    backend = OnnxruntimeBackend(loop=Loop(neighbours=1), pipeline="steps_of_mine:broken")
    found = backend.time_calls({"model": steps.read_bytes()}, calls=20, seed=0)["model"]
    assert isinstance(found, Failure)
    assert "steps_of_mine:broken fails before: ZeroDivisionError" in found.error


@pytest.mark.parametrize(
    ("function", "named"),
    [
        ("no_pair", "steps_of_mine:no_pair returns function, and not two functions"),
        ("broken", "steps_of_mine:broken fails before: ZeroDivisionError"),
    ],
)
def test_a_pipeline_is_tried_before_anything_is_measured(
    function: str, named: str, steps: Path
) -> None:
    progress: list[int] = []
    with pytest.raises(MeasurementError, match=named):
        goldnas.profile_model(
            steps,
            loop="loaded:1",
            pipeline=f"steps_of_mine:{function}",
            on_progress=lambda done, total: progress.append(done),
        )
    assert not progress


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "`loop`"),
        ({"loop": "loaded:1", "device": "ssh://pi"}, "`device`"),
        ({"loop": "loaded:1", "tables": ["table.json"]}, "`tables`"),
        ({"loop": "loaded:1", "pipeline": "steps_of_mine:nothing"}, "nothing"),
        ({"loop": "loaded:1", "pipeline": "no_such_module:steps"}, "no_such_module"),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused(
    settings: dict[str, Any], named: str, steps: Path, make_table: MakeTable
) -> None:
    make_table(Path("table.json"), SPACE)
    with pytest.raises(ConfigError, match=named):
        goldnas.profile_model(steps, **{"pipeline": "steps_of_mine:steps", **settings})
