"""``goldnas export``: what it writes, measures and promises, and what it refuses."""

import datetime
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from goldnas.architecture import Architecture
from goldnas.cli.command import Command
from goldnas.cli.export import export
from goldnas.deploying.smaller import suggest_smaller
from goldnas.errors import Status
from goldnas.exporting.budget_check import BudgetCheck
from goldnas.exporting.onnx import ARCHITECTURE, CLASSES, INPUTS, check_onnx
from goldnas.exporting.precision import PRECISION
from goldnas.lut import LatencyTable, Loop, MeasuringProtocol
from goldnas.lut.schema import make_unstated_conditions
from goldnas.profiling.gpu_backend import Deployed
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.processor_backend import ProcessorBackend
from goldnas.profiling.processor_runtimes import PROCESSOR_RUNTIMES, list_installed
from goldnas.profiling.profile_space import profile_space
from goldnas.resources import count_parameters, parse_budget
from goldnas.searching.config import SearchConfig
from goldnas.searching.folder import SearchRun
from goldnas.searching.front import Front, FrontNetwork
from goldnas.searching.measured import MeasuredNetwork
from goldnas.spaces import GoldSpace
from nightly import at_night
from simulated_device import SimulatedDevice, SimulatedGpu

MakeTable = Callable[..., LatencyTable]
SPACE = GoldSpace(cells=2, channels=4, input_shape=(1, 8, 8), nodes=2)
KEPT = [gate for gate in SPACE.gates if gate.operator == "skip_connect" or gate.source == 0]
ONCE = MeasuringProtocol(
    name="once", processes=1, rounds=2, warmup_ms=1, visit_ms=2, min_calls=5, statistic="p10"
)
HERE = OnnxruntimeBackend(protocol=ONCE).conditions(batch=1)

pytestmark = pytest.mark.usefixtures("quick")

app = typer.Typer()
app.command(cls=Command)(export)


@dataclass
class Case:
    """A finished search of one network, on disk."""

    folder: Path
    architecture: Architecture

    def export(self, *arguments: str | Path) -> Result:
        return CliRunner().invoke(
            app,
            [str(self.folder), "--out", str(self.out), *map(str, arguments)],
            env={"COLUMNS": "120"},
        )

    @property
    def out(self) -> Path:
        return self.folder.parent / "exported" / "net.onnx"


def finished(
    folder: Path,
    budgets: tuple[str, ...],
    tables: list[LatencyTable] | None = None,
    *,
    data: str = "digits",
    conditions: dict[str, object] | None = None,
) -> Case:
    tables = tables or []
    torch.manual_seed(0)
    config = SearchConfig(data=data, budgets=budgets, tables=tuple(t.name for t in tables))
    run = SearchRun.create(folder / "run", config, conditions or {}, tables)
    architecture = SPACE.architecture(KEPT)
    network = SPACE.build(architecture, gated=True)
    network(torch.randn(16, 1, 8, 8))
    run.save_network(architecture, network.state_dict())
    front = Front(budgets={b.resource: b.limit for b in run.budgets}).with_network(
        FrontNetwork(
            fingerprint=architecture.fingerprint,
            accuracy=0.9123,
            resources={b.resource: b.limit for b in run.budgets},
            epoch=3,
            step=30,
            reasons=("end",),
            meets_budgets=True,
        )
    )
    run.save_front(front)
    return Case(run.path, architecture)


