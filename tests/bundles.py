"""Bundles, the devices they are carried to, and what can happen to them on the way."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from goldnas.profiling import bundle
from goldnas.profiling.bundle_main import MANIFEST, compute_checksum, list_runs, write_results
from workplace import invoke

SMALL = [
    *("--channels", "4", "--cells", "1", "--input", "3x8x8"),
    *("--networks", "4", "--operators", "skip_connect"),
]
QUICK = msgspec.structs.replace(bundle.CARRIED, processes=4, warmup_ms=0.5, visit_ms=1.0)
NO_GOLDNAS = "raise ImportError('a device has no goldnas')\n"

Json = dict[str, Any]
Spoil = Callable[[Path], object]


@pytest.fixture(scope="session")
def carried_quickly() -> Iterator[None]:
    """Let bundles ask for few visits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "CARRIED", QUICK)
        yield


@pytest.fixture(scope="session")
def made(carried_quickly: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
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


@pytest.fixture(scope="session")
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


def fabricated(made: Path, results: Path, **fields: Any) -> Path:
    """Results of a device on which 100 bytes of a model take a microsecond.

    The second process is 1 % slower than the first.
    """
    with zipfile.ZipFile(made) as archive:
        manifest = json.loads(archive.read(MANIFEST))
    facts = {"cpu_model": "Abacus", "architecture": "wood", "os": "None 1.0"}
    facts |= {"onnxruntime": "1.0", "providers": [manifest["job"]["provider"]]}
    runs = []
    for number, process in list_runs(manifest):
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
            content["checksum"] = compute_checksum(content)
        entries[name] = json.dumps(content).encode()

    return lambda path: rewritten(path, change)
