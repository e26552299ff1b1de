"""Bundles: carried to a device by hand, measured there without goldnas, and imported."""

import ast
import io
import json
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from goldnas.lut import Failed, LatencyTable, Measured
from goldnas.profiling import bundle, bundle_main
from goldnas.profiling.bundle_main import (
    FOUND,
    MANIFEST,
    answers,
    checksum_of,
    part_of,
    read_results,
    runs_of,
    write_results,
)
from goldnas.profiling.calibration import calibrate
from goldnas.profiling.campaign import profile
from goldnas.profiling.host import RUNNER
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.session import Session
from goldnas.spaces import GoldSpace
from workplace import invoke

SMALL = [
    *("--channels", "4", "--cells", "1", "--input", "3x8x8"),
    *("--calibrate", "4", "--operators", "skip_connect"),
]
SPACE = GoldSpace(channels=4, cells=1, input_shape=(3, 8, 8), operators=("skip_connect",))
QUICK = msgspec.structs.replace(bundle.CARRIED, processes=4, warmup_ms=0.5, visit_ms=1.0)
NO_GOLDNAS = "raise ImportError('a device has no goldnas')\n"

Json = dict[str, Any]
Spoil = Callable[[Path], object]


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "CARRIED", QUICK)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out.zip"
    code, stdout, stderr = invoke("profile", "--bundle", out, *SMALL)
    assert (code, stderr) == (0, "")
    assert stdout.startswith(f"wrote {out}: ")
    assert [path.name for path in out.parent.iterdir()] == ["out.zip"]
    return out


class Device:
    """A folder with a bundle in it, and a Python that cannot import goldnas."""

    def __init__(self, folder: Path, made: Path) -> None:
        for name in ("carried", "tmp", "modules"):
            (folder / name).mkdir()
        self.bundle = Path(shutil.copy(made, folder / "carried" / "out.zip"))
        self.results = self.bundle.with_name("results.zip")
        self.tmp = folder / "tmp"
        self.modules = folder / "modules"
        (self.modules / "goldnas.py").write_text(NO_GOLDNAS)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
            "PYTHONPATH": str(self.modules),
            "TMPDIR": str(self.tmp),
        }

    def start(self, *arguments: str | Path, **settings: Any) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, str(self.bundle), *map(str, arguments)],
            **{"cwd": "/", "env": self.environment, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path, **settings: Any) -> tuple[int, str, str]:
        process = self.start(*arguments, **settings)
        stdout, stderr = process.communicate(timeout=120)
        return process.returncode, stdout, stderr

    def left_behind(self) -> list[Path]:
        """Temporary files of ours; onnxruntime leaves some of its own."""
        return list(self.tmp.glob("*goldnas*"))

    def assert_refused(self, message: str, *arguments: str | Path, **settings: Any) -> None:
        code, stdout, stderr = self.run(*arguments, **settings)
        assert code == 1, stdout
        assert stderr.startswith("error: ")
        assert len(stderr.splitlines()) == 1
        assert message in stderr
        assert not self.left_behind()


@pytest.fixture
def device(tmp_path: Path, made: Path) -> Device:
    return Device(tmp_path, made)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Path:
    device = Device(tmp_path_factory.mktemp("device"), made)
    command = [sys.executable, "-c", "import goldnas"]
    tried = subprocess.run(
        command, cwd="/", env=device.environment, capture_output=True, check=False
    )
    assert b"a device has no goldnas" in tried.stderr
    code, stdout, stderr = device.run()
    assert (code, stderr) == (0, "")
    assert "run 4 of 4; about 0 s left" in stdout
    assert f"{device.results} is complete" in stdout
    assert sorted(path.name for path in device.bundle.parent.iterdir()) == [
        "out.zip",
        "results.zip",
    ]
    assert not device.left_behind()
    return device.results


def import_(results: Path, out: Path, *options: str | Path) -> tuple[int, str, str]:
    return invoke("lut", "import", results, "--out", out, *options)


