"""Other runtimes for the processor: settings, whole models, exact outputs, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from goldnas.errors import ConfigError, MeasurementError
from goldnas.exporting.onnx import run_module, to_onnx
from goldnas.exporting.precision import to_precision
from goldnas.lut import LatencyTable, Measured
from goldnas.profiling.config import TableConfig
from goldnas.profiling.processor_backend import ProcessorBackend
from goldnas.profiling.processor_runtimes import (
    PROCESSOR_RUNTIMES,
    check_installed,
    list_installed,
)
from goldnas.profiling.runtimes import MissingRuntimeError
from nightly import at_night
from workplace import invoke

pytestmark = pytest.mark.usefixtures("quick")

SHAPE = (2, 3, 9, 9)
"""Of several images, and of an odd size."""


def needs(name: str) -> None:
    if name not in list_installed():
        pytest.skip(f"{name} is not installed: {PROCESSOR_RUNTIMES[name].install}")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.Hardswish()),
        *(nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.ReLU(), nn.Conv2d(24, 16, 1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    ).eval()


@pytest.fixture(scope="module")
def model(network: nn.Module) -> bytes:
    return to_onnx(network, SHAPE)


@pytest.mark.parametrize("name", PROCESSOR_RUNTIMES)
def test_a_runtime_computes_in_exact_fp32(name: str, network: nn.Module, model: bytes) -> None:
    """bf16 would be off by 1e-2, weights in fp16 by 1e-3."""
    needs(name)
    images, expected = run_module(network, SHAPE)
    found = ProcessorBackend(name).run(model, images.numpy())
    assert found.shape == expected.shape
    assert np.abs(found - expected.numpy()).max() < 1e-5 * float(expected.abs().max())


def test_openvino_runs_int8_in_integers(model: bytes, network: nn.Module) -> None:
    needs("openvino")
    images, expected = run_module(network, SHAPE)
    integer = to_precision(model, "int8", images=images.numpy())
    backend = ProcessorBackend("openvino", precision="int8")
    found = backend.run(integer, images.numpy())
    difference = np.abs(found - expected.numpy()).max() / float(expected.abs().max())
    assert 1e-4 < difference < 0.2  # rounded, and not to something else
    assert backend.conditions(batch=2).precision == "int8"


OPTIONS = {
    "provider": "openvino",
    "cores": "0",
    "inference_precision": "f32",
    "performance_hint": "latency",
    "streams": "1",
}


def test_conditions_name_the_runtime_its_version_and_its_options() -> None:
    needs("openvino")
    config = TableConfig(backend="openvino", cores=(0,))
    conditions = config.make_backend(on_warning=lambda text: None).conditions(batch=1)
    assert (conditions.runtime, conditions.device, conditions.threads) == ("openvino", "cpu", 1)
    assert conditions.backend_options == OPTIONS
    assert conditions.cores == [0]


@at_night
@pytest.mark.parametrize("name", PROCESSOR_RUNTIMES)
def test_a_table_of_a_runtime_is_not_continued_by_another(name: str, tmp_path: Path) -> None:
    needs(name)
    out = tmp_path / "lut" / "table.json"
    words = ("--cells", 1, "--channels", 4, "--input", "3x8x8", "--networks", 0)
    code, _, stderr = invoke("profile", *words, "--backend", name, "--out", out)
    assert code == 0, stderr
    table = LatencyTable.load(out)
    assert table.conditions.runtime == name
    assert all(isinstance(row, Measured) for row in table.rows)
    code, _, stderr = invoke("profile", *words, "--out", out)
    assert code == 2
    assert f"backend was {name}" in " ".join(stderr.split())


@pytest.mark.parametrize("name", ["ncnn", pytest.param("openvino", marks=at_night)])
def test_a_whole_model_is_measured_with_nodes_where_there_is_a_profiler(
    name: str, model: bytes, tmp_path: Path
) -> None:
    needs(name)
    path = tmp_path / "net.onnx"
    path.write_bytes(model)
    code, stdout, stderr = invoke("profile", "--model", path, "--backend", name, "--json")
    assert code == 0, stderr
    found = json.loads(stdout)
    assert found["latency_us"] > 0
    assert found["conditions"]["backend"].startswith(name)
    if PROCESSOR_RUNTIMES[name].has_profiler:
        assert {"Conv", "Gemm"} & {node["operator"] for node in found["nodes"]}
    else:
        assert (found["nodes"], found["outside_us"]) == ([], None)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"device": "ssh://pi@raspberry"}, "`device='ssh://pi@raspberry'` is another device"),
        ({"device": "cuda"}, "`device='cuda'` is another device"),
        ({"provider": "openvino"}, "`provider` does not go with `backend='ncnn'`"),
        ({"provider_options": {"a": "b"}}, "`provider_options` does not go with"),
        ({"python": "python3"}, "`python` does not go with"),
        ({"perf_test": "perf"}, "`perf_test` does not go with"),
    ],
)
def test_settings_of_onnxruntime_are_refused(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TableConfig(backend="ncnn", **settings)  # type: ignore[arg-type]
    assert named in str(caught.value)


def test_a_number_format_that_a_runtime_lacks_is_refused(tmp_path: Path) -> None:
    words = ("--backend", "ncnn", "--precision", "int8", "--out", tmp_path / "a.json")
    code, _, stderr = invoke("profile", *words)
    assert code == 2
    assert "--backend ncnn has no int8, only fp32" in stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_cores_that_are_not_there_are_refused() -> None:
    needs("openvino")
    with pytest.raises(MeasurementError, match="has no core 5000, only 0 to"):
        ProcessorBackend("openvino", cores=[5000]).conditions(batch=1)


def test_a_runtime_that_is_absent_is_one_line_with_the_command(tmp_path: Path) -> None:
    absent = [name for name in PROCESSOR_RUNTIMES if name not in list_installed()]
    if not absent:
        pytest.skip("all runtimes are installed")
    name = absent[0]
    install = PROCESSOR_RUNTIMES[name].install
    with pytest.raises(MissingRuntimeError, match=f"is not installed: {install}"):
        check_installed(name)
    code, _, stderr = invoke("profile", "--backend", name, "--out", tmp_path / "a.json")
    assert code == 2
    assert install in " ".join(stderr.split())
    assert not (tmp_path / "a.json").exists()
