"""Bundles: carried to a device by hand, measured there without goldnas, and imported."""

import ast
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bundles import (
    QUICK,
    SMALL,
    Device,
    assert_refused,
    fabricated,
    import_,
    manifest_of,
    with_field,
)
from goldnas.lut import Failed, LatencyTable, Measured
from goldnas.profiling import bundle_main
from goldnas.profiling.bundle_main import (
    MANIFEST,
    list_runs,
    locate_part,
    measure_models,
    read_results,
)
from goldnas.profiling.calibration import calibrate
from goldnas.profiling.connection import RUNNER
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.rows import measure_rows
from goldnas.profiling.session import Session
from goldnas.spaces import GoldSpace
from nightly import at_night
from workplace import invoke

SPACE = GoldSpace(channels=4, cells=1, input_shape=(3, 8, 8), operators=("skip_connect",))

pytestmark = pytest.mark.usefixtures("carried_quickly")


# -- there and back ---------------------------------------------------------------------------


def test_what_comes_back_is_the_table_that_profile_writes(
    made: Path, measured: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lut" / "device.json"
    code, stdout, stderr = import_(measured, out, "--bundle", made)
    assert code == 0, stderr
    rows = SPACE.rows()
    assert f"{out}: {len(rows)} of the {len(rows)} rows of this space" in stdout
    assert "fitted to 4 networks" in stdout
    assert [path.name for path in out.parent.iterdir()] == ["device.json"]

    session = Session(OnnxruntimeBackend(protocol=QUICK))
    here = measure_rows(session, LatencyTable(session.conditions, (), tmp_path / "here"), rows)
    here = session.finish(calibrate(session, here, SPACE, networks=4), here)
    table = LatencyTable.load(out)
    assert table.conditions == here.conditions
    assert [shape_of(row) for row in table.rows] == [shape_of(r) for r in here.sorted_rows()]
    (carried,), (usual,) = table.calibrations, here.calibrations
    assert {n.fingerprint: n.parts for n in carried.networks} == {
        n.fingerprint: n.parts for n in usual.networks
    }
    assert carried.latencies_us.keys() == usual.latencies_us.keys()
    assert carried.settings == usual.settings
    (campaign,) = table.campaigns
    assert (campaign.rows, campaign.networks) == (len(rows), 4)


def shape_of(row: object) -> tuple[object, ...]:
    """All that two measurements of one row have in common."""
    assert isinstance(row, Measured), row
    timings = [(timing.model, timing.visits) for timing in row.timings]
    return row.operator, row.site, row.method, timings


def test_it_runs_as_a_user_who_may_do_nothing(made: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    nobody = pwd.getpwnam("nobody")
    become = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    libraries = str(Path(np.__file__).parents[1])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        device = Device(Path(folder), made)
        (device.bundle.parent).chmod(0o777)
        device.tmp.chmod(0o777)
        device.environment["PYTHONPATH"] += f":{libraries}"
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        for python in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
            command = [python, "-c", "import numpy, onnxruntime"]
            try:
                tried = subprocess.run(command, env=device.environment, check=False, **become)
            except OSError:
                continue
            if tried.returncode == 0:
                break
        else:
            pytest.skip("no Python here that anybody may run")
        done = subprocess.run(
            [python, str(device.bundle)],
            cwd="/",
            env=device.environment,
            capture_output=True,
            text=True,
            check=False,
            **become,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert device.results.stat().st_uid == nobody.pw_uid
        code, _, stderr = import_(device.results, Path(folder) / "device.json")
        assert code == 0, stderr


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, signal.SIGINT, pytest.param(signal.SIGTERM, marks=at_night)]
)
def test_the_same_command_goes_on_after_an_interruption(device: Device, how: int) -> None:
    part = locate_part(device.results)
    process = device.start()
    deadline = time.monotonic() + 120
    while not (part.exists() and read_results(part)[1]["runs"]):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    _, stderr = process.communicate(timeout=120)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert stderr.startswith("interrupted; run the same command to continue")
        assert f"{part} keeps the finished runs\n" in stderr
    while device.left_behind():  # the models, which a process of its own removes
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not device.results.exists()
    assert_refused(
        import_(part, device.tmp / "device.json"),
        " of 4 runs: measuring was interrupted. Run python with the bundle again",
    )
    before = read_results(part)[1]["runs"]
    assert 0 < len(before) < 4
    code, stdout, stderr = device.run()
    assert (code, stderr) == (0, "")
    assert f"{4 - len(before)} of 4 runs to do" in stdout
    assert read_results(device.results)[1]["runs"][: len(before)] == before
    assert not part.exists()
    if how == signal.SIGKILL:
        code, _, stderr = import_(device.results, device.tmp / "device.json")
        assert code == 0, stderr


def test_a_second_run_changes_nothing(device: Device, measured: Path) -> None:
    shutil.copy(measured, device.results)
    code, stdout, stderr = device.run()
    assert (code, stderr) == (0, "")
    assert "0 of 4 runs to do" in stdout
    assert device.results.read_bytes() == measured.read_bytes()


def test_results_go_where_the_argument_says(device: Device, measured: Path) -> None:
    other = device.tmp.parent / "other"
    other.mkdir()
    shutil.copy(measured, other / "mine.zip")
    assert "mine.zip is complete" in device.run(other / "mine.zip")[1]
    shutil.copy(measured, other / "results.zip")
    assert f"{other / 'results.zip'} is complete" in device.run(other)[1]
    assert not device.results.exists()


def test_a_bundle_is_the_same_bytes_again_and_replaces_another(
    made: Path, tmp_path: Path
) -> None:
    again = Path(shutil.copy(made, tmp_path))
    with_field(MANIFEST, "networks", 7, checksum=True)(again)
    assert invoke("profile", "--bundle", again, *SMALL)[0] == 0
    assert again.read_bytes() == made.read_bytes()


def test_a_model_is_in_a_bundle_once_and_every_process_visits_all(made: Path) -> None:
    with zipfile.ZipFile(made) as archive:
        manifest = json.loads(archive.read(MANIFEST))
        assert len(archive.namelist()) == len(set(archive.namelist()))
    (group,) = manifest["groups"]
    models = group["models"]
    assert models["sentinel"] == models["sentinel, again"]
    assert set(models.values()) == manifest["models"].keys()
    networks = [name for name in models if ":" not in name and "sentinel" not in name]
    assert len(networks) == 4
    assert list_runs(manifest) == [(0, process) for process in range(4)]


@pytest.mark.parametrize("source", [Path(bundle_main.__file__), RUNNER])
def test_what_runs_on_a_device_is_python_3_9_and_needs_no_more(source: Path) -> None:
    tree = ast.parse(source.read_text(), feature_version=(3, 9))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    needed = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert needed == ({"numpy", "onnxruntime"} if source == RUNNER else set())


# -- models that fail, nodes, health -----------------------------------------------------------


def test_a_model_that_the_device_rejects_is_a_failed_row(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from goldnas.operators import OPERATORS

    class HalfPrecision(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.to(torch.bfloat16) * 2).float()

    monkeypatch.setitem(OPERATORS, "max_pool_3x3", lambda site: HalfPrecision())
    settings = [*SMALL[:-1], "max_pool_3x3", "--networks", "0"]
    assert invoke("profile", "--bundle", device.bundle, *settings)[0] == 0
    code, _, stderr = device.run()
    assert (code, stderr) == (0, "")
    out = device.tmp / "device.json"
    code, stdout, stderr = import_(device.results, out)
    assert code == 2
    assert f"{out}: " in stdout
    assert "max_pool_3x3 at " in stderr
    assert "Could not find an implementation for Mul" in stderr
    table = LatencyTable.load(out)
    failed = {row.operator for row in table.rows if isinstance(row, Failed)}
    assert failed == {"max_pool_3x3"}
    assert any(isinstance(row, Measured) for row in table.rows)
    assert not table.calibrations


def test_a_model_that_kills_the_runtime_is_found_and_spares_the_others(tmp_path: Path) -> None:
    (tmp_path / "runner.py").write_text(
        "import json, sys\n"
        "job = json.load(open(sys.argv[1]))\n"
        "print('a library says hello')\n"
        "for name in job['models']:\n"
        "    sys.exit('out of luck') if name == 'bad' else print(json.dumps({'model': name}))\n"
    )
    found = measure_models(
        tmp_path, {}, dict.fromkeys(("one", "two", "bad", "three"), "0" * 64)
    )
    errors = {line["model"]: line.get("error") for line in found}
    assert errors.keys() == {"one", "two", "bad", "three"}
    assert errors["bad"] == "the process that measures ended with status 1: out of luck"
    assert [name for name, error in errors.items() if error] == ["bad"]


def test_a_runtime_that_says_nothing_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runner.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(bundle_main, "SILENCE_S", 0.1)
    (line,) = measure_models(tmp_path, {}, {"slow": "0" * 64})
    assert "no answer for 0.1 s" in line["error"]


def test_a_table_says_how_the_device_bore_it(made: Path, tmp_path: Path) -> None:
    code, _, stderr = import_(fabricated(made, tmp_path / "r.zip"), tmp_path / "device.json")
    assert code == 0, stderr
    table = LatencyTable.load(tmp_path / "device.json")
    assert table.conditions.cpu_model == "Abacus"
    assert table.conditions.backend == "onnxruntime 1.0"
    (campaign,) = table.campaigns
    assert (campaign.hottest_c, campaign.slowest_mhz, campaign.waited_s) == (53.0, 1500.0, 12.0)
    assert campaign.seconds == 40.0
    assert campaign.drift_percent == pytest.approx(3.0, abs=0.1)
    # The board's clock had stopped.
    assert str(campaign.measured_on) == manifest_of(made)["made_on"]
    assert table.conditions.measured_on == campaign.measured_on


def test_nodes_that_run_elsewhere_are_told_of_and_strict_fails_them(tmp_path: Path) -> None:
    made, out = tmp_path / "out.zip", tmp_path / "device.json"
    provider = ["--provider", "openvino", "--provider-option", "device_type=CPU"]
    assert invoke("profile", "--bundle", made, *SMALL, *provider)[0] == 0
    assert list_runs(manifest_of(made)) == [(0, 0), (1, 0), (0, 1), (0, 2), (0, 3)]
    code, _, stderr = import_(fabricated(made, tmp_path / "r.zip"), out)
    assert code == 0, stderr
    table = LatencyTable.load(out)
    assert table.conditions.backend_options["provider"] == "OpenVINOExecutionProvider"
    assert table.conditions.backend_options["device_type"] == "CPU"
    for row in table.rows:
        assert isinstance(row, Measured)
        assert row.elsewhere == {"CPUExecutionProvider": 1}
    with_field(MANIFEST, "strict", True, checksum=True)(made)
    out.unlink()
    code, _, stderr = import_(fabricated(made, tmp_path / "r.zip"), out)
    assert code == 2
    assert "leaves nodes: 1 to CPUExecutionProvider" in stderr
    assert all(isinstance(row, Failed) for row in LatencyTable.load(out).rows)