def test_kept_budgets_exit_with_0_and_files(tmp_path: Path, make_table: MakeTable) -> None:
    table = make_table(tmp_path / "cpu.json", SPACE, row_us=10.0, conditions=HERE)
    case = finished(tmp_path, ("1GFLOPs", "1s@cpu"), [table])
    result = case.export("--python-out", case.out.with_name("net.py"))
    assert result.exit_code == 0, result.output
    last = result.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"verify: PASS  latency@cpu \S+ [mu]s measured, \S+ us predicted \([+-]\S+ %\), "
        r"budget 1 s; \S+ kFLOPs measured, \S+ kFLOPs predicted \(\+0\.0 %\), budget 1 GFLOPs",
        last,
    )
    assert (
        f"network {case.architecture.fingerprint}: accuracy 91.23 % on the held-out"
        in result.stdout
    )
    assert "params" in result.stdout  # without a budget, in the table all the same
    files = sorted(path.name for path in case.out.parent.iterdir())
    assert files == ["net.onnx", "net.pt", "net.py"]
    run = SearchRun.open(case.folder)
    network = run.network(run.front().pick("best"))
    assert check_onnx(case.out.read_bytes(), network, (1, 1, 8, 8)) < 1e-5
    done = subprocess.run(
        [sys.executable, "net.py"], cwd=case.out.parent, check=True, capture_output=True
    )
    assert done.stdout.decode() == f"{count_parameters(network):,} parameters\n"


def test_an_export_replaces_an_earlier_one_of_its_network_and_nothing_else(
    tmp_path: Path,
) -> None:
    case = finished(tmp_path, ("1GFLOPs",))
    source = case.out.with_name("net.py")
    words = ("--python-out", source)
    assert case.export(*words).exit_code == 0
    assert case.export(*words).exit_code == 0
    for path in (case.out, source, source.with_suffix(".pt")):
        before = path.read_bytes()
        path.write_bytes(edited := b"of somebody else" + before[:-200])
        result = case.export(*words)
        assert result.exit_code == 2, path
        assert f"{path.name} is there already" in " ".join(result.output.split())
        assert path.read_bytes() == edited
        path.write_bytes(before)
    case.out.write_bytes(b"of somebody else")
    assert case.export(*words, "--force").exit_code == 0


def test_a_file_says_what_it_takes_and_what_it_tells_apart(tmp_path: Path) -> None:
    """Who has the file alone has to prepare its inputs, and to name its outputs."""
    known: dict[str, object] = {
        "inputs": {"mean": [0.25], "std": [0.5]},
        "classes": ["ja", "é"],
    }
    kept = metadata_of(finished(tmp_path / "now", ("1GFLOPs",), conditions=known))
    assert json.loads(kept[INPUTS]) == known["inputs"]
    assert json.loads(kept[CLASSES]) == known["classes"]
    # Of an earlier goldnas, or of data that has neither.
    kept = metadata_of(finished(tmp_path / "earlier", ("1GFLOPs",), conditions={"classes": []}))
    assert ARCHITECTURE in kept
    assert not {INPUTS, CLASSES} & kept.keys()


def metadata_of(case: Case) -> dict[str, str]:
    result = case.export()
    assert result.exit_code == 0, result.output
    return {entry.key: entry.value for entry in onnx.load(case.out).metadata_props}


def test_what_was_measured_is_kept_in_the_folder_of_the_search(
    tmp_path: Path, make_table: MakeTable
) -> None:
    """Of the tables of this machine alone, and beside what earlier exports kept."""
    there = msgspec.structs.replace(HERE, cpu_model="Cortex-A76")
    tables = [
        make_table(tmp_path / "cpu.json", SPACE, row_us=10.0, conditions=HERE),
        make_table(tmp_path / "pi5.json", SPACE, row_us=10.0, conditions=there),
    ]
    case = finished(tmp_path, ("1GFLOPs", "1s@cpu"), tables)
    more = make_table(tmp_path / "more.json", SPACE, row_us=20.0, conditions=HERE)
    fingerprint = case.architecture.fingerprint
    assert case.export("--latency-lut", more.path).exit_code == 0
    earlier = MeasuredNetwork.load(case.folder, fingerprint).tables
    assert earlier.keys() == {"cpu", "more"}
    result = case.export()
    assert result.exit_code == 0, result.output
    now = MeasuredNetwork.load(case.folder, fingerprint).tables
    assert now["more"] == earlier["more"]
    assert now["more"].predicted_us == pytest.approx(2 * now["cpu"].predicted_us)
    assert now["cpu"].measured_us > 0
    assert (now["cpu"].precision, now["cpu"].machine) == ("fp32", HERE.cpu_model)