def assert_refused(result: tuple[int, str, str], *messages: str) -> None:
    code, stdout, stderr = result
    assert (code, stdout) == (2, "")
    assert stderr.startswith("error: ")
    assert len(stderr.splitlines()) == 1
    for message in messages:
        assert message in stderr


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
    here = profile(session, LatencyTable(session.conditions, (), tmp_path / "here"), rows)
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


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_same_command_goes_on_after_an_interruption(device: Device, how: int) -> None:
    part = part_of(device.results)
    process = device.start()
    deadline = time.monotonic() + 60
    while not (part.exists() and read_results(part)[1]["runs"]):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    _, stderr = process.communicate(timeout=30)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert stderr == f"interrupted; the same command goes on: {part} keeps what is done\n"
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
    assert runs_of(manifest) == [(0, process) for process in range(4)]


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
    settings = [*SMALL[:-1], "max_pool_3x3", "--calibrate", "0"]
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
    found = answers(tmp_path, {}, dict.fromkeys(("one", "two", "bad", "three"), "0" * 64))
    errors = {line["model"]: line.get("error") for line in found}
    assert errors.keys() == {"one", "two", "bad", "three"}
    assert errors["bad"] == "the process that measures ended with status 1: out of luck"
    assert [name for name, error in errors.items() if error] == ["bad"]


def test_a_runtime_that_says_nothing_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runner.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(bundle_main, "SILENCE_S", 0.1)
    (line,) = answers(tmp_path, {}, {"slow": "0" * 64})
    assert "it said nothing for 0.1 s and was stopped" in line["error"]


def fabricated(made: Path, results: Path, **fields: Any) -> Path:
    """Results of a device on which 100 bytes of a model take a microsecond.

    The second process is 1 % slower than the first.
    """
    with zipfile.ZipFile(made) as archive:
        manifest = json.loads(archive.read(MANIFEST))
    facts = {"cpu_model": "Abacus", "architecture": "wood", "os": "None 1.0"}
    facts |= {"onnxruntime": "1.0", "providers": [manifest["job"]["provider"]]}
    runs = []
    for number, process in runs_of(manifest):
        group = manifest["groups"][number]
        slowness = 1 + process / 100
        sizes = {name: manifest["models"][sha256] for name, sha256 in group["models"].items()}
        times_us = {name: slowness * size / 100 for name, size in sizes.items()}
        node = {"operator": "Add", "output": "1", "latency_us": 1.0}
        quantiles = ("min_us", "p10_us", "p25_us", "median_us")
        lines: list[Json] = []
        for name, us in times_us.items():
            if group["nodes"]:
                for where in (manifest["job"]["provider"], "CPUExecutionProvider"):
                    lines.append({"model": name, "node": "n", "provider": where, **node})
            else:
                lines += 2 * [{"model": name, "calls": 9, **dict.fromkeys(quantiles, us)}]
        state = {"temperature_c": 50.0 + process, "frequency_mhz": 1500.0, "waited_s": 3}
        lines.insert(0, {"round": 0, **state}) if not group["nodes"] else None
        runs.append({"group": number, "process": process, "seconds": 10.0, "lines": lines})
    found = {"measured_on": "1970-01-01", "facts": facts, "runs": runs, **fields}
    write_results(results, manifest, found)
    return results


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
    assert runs_of(manifest_of(made)) == [(0, 0), (1, 0), (0, 1), (0, 2), (0, 3)]
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


# -- damage and mistakes ----------------------------------------------------------------------


def manifest_of(path: Path) -> Json:
    with zipfile.ZipFile(path) as archive:
        content: Json = json.loads(archive.read(MANIFEST))
        return content


