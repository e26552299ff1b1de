"""Measures the models of a bundle on another machine, which needs no goldnas.

This file is a bundle's ``__main__.py``: ``python out.zip`` runs it. It imports nothing else and
runs on Python 3.9. ``runner.py``, which runs the models, also needs numpy and onnxruntime. A
bundle is a zip file of

    __main__.py            this file
    runner.py
    manifest.json          what to measure and how
    models/<sha256>.onnx   each model once

and the results are a zip file of

    manifest.json          that of the bundle, as it was
    results.json           what was found: {"facts": {...}, "runs": [...], ...}

A run is what one fresh process answered, in the lines that ``runner.py`` describes:

    {"group": 0, "process": 3, "seconds": 9.1, "lines": [...]}

The file of results is whole after every run; until the last one its name ends in ``.part``.
Each JSON file holds a checksum of the rest of it, the manifest one of every model, the results
that of the manifest. Nothing is taken out of a zip file by a name that it brings along.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import io
import json
import os
import re
import shlex
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

BUNDLE, RESULTS = "goldnas bundle 1", "goldnas results 1"
"""Formats, as the files themselves say them."""

MAIN, RUNNER, MANIFEST, FOUND = "__main__.py", "runner.py", "manifest.json", "results.json"

MOST_BYTES = 64 * 2**20
"""Of a manifest, or of results, unpacked."""

MOST_AT_ONCE = 16 * 2**20
"""Of a zip file: of its directory, say."""

MOST_RUNS = 100_000
"""Of a bundle."""

SILENCE_S = 1800.0
"""After so long without a word a process that measures is taken for dead."""

NOISE_WARNS = 2.0
"""Difference of two copies of one model, in percent."""

AGAIN = "; copy it again, from where it was made"

DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError),
    *(NotImplementedError, RuntimeError, ValueError),
)
"""What reading a zip file may raise that is none, or not all of one."""

GUARD = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], True)"
"""Removes a folder once its owner is gone, also if that was killed."""

FACTS = (
    "import json, sys; sys.path.insert(0, sys.argv[1]); import runner; "
    "print(json.dumps(runner.collect_facts()))"
)


class BadFileError(Exception):
    """Something is not as it should be; says in one line what, and what to do."""


# -- files -------------------------------------------------------------------------------------


class BoundedFile(io.FileIO):
    """A file of which nobody reads much at once, such as a directory without end."""

    def __del__(self) -> None:
        self.close()

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as much as is wanted, if that is little."""
        if size is None or not 0 <= size <= MOST_AT_ONCE:
            size = MOST_AT_ONCE + 1
        content = super().read(size)
        if len(content) > MOST_AT_ONCE:
            raise zipfile.BadZipFile("its directory is larger than that of any bundle")
        return content


def open_regular(path: Path) -> BoundedFile:
    """Open a file, if it is a regular one; a pipe would be waited for.

    Raises:
        OSError: If it is none.
    """
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.open(path, os.O_RDONLY | flags)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError("it is a folder, a pipe or a device, not a file")
    return BoundedFile(file)