def test_an_export_goes_without_keeping_what_it_measured(
    tmp_path: Path, make_table: MakeTable
) -> None:
    table = make_table(tmp_path / "cpu.json", SPACE, row_us=10.0, conditions=HERE)
    case = finished(tmp_path, ("1GFLOPs", "1s@cpu"), [table])
    (case.folder / "measured").write_text("in the way")
    result = case.export()
    assert result.exit_code == 0, result.output
    assert "warning: the measurements are not kept: cannot write" in result.stderr
    assert case.out.exists()


def test_an_exceeded_budget_exits_with_3_and_leaves_the_file(
    tmp_path: Path, make_table: MakeTable
) -> None:
    pairs = msgspec.structs.replace(HERE, batch=2)
    table = make_table(tmp_path / "cpu.json", SPACE, row_us=1e-6, conditions=pairs)
    case = finished(tmp_path, ("1GFLOPs", "0.001us"), [table])
    result = case.export("--dynamic-batch", "--json")
    assert result.exit_code == Status.OVER_BUDGET, result.output
    assert result.stderr.splitlines()[-1].startswith("verify: FAIL  latency@cpu")
    reply = json.loads(result.stdout)
    assert (reply["network"], reply["files"]) == (
        case.architecture.fingerprint,
        [str(case.out)],
    )
    latency, flops, _ = reply["resources"]
    assert (latency["verdict"], flops["verdict"]) == ("FAIL", "PASS")
    assert latency["measured"] > latency["budget"] == 0.001
    assert "latency@cpu: measured" in result.stderr  # far beyond the error of a table
    (value,) = onnx.load(case.out).graph.input
    assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_where_a_latency_is_over_a_smaller_network_is_named() -> None:
    latency = parse_budget("100us", ["cpu"])
    front = Front(budgets={latency.resource: latency.limit})
    networks = {
        "a1": (99.0, 5.0, 0.8, True),
        "b2": (96.0, 5.0, 0.7, True),
        "c3": (92.0, 5.0, 0.6, True),
        "d4": (91.0, 7.0, 0.9, True),  # over a budget that only the export has
        "e5": (90.0, 5.0, 0.9, False),  # over another budget of the search
    }
    for name, (latency_us, flops, accuracy, meets_budgets) in networks.items():
        front = front.with_network(
            FrontNetwork(
                fingerprint=name * 4,
                accuracy=accuracy,
                resources={latency.resource: latency_us, "FLOPs": flops},
                meets_budgets=meets_budgets,
                **{"epoch": 0, "step": 0, "reasons": ("end",)},
            )
        )

    def suggest(measured: float, flops: float = 5.0) -> list[str]:
        checks = [
            BudgetCheck(latency.resource, 99.0, measured, latency),
            BudgetCheck("FLOPs", 5.0, flops, parse_budget("6FLOPs", [])),
        ]
        return suggest_smaller(front, checks)

    (told,) = suggest(102.0)
    assert "`pick='b2b2b2b2'`" in told
    assert "96 us" in told
    (told,) = suggest(105.0)
    assert "`pick='c3c3c3c3'`" in told
    assert not suggest(120.0)  # all of them would be over
    assert not suggest(100.0)  # within
    assert not suggest(102.0, flops=7.0)  # a smaller latency is not all that is missing


