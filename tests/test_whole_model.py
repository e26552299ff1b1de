"""Any ONNX file: its latency, its nodes, and what a table predicted."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from goldnas.errors import ConfigError, MeasurementError
from goldnas.exporting.onnx import ARCHITECTURE, to_onnx
from goldnas.exporting.precision import to_precision
from goldnas.profiling import onnxruntime_backend
from goldnas.profiling.config import BundleConfig, ModelConfig, TableConfig
from goldnas.profiling.onnx_file import read_onnx
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.rejections import explain_rejection
from goldnas.profiling.session import Session
from goldnas.profiling.whole_model import measure_model
from goldnas.spaces import GoldSpace
from goldnas.spaces.sampling import draw_architectures
from simulated_device import SimulatedDevice
from simulated_tables import Machine
from workplace import invoke

SPACE = GoldSpace(cells=1, channels=4, input_shape=(3, 8, 8))

pytestmark = pytest.mark.usefixtures("quick")


def write(
    path: Path,
    shape: list[int | str | None],
    kind: int = TensorProto.FLOAT,
    nodes: list[onnx.NodeProto] | None = None,
) -> Path:
    """A model whose input has this shape."""
    graph = helper.make_graph(
        nodes or [helper.make_node("Relu", ["input"], ["output"], name="rectify")],
        "model",
        [helper.make_tensor_value_info("input", kind, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((10, 4), dtype=np.float32), "table")],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of goldnas, as ``goldnas export`` writes it."""
    architecture = next(iter(draw_architectures(SPACE, 1, seed=1)))
    metadata = {ARCHITECTURE: architecture.to_json().decode()}
    path = tmp_path_factory.mktemp("network") / "net.onnx"
    path.write_bytes(to_onnx(SPACE.build(architecture), (1, 3, 8, 8), metadata=metadata))
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "cpu.json"
    Machine("cpu").table(SPACE, path)
    return path