class Archive:
    """A zip file of which only entries are read that are known by name, up to a size.

    Raises:
        BadFileError: If it is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._damage():
            self._zip = zipfile.ZipFile(open_regular(path))
        self._entries = {entry.filename: entry for entry in self._zip.infolist()}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    @property
    def names(self) -> list[str]:
        """Of its entries."""
        return list(self._entries)

    def check_entries(self, names: Iterable[str]) -> None:
        """Refuse an archive that lacks one of these entries, or has others.

        Raises:
            BadFileError: If it is so; with a name.
        """
        wanted = set(names)
        for name in sorted(self._entries.keys() - wanted):
            raise BadFileError(
                f"{self.path} holds {name[:100]!r}, which does not belong there{AGAIN}"
            )
        for name in sorted(wanted - self._entries.keys()):
            raise BadFileError(f"{self.path} lacks {name}{AGAIN}")
        if len(self._zip.infolist()) > len(wanted):
            raise BadFileError(f"{self.path} holds an entry twice{AGAIN}")

    def read(self, name: str, most_bytes: int) -> bytes:
        """Unpack an entry.

        Raises:
            BadFileError: If it is not there, damaged, or larger.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise BadFileError(f"{self.path} lacks {name}{AGAIN}")
        if entry.file_size > most_bytes:
            raise BadFileError(
                f"{self.path}: {name} unpacks to {entry.file_size} bytes, but the limit is "
                f"{most_bytes}{AGAIN}"
            )
        # The others unpack as much as they like at once.
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadFileError(f"{self.path}: {name} has an unknown compression{AGAIN}")
        # In parts: at once, it would unpack more than it says.
        parts: list[bytes] = []
        with self._damage(), self._zip.open(entry) as file:
            while part := file.read(2**20):
                parts.append(part)
        return b"".join(parts)

    def json(self, name: str, form: str) -> dict[str, Any]:
        """A JSON entry of a format, whose checksum is right.

        Raises:
            BadFileError: If it is anything else.
        """
        text = self.read(name, MOST_BYTES)
        try:
            content = json.loads(text)
            if b"\\u" in text:  # halves of characters, which no table can hold
                json.dumps(content, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise BadFileError(f"{self.path}: {name} is not JSON{AGAIN}") from None
        if not isinstance(content, dict) or content.get("format") != form:
            raise BadFileError(
                f"{self.path}: {name} is not in the format {form!r}; make the bundle and "
                "import its results with one version of goldnas"
            )
        if content.get("checksum") != compute_checksum(content):
            raise BadFileError(
                f"{self.path} was changed: the content of {name} has another checksum{AGAIN}"
            )
        return content

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadFileError(f"cannot read {self.path}: {error.strerror or error}") from None
        except DAMAGE as error:
            raise BadFileError(f"{self.path} is not a whole zip file: {error}{AGAIN}") from None


def compute_checksum(content: dict[str, Any]) -> str:
    """The checksum of a JSON file, whatever its ``checksum`` says; as for tables."""
    rest = {name: value for name, value in content.items() if name != "checksum"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def name_entry(sha256: str) -> str:
    """The name of a model within a bundle."""
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise BadFileError(f"{sha256[:100]!r} is not the checksum of a model{AGAIN}")
    return f"models/{sha256}.onnx"


def read_results(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest of the bundle, and what was found.

    Raises:
        BadFileError: If the file is no results, or was changed.
    """
    archive = Archive(path)
    archive.check_entries([MANIFEST, FOUND])
    manifest, found = archive.json(MANIFEST, BUNDLE), archive.json(FOUND, RESULTS)
    if found.get("bundle") != manifest["checksum"]:
        raise BadFileError(f"{path} was changed: its manifest is of another bundle{AGAIN}")
    return manifest, found


def make_entries(entries: dict[str, bytes]) -> Iterator[tuple[zipfile.ZipInfo, bytes]]:
    """Entries for a zip file that is the same whenever it is made."""
    for name, content in entries.items():
        # Without a date it would be today's, which for a board without a clock is 1970.
        entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
        entry.external_attr = 0o644 << 16
        # Weights are noise, which does not get smaller.
        packed = not name.endswith(".onnx")
        entry.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        yield entry, content


def write_results(path: Path, manifest: dict[str, Any], found: dict[str, Any]) -> None:
    """Write results in one step.

    Raises:
        BadFileError: If the disk refuses; what was there is still there.
    """
    content = {"format": RESULTS, "bundle": manifest["checksum"], **found}
    content["checksum"] = compute_checksum(content)
    entries = {MANIFEST: json.dumps(manifest).encode(), FOUND: json.dumps(content).encode()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for entry, data in make_entries(entries):
                    archive.writestr(entry, data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise BadFileError(
            f"cannot write {path}: {error.strerror}; make room, or give another folder: "
            f"{format_command()} FOLDER"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


# -- what is to be done ------------------------------------------------------------------------


def list_runs(manifest: dict[str, Any]) -> list[tuple[int, int]]:
    """Group and process of every run, in order: every model is visited from first to last."""
    processes = manifest["conditions"]["protocol"]["processes"]
    groups = list(enumerate(manifest["groups"]))
    if processes * len(groups) > MOST_RUNS:
        raise BadFileError(
            f"a bundle of {len(groups)} groups, each in {processes} processes, would never "
            f"end: the limit is {MOST_RUNS} runs; make the bundle again"
        )
    return [
        (number, process)
        for process in range(processes)
        for number, group in groups
        if not (group["nodes"] and process)  # nodes are looked at once
    ]


def load_runs(
    results: Path, manifest: dict[str, Any], facts: dict[str, Any]
) -> list[dict[str, Any]]:
    """The runs that are done already.

    Raises:
        BadFileError: If something else is where the results are to be.
    """
    for path in (results, locate_part(results)):
        if not path.exists():
            continue
        advice = f"move that file away, or give another: {format_command()} FILE"
        try:
            theirs, found = read_results(path)
        except BadFileError as error:
            raise BadFileError(f"{error}; {advice}") from None
        if theirs["checksum"] != manifest["checksum"]:
            raise BadFileError(f"{path} holds results of another bundle; {advice}")
        for name in ("cpu_model", "architecture", "onnxruntime", "providers"):
            if found["facts"].get(name) != facts[name]:
                raise BadFileError(
                    f"{path} was measured on another machine: {name} was "
                    f"{found['facts'].get(name)}, is {facts[name]}; {advice}"
                )
        runs: list[dict[str, Any]] = found["runs"]
        return runs
    return []


def format_command(bundle: str | None = None) -> str:
    """How a bundle is started, or this program was."""
    path = bundle or sys.argv[0]
    return f"python {shlex.quote(f'./{path}' if path.startswith('-') else path)}"


def locate_part(results: Path) -> Path:
    """The path of incomplete results."""
    return results.with_name(f"{results.name}.part")


def compute_noise_percent(sentinels: list[str], runs: list[dict[str, Any]]) -> float:
    """How far two copies of one model are apart."""
    times_us: dict[str, list[float]] = {name: [] for name in sentinels}
    for line in (line for run in runs for line in run["lines"]):
        if "p10_us" in line and line["model"] in times_us:
            times_us[line["model"]].append(line["p10_us"])
    one, other = (sorted(times)[len(times) // 4] for times in times_us.values())
    return 100 * (max(one, other) / min(one, other) - 1)


# -- doing it ----------------------------------------------------------------------------------


def measure(bundle: Path, results: Path) -> None:
    """Do what a bundle says, or go on with it.

    Raises:
        BadFileError: If the bundle was changed, something else is where the results are to be,
            the disk is full, or onnxruntime does not work.
    """
    archive = Archive(bundle)
    manifest = archive.json(MANIFEST, BUNDLE)
    models = {sha256: name_entry(sha256) for sha256 in manifest["models"]}
    archive.check_entries([MAIN, RUNNER, MANIFEST, *models.values()])
    with make_temporary_folder() as folder:
        unpack(archive, RUNNER, manifest["runner"], MOST_BYTES, folder / RUNNER)
        for sha256, entry in models.items():
            size = manifest["models"][sha256]
            unpack(archive, entry, sha256, size, folder / f"{sha256}.onnx")
        facts = ask_facts(folder)
        check_device(folder, manifest, facts)
        runs = load_runs(results, manifest, facts)
        done = {(run["group"], run["process"]) for run in runs}
        due = [run for run in list_runs(manifest) if run not in done]
        print(
            f"{len(models)} models on {facts['cpu_model']} with onnxruntime "
            f"{facts['onnxruntime']}: {len(due)} of {len(done) + len(due)} runs to do",
            flush=True,
        )

        def save() -> None:
            today = str(datetime.date.today())
            found = {"measured_on": today, "facts": facts, "runs": runs}
            write_results(locate_part(results), manifest, found)

        if due:
            save()  # before anything is measured in vain
        for number, (group, process) in enumerate(due, 1):
            began = time.monotonic()
            lines = visit_models(folder, manifest, runs, group, process)
            seconds = round(time.monotonic() - began, 3)
            run = {"group": group, "process": process, "seconds": seconds, "lines": lines}
            runs.append(run)
            save()
            left_s = sum(run["seconds"] for run in runs) / len(runs) * (len(due) - number)
            minutes = f"{left_s / 60:.0f} min" if left_s > 90 else f"{left_s:.0f} s"
            print(f"run {number} of {len(due)}; about {minutes} left", flush=True)
        if due:
            os.replace(locate_part(results), results)
    differ_percent = compute_noise_percent(manifest["sentinels"], runs)
    if differ_percent > NOISE_WARNS:
        print(
            f"two copies of one model differ by {differ_percent:.1f} %: stop other programs, "
            f"remove {results}, and run this again for better results"
        )
    print(
        f"{results} is complete. Copy it back, and import it: goldnas lut import "
        f"{shlex.quote(results.name)} --out FILE.json"
    )


def unpack(archive: Archive, entry: str, sha256: str, most_bytes: int, path: Path) -> None:
    """Write an entry to a file, if it is what the manifest says it is."""
    content = archive.read(entry, most_bytes)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BadFileError(
            f"{archive.path} was changed: {entry} has another checksum than listed{AGAIN}"
        )
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadFileError(
            f"cannot unpack {archive.path} to {path.parent}: {error.strerror}; make room "
            "there, or choose another folder with TMPDIR"
        ) from None


def ask_facts(folder: Path) -> dict[str, Any]:
    """What this machine is, and what its onnxruntime can do.

    In a process of its own: an onnxruntime that is built for another processor kills it.
    """
    ask = [sys.executable, "-c", FACTS, str(folder)]
    done = subprocess.run(ask, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    try:
        facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        said = find_last_line(done.stderr) or f"status {done.returncode}, no message"
        raise BadFileError(
            f"cannot measure here: {said}; this Python needs numpy and onnxruntime: "
            f"{shlex.quote(sys.executable)} -m pip install numpy onnxruntime"
        ) from None
    return facts


def check_device(folder: Path, manifest: dict[str, Any], facts: dict[str, Any]) -> None:
    """Refuse settings that this machine does not have, before each model fails by them."""
    job = manifest["job"]
    if job["provider"] not in facts["providers"]:
        raise BadFileError(
            f"onnxruntime {facts['onnxruntime']} here has no {job['provider']}, only "
            f"{', '.join(facts['providers'])}; install an onnxruntime with this provider, or "
            "make a bundle with another --provider"
        )
    _, failure = run_process(folder, job, {})
    if failure:
        cores = f"; the bundle asks for cores {job['cores']}" if job["cores"] else ""
        raise BadFileError(f"cannot measure here: {failure}{cores}")


def visit_models(
    folder: Path, manifest: dict[str, Any], runs: list[dict[str, Any]], group: int, process: int
) -> list[dict[str, Any]]:
    """Do a run: the models of a group, without those that have failed before.

    Raises:
        BadFileError: If the sentinel, which all others are measured beside, cannot be measured.
    """
    wanted = manifest["groups"][group]
    before = [line for run in runs if run["group"] == group for line in run["lines"]]
    failed = {line["model"] for line in before if "error" in line}
    models = {name: sha for name, sha in wanted["models"].items() if name not in failed}
    job = {**manifest["job"], "nodes": wanted["nodes"], "seed": process}
    lines = measure_models(folder, job, models)
    for line in lines:
        if "error" in line and line["model"] in manifest["sentinels"]:
            raise BadFileError(f"cannot measure here: {line['error']}")
    return lines


def measure_models(
    folder: Path, job: dict[str, Any], models: dict[str, str]
) -> list[dict[str, Any]]:
    """Measure together; if that breaks the runtime, by halves, to find who does it."""
    lines, failure = run_process(folder, job, models)
    if not failure:
        return lines
    if len(models) <= 1:
        return [{"model": name, "error": failure} for name in models]
    names = list(models)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    return [
        line
        for half in halves
        for line in measure_models(folder, job, {name: models[name] for name in half})
    ]


def run_process(
    folder: Path, job: dict[str, Any], models: dict[str, str]
) -> tuple[list[dict[str, Any]], str]:
    """What a fresh process answers; and why it ended, if that is not all there is to say."""
    placed = {
        name: {"path": str(folder / f"{sha256}.onnx"), "sha256": sha256}
        for name, sha256 in models.items()
    }
    job_file = folder / "job.json"
    job_file.write_text(json.dumps({**job, "seed": job.get("seed", 0), "models": placed}))
    heard: list[bytes] = []
    done = threading.Event()
    silent: list[str] = []
    with tempfile.TemporaryFile(dir=folder) as said:
        child = subprocess.Popen(
            [sys.executable, str(folder / RUNNER), str(job_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
        )

        def watch() -> None:
            before = -1
            while not done.wait(SILENCE_S):
                if len(heard) == before:
                    silent.append(f"no answer for {SILENCE_S:g} s, so it was stopped")
                    child.kill()
                before = len(heard)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            # Through a pipe: when we are gone, writing fails, and so ends the work.
            for line in child.stdout or ():
                heard.append(line)
            status = child.wait()
        finally:
            child.kill()
            child.wait()
            done.set()
            watcher.join()
            for stream in (child.stdin, child.stdout):
                if stream:
                    stream.close()
        said.seek(0)
        last = find_last_line(said.read())
    if status:
        reason = silent[0] if silent else last or "no message"
        return [], f"the process that measures ended with status {status}: {reason}"
    return [line for line in map(parse_line, heard) if line], ""


def parse_line(line: bytes) -> dict[str, Any]:
    """A line of the runner; nothing, if it is somebody else's."""
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def find_last_line(said: bytes) -> str:
    """What an error stream ends with."""
    return "".join(said.decode(errors="replace").strip().splitlines()[-1:])


@contextlib.contextmanager
def make_temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, also if this process is killed.

    Raises:
        BadFileError: If there is no place for one.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="goldnas-")
    except OSError as error:
        raise BadFileError(
            f"no temporary folder for models: {error}; choose one with TMPDIR"
        ) from None
    with folder:
        guard = subprocess.Popen(
            [sys.executable, "-c", GUARD, folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield Path(folder.name)
        finally:
            if guard.stdin:
                guard.stdin.close()
            guard.wait()


def main() -> None:
    """Measure, and say what came of it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # which may know few letters
            stream.reconfigure(errors="backslashreplace")
    bundle = Path(sys.argv[0])
    parser = argparse.ArgumentParser(
        prog=format_command(),
        description="Measure the models in this file on this machine. After an interruption, "
        "run the same command again to continue.",
    )
    parser.add_argument(
        "results",
        nargs="?",
        type=Path,
        default=bundle.with_name("results.zip"),
        help="file to write, or the folder for it (default: %(default)s)",
    )
    results: Path = parser.parse_args().results
    if results.is_dir():
        results = results / "results.zip"

    def end(*_: object) -> NoReturn:
        sys.exit(1)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
            signal.signal(number, end)
    try:
        measure(bundle, results)
    except BadFileError as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except OSError as error:
        sys.exit(f"error: {error.filename or 'the system'}: {error.strerror}; check this path")
    except KeyboardInterrupt:
        kept = locate_part(results)
        done = f"; {kept} keeps the finished runs" if kept.exists() else ""
        print(f"interrupted; run the same command to continue{done}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