def test_a_table_of_another_machine_is_not_verified_here(
    tmp_path: Path, make_table: MakeTable
) -> None:
    """Even if this machine would keep, or break, its budget."""
    there = msgspec.structs.replace(HERE, cpu_model="Cortex-A76")
    earlier = msgspec.structs.replace(
        HERE, backend="onnxruntime 0.1", measured_on=datetime.date(2020, 1, 1)
    )
    tables = [
        make_table(tmp_path / "pi5.json", SPACE, row_us=1e-6, conditions=there),
        make_table(tmp_path / "old.json", SPACE, row_us=1e-6, conditions=earlier),
    ]
    case = finished(tmp_path, ("1GFLOPs", "0.001us@pi5"), tables)
    result = case.export()
    assert result.exit_code == 0, result.output
    reason = f"not verified: the table is for Cortex-A76, this machine is {HERE.cpu_model}"
    assert result.stdout.count(reason) == 1
    assert "latency@old not verified: the table and this machine differ in backend" in (
        result.stdout
    )
    last = result.stdout.splitlines()[-1]
    assert last.startswith("verify: INCOMPLETE  ")
    assert reason in last


def test_an_int8_export_is_verified_by_tables_of_int8_alone(
    tmp_path: Path, make_table: MakeTable
) -> None:
    """Its ranges come from training images, its accuracy from held-out ones."""
    single = make_table(tmp_path / "cpu.json", SPACE, row_us=10.0, conditions=HERE)
    integer = msgspec.structs.replace(HERE, precision="int8")
    pairs = msgspec.structs.replace(integer, batch=2)
    more = [
        make_table(tmp_path / f"{name}.json", SPACE, row_us=10.0, conditions=conditions)
        for name, conditions in (("cpu8", integer), ("pairs8", pairs))
    ]
    case = finished(tmp_path, ("1GFLOPs", "1s@cpu"), [single])
    luts = [word for table in more for word in ("--latency-lut", str(table.path))]
    python = case.out.with_name("net.py")
    result = case.export("--precision", "int8", *luts, "--python-out", python)
    assert result.exit_code == 0, result.output
    found = re.search(
        r"int8: (\S+) % of the held-out images right, ([+-]\S+) points from (\S+) % in fp32; "
        r"(\S+) % classified as in fp32",
        result.stdout,
    )
    assert found, result.stdout
    now, change, was, agreeing = map(float, found.groups())
    assert now - was == pytest.approx(change, abs=0.02)
    assert agreeing > 80
    reason = "not verified: the table is for fp32, the network is int8"
    assert result.stdout.count(reason) == 1
    assert result.stdout.splitlines()[-1].startswith("verify: INCOMPLETE  ")
    for name in ("latency@cpu8", "latency@pairs8"):
        assert re.search(rf"{name} .*\d+(\.\d+)? [um]s .* %", result.stdout)
        assert f"{name} not verified" not in result.stdout
    model = onnx.load(case.out)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata[PRECISION] == "int8"
    told_of = Architecture.from_json(metadata[ARCHITECTURE])
    assert told_of.fingerprint == case.architecture.fingerprint
    kinds = {node.op_type for node in model.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    weights = torch.load(python.with_suffix(".pt"), weights_only=True)
    assert {w.dtype for w in weights.values() if w.is_floating_point()} == {torch.float32}


def test_int8_that_costs_accuracy_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goldnas.deploying.outputs.MUCH", -1.0)
    result = finished(tmp_path, ("1GFLOPs",)).export("--precision", "int8")
    assert result.exit_code == 0, result.output
    assert re.search(r"^warning: int8 costs \S+ points of accuracy", result.stderr)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_compared_with_pytorch_where_it_can_be(
    tmp_path: Path, precision: str
) -> None:
    case = finished(tmp_path, ("1GFLOPs",))
    result = case.export("--precision", precision, "--dynamic-batch")
    assert result.exit_code == 0, result.output
    compared = re.search(rf"^{precision}: they differ by \S+ at most$", result.stdout, re.M)
    tried = f"{precision}: not compared" not in result.stdout
    assert bool(compared) == tried
    assert tried == ("the network did not run" not in result.stderr)
    assert tried or precision == "bf16"
    (value,) = onnx.load(case.out).graph.input
    assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_int8_needs_the_images_of_the_search(tmp_path: Path) -> None:
    case = finished(tmp_path, ("1GFLOPs",), data="gone.npz")
    assert case.export("--precision", "fp16").exit_code == 0
    case.out.unlink()
    result = case.export("--precision", "int8")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: cannot read gone.npz")
    assert not case.out.exists()


def test_a_table_more_needs_a_name_of_its_own(tmp_path: Path, make_table: MakeTable) -> None:
    table = make_table(tmp_path / "cpu.json", SPACE, conditions=HERE)
    case = finished(tmp_path, ("1GFLOPs",), [table])
    assert case.export("--latency-lut", tmp_path / "cpu.json").exit_code == 0  # the same
    make_table(tmp_path / "cpu.json", SPACE, scale=2.0, conditions=HERE)
    result = case.export("--latency-lut", tmp_path / "cpu.json")
    assert result.exit_code == 2
    assert "the search already has a latency table named 'cpu'; give" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int4"], "unknown --precision int4; known: fp32, fp16, bf16, int8"),
        (["--latency-lut", "no.json"], "there is no latency table no.json"),
        (["--pick", "9"], "no network '9' in this run: give best"),
        (["--python-out", "net.txt"], "--python-out must end in .py, got net.txt"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    case = finished(tmp_path, ("1GFLOPs",))
    result = case.export(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert not case.out.exists()


def test_files_of_one_export_do_not_overwrite_each_other(tmp_path: Path) -> None:
    case = finished(tmp_path, ("1GFLOPs",))
    result = case.export("--out", tmp_path / "net.pt", "--python-out", tmp_path / "net.py")
    assert result.exit_code == 2
    assert "is also written by --python-out" in result.stderr


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path), "--out", str(tmp_path / "net.onnx")])
    assert result.exit_code == 2
    assert "is not the folder of a search" in result.stderr


