import ast
import gc
import hashlib
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from goldnas.errors import ConfigError, MeasurementError
from goldnas.exporting.onnx import to_onnx
from goldnas.operators import build_operator
from goldnas.profiling.backend import Failure, Timing, Visit
from goldnas.profiling.connection import RUNNER
from goldnas.profiling.host import Host, find_host
from goldnas.profiling.onnxruntime_backend import (
    IN_CONTEXT,
    OnnxruntimeBackend,
    find_provider,
)
from goldnas.site import Site

QUICK = msgspec.structs.replace(IN_CONTEXT, rounds=2, visit_ms=2.0, warmup_ms=1.0)
SITE = Site(4, 4, 8, 8)


@pytest.fixture(scope="module")
def model() -> bytes:
    """A good one."""
    return to_onnx(build_operator("max_pool_3x3", SITE), (1, *SITE.input_shape))


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


def test_the_runner_takes_its_job_from_a_file_too(model: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(model)
    sha256 = hashlib.sha256(model).hexdigest()
    path = str(tmp_path / "model.onnx")
    job = {
        "models": {
            "gone": {"path": str(tmp_path / "gone.onnx"), "sha256": sha256},
            "good": {"path": path, "sha256": sha256},
            "changed": {"path": path, "sha256": 64 * "0"},
        },
        "provider": "CPUExecutionProvider",
        "provider_options": {},
        "threads": 1,
        "rounds": 1,
        "warmup_ms": 1,
        "visit_ms": 1,
        "min_calls": 7,
        "hot_c": 80,
        "seed": 0,
    }
    job_file = tmp_path / "job.json"
    job_file.write_bytes(msgspec.json.encode(job))
    done = subprocess.run(
        [sys.executable, "-P", RUNNER, job_file], capture_output=True, check=True, text=True
    )
    answers = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    reply = {answer["model"]: answer for answer in answers if "model" in answer}
    assert "No such file" in reply["gone"]["error"]
    assert "checksum differs" in reply["changed"]["error"]
    assert reply["good"]["p10_us"] > 0


def test_times_are_microseconds_and_fill_the_visit(model: bytes) -> None:
    visits = OnnxruntimeBackend(protocol=QUICK).visit({"model": model}, seed=0)["model"]
    assert not isinstance(visits, Failure)
    filled = [visit.calls * visit.median_us / (1_000 * QUICK.visit_ms) for visit in visits]
    assert max(filled) > 0.1
    assert min(filled) < 2  # a visit may be held up by other programs, not all of them


def test_a_process_that_says_nothing_is_stopped(model: bytes) -> None:
    backend = OnnxruntimeBackend(
        protocol=msgspec.structs.replace(QUICK, visit_ms=5000.0), silence_s=0.5
    )
    with pytest.raises(MeasurementError, match=r"no answer for 0.5 s and was stopped; try"):
        backend.visit({"model": model}, seed=0)


def test_a_python_that_does_not_start_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONHOME", str(Path(__file__).parent))  # there is no Python there
    with pytest.raises(MeasurementError, match=r"cannot measure on this machine: .*; check"):
        OnnxruntimeBackend().visit({"model": b""}, seed=0)


def test_a_model_of_open_shape_is_refused() -> None:
    model = to_onnx(build_operator("max_pool_3x3", SITE), (2, 4, 8, 8), dynamic_batch=True)
    result = OnnxruntimeBackend(protocol=QUICK).visit({"model": model}, seed=0)["model"]
    assert isinstance(result, Failure)
    assert "only numbers of a fixed shape" in result.error


def test_a_provider_that_the_build_lacks_is_an_error_that_says_where_it_comes_from(
    model: bytes,
) -> None:
    backend = OnnxruntimeBackend(provider=find_provider("openvino"), protocol=QUICK)
    with pytest.raises(MeasurementError, match=r"comes with: pip install onnxruntime-openvino"):
        backend.conditions(batch=1)
    result = backend.visit({"model": model}, seed=0)["model"]
    assert isinstance(result, Failure)  # and no other takes its place
    assert "OpenVINOExecutionProvider is not in this build" in result.error


def test_an_environment_without_python_is_named() -> None:
    backend = OnnxruntimeBackend(host=Host(python="no-such-python"))
    with pytest.raises(MeasurementError, match="cannot start no-such-python"):
        backend.conditions(batch=1)


def test_nothing_is_left_when_a_backend_is_closed_or_forgotten(
    model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for end in (OnnxruntimeBackend.close, lambda backend: None):
        backend = OnnxruntimeBackend(protocol=QUICK)
        backend.visit({"model": model}, seed=0)
        assert list(tmp_path.glob("goldnas-*"))
        end(backend)
        del backend
        gc.collect()
        assert not list(tmp_path.glob("goldnas-*"))


def test_cores_are_those_that_were_asked_for(model: bytes) -> None:
    backend = OnnxruntimeBackend(cores=[0], protocol=QUICK)
    assert backend.conditions(batch=1).backend_options["cores"] == "0"
    assert not isinstance(backend.visit({"model": model}, seed=0)["model"], Failure)
    backend = OnnxruntimeBackend(cores=[4095], protocol=QUICK)
    with pytest.raises(MeasurementError, match="this machine has no core 4095, only 0 to"):
        backend.conditions(batch=1)
    with pytest.raises(MeasurementError, match=r"cannot run on cores \[4095\] of"):
        backend.visit({"model": model}, seed=0)


def test_a_backend_like_a_table_has_its_settings() -> None:
    backend = OnnxruntimeBackend(2, cores=[0, 1], protocol=QUICK)
    conditions = backend.conditions(batch=4)
    assert OnnxruntimeBackend.like(conditions).conditions(batch=4) == conditions


@pytest.mark.parametrize(
    ("device", "prefix", "place"),
    [
        ("ssh://host", ["--", "host"], None),
        ("ssh://pi@Host:2222", ["-p", "2222", "-l", "pi", "--", "Host"], None),
        ("ssh://[::1]:22/srv/a%20b", ["-p", "22", "--", "::1"], "/srv/a b"),
        ("adb://R58M/data/local/tmp", ["-s", "R58M", "shell", "-T"], "/data/local/tmp"),
        ("adb://127.0.0.1:5555", ["-s", "127.0.0.1:5555", "shell", "-T"], None),
    ],
)
def test_devices_are_read_from_their_address(
    device: str, prefix: list[str], place: str | None
) -> None:
    host = find_host(device)
    assert list(host.prefix[-len(prefix) :]) == prefix
    assert host.place == place


@pytest.mark.parametrize(
    "device",
    [
        *("gpu", "ssh://", "ssh://host:port", "ssh://-oProxyCommand=id", "ssh://-l@host"),
        *("ssh://a:b@host", "http://host", "ssh://host?x=1", "ssh://ho st", "adb://", ""),
    ],
)
def test_an_address_that_is_none_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="known: cpu, cuda, ssh"):
        find_host(device)


def test_what_goes_to_a_far_shell_is_quoted(tmp_path: Path) -> None:
    evil = f"/tmp/$(touch {tmp_path}/evil)'`touch {tmp_path}/evil`"
    host = Host("there", ("sh", "-c"), python=sys.executable, place=evil)
    with pytest.raises(MeasurementError, match="no temporary folder"):
        OnnxruntimeBackend(host=host).conditions(batch=1)
    assert not list(tmp_path.iterdir())
