"""Backends of GPUs, as far as they can be tested without one."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from goldnas.cli.main import app
from goldnas.cli.profile import tables_of
from goldnas.errors import ConfigError
from goldnas.exporting.onnx import to_onnx
from goldnas.lut import Conditions, Gpu, LatencyTable, Measured
from goldnas.profiling import gpu_runner
from goldnas.profiling.backend import Failure, Health, Visit
from goldnas.profiling.cuda_device import HostDevice, name_throttle_reasons
from goldnas.profiling.gpu_backend import GpuBackend, locate_engines
from goldnas.profiling.host import Host, find_host
from goldnas.profiling.match_backend import match_backend
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.rows import measure_rows
from goldnas.profiling.runtimes import BACKENDS, FullError, complete_options
from goldnas.profiling.session import Session
from goldnas.site import Site
from simulated_device import WITHOUT_TARGET, SimulatedDevice, SimulatedGpu
from workplace import PROFILE, assert_one_line, goldnas, invoke, on_disk

WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
H200 = Gpu(name="NVIDIA H200", compute_capability="9.0", driver="580.1", memory_mib=143771)


# -- names and options -------------------------------------------------------------------------

REFUSED = {
    "backend": (["--backend", "tensorflow"], "unknown --backend 'tensorflow'; known: onnxrun"),
    "for processors": (
        ["--device", "cuda", "--backend", "onnxruntime"],
        "--backend onnxruntime measures processors. For a GPU, give --backend onnxruntime-cuda",
    ),
    "elsewhere": (
        ["--device", "ssh://jetson", "--backend", "tensorrt"],
        "--backend tensorrt measures the GPU of this machine, but --device ssh://jetson is",
    ),
    "the processor": (
        ["--device", "cpu", "--backend", "torch"],
        "but --device cpu is another",
    ),
    "threads": (
        ["--device", "cuda", "--threads", "2"],
        "--threads does not go with --backend tensorrt: leave it out",
    ),
    "cores": (
        ["--backend", "torch", "--cores", "1"],
        "--cores does not go with --backend torch",
    ),
    "option": (
        ["--backend", "torch-graph", "--provider-option", "workspace_mib=1"],
        "workspace_mib=1: torch-graph has no such option, only tf32",
    ),
    "yes": (
        ["--device", "cuda", "--provider-option", "tf32=on"],
        "tf32=on: the value must be yes or no",
    ),
    "number": (
        ["--device", "cuda", "--provider-option", "optimization_level=6"],
        "optimization_level=6: the value must be a whole number from 0 to 5",
    ),
    "int8": (
        ["--backend", "torch", "--precision", "int8"],
        "--backend torch has no int8, only fp32, fp16, bf16",
    ),
    "provider": (["--provider", "cuda"], "--provider cuda, give --backend onnxruntime-cuda"),
    "batches": (["--batch", "1,8", "--model", "x.onnx"], "need --out"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_a_gpu_is_one_line_and_writes_nothing(
    workplace: Path, arguments: list[str], message: str
) -> None:
    before = set(workplace.rglob("*"))
    out = [] if "--model" in arguments else ["--out", "new.json"]
    result = CliRunner().invoke(app, ["profile", *out, *arguments])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert set(workplace.rglob("*")) == before


def test_options_are_those_given_else_as_they_are_by_default() -> None:
    assert complete_options("tensorrt", {"workspace_mib": "64"}) == {
        "workspace_mib": "64",
        "optimization_level": "3",
        "cuda_graph": "yes",
        "tf32": "no",
    }
    assert all(backend.options["tf32"] == "no" for backend in BACKENDS.values())


def test_another_device_than_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="`backend='torch-graph'` measures a GPU"):
        GpuBackend("torch-graph", device="cpu")


@pytest.mark.parametrize("text", ["", "0", "1,", "8,1,8", "many", "-1", "1;2"])
def test_only_numbers_between_commas_are_batches(tmp_path: Path, text: str) -> None:
    code, stderr = goldnas(f"{PROFILE} --out {tmp_path / 'new.json'} --batch '{text}'")
    assert_one_line(code, stderr, "--batch")
    assert not list(tmp_path.iterdir())


def test_several_batches_have_a_table_each() -> None:
    out = Path("lut/t4.json")
    assert tables_of(out, (8,)) == {8: out}
    assert tables_of(out, (1, 64)) == {1: Path("lut/t4-b1.json"), 64: Path("lut/t4-b64.json")}


# -- without a GPU -----------------------------------------------------------------------------


@WITHOUT_GPU
def test_without_a_gpu_there_is_one_clear_error(workplace: Path) -> None:
    code, stderr = goldnas(f"{PROFILE} --device cuda")
    assert code == 2
    assert len(stderr.splitlines()) == 1
    expected = (
        r"error: --backend tensorrt: (no GPU to measure on: |the PyTorch here, ).*--device"
    )
    assert re.match(expected, stderr), stderr
    assert not Path("new.json").exists()
    assert not Path("engines").exists()


def job(**fields: Any) -> dict[str, Any]:
    name = fields.get("backend", "torch")
    return {
        "backend": name,
        "device": "cuda",
        "options": complete_options(name, {}),
        "folder": "engines",
        "models": {},
        "rounds": 2,
        "seed": 0,
        "warmup_ms": 1,
        "visit_ms": 1,
        "min_calls": 3,
        **fields,
    }


def replies(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_without_tensorrt_it_is_said_how_to_get_it_and_what_would_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_runner, "CudaDevice", HostDevice)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    gpu_runner.main(job(backend="tensorrt", facts=True))
    (line,) = replies(capsys)
    assert line["unusable"].startswith("TensorRT is not installed here (")
    assert "pip install 'tensorrt>=10.12,<12'" in line["unusable"]
    assert "or measure with an installed backend: " in line["unusable"]
    assert "`backend='torch'`, `backend='torch-graph'`" in line["unusable"]
    assert "--backend tensorrt," not in line["unusable"]
    assert "onnxruntime-cuda" not in line["unusable"]


# -- jobs, on the processor --------------------------------------------------------------------


class Full:
    version = "1.0"

    def prepare(self, model: bytes) -> NoReturn:
        raise FullError("CUDA out of memory.\nTried to allocate 2 GiB")


def test_a_full_gpu_ends_the_process_so_that_fewer_models_are_tried_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    models = {"net": {"path": str(path)}}
    with pytest.raises(
        SystemExit, match=r"^the GPU's memory is full: CUDA out of memory. Tried"
    ):
        gpu_runner.measure(job(models=models), Full(), HostDevice())
    assert replies(capsys) == []


class Broken(HostDevice):
    """A GPU after a kernel read where it may not: whatever is asked of it fails."""

    def synchronize(self) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


class Rejecting:
    version = "1.0"

    def prepare(self, model: bytes) -> NoReturn:
        raise RuntimeError("the kernel failed")


@pytest.mark.parametrize(
    ("device", "dies"), [(Broken(), True), (HostDevice(), False)], ids=["broken", "well"]
)
def test_a_gpu_that_cannot_go_on_ends_the_process_and_a_rejected_model_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], device: HostDevice, dies: bool
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    of_one = job(models={"net": {"path": str(path)}})
    if dies:
        with pytest.raises(SystemExit, match=r"cannot go on after net: the kernel failed$"):
            gpu_runner.measure(of_one, Rejecting(), device)
        return
    gpu_runner.measure(of_one, Rejecting(), device)
    assert replies(capsys) == [{"model": "net", "error": "the kernel failed"}]


def test_a_model_is_run_on_images_one_by_one() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    images = torch.randn(3, 3, 8, 8)
    backend = GpuBackend("torch", device="cpu")
    found = backend.run(to_onnx(network, (1, 3, 8, 8)), images.numpy())
    assert found.engine == b""
    expected = network(images).detach().numpy()
    np.testing.assert_allclose(found.outputs, expected, atol=1e-5)
    backend.close()


def test_engines_are_removed_and_what_makes_building_faster_stays(tmp_path: Path) -> None:
    backend = GpuBackend("tensorrt", folder=tmp_path / "engines")
    own = tmp_path / "engines" / "nvidia-h200_tensorrt_10.13_580"
    other = tmp_path / "engines" / "nvidia-h200_tensorrt-rtx_1.7_580"
    for folder in (own, other):
        folder.mkdir(parents=True)
        (folder / f"{'a' * 64}.engine").touch()
    (own / "timing.cache").touch()
    backend.forget_engines()
    left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["engines/nvidia-h200_tensorrt_10.13_580/timing.cache"]


# -- conditions --------------------------------------------------------------------------------


def on_an_h200(conditions: Conditions, **changes: Any) -> Conditions:
    return msgspec.structs.replace(
        conditions, device="cuda", backend="tensorrt 10.13.3", gpu=H200, **changes
    )


def test_a_table_of_another_gpu_or_driver_is_another_table(conditions: Conditions) -> None:
    here = on_an_h200(conditions)
    assert here.machine == "NVIDIA H200"
    assert conditions.machine == conditions.cpu_model
    assert here.differences(here) == []
    newer = msgspec.structs.replace(H200, driver="590.2")
    updated = msgspec.structs.replace(here, gpu=newer)
    assert here.differences(updated) == ["gpu.driver was 580.1, is now 590.2"]
    processor = msgspec.structs.replace(here, gpu=None)
    assert "gpu.name was None, is now NVIDIA H200" in processor.differences(here)


def test_a_table_says_which_command_adds_to_it(conditions: Conditions, tmp_path: Path) -> None:
    options = {"provider": "tensorrt", "tf32": "yes", "cuda": "13.0"}
    here = on_an_h200(conditions, backend_options=options)
    table = LatencyTable(here, (), tmp_path / "h200.json")
    table.save()
    assert LatencyTable.load(table.path).profile_call("space('gold')") == (
        "profile(space('gold'), device='cuda', batch=1, backend='tensorrt', precision='fp32', "
        f"provider_options={{'tf32': 'yes'}}, out='{table.path}')"
    )


def test_a_table_is_measured_again_as_it_was(conditions: Conditions) -> None:
    options = {"provider": "tensorrt", "workspace_mib": "64", "cuda": "13.0"}
    like = match_backend(on_an_h200(conditions, backend_options=options), host=Host())
    assert isinstance(like, GpuBackend)
    assert like.options == complete_options("tensorrt", {"workspace_mib": "64"})
    assert isinstance(match_backend(conditions, host=Host()), OnnxruntimeBackend)
    with pytest.raises(ConfigError, match="the machine with the GPU, not through ssh://a"):
        match_backend(on_an_h200(conditions), host=find_host("ssh://a"))


@pytest.mark.parametrize(
    ("setting", "host"),
    [
        ("python", find_host("cpu", "/usr/bin/another-python")),
        ("perf_test", find_host("cpu", None, "onnxruntime_perf_test")),
    ],
)
def test_options_that_a_table_of_a_gpu_does_not_have_are_refused(
    conditions: Conditions, setting: str, host: Host
) -> None:
    with pytest.raises(ConfigError, match=f"^`{setting}` does not go with a table of tensorrt"):
        match_backend(on_an_h200(conditions), host=host)


def test_a_processor_is_not_measured_where_a_gpu_is_meant(conditions: Conditions) -> None:
    with pytest.raises(ConfigError, match=r"^`device='cuda'`: the table is for cpu, .*not for"):
        match_backend(conditions, host=find_host("cuda"))
    assert isinstance(match_backend(on_an_h200(conditions), host=find_host("cuda")), GpuBackend)


def test_engines_are_kept_beside_the_table(conditions: Conditions, tmp_path: Path) -> None:
    folder = locate_engines(tmp_path / "h200.json")
    like = match_backend(on_an_h200(conditions), host=Host(), folder=folder)
    assert isinstance(like, GpuBackend)
    assert like.folder == tmp_path / "engines"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> type[SimulatedGpu]:
    """What measures this machine's GPU in every command."""
    for module in ("gpu_backend", "match_backend"):
        monkeypatch.setattr(f"goldnas.profiling.{module}.GpuBackend", SimulatedGpu)
    monkeypatch.setattr(SimulatedGpu, "prepared", [])
    return SimulatedGpu


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Allow no change in a folder; root may write whatever the permissions are."""
    if os.geteuid() != 0:
        places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        for place in places:
            place.chmod(0o500)
        try:
            yield
        finally:
            for place in places:
                place.chmod(0o700)
        return
    mounting = [["--bind", folder, folder], ["-o", "remount,bind,ro", folder]]
    if shutil.which("mount") is None or any(
        subprocess.run(["mount", *how], check=False, capture_output=True).returncode
        for how in mounting
    ):
        pytest.skip("root may write everywhere, and may not mount here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_table_is_checked_where_caches_cannot_be_kept(
    tmp_path: Path, gpu: type[SimulatedGpu]
) -> None:
    table = tmp_path / "lut" / "h200.json"
    code, _, stderr = invoke(
        *("profile", "--backend", "tensorrt", "--cells", "1", "--channels", "4"),
        *("--input", "1x8x8", "--networks", "4", "--out", table),
    )
    assert code == 0, stderr
    check = ("lut", "check", table, "--networks", "2", "--seed", "1")
    gpu.prepared.clear()
    code, _, stderr = invoke(*check)
    assert code == 0, stderr
    assert "warning: " not in stderr
    (own,) = {folder for folder, _ in gpu.prepared}
    assert own.parent == table.parent / "engines"

    before = on_disk(str(tmp_path))
    gpu.prepared.clear()
    with read_only(table.parent):
        code, stdout, stderr = invoke(*check)
    assert code == 0, stderr
    assert "2 fresh networks" in stdout
    (warning,) = (line for line in stderr.splitlines() if line.startswith("warning: "))
    assert warning.startswith(f"warning: {table.parent / 'engines'} cannot be written: ")
    # The tactics are still those that the table was measured with.
    assert gpu.prepared[0][0] != own
    assert gpu.prepared[0][1] == b"tactics"
    assert on_disk(str(tmp_path)) == before
    assert not any(folder.exists() for folder, _ in gpu.prepared)


def test_a_place_that_can_be_no_folder_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file")
    replies: list[str] = []
    backend = SimulatedGpu("tensorrt", folder=tmp_path / "engines", on_warning=replies.append)
    assert replies == []  # whoever measures nothing need not know
    backend.conditions(batch=1)
    (warning,) = replies
    assert warning.startswith(f"{tmp_path / 'engines'} cannot be written: ")
    assert backend.folder.is_dir()


class WithoutLayers(SimulatedDevice):
    """Cannot tell of its layers, as a GPU's profiler may not."""

    def nodes(self, models: Mapping[str, bytes]) -> NoReturn:
        raise AssertionError("asked for layers")


