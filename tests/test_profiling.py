import ast
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from goldnas.errors import ConfigError, MeasurementError, TableError
from goldnas.export import to_onnx
from goldnas.lut import Conditions, Failed, LatencyTable, Measured
from goldnas.operators import OPERATORS, build_operator
from goldnas.profiling.backend import Failure, Timing, Visit, quantile
from goldnas.profiling.campaign import profile
from goldnas.profiling.onnxruntime_backend import ISOLATED, RUNNER, OnnxruntimeBackend
from goldnas.site import Site

QUICK = msgspec.structs.replace(ISOLATED, processes=1, rounds=2, visit_ms=2.0, warmup_ms=1.0)
SITE = Site(4, 4, 8, 8)
ROWS = [(name, SITE) for name in ("skip_connect", "max_pool_3x3", "relu_conv_bn")]


def timing(*p10s_us: float) -> Timing:
    return Timing(tuple(Visit(25, p10 - 1, p10, p10 + 1, p10 + 2) for p10 in p10s_us))


def rows_by_operator(path: Path) -> dict[str, Measured | Failed]:
    return {row.operator: row for row in LatencyTable.load(path).rows}


# -- statistics --------------------------------------------------------------------------------


def test_latency_is_the_low_quartile_over_visits_and_ignores_slow_phases() -> None:
    result = timing(10, 30, 10, 17, 10, 30, 17)
    assert result.latency_us == result.p10_us == 10
    assert (result.min_us, result.p25_us, result.median_us) == (9, 11, 12)
    assert result.count == 175


def test_spread_is_the_interquartile_range_relative_to_the_median() -> None:
    assert timing(8, 9, 10, 11, 12).spread == pytest.approx(0.2)
    assert timing(10).spread == 0


@pytest.mark.parametrize("fraction", [0, 0.1, 0.25, 0.5, 1])
def test_quantile_agrees_with_torch(fraction: float) -> None:
    sample = torch.rand(7, dtype=torch.float64)
    expected = torch.quantile(sample, fraction).item()
    assert quantile(sample.tolist(), fraction) == pytest.approx(expected)


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
    result = OnnxruntimeBackend(protocol=QUICK).measure({"model": model})["model"]
    assert isinstance(result, Timing)
    filled = max(visit.calls * visit.median_us for visit in result.visits)
    assert 0.1 < filled / (1_000 * QUICK.visit_ms) < 2


def test_a_process_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(MeasurementError, match=r"longer than 0.01 s and was stopped; try"):
        OnnxruntimeBackend(timeout_s=0.01).measure({"model": b""})


def test_a_process_that_dies_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONHOME", str(Path(__file__).parent))  # there is no Python there
    with pytest.raises(MeasurementError, match="the process that measures ended with status 1"):
        OnnxruntimeBackend().measure({"model": b""})


def test_a_model_of_open_shape_is_refused() -> None:
    model = to_onnx(build_operator("max_pool_3x3", SITE), (2, 4, 8, 8), dynamic_batch=True)
    result = OnnxruntimeBackend(protocol=QUICK).measure({"model": model})["model"]
    assert isinstance(result, Failure)
    assert "only float32 inputs of a fixed shape" in result.error


# -- filling a table ---------------------------------------------------------------------------


class Counting:
    """The real backend, with a record of what it was asked."""

    def __init__(self, threads: int = 1) -> None:
        self.inner = OnnxruntimeBackend(threads, protocol=QUICK)
        self.asked: list[str] = []

    def conditions(self, *, batch: int) -> Conditions:
        return self.inner.conditions(batch=batch)

    def measure(self, models: Mapping[str, bytes]) -> dict[str, Timing | Failure]:
        self.asked += models
        return self.inner.measure(models)


def test_a_second_run_measures_only_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "lut" / "cpu.json"
    steps: list[tuple[int, int]] = []
    first = Counting()
    profile(ROWS[:2], first, out, on_progress=lambda *step: steps.append(step))
    assert first.asked == ["skip_connect 4x8x8->4/s1", "max_pool_3x3 4x8x8->4/s1"]
    assert steps == [(0, 2), (2, 2)]
    before = out.read_bytes()
    kept = rows_by_operator(out)

    again = Counting()
    profile(ROWS[:2], again, out)
    assert again.asked == []
    assert out.read_bytes() == before

    more = Counting()
    profile(ROWS, more, out)
    assert more.asked == ["relu_conv_bn 4x8x8->4/s1"]
    assert rows_by_operator(out).items() > kept.items()