def test_damaged_weights_are_one_line(tmp_path: Path) -> None:
    case = finished(tmp_path, ("1GFLOPs",))
    weights = case.folder / "weights" / f"{case.architecture.fingerprint}.pt"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = case.export()
    assert result.exit_code == 2
    assert f"cannot read {weights}" in result.stderr
    assert not case.out.exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    case = finished(tmp_path, ("1GFLOPs",))
    case.out.parent.write_text("a file where a folder should be")
    result = case.export()
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: cannot write {case.out}: ")
    assert result.stderr.count("\n") == 1


# -- runtimes ----------------------------------------------------------------------------------


@at_night
def test_the_fastest_runtime_is_named_and_each_is_compared_with_pytorch(tmp_path: Path) -> None:
    case = finished(tmp_path, ("1GFLOPs",))
    result = case.export("--runtime", "best", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["runtimes"]
    assert {one["runtime"] for one in found} == set(list_installed())
    measured = [one for one in found if not one["refused"]]
    assert "onnxruntime" in {one["runtime"] for one in measured}
    assert all(one["difference"] < 1e-5 for one in measured)
    took_us = [one["latency_us"] for one in measured]
    assert took_us == sorted(took_us)
    if len(measured) > 1:
        assert f"fastest: {measured[0]['backend']}, " in result.stderr


def test_a_runtime_without_the_number_format_is_left_out_or_refused(tmp_path: Path) -> None:
    if "ncnn" not in list_installed():
        pytest.skip(f"ncnn is not installed: {PROCESSOR_RUNTIMES['ncnn'].install}")
    case = finished(tmp_path, ("1GFLOPs",))
    result = case.export("--runtime", "best", "--precision", "fp16")
    assert result.exit_code == 0, result.output
    assert "ncnn not measured: --backend ncnn has no fp16, only fp32" in result.stdout
    case.out.unlink()
    result = case.export("--runtime", "ncnn", "--precision", "fp16")
    assert result.exit_code == 2
    assert not case.out.exists()


def test_a_table_of_a_runtime_is_verified_in_that_runtime_alone(
    tmp_path: Path, make_table: MakeTable
) -> None:
    if "openvino" not in list_installed():
        pytest.skip(f"openvino is not installed: {PROCESSOR_RUNTIMES['openvino'].install}")
    here = ProcessorBackend("openvino", protocol=ONCE).conditions(batch=1)
    earlier = msgspec.structs.replace(here, backend="openvino 2020.1")
    tables = [
        make_table(tmp_path / "ov.json", SPACE, row_us=10.0, conditions=here),
        make_table(tmp_path / "old.json", SPACE, row_us=10.0, conditions=earlier),
    ]
    case = finished(tmp_path, ("1GFLOPs", "1s@ov"), tables)
    result = case.export()
    assert result.exit_code == 0, result.output
    assert re.search(r"verify: PASS  latency@ov \S+ [mu]s measured", result.stdout)
    said = " ".join(result.stdout.split())
    assert "latency@old not verified: the table and this machine differ in backend" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runtime", "fastest"], "unknown --runtime fastest; known: best, onnxruntime"),
        (["--runtime", "best", "--dynamic-batch"], "leave --dynamic-batch out"),
        (["--runtime", "best", "--device", "ssh://pi"], "leave --device out"),
    ],
)
def test_runtimes_that_cannot_be_measured_are_refused(
    tmp_path: Path, words: list[str], message: str
) -> None:
    case = finished(tmp_path, ("1GFLOPs",))
    result = case.export(*words)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not case.out.exists()


