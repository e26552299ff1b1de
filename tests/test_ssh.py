"""Measuring on another machine: a real sshd, the system's ssh, and what can go wrong."""

import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from goldnas.cli.main import app
from goldnas.errors import MeasurementError
from goldnas.exporting.onnx import to_onnx
from goldnas.lut import LatencyTable, Measured
from goldnas.operators import build_operator
from goldnas.profiling.backend import Failure
from goldnas.profiling.connection import Connection, UnreachableError
from goldnas.profiling.host import find_host
from goldnas.profiling.onnxruntime_backend import IN_CONTEXT, OnnxruntimeBackend
from goldnas.site import Site
from loopback import SSHD, Loopback, loopback

pytestmark = [
    pytest.mark.skipif(SSHD is None, reason="no sshd here"),
    pytest.mark.usefixtures("quick"),
]

QUICK = msgspec.structs.replace(IN_CONTEXT, processes=2)
SMALL = [
    *("--channels", "4", "--cells", "1", "--input", "3x8x8"),
    *("--networks", "4", "--target", "100", "--operators", "skip_connect"),
]


@pytest.fixture(scope="module")
def model() -> bytes:
    return to_onnx(build_operator("sep_conv_3x3", Site(16, 16, 8, 8)), (1, 16, 8, 8))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    with loopback(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def server(running: Loopback, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    running.configure()
    monkeypatch.setenv("GOLDNAS_SSH_COMMAND", running.command)
    return running


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the far side keeps models: what is left behind is seen."""
    folder = tmp_path / "far away"
    folder.mkdir()
    return folder


def far(server: Loopback, place: Path, python: str = sys.executable) -> OnnxruntimeBackend:
    host = find_host(f"{server.device}{str(place).replace(' ', '%20')}", python)
    return OnnxruntimeBackend(host=host, protocol=QUICK, patience_s=20)


def gone(place: Path) -> bool:
    """Whether the far side has cleaned up; it has a moment for it."""
    for _ in range(1200):
        if not list(place.iterdir()):
            return True
        time.sleep(0.05)
    return False


# -- what works --------------------------------------------------------------------------------


def test_a_far_machine_is_measured_like_this_one_and_left_clean(
    server: Loopback, place: Path, model: bytes
) -> None:
    backend = far(server, place)
    assert backend.conditions(batch=1) == OnnxruntimeBackend(protocol=QUICK).conditions(batch=1)
    found = backend.visit({"good": model, "bad": b"no model"}, seed=3)
    assert isinstance(found["bad"], Failure)
    assert not isinstance(found["good"], Failure)
    assert [visit.process for visit in found["good"]] == [3] * QUICK.rounds
    assert list(place.iterdir())
    backend.close()
    assert gone(place)


def test_a_model_is_sent_once(server: Loopback, place: Path, model: bytes) -> None:
    connection = Connection(find_host(f"{server.device}/tmp", sys.executable), silence_s=60)
    sent: list[str] = []
    ask = connection.ask
    connection.ask = lambda body=b"", **request: (  # type: ignore[method-assign]
        sent.append(str(request["do"])) or ask(body, **request)  # type: ignore[func-returns-value]
    )
    assert connection.store(model) == connection.store(model)
    assert sent == ["store"]
    connection.close()


def test_profile_check_and_calibrate_over_ssh(
    server: Loopback, place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "far.json"
    there = ["--device", server.device, "--python", sys.executable]
    run = CliRunner()
    done = run.invoke(app, ["profile", *SMALL, *there, "--out", str(out)])
    assert done.exit_code == 0, done.stderr
    table = LatencyTable.load(out)
    assert all(isinstance(row, Measured) for row in table.rows)
    assert str(server.port) not in out.read_text()  # no address in a table
    for command in ("check", "calibrate"):
        done = run.invoke(app, ["lut", command, str(out), "--networks", "2", *there])
        assert done.exit_code == 0, done.stderr


def test_a_greeting_of_the_far_shell_does_no_harm(
    server: Loopback, place: Path, model: bytes, tmp_path: Path
) -> None:
    loud = tmp_path / "python"
    quoted = shlex.quote(sys.executable)
    loud.write_text(
        f'#!/bin/sh\necho "Welcome to {{}} [1]"\nprintf Hello\nexec {quoted} "$@"\n'
    )
    loud.chmod(0o755)
    found = far(server, place, str(loud)).visit({"model": model}, seed=0)
    assert not isinstance(found["model"], Failure)


# -- connections that break --------------------------------------------------------------------


def test_a_broken_connection_is_taken_up_again(
    server: Loopback, place: Path, model: bytes
) -> None:
    warnings: list[str] = []
    slow = msgspec.structs.replace(QUICK, visit_ms=1000.0)
    host = find_host(f"{server.device}{str(place).replace(' ', '%20')}", sys.executable)
    backend = OnnxruntimeBackend(host=host, protocol=slow, on_warning=warnings.append)
    backend.conditions(batch=1)
    cut = threading.Timer(1.0, server.cut)
    cut.start()
    found = backend.visit({"model": model}, seed=0)
    assert not isinstance(found["model"], Failure)
    assert len(found["model"]) == slow.rounds
    (warning,) = warnings
    assert "lost the connection to ssh://" in warning
    backend.close()
    assert gone(place)


def test_a_connection_that_breaks_within_a_request_leaves_nothing_behind(
    server: Loopback, place: Path
) -> None:
    host = find_host(f"{server.device}{str(place).replace(' ', '%20')}", sys.executable)
    connection = Connection(host, silence_s=60)
    connection._input.write(b'{"do": "run", "job": {"mod')
    connection.close()
    assert gone(place)


def test_a_machine_that_does_not_come_back_is_an_error(
    tmp_path: Path, place: Path, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = msgspec.structs.replace(QUICK, visit_ms=1000.0)
    with loopback(tmp_path) as server:
        monkeypatch.setenv("GOLDNAS_SSH_COMMAND", server.command)
        host = find_host(f"{server.device}{str(place).replace(' ', '%20')}", sys.executable)
        backend = OnnxruntimeBackend(host=host, protocol=slow, patience_s=1)
        backend.conditions(batch=1)
        threading.Timer(1.0, server.die).start()
        with pytest.raises(UnreachableError, match="Connection refused"):
            backend.visit({"model": model}, seed=0)
    assert gone(place)


def test_a_runner_that_is_killed_leaves_nothing_behind(
    server: Loopback, place: Path, model: bytes
) -> None:
    backend = far(server, place)
    backend.visit({"model": model}, seed=0)
    subprocess.run(["pkill", "-KILL", "-f", f"'PLACE':'{place}"], check=True)
    assert gone(place)
    found = backend.visit({"model": model}, seed=1)  # it is started again
    assert not isinstance(found["model"], Failure)
    backend.close()
    assert gone(place)


def test_a_measuring_process_that_is_killed_is_an_error_and_the_next_works(
    server: Loopback, place: Path, model: bytes
) -> None:
    slow = msgspec.structs.replace(QUICK, visit_ms=5000.0)
    host = find_host(f"{server.device}{str(place).replace(' ', '%20')}", sys.executable)
    backend = OnnxruntimeBackend(host=host, protocol=slow)
    kill = ["pkill", "-KILL", "-f", f"{place}/.*job.json"]

    def kill_it() -> None:
        while subprocess.run(kill, check=False).returncode:  # it has not begun
            time.sleep(0.1)

    killer = threading.Thread(target=kill_it, daemon=True)
    killer.start()
    with pytest.raises(MeasurementError, match="ended with status -9"):
        backend.visit({"model": model}, seed=0)
    killer.join()
    backend.close()
    assert gone(place)


def test_when_goldnas_is_killed_nothing_is_left_behind(
    server: Loopback, place: Path, model: bytes, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(model)
    program = (
        "import sys, pathlib\n"
        "from goldnas.profiling.host import find_host\n"
        "from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend\n"
        "backend = OnnxruntimeBackend(host=find_host(sys.argv[1], sys.executable))\n"
        "for seed in range(1000):\n"
        "    backend.visit({'m': pathlib.Path(sys.argv[2]).read_bytes()}, seed=seed)\n"
    )
    device = f"{server.device}{str(place).replace(' ', '%20')}"
    command = [sys.executable, "-P", "-c", program, device, str(tmp_path / "model.onnx")]
    with subprocess.Popen(command) as process:
        while not list(place.glob("*/*.onnx")):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    assert gone(place)


# -- what does not start -----------------------------------------------------------------------


def refusal(backend: OnnxruntimeBackend) -> str:
    with pytest.raises(MeasurementError) as raised:
        backend.conditions(batch=1)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("known", ["others", "nobody"])
def test_a_host_whose_key_is_another_or_unknown_is_refused(
    server: Loopback, place: Path, known: str
) -> None:
    server.configure(known=known)
    said = refusal(far(server, place))
    assert "Host key verification failed" in said
    assert "connect once by hand" in said


def test_no_configuration_can_turn_the_check_of_host_keys_off(
    server: Loopback, place: Path
) -> None:
    server.configure(known="others")
    config = server.folder / "config"
    config.write_text(f"{config.read_text()}StrictHostKeyChecking no\n")
    assert "Host key verification failed" in refusal(far(server, place))


def test_a_wrong_key_is_refused(server: Loopback, place: Path) -> None:
    server.configure(key="stranger")
    said = refusal(far(server, place))
    assert "Permission denied" in said
    assert "log in without a password" in said


def test_a_host_without_python_is_told(server: Loopback, place: Path) -> None:
    said = refusal(far(server, place, "no-such-python"))
    assert "not found" in said
    assert "install Python 3.9 or newer" in said


def test_a_python_without_onnxruntime_is_told(
    server: Loopback, place: Path, tmp_path: Path
) -> None:
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True
    )
    said = refusal(far(server, place, str(tmp_path / "env" / "bin" / "python")))
    assert "No module named" in said
    assert "pip install numpy" in said
    assert not list(place.iterdir())


def test_a_folder_that_cannot_be_written_is_told(server: Loopback, tmp_path: Path) -> None:
    said = refusal(far(server, tmp_path / "nowhere"))
    assert "no temporary folder for models" in said
    assert "ssh://host/folder" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
@pytest.mark.parametrize("option", ["size=64k", "ro"])
def test_a_full_or_read_only_disk_is_told(
    server: Loopback, place: Path, model: bytes, option: str
) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", option, "none", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        backend = far(server, place)
        with pytest.raises(MeasurementError, match=r"No space left|Read-only") as raised:
            backend.visit({"model": model + bytes(100_000)}, seed=0)
        assert "make room there" in str(raised.value)
        backend.close()
        assert gone(place)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_machine_that_is_off_is_told(server: Loopback) -> None:
    host = find_host("ssh://127.0.0.1:1")
    said = refusal(OnnxruntimeBackend(host=host))
    assert "Connection refused" in said
