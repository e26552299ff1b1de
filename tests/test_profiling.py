import ast
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from goldnas.errors import MeasurementError
from goldnas.export import to_onnx
from goldnas.operators import build_operator
from goldnas.profiling.backend import Failure, Timing, Visit
from goldnas.profiling.onnxruntime_backend import IN_CONTEXT, RUNNER, OnnxruntimeBackend
from goldnas.site import Site

QUICK = msgspec.structs.replace(IN_CONTEXT, rounds=2, visit_ms=2.0, warmup_ms=1.0)
SITE = Site(4, 4, 8, 8)


def timing(*p10s_us: float) -> Timing:
    return Timing(tuple(Visit(0, 25, us - 1, us, us + 1, us + 2) for us in p10s_us))


# -- statistics --------------------------------------------------------------------------------


def test_latency_is_the_low_quartile_over_visits_and_ignores_slow_phases() -> None:
    result = timing(10, 30, 10, 17, 10, 30, 17)
    assert result.latency_us == result.p10_us == 10
    assert (result.min_us, result.p25_us, result.median_us) == (9, 11, 12)
    assert result.count == 175


def test_spread_is_the_interquartile_range_relative_to_the_median() -> None:
    assert timing(8, 9, 10, 11, 12).spread == pytest.approx(0.2)
    assert timing(10).spread == 0


# -- the runner --------------------------------------------------------------------------------


def test_the_runner_can_be_sent_alone_to_a_machine_with_python_3_9() -> None:
    tree = ast.parse(RUNNER.read_text(), feature_version=(3, 9))
    imported = {
        (node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    foreign = {name.split(".")[0] for name in imported} - sys.stdlib_module_names
    assert foreign == {"numpy", "onnxruntime"}


def test_the_runner_takes_its_job_from_a_file_too(tmp_path: Path) -> None:
    job = {
        "models": {"gone": str(tmp_path / "gone.onnx")},
        "provider": "CPUExecutionProvider",
        "provider_options": {},
        "threads": 1,
        "rounds": 1,
        "seed": 0,
    }
    job_file = tmp_path / "job.json"
    job_file.write_bytes(msgspec.json.encode(job))
    done = subprocess.run(
        [sys.executable, "-P", RUNNER, job_file], capture_output=True, check=True, text=True
    )
    answer = msgspec.json.decode(done.stdout)
    assert answer["model"] == "gone"
    assert "No such file" in answer["error"]


def test_times_are_microseconds_and_fill_the_visit() -> None:
    model = to_onnx(build_operator("max_pool_3x3", SITE), (1, 4, 8, 8))
    visits = OnnxruntimeBackend(protocol=QUICK).visit({"model": model}, seed=0)["model"]
    assert not isinstance(visits, Failure)
    filled = max(visit.calls * visit.median_us for visit in visits)
    assert 0.1 < filled / (1_000 * QUICK.visit_ms) < 2


def test_a_process_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(MeasurementError, match=r"longer than 0.01 s and was stopped; try"):
        OnnxruntimeBackend(timeout_s=0.01).visit({"model": b""}, seed=0)


def test_a_process_that_dies_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONHOME", str(Path(__file__).parent))  # there is no Python there
    with pytest.raises(MeasurementError, match="the process that measures ended with status 1"):
        OnnxruntimeBackend().visit({"model": b""}, seed=0)


def test_a_model_of_open_shape_is_refused() -> None:
    model = to_onnx(build_operator("max_pool_3x3", SITE), (2, 4, 8, 8), dynamic_batch=True)
    result = OnnxruntimeBackend(protocol=QUICK).visit({"model": model}, seed=0)["model"]
    assert isinstance(result, Failure)
    assert "only numbers of a fixed shape" in result.error


def test_a_provider_that_the_build_lacks_is_a_failure_and_no_other_takes_its_place() -> None:
    model = to_onnx(build_operator("max_pool_3x3", SITE), (1, 4, 8, 8))
    backend = OnnxruntimeBackend(provider="NoSuchExecutionProvider", protocol=QUICK)
    result = backend.visit({"model": model}, seed=0)["model"]
    assert isinstance(result, Failure)
    assert "NoSuchExecutionProvider is not in this build" in result.error


def test_an_environment_without_onnxruntime_is_named() -> None:
    backend = OnnxruntimeBackend(python="no-such-python")
    with pytest.raises(MeasurementError, match="no-such-python cannot import onnxruntime"):
        backend.conditions(batch=1)