# -- a pipeline --------------------------------------------------------------------------------

STEPS = """
import time
import numpy as np


def steps():
    return before, after


def before():
    time.sleep(0.001)
    return np.zeros((1, 1, 8, 8), np.float32)


def after(outputs):
    time.sleep(0.001)


def no_pair():
    return before


def broken():
    return before, lambda outputs: outputs[1]
"""


@pytest.fixture
def with_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of somebody's own in the current folder."""
    (tmp_path / "steps_of_an_export.py").write_text(STEPS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path)
    monkeypatch.delitem(sys.modules, "steps_of_an_export", raising=False)


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> LatencyTable:
    """A table of a loop on this machine, whose times are made up."""
    path = tmp_path_factory.mktemp("looped") / "cpu.json"
    simulated = profile_space(SPACE, path, SimulatedDevice(loop="loaded:1"), networks=8)
    here = OnnxruntimeBackend(protocol=ONCE, loop=Loop(neighbours=1)).conditions(batch=1)
    table = replace(simulated, conditions=here)
    table.save()
    return table


@pytest.mark.usefixtures("with_steps")
def test_a_promise_with_a_pipeline_is_of_all_that_a_user_waits_for(
    tmp_path: Path, looped: LatencyTable, make_table: MakeTable
) -> None:
    tables = [
        looped,
        make_table(tmp_path / "hot.json", SPACE, row_us=10.0, conditions=HERE),
    ]
    case = finished(tmp_path, ("1ms@cpu", "1s@cpu:p99"), tables)
    result = case.export("--pipeline", "steps_of_an_export:steps", "--json")
    assert result.exit_code == Status.OVER_BUDGET, result.output  # 2 ms are slept
    found = json.loads(result.stdout)
    assert found["pipeline"] == "steps_of_an_export:steps"
    checks = {check["resource"]: check for check in found["resources"]}
    p50, p99 = checks["latency@cpu"], checks["latency@cpu:p99"]
    assert (p50["verdict"], p99["verdict"]) == ("FAIL", "PASS")
    for check in (p50, p99):
        assert 2000 <= check["pipeline"] < check["predicted"]
        assert check["pipeline"] < check["measured"]
    alone = checks["latency@hot"]
    assert alone["measured"] is None
    assert "--pipeline is timed in a loop, and the table is hot" in alone["unverified"]
    assert "the prediction is of the network alone" in alone["unverified"]
    assert re.search(r"verify: FAIL  latency@cpu .* of it for the pipeline", result.stderr)
    # A budget of the export is of the whole, and so takes the place of those of the search.
    words = ("--pipeline", "steps_of_an_export:steps", "--budget", "2s@cpu", "--json")
    result = case.export(*words)
    assert result.exit_code == 0, result.output
    budgets = {c["budget"] for c in json.loads(result.stdout)["resources"] if c["budget"]}
    assert budgets == {2e6}
    assert "budget 1ms@cpu of the search is of the network alone" in result.stderr
    # Comparisons are of networks alone.
    assert not (case.folder / "measured").exists()


