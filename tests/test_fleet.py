"""Several devices at once."""

import json
import subprocess
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from goldnas.cli.main import app
from goldnas.cli.profile_fleet import read_fleet
from goldnas.errors import ConfigError
from goldnas.lut import LatencyTable
from nightly import at_night

SMALL = [
    *("--channels", "4", "--cells", "1", "--input", "3x8x8"),
    *("--networks", "2", "--target", "100", "--operators", "skip_connect"),
]
# What each device runs: it measures badly, and soon, and exports as conftest.py has it.
PROGRAM = """
import functools
import msgspec
from torch.onnx._internal.exporter._registration import ONNXRegistry
from goldnas.cli.main import app
from goldnas.profiling import measuring, onnxruntime_backend as backend
backend.IN_CONTEXT = msgspec.structs.replace(
    backend.IN_CONTEXT, processes=6, visit_ms=4.0, warmup_ms=1.0
)
measuring.NOISE_WARNS = measuring.NOISE_REFUSES = float("inf")
ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
app()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goldnas.cli.profile_fleet._PROGRAM", PROGRAM)


def write(folder: Path, text: str) -> Path:
    path = folder / "devices.toml"
    path.write_text(text)
    return path


def run(devices: Path, out: Path, *options: str) -> tuple[int, str, str]:
    command = ["profile", "--devices", str(devices), "--out", str(out), *SMALL, *options]
    result = CliRunner().invoke(app, command)
    return result.exit_code, result.stdout, result.stderr


@at_night
def test_each_device_gets_a_table_and_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    devices = write(tmp_path, "[one]\ncores = [0]\n[two]\npython = 'no-such-python'\n")
    code, stdout, stderr = run(devices, tmp_path / "lut")
    assert code == 2
    assert "1 of 2 devices failed: two. Run the same command" in stderr
    table = LatencyTable.load(tmp_path / "lut" / "one.json")
    assert table.calibrations
    assert table.conditions.backend_options["cores"] == "0"
    assert "cannot start no-such-python" in stdout
    assert "--latency-lut" in stdout
    assert [path.name for path in (tmp_path / "lut").iterdir()] == ["one.json"]


@at_night
@pytest.mark.slow
def test_a_device_that_dies_half_way_stops_no_other_and_goes_on_later(tmp_path: Path) -> None:
    devices = write(tmp_path, "[here]\ncores = [0]\n[there]\ncores = [1]\n")
    out = tmp_path / "lut"

    def kill() -> None:
        while not (out / "there.json.visits").exists():
            time.sleep(0.05)
        subprocess.run(["pkill", "-KILL", "-f", f"{out}/there.json"], check=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    code, _, stderr = run(devices, out, "--networks", "0")
    assert code == 2
    assert "1 of 2 devices failed: there" in stderr
    rows = LatencyTable.load(out / "here.json").rows
    assert (out / "there.json.visits").exists()
    code, stdout, stderr = run(devices, out, "--networks", "0", "--json")
    assert code == 0, stderr
    assert len(LatencyTable.load(out / "there.json").rows) == len(rows)
    reply = {device["device"]: device["rows"] for device in json.loads(stdout)["devices"]}
    assert reply == {"here": len(rows), "there": len(rows)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no device"),
        ("[a", "is not a TOML file"),
        ("a = 1", "'a' is not in the table of a device"),
        ("['../a']\nthreads = 1", "'../a' is not in the table of a device"),
        ("[a]\ncolour = 1", "'colour' of [a] is unknown; known: "),
        ("[a]\nthreads = 'two'", "'threads' of [a] is 'two': "),
        ("[a]\nthreads = true", "'threads' of [a] is True: "),
        ("[a]\ncores = 1", "'cores' of [a] is 1: "),
        ("[a]\nthreads = [2]", "'threads' of [a] is [2]: "),
        (f"[a]\nthreads = {'9' * 5000}", "is not a TOML file"),
        (f"[a]\ncores = {'[' * 10**4}", "is not a TOML file"),
        ('[a]\ndevice = "a\\u0000"', "a text cannot have a zero byte"),
        ("".join(f"[d{n}]\n" for n in range(101)), "names 101 devices"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_starts_nothing(
    tmp_path: Path, text: str, message: str
) -> None:
    code, stdout, stderr = run(write(tmp_path, text), tmp_path / "lut")
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert not (tmp_path / "lut").exists()


def test_a_missing_file_and_options_of_one_device_are_told(tmp_path: Path) -> None:
    code, _, stderr = run(tmp_path / "none.toml", tmp_path / "lut")
    assert code == 2
    assert "No such file" in stderr
    devices = write(tmp_path, "[a]")
    code, _, stderr = run(devices, tmp_path / "lut", "--cores", "1")
    assert code == 2
    assert "--cores does not go with --devices (" in stderr


def test_settings_become_options(tmp_path: Path) -> None:
    devices = write(
        tmp_path,
        "[pi]\ndevice = 'ssh://pi@pi5'\nthreads = 4\ncores = [0, 1]\nstrict = true\n"
        "[box]\nprovider = 'openvino'\nprovider_options = { num_of_threads = 1 }\n",
    )
    assert read_fleet(devices) == {
        "pi": ["--device", "ssh://pi@pi5", "--threads", "4", "--cores", "0,1", "--strict"],
        "box": ["--provider", "openvino", "--provider-option", "num_of_threads=1"],
    }
    with pytest.raises(ConfigError):
        read_fleet(tmp_path)