def rewritten(path: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    """Change the entries of a zip file."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    path.write_bytes(content.getvalue())


def with_entry(name: str, content: bytes = b"x") -> Spoil:
    return lambda path: rewritten(path, lambda entries: entries.update({name: content}))


def without(name: str) -> Spoil:
    return lambda path: rewritten(path, lambda entries: entries.pop(name))


def with_field(name: str, key: str, value: object, *, checksum: bool = False) -> Spoil:
    """Change a field of a JSON entry, and its checksum along with it or not."""

    def change(entries: dict[str, bytes]) -> None:
        content = json.loads(entries[name])
        content[key] = value
        if checksum:
            content["checksum"] = checksum_of(content)
        entries[name] = json.dumps(content).encode()

    return lambda path: rewritten(path, change)


def bit_flipped(path: Path) -> None:
    """Change a model in the middle of the file, as bad storage does."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        offset = archive.infolist()[-1].header_offset
    content[offset + 200] ^= 1
    path.write_bytes(content)


def model_changed(path: Path) -> None:
    def change(entries: dict[str, bytes]) -> None:
        name = next(name for name in entries if name.startswith("models/"))
        entries[name] = entries[name][:-1] + b"?"

    rewritten(path, change)


def doubled(name: str) -> Spoil:
    def spoil(path: Path) -> None:
        with zipfile.ZipFile(path, "a") as archive:
            content = archive.read(name)
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr(name, content)

    return spoil


def bzipped(path: Path) -> None:
    """Pack in a way that unpacks without limit."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


DAMAGED_BUNDLES: dict[str, tuple[Spoil, str]] = {
    "model changed": (model_changed, " has another checksum than announced; copy it again"),
    "model damaged": (bit_flipped, "is no whole zip file: Bad CRC-32"),
    "manifest changed": (
        with_field(MANIFEST, "networks", 7),
        "was changed: manifest.json has another checksum than it says",
    ),
    "runner changed": (with_entry("runner.py"), "runner.py has another checksum"),
    "of another goldnas": (with_field(MANIFEST, "format", "goldnas bundle 9"), "one version"),
    "outside": (with_entry("../evil"), "holds '../evil', which is no part of it"),
    "absolute": (with_entry("/etc/evil"), "evil', which is no part of it"),
    "more": (with_entry("json.txt"), "holds 'json.txt'"),
    "less": (without("runner.py"), "lacks runner.py"),
    "twice": (doubled("runner.py"), "holds an entry twice"),
    "no manifest": (without(MANIFEST), "lacks manifest.json"),
    "no JSON": (with_entry(MANIFEST, b"{"), "manifest.json is not JSON"),
}


@pytest.mark.parametrize(("spoil", "message"), DAMAGED_BUNDLES.values(), ids=DAMAGED_BUNDLES)
def test_a_bundle_that_was_changed_is_not_run(
    device: Device, spoil: Spoil, message: str
) -> None:
    spoil(device.bundle)
    device.assert_refused(message)
    assert [path.name for path in device.bundle.parent.iterdir()] == ["out.zip"]


DAMAGED_RESULTS: dict[str, tuple[Spoil, str]] = {
    "found changed": (
        with_field(FOUND, "facts", {}),
        "was changed: results.json has another checksum than it says",
    ),
    "manifest changed": (with_field(MANIFEST, "networks", 7), "manifest.json has another"),
    "manifest of another": (
        with_field(MANIFEST, "networks", 7, checksum=True),
        "its manifest is another bundle's",
    ),
    "outside": (with_entry("../evil"), "holds '../evil', which is no part of it"),
    "absolute": (with_entry("/evil"), "evil', which is no part of it"),
    "less": (without(FOUND), "lacks results.json"),
    "twice": (doubled(FOUND), "holds an entry twice"),
    "huge": (
        with_entry(FOUND, b" " * (bundle_main.MOST_BYTES + 1)),
        "results.json unpacks to 67108865 bytes, where 67108864 are the most",
    ),
    "packed otherwise": (bzipped, "manifest.json is packed in another way"),
    "truncated": (
        lambda path: os.truncate(path, path.stat().st_size // 2),
        "is no whole zip file: File is not a zip file; copy it again",
    ),
    "deep": (with_entry(FOUND, b"[" * 10**6), "results.json is not JSON"),
    "odd facts": (
        with_field(FOUND, "facts", {}, checksum=True),
        "holds what no device can have found: ",
    ),
    "odd runs": (
        with_field(FOUND, "runs", [{"group": "first"}], checksum=True),
        "holds what no device can have found: ",
    ),
    "no runs": (with_field(FOUND, "runs", [], checksum=True), "holds 0 of 4 runs"),
}


@pytest.mark.parametrize(("spoil", "message"), DAMAGED_RESULTS.values(), ids=DAMAGED_RESULTS)
def test_results_that_were_changed_make_no_table(
    made: Path, tmp_path: Path, spoil: Spoil, message: str
) -> None:
    results = fabricated(made, tmp_path / "results.zip")
    spoil(results)
    assert_refused(import_(results, tmp_path / "device.json"), message)
    assert [path.name for path in tmp_path.iterdir()] == ["results.zip"]


def runs_changed(path: Path, change: Callable[[list[Json]], object]) -> None:
    runs = read_results(path)[1]["runs"]
    change(runs)
    with_field(FOUND, "runs", runs, checksum=True)(path)


def first_line(**fields: object) -> Callable[[list[Json]], object]:
    def change(runs: list[Json]) -> None:
        line = next(line for line in runs[0]["lines"] if "p10_us" in line)
        line |= fields

    return change


ODD_RUNS: dict[str, tuple[Callable[[list[Json]], object], str]] = {
    "half": (lambda runs: runs.__delitem__(slice(2, None)), "2 of 4 runs"),
    "one twice": (lambda runs: runs.append(runs[0]), "holds other visits than its bundle asks"),
    "a visit less": (lambda runs: runs[0]["lines"].pop(), "holds other visits"),
    "zero": (first_line(p10_us=0), "Expected `float` > 0"),
    "no number": (first_line(p10_us="fast"), "Expected `float`, got `str`"),
    "infinite": (first_line(p10_us=float("inf")), "must be finite"),
    "another field": (first_line(latency_ms=1), "unknown field `latency_ms`"),
}


@pytest.mark.parametrize(("change", "message"), ODD_RUNS.values(), ids=ODD_RUNS)
def test_visits_that_lack_or_are_none_are_refused(
    made: Path,
    tmp_path: Path,
    change: Callable[[list[Json]], object],
    message: str,
) -> None:
    results = fabricated(made, tmp_path / "results.zip")
    runs_changed(results, change)
    assert_refused(import_(results, tmp_path / "device.json"), message)


def test_results_have_to_be_of_the_bundle_that_is_given(
    device: Device, made: Path, measured: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copy(made, tmp_path / "other.zip"))
    with_field(MANIFEST, "networks", 7, checksum=True)(other)
    out = tmp_path / "device.json"
    refused = import_(measured, out, "--bundle", other)
    assert_refused(refused, f"holds results of another bundle than {other}")
    assert_refused(import_(measured, out, "--bundle", tmp_path / "gone"), "cannot read", "gone")
    assert_refused(import_(measured, out, "--bundle", measured), "is no bundle")
    assert not out.exists()
    shutil.copy(other, device.bundle)
    shutil.copy(measured, device.results)
    device.assert_refused("holds results of another bundle; move it away")
    assert device.results.read_bytes() == measured.read_bytes()


def test_models_that_are_exported_differently_here_are_no_failed_rows(
    made: Path, tmp_path: Path
) -> None:
    def change(entries: dict[str, bytes]) -> None:
        manifest = json.loads(entries[MANIFEST])
        manifest["torch"] = "1.0"
        for group in manifest["groups"]:
            group["models"] |= {n: "f" * 64 for n in group["models"] if "stem" in n}
        manifest["models"]["f" * 64] = 100
        manifest["checksum"] = checksum_of(manifest)
        entries[MANIFEST] = json.dumps(manifest).encode()

    other = Path(shutil.copy(made, tmp_path / "out.zip"))
    rewritten(other, change)
    results = fabricated(other, tmp_path / "results.zip")
    assert_refused(
        import_(results, tmp_path / "device.json"),
        "stem_cifar 3x8x8->12/s1",
        "is exported to another model here than the one that was measured",
        "and torch 1.0, and this is goldnas",
    )
    assert not (tmp_path / "device.json").exists()


def test_results_of_another_device_are_not_added_to(device: Device, made: Path) -> None:
    fabricated(made, device.results)
    device.assert_refused("was measured elsewhere: cpu_model was Abacus, is ")


def test_what_is_there_already_stays(device: Device, made: Path, measured: Path) -> None:
    other = device.bundle.with_name("other")
    other.write_text("something else")
    assert_refused(
        invoke("profile", "--bundle", other, *SMALL), "is no whole zip file", "exists"
    )
    copy = Path(shutil.copy(measured, device.tmp))
    assert_refused(invoke("profile", "--bundle", copy, *SMALL), "results.zip is no bundle")
    assert_refused(invoke("profile", "--bundle", device.tmp, *SMALL), "Is a directory")
    assert_refused(import_(measured, other), "exists already. Choose another --out")
    device.assert_refused("other is no whole zip file", other)
    device.assert_refused("move it away, or name another file", other)
    assert other.read_text() == "something else"


def test_a_bundle_that_was_not_carried_yet_has_no_results(made: Path, tmp_path: Path) -> None:
    refused = import_(made, tmp_path / "device.json")
    assert_refused(refused, "is a bundle. Carry it to the device, run python out.zip there")


def test_a_file_says_by_its_content_whether_it_is_results(
    measured: Path, tmp_path: Path
) -> None:
    out = tmp_path / "device.json"
    for option in (["--format", "ofa"], ["--device", "pi"], ["--threads", "2"]):
        refused = import_(measured, out, *option)
        assert_refused(refused, f"says itself what it is of: leave out {option[0]}")
    text = tmp_path / "results.zip"
    text.write_text("no zip")
    assert_refused(import_(text, out), "is no results.zip of a bundle; give the", "--format")
    assert_refused(import_(text, out, "--bundle", measured), "is no zip file")
    assert_refused(import_(tmp_path / "gone.zip", out), "gone.zip is not there; give the")


@pytest.mark.parametrize(
    "options",
    [
        *(["--out", "t.json"], ["--device", "ssh://pi"], ["--python", "python3"]),
        *(["--transfer", "t.json"], ["--target", "2"], ["--json"], ["--devices", "d.toml"]),
    ],
    ids=" ".join,
)
def test_options_that_would_do_nothing_are_refused(tmp_path: Path, options: list[str]) -> None:
    refused = invoke("profile", "--bundle", tmp_path / "out.zip", *SMALL, *options)
    assert_refused(refused, f"{options[0]} does not go with ")
    assert not any(tmp_path.iterdir())


def test_mistakes_in_the_space_are_found_when_a_bundle_is_made(tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    refused = invoke("profile", "--bundle", out, *SMALL, "--operators", "conv")
    assert_refused(refused, "unknown operator 'conv'")
    refused = invoke("profile", "--bundle", out, *SMALL, "--calibrate", "1")
    assert_refused(refused, "a fit needs 2 networks or more")
    assert not any(tmp_path.iterdir())


def test_a_python_without_onnxruntime_is_told_what_to_install(device: Device) -> None:
    (device.modules / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'onnxruntime'\")"
    )
    device.assert_refused("No module named 'onnxruntime'; numpy and onnxruntime have to work")


def test_a_provider_that_is_not_there_is_told_of(device: Device) -> None:
    job = {**manifest_of(device.bundle)["job"], "provider": "XnnpackExecutionProvider"}
    with_field(MANIFEST, "job", job, checksum=True)(device.bundle)
    device.assert_refused("XnnpackExecutionProvider is not in the onnxruntime ")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not pinned")
def test_cores_that_are_not_there_are_told_of(device: Device) -> None:
    job = {**manifest_of(device.bundle)["job"], "cores": [1023]}
    with_field(MANIFEST, "job", job, checksum=True)(device.bundle)
    device.assert_refused("cores [1023] were asked for")


def test_a_full_disk_is_one_line(device: Device) -> None:
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    device.assert_refused("File too large; make room there, or name another", preexec_fn=full)
    device.assert_refused(
        f"cannot write {device.tmp / 'gone' / 'results.zip.part'}: No such file",
        device.tmp / "gone" / "results.zip",
    )
