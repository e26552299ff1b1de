"""Two at once on one folder or one table: one works, and the other is told who."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

import goldnas
from forked import Forked
from goldnas.cli.main import app
from goldnas.errors import BusyError, RunError
from goldnas.files import write_atomic
from goldnas.locks import file_locked
from goldnas.lut import LatencyTable
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.searching.folder import SearchRun
from nightly import at_night
from simulated_device import visit_by_size
from test_fleet import PROGRAM
from test_kill import SEARCH, assert_same, wait_until_started
from zoos import assert_all_picked, write_models

TINY = ("profile", "--cells", "1", "--channels", "4", "--input", "1x8x8", "--networks", "0")
TRAINING = ("train", "--epochs", "6", "--batch-size", "64", "--train-device", "cpu")
TRAINING += ("--threads", "1")


def invoke(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*map(str, words)])
    return result.exit_code, result.stderr


def wait_for(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180  # other programs may run on the machine
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def epochs(folder: Path) -> list[int]:
    """Numbers of the epochs that the log tells of."""
    events = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
    return [event["epoch"] for event in events if event["event"] == "epoch"]


@pytest.fixture
def said(tmp_path: Path) -> Path:
    return tmp_path / "said"


@pytest.fixture
def search(tmp_path: Path, said: Path) -> Iterator[tuple[Path, Forked]]:
    """Give the folder of a search that is under way."""
    folder = tmp_path / "a"
    search = Forked(*SEARCH, "--out", folder, said=said)
    wait_until_started(folder)
    yield folder, search
    search.kill()


def test_a_second_search_in_a_folder_is_told_who_works_there(
    search: tuple[Path, Forked],
) -> None:
    folder, process = search
    code, stderr = invoke("search", "--resume", folder)
    assert code == 2
    assert stderr.startswith(f"error: {folder} is being written by process ")
    assert "(goldnas search)" in stderr
    assert len(stderr.splitlines()) == 1
    assert process.running


def test_a_second_search_can_wait_and_finds_the_first_done(
    search: tuple[Path, Forked], tmp_path: Path
) -> None:
    folder, process = search
    other = tmp_path / "other"
    second = Forked("search", "--resume", folder, "--wait", "--no-report", said=other)
    wait_for(lambda: "waiting for process" in other.read_text() if other.exists() else False)
    process.finish()
    second.finish()
    assert epochs(folder) == [*range(3)]
    assert not (folder / ".lock").exists()


@at_night
def test_a_search_that_is_killed_frees_its_folder(
    search: tuple[Path, Forked], tmp_path: Path, said: Path
) -> None:
    folder, process = search
    waits = Forked("search", "--resume", folder, "--wait", "--no-report", said=said)
    whole = tmp_path / "whole"
    assert process.kill()
    waits.finish()
    Forked(*SEARCH, "--out", whole, said=said).finish()
    assert_same(whole, folder)


@pytest.mark.parametrize(
    "what", ["removed", *(pytest.param(w, marks=at_night) for w in ("moved", "replaced"))]
)
def test_a_folder_that_is_removed_under_way_is_not_made_again(
    search: tuple[Path, Forked], said: Path, what: str
) -> None:
    folder, process = search
    moved = folder.with_name("moved")
    folder.rename(moved)
    if what == "removed":
        shutil.rmtree(moved)
    elif what == "replaced":
        folder.mkdir()
    wait_for(lambda: not process.running)
    assert process.status == 2
    error = said.read_text().splitlines()[-1]
    assert error.startswith(f"error: {folder} was removed or moved while the search ran")
    assert not folder.exists() or not os.listdir(folder)
    if what == "moved":
        code, stderr = invoke("search", "--resume", moved, "--no-report")
        assert code == 0, stderr


@at_night
def test_a_training_is_trained_by_one(workplace: Path, said: Path) -> None:
    run, folder = workplace / "run", workplace / "trained"
    first = Forked(*TRAINING, run, "--out", folder, said=said)
    wait_until_started(folder)
    code, stderr = invoke(*TRAINING, run, "--out", folder)
    assert code == 2
    assert f"{folder} is being written by process" in stderr
    code, stderr = invoke(*TRAINING, run, "--out", folder, "--wait")
    assert code == 0, stderr
    first.finish()
    assert epochs(folder) == [*range(6)]


def test_two_that_make_one_folder_do_not_both_go_on(tmp_path: Path) -> None:
    first = SearchRun.make(tmp_path / "a", lambda run: None)
    with pytest.raises(BusyError, match="has just been made by process"):
        SearchRun.make(tmp_path / "a", lambda run: None)
    first.release()
    assert os.listdir(tmp_path) == ["a"]


def test_a_table_is_measured_by_one(tmp_path: Path) -> None:
    table = tmp_path / "new" / "cpu.json"
    with file_locked(table):
        code, stderr = invoke(*TINY, "--out", table)
        assert code == 2
        assert stderr.startswith(f"error: {table} is being written by process {os.getpid()}")
    assert not table.parent.exists()


def test_two_that_measure_for_one_table_lose_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxruntimeBackend, "visit", visit_by_size)
    table = tmp_path / "cpu.json"
    operators = ("skip_connect", "max_pool_3x3")

    def measure(operator: str) -> None:
        space = goldnas.space(cells=1, channels=4, input_shape=(1, 8, 8), operators=(operator,))
        goldnas.profile(space, out=table, networks=0, wait=True, on_warning=lambda text: None)

    threads = [threading.Thread(target=measure, args=[name]) for name in operators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row.operator for row in LatencyTable.load(table).rows} >= {*operators}
    assert os.listdir(tmp_path) == ["cpu.json"]


def test_one_table_by_two_names_has_one_lock(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to("shared/cpu.json")
    with (
        file_locked(link),
        pytest.raises(BusyError),
        file_locked(tmp_path / "shared" / "cpu.json"),
    ):
        pass


def test_without_flock_the_file_is_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", lacking)
    table = tmp_path / "cpu.json"
    with (
        file_locked(table),
        pytest.raises(BusyError, match=f"by process {os.getpid()} on "),
        file_locked(table),
    ):
        pass
    with file_locked(table):
        pass
    assert os.listdir(tmp_path) == []


def test_reading_needs_no_lock(search: tuple[Path, Forked]) -> None:
    folder, process = search
    wait_for((folder / "front.json").exists)
    for command in ("status", "report"):
        code, stderr = invoke(command, folder)
        assert code == 0, stderr
    assert process.running


# -- pairs of commands -------------------------------------------------------------------------

PROFILE = ("profile", "--cells", "1", "--channels", "4", "--input", "1x8x8", "--target", "100")
SKIP = (*PROFILE, "--operators", "skip_connect", "--networks", "2", "--out", "cpu.json")
POOL = (*PROFILE, "--operators", "max_pool_3x3", "--networks", "0", "--out", "cpu.json")
CALIBRATE = ("lut", "calibrate", "cpu.json", "--networks", "2")
RESUME = ("search", "--resume", "a", "--no-report")
TRAIN_A = (*TRAINING, "a", "--out", "t")


SHRINK = (
    *("shrink", "done", "--step", "2", "--budget", "60kFLOPs", "--epochs", "2", "--out", "new"),
    *("--batch-size", "64", "--train-device", "cpu", "--threads", "1", "--no-report"),
)
PICK = (
    *("pick", "--zoo", "models", "--accuracies", "accuracies.csv", "--exhaustive"),
    *("--target", "50", "--out", "zoo.json"),
)


def assert_search_is_whole() -> None:
    assert epochs(Path("a")) == [*range(3)]


def assert_training_is_whole() -> None:
    assert epochs(Path("t")) == [*range(6)]
    assert Path("t/result.json").exists()


def assert_rows(*operators: str, networks: int = 0) -> None:
    table = LatencyTable.load("cpu.json")
    assert {row.operator for row in table.rows} >= {*operators}
    assert sum(len(c.networks) for c in table.calibrations) >= networks


PAIRS: dict[str, tuple[Sequence[str], Sequence[str], tuple[int, ...], Callable[[], object]]] = {
    # Two commands, with which codes both end, and what is there then.
    "resume": (RESUME, RESUME, (0, 2), assert_search_is_whole),
    "resume and wait": (
        (*RESUME, "--wait"),
        (*RESUME, "--wait"),
        (0, 0),
        assert_search_is_whole,
    ),
    "search": (
        (*SEARCH, "--out", "new"),
        (*SEARCH, "--out", "new"),
        (0, 2),
        lambda: epochs(Path("new")) == [*range(3)],
    ),
    "train": (TRAIN_A, TRAIN_A, (0, 2), assert_training_is_whole),
    "train and wait": (
        (*TRAIN_A, "--wait"),
        (*TRAIN_A, "--wait"),
        (0, 0),
        assert_training_is_whole,
    ),
    "profile": (SKIP, SKIP, (0, 2), lambda: assert_rows("skip_connect", networks=2)),
    "profile and wait": (
        (*SKIP, "--wait"),
        (*POOL, "--wait"),
        (0, 0),
        lambda: assert_rows("skip_connect", "max_pool_3x3", networks=2),
    ),
    "calibrate": (CALIBRATE, CALIBRATE, (0, 2), lambda: assert_rows(networks=4)),
    "profile and calibrate": (
        (*POOL, "--wait"),
        (*CALIBRATE, "--wait"),
        (0, 0),
        lambda: assert_rows("skip_connect", "max_pool_3x3", networks=4),
    ),
    "pick": (PICK, PICK, (0, 2), lambda: assert_all_picked(Path())),
    "pick and wait": (
        (*PICK, "--wait"),
        (*PICK, "--wait"),
        (0, 0),
        lambda: assert_all_picked(Path()),
    ),
    "shrink": (SHRINK, SHRINK, (0, 2), lambda: epochs(Path("new")) == [*range(2)]),
    "report": (
        ("report", "done"),
        ("report", "done"),
        (0, 0),
        lambda: Path("done/report.html").stat(),
    ),
}


@pytest.fixture(params=["here", "mounted", "by two paths"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Give a folder, and the folder under which a second command finds it."""
    folder = tmp_path / "work"
    folder.mkdir()
    other = folder
    if request.param == "mounted":
        mount = ["-t", "tmpfs", "tmpfs", folder]
    elif request.param == "by two paths":
        other = tmp_path / "other"
        other.mkdir()
        mount = ["--bind", folder, other]
    else:
        yield folder, folder
        return
    if os.geteuid() != 0 or subprocess.run(["mount", *mount], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder, other
    finally:
        subprocess.run(["umount", "--lazy", mount[-1]], check=True)


@pytest.mark.slow
@at_night
@pytest.mark.parametrize("pair", PAIRS)
def test_of_two_at_once_none_loses_what_the_other_did(
    places: tuple[Path, Path], pair: str, said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, codes, assert_done = PAIRS[pair]
    folder, other = places
    monkeypatch.chdir(folder)

    def forked(words: Sequence[str], where: Path, said: Path) -> Forked:
        return Forked(*words, said=said, folder=where, quick=True)

    if "resume" in pair or "train" in pair:
        began = forked((*SEARCH, "--out", "a"), folder, said)
        if "resume" in pair:
            wait_for(Path("a/checkpoint.pt").exists)
            began.kill()
        began.wait()
    if "pick" in pair:
        write_models(folder)
    if pair in ("report", "shrink"):
        forked((*SEARCH, "--out", "done"), folder, said).finish()
    if "calibrate" in pair:
        forked(SKIP, folder, said).finish()
    told = [said.with_suffix(number) for number in (".1", ".2")]
    running = [forked(first, folder, told[0]), forked(second, other, told[1])]
    for process in running:
        process.wait()
    statuses = tuple(sorted(process.status or 0 for process in running))
    texts = [text.read_text() for text in told]
    print(f"{pair}: {statuses} {[text.splitlines()[-1:] for text in texts]}")
    assert statuses == codes, texts
    for process, text in zip(running, texts, strict=True):
        if process.status == 2:
            assert re.search("by process|new exists", text.splitlines()[-1])
    assert_done()
    assert not [path for path in folder.rglob(".*") if path.name.startswith(".")]


# -- what is left behind -----------------------------------------------------------------------


def ended() -> int:
    """Give the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    host = socket.gethostname()
    dead = [tmp_path / f".{name}.{host}-{ended()}.tmp" for name in ("a", "cpu.json")]
    dead[0].mkdir()
    (dead[0] / "config.json").write_text("{")
    dead[1].write_text("{")
    alive = tmp_path / f".cpu.json.{host}-{os.getppid()}.tmp"
    elsewhere = tmp_path / ".cpu.json.another-host-1.tmp"
    for path in (alive, elsewhere):
        path.write_text("{")
    write_atomic(tmp_path / "cpu.json", "{}")
    SearchRun.make(tmp_path / "a", lambda run: None).release()
    assert {p.name for p in tmp_path.iterdir()} == {"a", "cpu.json", alive.name, elsewhere.name}
    two_days_ago = time.time() - 2 * 86_400
    os.utime(elsewhere, (two_days_ago, two_days_ago))
    write_atomic(tmp_path / "cpu.json", "{}")
    assert not elsewhere.exists()


def test_a_folder_begins_with_all_its_files_or_is_not_there(tmp_path: Path) -> None:
    def refuse(run: SearchRun) -> None:
        raise RunError("no")

    with pytest.raises(RunError):
        SearchRun.make(tmp_path / "a", refuse, {"options.toml": "x = 1"})
    assert os.listdir(tmp_path) == []
    run = SearchRun.make(tmp_path / "a", lambda run: None, {"options.toml": "x = 1"})
    assert (run.path / "options.toml").read_text() == "x = 1"
    run.release()
    assert os.listdir(run.path) == ["options.toml"]


def test_a_link_stays_a_link_and_a_mode_its_mode(tmp_path: Path) -> None:
    shared = tmp_path / "shared" / "cpu.json"
    shared.parent.mkdir()
    shared.write_text("old")
    shared.chmod(0o640)
    link = tmp_path / "cpu.json"
    link.symlink_to("shared/cpu.json")
    write_atomic(link, "new")
    assert link.is_symlink()
    assert shared.read_text() == "new"
    assert shared.stat().st_mode & 0o777 == 0o640


# -- children ----------------------------------------------------------------------------------


def processes_of(folder: Path) -> list[str]:
    """Processes whose command line names a folder, and those that they started."""
    told = subprocess.run(
        ["ps", "-ww", "-eo", "pid,ppid,stat,args"], capture_output=True, text=True
    )
    lines = [line.split(None, 3) for line in told.stdout.splitlines()[1:]]
    mine = {pid for pid, _, stat, words in lines if str(folder) in words and stat[0] != "Z"}
    while more := {pid for pid, parent, *_ in lines if parent in mine} - mine:
        mine |= more
    return sorted(mine - {str(os.getpid())})


@at_night
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "names"),
    [
        (signal.SIGKILL, ["one"]),
        *((n, ["one", "two"]) for n in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)),
    ],
)
def test_devices_are_not_measured_on_after_their_parent(
    tmp_path: Path, number: signal.Signals, names: list[str]
) -> None:
    devices = tmp_path / "devices.toml"
    devices.write_text("".join(f"[{name}]\ncores = [0]\n" for name in names))
    soon = f"from goldnas.cli import profile_fleet; profile_fleet._PROGRAM = {PROGRAM!r}"
    program = f"{soon}; from goldnas.cli.main import app; app()"
    where = ("--operators", "skip_connect", "--devices", devices, "--out", tmp_path / "lut")
    fleet = subprocess.Popen(
        [sys.executable, "-P", "-c", program, *TINY, *where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: len(list(tmp_path.glob("lut/*.visits"))) == len(names))
        children = [pid for pid in processes_of(tmp_path) if pid != str(fleet.pid)]
        # Of each device one that leads, and one that measures.
        assert len(children) >= 2 * len(names)
    finally:
        os.kill(fleet.pid, number)
        fleet.wait()
    wait_for(lambda: not any(Path("/proc", pid).exists() for pid in children))


@at_night
def test_a_training_that_was_killed_at_its_very_end_leaves_nothing(
    search: tuple[Path, Forked], said: Path
) -> None:
    run, process = search
    process.finish()
    folder = run / "trained"
    Forked(*TRAINING, run, "--out", folder, said=said).finish()
    (folder / ".lock").write_text("{}")  # as if before it was removed
    code, stderr = invoke(*TRAINING, run, "--out", folder)
    assert code == 0, stderr
    assert not (folder / ".lock").exists()