def test_a_table_does_not_depend_on_layers_where_nothing_can_run_elsewhere(
    tmp_path: Path,
) -> None:
    device = WithoutLayers(protocol=WITHOUT_TARGET)
    device.provider = "tensorrt-rtx"
    session = Session(device)
    table = LatencyTable(session.conditions, (), tmp_path / "gpu.json")
    (row,) = measure_rows(session, table, [("max_pool_3x3", Site(4, 4, 8, 8))]).rows
    assert isinstance(row, Measured)
    assert row.elsewhere == {}


class Launching(SimulatedDevice):
    """Takes as long to launch as told, in microseconds."""

    enqueue_us = 0.0

    def visit(
        self, models: Mapping[str, bytes], *, seed: int
    ) -> dict[str, tuple[Visit, ...] | Failure]:
        found = super().visit(models, seed=seed)
        return {
            name: tuple(replace(v, enqueue_us=self.enqueue_us) for v in visits)
            for name, visits in found.items()
            if not isinstance(visits, Failure)
        }


@pytest.mark.parametrize(("enqueue_us", "bound"), [(1.0, False), (1e6, True)])
def test_a_row_that_is_bound_by_launching_says_so(
    tmp_path: Path, enqueue_us: float, bound: bool
) -> None:
    device = Launching(protocol=WITHOUT_TARGET)
    device.enqueue_us = enqueue_us
    session = Session(device)
    table = LatencyTable(session.conditions, (), tmp_path / "gpu.json")
    (row,) = measure_rows(session, table, [("max_pool_3x3", Site(4, 4, 8, 8))]).rows
    assert isinstance(row, Measured)
    assert row.launch_bound == bound
    assert LatencyTable.load(table.path).rows == (row,)


def test_the_worst_of_a_gpu_is_kept() -> None:
    health = Health()
    for state in (
        {"temperature_c": 60.0, "frequency_mhz": 1980.0, "memory_mhz": 3201.0, "throttled": []},
        {"temperature_c": 71.0, "frequency_mhz": 1500.0, "throttled": ["power cap"]},
        {"memory_mhz": 2619.0},
    ):
        health = health.with_state(state)
    assert health == Health(71.0, 1500.0, 0.0, 2619.0, ("power cap",))


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (0, []),
        (0x3, []),  # idle, and clocks that somebody set
        (0x1 | 0x4 | 0x40, ["power cap", "hardware thermal slowdown"]),
        (0x10000, ["reason 0x10000"]),
    ],
)
def test_reasons_for_a_low_clock_have_words(bits: int, reasons: list[str]) -> None:
    assert name_throttle_reasons(bits) == reasons