@pytest.mark.usefixtures("with_steps")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "ssh://pi"], "leave out --device, or leave out --pipeline"),
        (["--runtime", "best"], "--runtime measures the network alone"),
        (["--pipeline", "steps_of_an_export:nothing"], "has no function 'nothing'"),
        (["--pipeline", "steps_of_an_export"], "write package.module:function"),
        (
            ["--pipeline", "steps_of_an_export:no_pair"],
            "returns function, and not two functions, before and after; no file was written",
        ),
        (
            ["--pipeline", "steps_of_an_export:broken"],
            "steps_of_an_export:broken fails after: IndexError",
        ),
    ],
)
def test_a_pipeline_that_cannot_be_is_one_line(
    tmp_path: Path, looped: LatencyTable, words: list[str], message: str
) -> None:
    case = finished(tmp_path, ("1GFLOPs",), [looped])
    result = case.export("--pipeline", "steps_of_an_export:steps", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not case.out.exists()


@pytest.mark.usefixtures("with_steps")
def test_a_pipeline_needs_a_table_of_a_loop(tmp_path: Path, make_table: MakeTable) -> None:
    table = make_table(tmp_path / "hot.json", SPACE, row_us=10.0, conditions=HERE)
    case = finished(tmp_path, ("1GFLOPs",), [table])
    result = case.export("--pipeline", "steps_of_an_export:steps")
    assert result.exit_code == 2
    assert "--pipeline is timed in a loop, and hot is hot: give a table" in result.stderr
    assert not case.out.exists()


# -- engines -----------------------------------------------------------------------------------


class FakeGpuBackend:
    """Runs a model in onnxruntime on the processor; a GPU is not at hand."""

    factor = 1.0

    def __init__(self, name: str, **settings: object) -> None:
        self.name = name

    def conditions(self, *, batch: int) -> None:
        pass

    def run(self, model: bytes, images: np.ndarray) -> Deployed:
        session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        found = [session.run(None, {"input": image[None]})[0] for image in images]
        return Deployed(b"an engine", self.factor * np.concatenate(found))

    def close(self) -> None:
        pass

    def forget_engines(self) -> None:
        pass


def test_an_engine_that_computes_the_same_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goldnas.deploying.latency.GpuBackend", FakeGpuBackend)
    case = finished(tmp_path, ("1GFLOPs",))
    engine = case.out.with_name("net.engine")
    for precision in ("fp16", "int8"):
        result = case.export("--engine", engine, "--precision", precision, "--force")
        assert result.exit_code == 0, result.output
        assert engine.read_bytes() == b"an engine"
        assert f"wrote {case.out}, {engine}" in result.stdout.replace("\n", " ")
        assert "no table is for tensorrt" in result.stdout
        note = "images are classified as by" if precision == "int8" else "PyTorch differ by"
        assert re.search(rf"engine: .*{note}", result.stdout)


def test_an_engine_that_computes_something_else_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goldnas.deploying.latency.GpuBackend", FakeGpuBackend)
    monkeypatch.setattr(FakeGpuBackend, "factor", 1.1)
    case = finished(tmp_path, ("1GFLOPs",))
    result = case.export("--engine", case.out.with_name("net.engine"), "--precision", "fp16")
    assert result.exit_code == 2
    assert "differs from PyTorch by" in result.stderr
    assert not any(case.out.parent.glob("*"))


def test_an_int8_engine_that_says_other_classes_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By value, a right one may be far off."""

    class Scrambled(FakeGpuBackend):
        def run(self, model: bytes, images: np.ndarray) -> Deployed:
            return Deployed(b"", np.roll(super().run(model, images).outputs, 1, axis=1))

    monkeypatch.setattr("goldnas.deploying.latency.GpuBackend", Scrambled)
    case = finished(tmp_path, ("1GFLOPs",))
    result = case.export("--engine", case.out.with_name("net.engine"), "--precision", "int8")
    assert result.exit_code == 2
    assert "the int8 engine classifies" in result.stderr
    assert not any(case.out.parent.glob("*"))


def test_engines_are_cached_beside_the_users_table_and_not_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_table: MakeTable
) -> None:
    for module in ("profiling.gpu_backend", "profiling.match_backend", "deploying.latency"):
        monkeypatch.setattr(f"goldnas.{module}.GpuBackend", SimulatedGpu)
    monkeypatch.setattr(SimulatedGpu, "prepared", [])
    here = SimulatedGpu("tensorrt", protocol=ONCE).conditions(batch=1)
    table = make_table(tmp_path / "lut" / "h200.json", SPACE, row_us=10.0, conditions=here)
    case = finished(tmp_path, ("1GFLOPs", "1s@h200"), [table])
    theirs, ours = table.path.with_name("engines"), case.folder / "tables" / "engines"

    def exported(*options: str) -> tuple[Path, bytes, str]:
        SimulatedGpu.prepared.clear()
        result = case.export(*options)
        assert result.exit_code == 0, result.output
        assert "latency@h200" in result.stdout.splitlines()[-1]
        assert "not verified" not in result.stdout
        folder, cached = SimulatedGpu.prepared[0]
        return folder.parent, cached, result.stderr

    assert exported()[:2] == (theirs, b"")
    folder, cached, stderr = exported()
    assert (folder, cached) == (theirs, b"tactics")
    assert "warning: " not in stderr
    assert not ours.exists()

    table.path.rename(tmp_path / "elsewhere.json")
    folder, cached, stderr = exported()
    assert (folder.exists(), cached) == (False, b"")
    assert "warning: the original of " in stderr
    assert f"Copy that folder to {ours} to use it\n" in stderr
    assert not ours.exists()

    shutil.copytree(theirs, ours)
    assert exported()[:2] == (ours, b"tactics")

    # Caches are code, and those of a stranger's search are not used, nor any that it names.
    (tmp_path / "elsewhere.json").rename(table.path)
    case = Case(case.folder.rename(tmp_path / "sent"), case.architecture)
    folder, cached, stderr = exported()
    assert (folder.exists(), cached) == (False, b"")
    assert "or need --trust" in stderr
    assert exported("--trust")[:2] == (tmp_path / "sent/tables/engines", b"tactics")


def test_an_imported_table_of_a_gpu_is_not_verified(
    tmp_path: Path, make_table: MakeTable
) -> None:
    """Its backend has a name that is known here, and its device one that is not."""
    theirs = make_unstated_conditions(
        "jetson", backend="tensorrt 8.6", protocol="theirs", statistic="mean"
    )
    table = make_table(tmp_path / "jetson.json", SPACE, row_us=10.0, conditions=theirs)
    result = finished(tmp_path, ("1GFLOPs", "1s@jetson"), [table]).export()
    assert result.exit_code == 0, result.output
    assert "budget 1 s, not verified: --backend tensorrt measures a GPU" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "net.engine", "--dynamic-batch"], "--engine has a fixed batch"),
        (["--backend", "tensorrt-rtx"], "--backend needs an --engine"),
        (["--engine", "net.engine", "--backend", "torch"], "torch builds no engine"),
    ],
)
def test_options_of_engines_that_do_not_go_together_are_refused(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = finished(tmp_path, ("1GFLOPs",)).export(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_engine_without_a_gpu_is_one_error_and_writes_nothing(tmp_path: Path) -> None:
    case = finished(tmp_path, ("1GFLOPs",))
    result = case.export("--engine", case.out.with_name("net.engine"))
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "GPU" in result.stderr
    assert not any(case.out.parent.glob("*"))
