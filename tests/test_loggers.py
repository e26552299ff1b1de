"""Loggers: what they show is what the log says, and whatever they do, the run goes on."""

import contextlib
import csv
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from goldnas.comparison.history import leave_out_undone
from goldnas.errors import StoppedError
from goldnas.run_folder import RunFolder
from goldnas.searching.folder import SearchRun
from goldnas.searching.start import PreparedSearch, run_search
from loopback import find_free_port
from nightly import at_night
from searches import make_loop
from test_long_runs import QUICK, spoil
from workplace import RESUME, WITHIN, Case, assert_refused, changed, goldnas, invoke

accumulators = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
)

DOCS = Path(__file__).parent.parent / "docs"
TRAIN = "train run --epochs 2 --batch-size 256 --train-device cpu"

Series = dict[str, list[tuple[int, float]]]
"""Steps and values, by the name of a figure."""

FAILING = """
class Failing:
    def __init__(self, folder, settings):
        self.calls = folder / "calls"

    def begin(self, step):
        self.calls.write_text("begin\\n")

    def log(self, scalars, step):
        with self.calls.open("a") as file:
            file.write("log\\n")
        raise OSError(28, "No space left\\non device")

    def table(self, name, rows):
        raise AssertionError

    def close(self, *, finished):
        raise AssertionError


class Unfinished:
    def __init__(self, folder, settings):
        pass
"""