@pytest.mark.parametrize(
    ("threads", "batch", "named"),
    [(2, 1, "threads was 1, is now 2"), (1, 8, "batch was 1, is now 8")],
)
def test_a_table_of_other_conditions_is_not_mixed(
    tmp_path: Path, threads: int, batch: int, named: str
) -> None:
    out = tmp_path / "cpu.json"
    LatencyTable(Counting().conditions(batch=1), (), out).save()
    before = out.read_bytes()
    with pytest.raises(TableError, match=f"other conditions: {named}. Choose another --out"):
        profile(ROWS, Counting(threads), out, batch=batch)
    assert out.read_bytes() == before


class HalfPrecision(nn.Module):
    """Exports well; onnxruntime has no such kernel on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(torch.bfloat16) * 2).float()


class Branching(nn.Module):
    """Cannot be exported: what it does depends on the values of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_fails_is_recorded_as_failed_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "cpu.json"
    monkeypatch.setitem(OPERATORS, "half_precision", lambda site: HalfPrecision())
    monkeypatch.setitem(OPERATORS, "branching", lambda site: Branching())
    wanted = [("half_precision", SITE), ("branching", SITE), ROWS[0]]
    table = profile(wanted, Counting(), out)
    rows = rows_by_operator(out)
    assert isinstance(rows["skip_connect"], Measured)
    assert isinstance(rows["half_precision"], Failed)
    assert "Could not find an implementation for Mul" in rows["half_precision"].error
    assert isinstance(rows["branching"], Failed)
    assert "cannot export Branching" in rows["branching"].error
    assert table.missing(wanted) == tuple(wanted[:2])

    monkeypatch.setitem(OPERATORS, "half_precision", OPERATORS["max_pool_3x3"])
    profile([("half_precision", SITE)], Counting(), out)
    assert isinstance(rows_by_operator(out)["half_precision"], Measured)


def test_a_model_that_kills_its_process_does_not_take_the_chunk_along(tmp_path: Path) -> None:
    class Fragile(Counting):
        def measure(self, models: Mapping[str, bytes]) -> dict[str, Timing | Failure]:
            if any(name.startswith("max_pool") for name in models):
                raise MeasurementError("the process that measures ended with status -11")
            return super().measure(models)

    out = tmp_path / "cpu.json"
    profile(ROWS[:2], Fragile(), out)
    rows = rows_by_operator(out)
    assert isinstance(rows["skip_connect"], Measured)
    assert isinstance(rows["max_pool_3x3"], Failed)
    assert rows["max_pool_3x3"].error == "the process that measures ended with status -11"


def test_an_unknown_operator_is_a_mistake_of_the_caller_and_no_row(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown operator 'conv'; known: avg_pool_3x3"):
        profile([("conv", SITE)], Counting(), tmp_path / "cpu.json")
    assert not any(tmp_path.iterdir())


KILLED = [("max_pool_3x3", Site(4, 4, size, size)) for size in (4, 6, 8)]
CAMPAIGN = """
import sys
from pathlib import Path
import msgspec
from goldnas.profiling import campaign
from goldnas.profiling.onnxruntime_backend import ISOLATED, OnnxruntimeBackend
from goldnas.site import Site

campaign.CHUNK = 1
quick = msgspec.structs.replace(ISOLATED, processes=1, rounds=2, visit_ms=2.0, warmup_ms=1.0)
rows = [(operator, Site.parse(site)) for operator, site in zip(sys.argv[2::2], sys.argv[3::2])]
campaign.profile(rows, OnnxruntimeBackend(protocol=quick), Path(sys.argv[1]))
"""


def test_after_a_kill_the_table_is_whole_and_the_next_run_completes_it(tmp_path: Path) -> None:
    out = tmp_path / "cpu.json"
    rows = [str(word) for row in KILLED for word in row]
    process = subprocess.Popen([sys.executable, "-P", "-c", CAMPAIGN, str(out), *rows])
    deadline = time.monotonic() + 120
    while not out.exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    kept = LatencyTable.load(out).sorted_rows()
    assert 1 <= len(kept) < len(KILLED)

    again = Counting()
    profile(KILLED, again, out)
    completed = LatencyTable.load(out).sorted_rows()
    assert len(again.asked) == len(KILLED) - len(kept)
    assert len(completed) == len(KILLED)
    assert msgspec.json.encode(kept) == msgspec.json.encode(
        [row for row in completed if row.site in {row.site for row in kept}]
    )