def test_profile_of_a_model_says_where_its_time_goes(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small = nn.Conv2d(8, 8, 1)
            self.large = nn.Conv2d(8, 64, 5, padding=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.large(torch.relu(self.small(x)))
            return y

    path = tmp_path / "two.onnx"
    path.write_bytes(to_onnx(Two(), (1, 8, 32, 32)))
    code, stdout, stderr = invoke("profile", "--model", path, "--json")
    assert code == 0, stderr
    reply = json.loads(stdout)
    longest = max(reply["nodes"], key=lambda node: node["latency_us"])
    assert (longest["operator"], longest["output"]) == ("Conv", "1x64x32x32")
    assert longest["latency_us"] > 0.5 * reply["latency_us"]
    added = sum(node["latency_us"] for node in reply["nodes"]) + reply["outside_us"]
    assert added == pytest.approx(reply["latency_us"])
    assert reply["architecture"] is None
    code, stdout, _ = invoke("profile", "--model", path)
    assert code == 0
    assert "longest of" in stdout
    assert f"{path}: 0." in stdout


def test_a_network_of_goldnas_is_held_against_a_prediction(network: Path, table: Path) -> None:
    code, stdout, stderr = invoke(
        "profile", "--model", network, "--latency-lut", table, "--json"
    )
    assert code == 0, stderr
    reply = json.loads(stdout)
    (prediction,) = reply["predictions"]
    assert prediction["table"] == "cpu"
    ratio = reply["latency_us"] / prediction["latency_us"]
    assert prediction["difference_percent"] == pytest.approx(100 * (ratio - 1))
    assert any("cpu_model" in difference for difference in prediction["other_conditions"])


def test_a_model_in_integers_is_told_from_one_in_fp32(network: Path, tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    path.write_bytes(to_precision(network.read_bytes(), "int8"))
    code, stdout, stderr = invoke("profile", "--model", path, "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["conditions"]["precision"] == "int8"
    code, _, stderr = invoke("profile", "--model", path, "--precision", "fp16")
    assert code == 2
    assert "int8 already" in stderr


def test_a_model_of_others_has_no_prediction(tmp_path: Path, table: Path) -> None:
    path = write(tmp_path / "other.onnx", [1, 4])
    code, _, stderr = invoke("profile", "--model", path, "--latency-lut", table)
    assert code == 2
    assert "was not exported by this version of goldnas" in stderr


# -- shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options", "batch"),
    [
        ([1, 4], {}, 1),
        (["batch", 4], {}, 1),
        ([-1, 4], {}, 1),
        ([None, 4], {"batch": 8}, 8),
        ([8, 4], {"batch": 8}, 8),
        (["batch", "length"], {"shapes": {"input": (2, 16)}}, 2),
        ([], {}, 1),
    ],
)
def test_open_shapes_are_fixed(
    tmp_path: Path, shape: list[Any], options: dict[str, Any], batch: int
) -> None:
    file = read_onnx(write(tmp_path / "model.onnx", shape), **options)
    form = next(file.forms())
    (entry,) = onnx.load_model_from_string(form.model).graph.input
    sizes = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
    assert len(sizes) == len(shape)
    assert all(size > 0 for size in sizes)
    assert file.batch == batch


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (["n", "length"], (), r"is nxlength: give all sizes, as in --shape input=1x64"),
        ([2, 4], ("--batch", "8"), r"is 2x4: its batch is 2 and cannot be 8"),
        ([2, 4], ("--shape", "input=2x5"), r"is 2x4, and cannot be 2x5"),
        ([2, "n"], ("--shape", "input=2x5x7"), r"is 2xn, and cannot be 2x5x7"),
        ([2, "n"], ("--shape", "image=2x5"), r"has no such input, only 'input'"),
        ([2, "n"], ("--shape", "input"), r"give a name and sizes"),
        ([2, "n"], ("--shape", "input=2x-1"), r"as in 1x3x224x224; got '2x-1'"),
    ],
)
def test_a_shape_that_does_not_fit_is_one_line(
    tmp_path: Path, shape: list[Any], options: tuple[str, ...], message: str
) -> None:
    path = write(tmp_path / "model.onnx", shape)
    code, stdout, stderr = invoke("profile", "--model", path, *options)
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize("shape", ["1x1x8x8", (1, -1), (1, 2.0), 8, (True,)])
def test_a_shape_that_is_no_sizes_is_refused(shape: Any) -> None:
    message = (
        r"`shapes` of 'input' must be whole numbers from 0.*'input': \(1, 3, 224, 224\).*got "
    )
    with pytest.raises(ConfigError, match=message):
        ModelConfig(shapes={"input": shape})
    assert ModelConfig(shapes={"input": (1, 8)}).shapes == {"input": (1, 8)}


@pytest.mark.parametrize("config", [BundleConfig, ModelConfig, TableConfig])
def test_a_batch_of_nothing_is_refused(config: Any) -> None:
    with pytest.raises(ConfigError, match="`batch` must be positive and finite, got 0"):
        config(batch=0)


def test_indices_are_measured_too(tmp_path: Path) -> None:
    gather = [helper.make_node("Gather", ["table", "input"], ["output"])]
    path = write(tmp_path / "model.onnx", [1, 16], TensorProto.INT64, gather)
    code, stdout, stderr = invoke("profile", "--model", path, "--json")
    assert code == 0, stderr
    assert [node["operator"] for node in json.loads(stdout)["nodes"]] == ["Gather"]


# -- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.onnx", "table.json", "model.textproto"])
@pytest.mark.parametrize("content", [b"", b"no model", b"\x00" * 64])
def test_a_file_that_is_no_model_is_one_line(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    code, stdout, stderr = invoke("profile", "--model", path)
    assert (code, stdout) == (2, "")
    assert "is not an ONNX model" in stderr
    assert len(stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html>", "a web page"),
        (gzip.compress(b"model", mtime=0), "compressed"),
        (b"PK\x03\x04" + bytes(40), "a zip archive"),
        (b"\x20\0\0\0TFL3" + bytes(40), "a model of TensorFlow Lite"),
        (b"\x20\0\0\0ORTM" + bytes(40), "onnxruntime's own format"),
    ],
)
def test_a_file_that_is_something_else_is_told_as_that(
    tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"is not an ONNX model, but .*{told}"):
        read_onnx(path)
    write(path, [1, 10])
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w", size_threshold=0)
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(ConfigError, match=f"keeps its weights, is .*{told}"):
        read_onnx(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opset": 99}, r"opset 99 of ai.onnx, .* most \d+. Export"),
        (
            {"ir_version": 99},
            "Unsupported model IR version: 99, .* Save the model with a lower",
        ),
        ({"domain": "my.ops"}, "my.ops:Relu.* is not a registered .* export the model without"),
    ],
)
def test_why_a_model_is_rejected_is_told_without_lines_of_code(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    model = onnx.load(write(tmp_path / "m.onnx", [1, 10]))
    model.ir_version = changes.get("ir_version", 10)
    model.opset_import[0].version = changes.get("opset", 18)
    if domain := changes.get("domain"):
        model.graph.node[0].domain = domain
        model.opset_import.add(domain=domain, version=1)
    with pytest.raises(Exception, match="ONNXRuntimeError") as rejected:
        onnxruntime.InferenceSession(model.SerializeToString())
    told = explain_rejection(f"onnxruntime: {rejected.value}")
    assert re.search(message, told), told
    assert told.startswith("onnxruntime: ")
    assert ".cc:" not in told
    assert ".h:" not in told


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    code, _, stderr = invoke("profile", "--model", tmp_path / "model.onnx")
    assert code == 2
    assert "Give the path of an ONNX file" in stderr


def test_a_model_that_the_runtime_rejects_is_one_line(tmp_path: Path) -> None:
    nodes = [helper.make_node("NoSuchOperator", ["input"], ["output"])]
    path = write(tmp_path / "model.onnx", [1, 4], nodes=nodes)
    code, _, stderr = invoke("profile", "--model", path)
    assert code == 2
    assert "NoSuchOperator" in stderr


def test_metadata_that_is_no_architecture_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", [1, 4])
    model = onnx.load(path)
    helper.set_model_props(model, {ARCHITECTURE: "{}"})
    onnx.save(model, path)
    with pytest.raises(ConfigError, match="says that goldnas made it, but holds not an"):
        read_onnx(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --out FILE for a latency table, --model FILE.onnx, or"),
        (("--model", "a.onnx", "--out", "a.json"), "--out does not go with --model"),
        (
            ("--out", "a.json", "--shape", "a=1"),
            "--shape does not go with a latency table",
        ),
    ],
)
def test_options_that_exclude_each_other(arguments: tuple[str, ...], message: str) -> None:
    code, _, stderr = invoke("profile", *arguments)
    assert code == 2
    assert message in stderr


# -- nodes add up ------------------------------------------------------------------------------


def test_what_profiling_takes_is_taken_off_each_node(tmp_path: Path) -> None:
    file = read_onnx(write(tmp_path / "model.onnx", [1, 4]))
    # The simulated device takes 22 us; its profiler says 2 us a node.
    found = measure_model(Session(SimulatedDevice()), next(file.forms()).model)
    assert found.profiling_us == 0
    assert found.outside_us == pytest.approx(20)


def test_a_rejected_model_is_an_error(tmp_path: Path) -> None:
    backend = OnnxruntimeBackend(protocol=onnxruntime_backend.IN_CONTEXT)
    with pytest.raises(MeasurementError):
        measure_model(Session(backend), b"no model")