@pytest.fixture
def own(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workplace, with the logger of the documents and worse ones in my_loggers.py."""
    (csv_logger,) = (DOCS / "loggers.md").read_text().split("```python\n")[1:]
    Path("my_loggers.py").write_text(csv_logger.split("```")[0] + FAILING)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_loggers", raising=False)
    return workplace


def read_back(folder: str | Path) -> Series:
    """The scalars of TensorBoard's files of a run, all of them, by its own reader."""
    found = accumulators.EventAccumulator(str(Path(folder, "tensorboard")), {"scalars": 0})
    found.Reload()
    tags = found.Tags()["scalars"]
    return {tag: [(scalar.step, scalar.value) for scalar in found.Scalars(tag)] for tag in tags}


def texts(folder: str | Path) -> dict[str, list[str]]:
    found = accumulators.EventAccumulator(str(Path(folder, "tensorboard")), {"tensors": 0})
    found.Reload()
    return {
        tag: [event.tensor_proto.string_val[0].decode() for event in found.Tensors(tag)]
        for tag in found.Tags()["tensors"]
    }


def expected(events: Iterable[dict[str, Any]], budgets: dict[str, float]) -> Series:
    """What a logger should show of a log; written out once more, the plain way."""
    series: Series = defaultdict(list)
    figures = (
        *("loss", "validation_accuracy", "learning_rate", "penalty_weight", "live_operators"),
        *("memory_bytes", "seconds", "accuracy_before", "accuracy_after", "test_accuracy"),
    )
    groups = {"epoch": "training", "prune": "prune", "beyond": "beyond", "end": "end"}
    for event in events:
        if event["event"] not in groups or "step" not in event:
            continue
        group = groups[event["event"]]
        if event["event"] == "epoch" and budgets:
            group = "search"
        for name in figures:
            if event.get(name) is not None:
                series[f"{group}/{name}"].append((event["step"], event[name]))
        for name, amount in event.get("resources", {}).items():
            series[f"{group}/{name}"].append((event["step"], amount))
            if name in budgets:
                share = (event["step"], amount / budgets[name])
                series[f"{group}/budget_share/{name}"].append(share)
    return dict(series)


def assert_same(found: Series, wanted: Series) -> None:
    """Equal, but that TensorBoard keeps 32 bits of a number."""
    assert found.keys() == wanted.keys()
    for name, points in wanted.items():
        assert found[name] == [(step, float(np.float32(value))) for step, value in points], name


def test_tensorboard_shows_what_the_log_of_a_search_says(own: Path) -> None:
    code, _, stderr = invoke(
        *f"{WITHIN} --logger tensorboard --logger my_loggers:CsvLogger".split()
    )
    assert code == 0, stderr
    assert "warning" not in stderr
    run = SearchRun.open(Path("new"))
    wanted = expected(run.read_events(), {"FLOPs": 100_000})
    assert {"search/loss", "search/budget_share/FLOPs", "prune/accuracy_after"} <= wanted.keys()
    found = read_back("new")
    assert_same(found, wanted)
    assert found["search/budget_share/FLOPs"][-1][1] <= 1

    shown = texts("new")
    (settings,) = shown["settings"]
    assert '"batch_size": 512' in settings
    (front,) = shown["front"]
    for network in run.front().networks:
        assert f"| {network.fingerprint} | {network.accuracy:g} |" in front

    # A logger of one's own is told the same.
    own_series: Series = defaultdict(list)
    with Path("new/scalars.csv").open() as file:
        for step, name, value in csv.reader(file):
            own_series[name].append((int(step), float(value)))
    assert own_series == wanted


def test_tensorboard_shows_what_the_log_of_a_training_says(workplace: Path) -> None:
    code, stderr = goldnas(f"{TRAIN} --logger tensorboard --out new")
    assert code == 0, stderr
    events = RunFolder(Path("new")).read_events()
    wanted = expected(events, {})
    assert {
        "training/loss",
        "training/validation_accuracy",
        "end/test_accuracy",
    } <= wanted.keys()
    assert [step for step, _ in wanted["training/loss"]] == [5, 10]
    assert_same(read_back("new"), wanted)
    # Another time without it is the same training.
    assert goldnas(f"{TRAIN} --out new")[0] == 0


def test_a_search_that_goes_on_goes_on_in_the_same_log(tmp_path: Path) -> None:
    """The steps that a crash has done again are there once, as they were at last."""
    search = make_loop(tmp_path / "a", **QUICK, loggers=("tensorboard",))

    def crash(event: str, fields: dict[str, Any]) -> None:
        if event == "prune" and fields["epoch"] == 1:
            raise KeyboardInterrupt

    search.events.observer = crash
    with pytest.raises(KeyboardInterrupt):
        run_search(search)
    resumed = PreparedSearch.resume(SearchRun.open(tmp_path / "a"))
    crashed_at = resumed.run.read_events()[-1]["step"]
    assert resumed.step < crashed_at, "the pruning is not done again"
    run_search(resumed)
    found = read_back(tmp_path / "a")
    assert_same(found, expected(leave_out_undone(resumed.run.read_events()), {"FLOPs": 45_000}))
    steps = [step for step, _ in found["prune/accuracy_after"]]
    assert steps == sorted(set(steps))
    assert len(texts(tmp_path / "a")["settings"]) == 1


def test_what_a_setback_goes_back_before_is_not_shown(tmp_path: Path) -> None:
    search = make_loop(tmp_path / "a", **QUICK, loggers=("tensorboard",))
    spoil(search, 9)
    run_search(search)
    events = search.run.read_events()
    kept = leave_out_undone(events)
    assert "setback" in [event["event"] for event in kept]
    assert len(kept) < len(events), "nothing was done again"
    assert_same(read_back(tmp_path / "a"), expected(kept, {"FLOPs": 45_000}))


def test_each_network_that_is_tried_is_one_more_step(tmp_path: Path) -> None:
    search = make_loop(
        tmp_path / "a",
        **{"strategy": "random", "networks": 4, "score": "synflow", "epochs": 1},
        loggers=("tensorboard",),
    )
    # Stopped after the second, as a signal would.
    search.stop_signal = lambda: signal.SIGTERM if len(search.strategy.candidates) == 2 else 0
    with pytest.raises(StoppedError):
        run_search(search)
    resumed = PreparedSearch.resume(SearchRun.open(tmp_path / "a"))
    run_search(resumed)
    scores = [e["score"] for e in resumed.run.read_events() if e["event"] == "score"]
    assert len(scores) == 4
    wanted = [(n, float(np.float32(score))) for n, score in enumerate(scores, 1)]
    assert read_back(tmp_path / "a")["score/score"] == wanted


# -- failures ----------------------------------------------------------------------------------


def test_a_logger_that_fails_is_left_out_and_the_search_goes_on(own: Path) -> None:
    code, _, stderr = invoke(
        *f"{WITHIN} --logger my_loggers:Failing --logger tensorboard".split(),
        *("--logger", "my_loggers:Unfinished"),
    )
    assert code == 0, stderr
    warnings = [line for line in stderr.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: logger my_loggers:Unfinished failed and is not used any more: an Unfinished "
        "lacks one of begin, log, table and close. new/events.jsonl has everything",
        "warning: logger my_loggers:Failing failed and is not used any more: OSError: "
        "[Errno 28] No space left on device. new/events.jsonl has everything",
    ]
    assert Path("new/calls").read_text() == "begin\nlog\n"
    events = SearchRun.open(Path("new")).read_events()
    assert events[-1]["event"] == "end"
    assert_same(read_back("new"), expected(events, {"FLOPs": 100_000}))


def test_tensorboard_whose_folder_is_gone_is_left_out(tmp_path: Path) -> None:
    search = make_loop(tmp_path / "a", **QUICK | {"epochs": 1}, loggers=("tensorboard",))
    said: list[dict[str, Any]] = []

    def observe(event: str, fields: dict[str, Any]) -> None:
        if event == "logger_failed":
            said.append(fields)
        folder = tmp_path / "a" / "tensorboard"
        if event == "start":
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()

    search.events.observer = observe
    run_search(search)
    (failure,) = said
    assert failure["logger"] == "tensorboard"
    assert "No such file" in failure["reason"]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
@pytest.mark.parametrize("command", [WITHIN, f"{TRAIN} --pick 1 --pick 2"])
def test_a_package_that_is_missing_ends_the_command_before_it_begins(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    for module in [m for m in sys.modules if m.startswith((f"{name}.", "goldnas.loggers."))]:
        if module != "goldnas.loggers.listener":
            monkeypatch.delitem(sys.modules, module)
    assert_refused(
        Case(
            f"{command} --logger {name}", rf'--logger {name} .* pip install "goldnas\[{name}\]"'
        )
    )


@pytest.mark.parametrize(
    "case",
    [
        Case(
            f"{WITHIN} --logger tensorbord", "unknown logger 'tensorbord'; known: tensorboard"
        ),
        Case(f"{TRAIN} --logger nowhere:logger", "there is no module 'nowhere' in "),
        Case(f"{RESUME} --logger tensorboard", "--logger cannot change a search"),
        Case(RESUME, "unknown logger 'later'", changed("run/config.json", loggers=["later"])),
    ],
    ids=["unknown", "no module", "on resume", "of a later goldnas"],
)
def test_a_logger_that_there_is_not_is_refused(workplace: Path, case: Case) -> None:
    assert_refused(case)


# -- the real things ---------------------------------------------------------------------------


@at_night
def test_the_server_of_tensorboard_shows_a_run(tmp_path: Path) -> None:
    search = make_loop(tmp_path / "a", **QUICK | {"epochs": 1}, loggers=("tensorboard",))
    run_search(search)
    port = find_free_port()
    command = ["tensorboard.main", "--logdir", str(tmp_path / "a"), "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    address = f"http://127.0.0.1:{port}/data/plugin/scalars/scalars?run=tensorboard&tag="
    wanted = [(e["step"], e["loss"]) for e in search.run.read_events() if e["event"] == "epoch"]
    found: list[list[float]] = []
    deadline = time.monotonic() + 120
    try:
        while not found and time.monotonic() < deadline and server.poll() is None:
            with contextlib.suppress(OSError):  # until it serves, and has read the files
                answer = urllib.request.urlopen(f"{address}search%2Floss", timeout=10)
                with answer:
                    found = json.load(answer)
            time.sleep(0.1)
    finally:
        server.terminate()
        _, said = server.communicate(timeout=120)
    assert [(step, value) for _, step, value in found] == [
        (step, pytest.approx(loss, rel=1e-6)) for step, loss in wanted
    ], said.decode()


def test_mlflow_has_the_figures_of_a_search_that_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "digits")
    search = make_loop(tmp_path / "a", **QUICK, loggers=("mlflow",))
    search.stop_signal = lambda: signal.SIGTERM if search.step == 7 else 0
    with pytest.raises(StoppedError):
        run_search(search)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("digits").experiment_id
    (stopped,) = client.search_runs([experiment])
    assert stopped.info.status == "KILLED"
    run_search(PreparedSearch.resume(SearchRun.open(tmp_path / "a")))

    (run,) = client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert run.data.params["batch_size"] == "256"
    wanted = expected(search.run.read_events(), {"FLOPs": 45_000})
    assert run.data.metrics.keys() == wanted.keys()
    for name in ("search/loss", "search/budget_share/FLOPs", "prune/accuracy_after"):
        history = client.get_metric_history(run.info.run_id, name)
        assert [(point.step, point.value) for point in history] == wanted[name]
    front = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/front.csv")
    networks = [network.fingerprint for network in search.run.front().networks]
    assert [row["network"] for row in csv.DictReader(front.splitlines())] == networks
