"""Reports: all that a folder says is on the page, nothing on the page runs or is fetched."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from markupsafe import escape
from typer.testing import CliRunner

from compared import measured, trained
from goldnas.cli.main import app
from goldnas.cli.report import word_search
from goldnas.errors import ConfigError
from goldnas.report.page import make_report
from goldnas.report.search_call import write_call
from goldnas.report.timeline import Timeline
from goldnas.searching.config import SearchConfig
from goldnas.searching.folder import SearchRun
from reported import made_up, made_up_chain
from workplace import WITHIN, changed, goldnas, invoke

BOOM = "</script><script>boom()</script><img src=x onerror=boom()>"


@pytest.fixture(scope="module")
def template_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up(tmp_path_factory.mktemp("made_up") / "run").path


@pytest.fixture
def run(template_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template_run, tmp_path / "run"))


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.data, self._within = "", "", ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within = tag + (dict(attrs).get("id") or "")

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "scriptdata":
            self.data += data
        elif not self._within.startswith(("script", "style")):
            self.text += data

    def for_script(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.data)
        return found


def reported(run: Path, name: str = "report.html") -> Page:
    code, _, stderr = invoke("report", run, "-o", run / name)
    assert code == 0, stderr
    return Page(run / name)


def test_a_report_replaces_reports_and_no_other_page(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for _ in range(2):
        assert invoke("report", run, "-o", page)[0] == 0
    page.write_text("<p>of somebody else")
    code, _, stderr = invoke("report", run, "-o", page)
    assert (code, page.read_text()) == (2, "<p>of somebody else")
    assert "is there already; name another file, or replace it with --force" in stderr
    assert invoke("report", run, "-o", page, "--force")[0] == 0


def test_the_times_on_the_page_add_up_to_the_prediction(run: Path) -> None:
    data = reported(run).for_script()
    (costs,) = data["costs"]
    front = SearchRun.open(run).front()
    assert [n["id"] for n in data["networks"]] == [n.fingerprint for n in front.networks]
    for shown, network in zip(data["networks"], front.networks, strict=True):
        assert len(shown["kept"]) == len(data["operators"]) == len(costs["operators"])
        kept = sum(
            us
            for us, mark in zip(costs["operators"], shown["kept"], strict=True)
            if mark == "1"
        )
        total = kept + sum(us for _, _, us in costs["fixed"])
        assert total == pytest.approx(network.resources["latency@device"], rel=1e-3)


def test_the_best_network_is_shown_with_the_name_of_its_metric(run: Path) -> None:
    best = SearchRun.open(run).front().pick("best").fingerprint
    assert f"accuracy on held-out data, network {best}" in " ".join(reported(run).text.split())


def test_the_course_ends_in_the_last_network(run: Path) -> None:
    page = reported(run)
    data = page.for_script()
    last = "".join("10"[at is not None] for at in data["gone"])
    ended = next(n for n in data["networks"] if "end" in n["when"])
    assert ended["kept"] == last
    assert [moment["x"] for moment in data["moments"]][-1] == 6.0
    assert "operators that are left, by kind" in page.text


def test_every_front_network_is_a_mark_of_every_front_chart(run: Path) -> None:
    page = reported(run)
    data = page.for_script()
    charts = [c for name, c in data["charts"].items() if name.startswith("front-")]
    assert len(charts) == 3  # FLOPs, params, latency
    text = (run / "report.html").read_text()
    for chart in charts:
        drawn = sorted(number for group in chart["points"].values() for number in group)
        assert drawn == list(range(len(data["networks"])))
        for group, numbers in chart["points"].items():
            marks = text[text.index(f'id="{group}"') :].split("</g>")[0]
            assert marks.count("<use") == len(numbers)


def test_a_page_fetches_nothing_and_runs_its_own_script_alone(run: Path) -> None:
    page = reported(run)
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "base", "audio", "video", "img")
        for name in ("src", "href", "xlink:href", "action", "data"):
            if (value := attributes.get(name)) is not None:
                assert value.startswith(("#", "data:,")), (tag, name, value)
    assert "url(http" not in (run / "report.html").read_text()
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert [a.get("id") for t, a in page.tags if t == "script"] == ["data", None]


def test_what_files_say_is_text_whatever_it_is(run: Path) -> None:
    changed(str(run / "config.json"), data=f"{BOOM}.npz")()
    changed(str(run / "conditions.json"), torch=BOOM)()
    network = SearchRun.open(run).front().networks[0].fingerprint
    measured(SearchRun.open(run), network, "device", 100.0, machine=BOOM)
    trained(SearchRun.open(run), network, 0.5, recipe="<script>boom()")
    page = reported(run)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 2
    assert "img" not in [tag for tag, _ in page.tags]
    assert page.text.count("<img src=x onerror=boom()>") >= 3
    assert "<script>boom()" in page.for_script()["networks"][0]["tested"][0]


def test_names_of_budgets_reach_the_charts_as_text(run: Path) -> None:
    """Also a dollar sign, which would begin a formula."""
    name = "a$<b>$"
    (run / "tables" / "device.json").rename(run / "tables" / f"{name}.json")
    changed(str(run / "config.json"), tables=[name])()
    for file in ("front.json", "events.jsonl"):
        text = (run / file).read_text().replace("latency@device", f"latency@{name}")
        (run / file).write_text(text)
    page = reported(run)
    assert f"latency@{name}" in page.text
    assert "b" not in [tag for tag, attributes in page.tags if attributes]


def test_measurements_and_trainings_are_shown(run: Path) -> None:
    search = SearchRun.open(run)
    network = search.front().pick("best").fingerprint
    measured(search, network, "device", 200.0, predicted_us=150.0)
    trained(search, network, 0.875)
    page = reported(run)
    assert "-25.0 %" in page.text
    tested = [n["tested"] for n in page.for_script()["networks"] if n["id"] == network]
    assert tested == [["87.50 % (short, 15 epochs, seed 0)"]]


def test_a_chain_of_choices_is_shown_in_its_order(tmp_path: Path) -> None:
    page = reported(made_up_chain(tmp_path / "run").path)
    data = page.for_script()
    assert data["cells"] is None
    assert data["parts"] == ["stages.0.0", "stages.0.1"]
    assert {data["parts"][part] for _, _, part, _ in data["operators"]} == set(data["parts"])
    assert "had no latency table" in page.text


def test_what_is_not_there_is_said_in_a_line(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "run", tables=False).path
    (folder / "front.json").unlink()
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text(lines[0])
    page = reported(folder)
    for line in (
        "recorded no network yet",
        "had no latency table",
        "No epoch is over yet",
        "No network was measured as a whole yet",
        "has not ended",
    ):
        assert line in page.text


def test_a_space_that_is_gone_leaves_the_rest(run: Path) -> None:
    changed(str(run / "config.json"), space="gone_module:small")()
    page = reported(run)
    assert "gone_module:small, of a module that is not found" in page.text
    assert page.for_script()["costs"] == []
    assert len(page.for_script()["operators"]) == len(page.for_script()["networks"][0]["kept"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"schema_version": 0}, "schema version 0, which this goldnas does not read any more"),
        ({"schema_version": 2}, "schema version 2, and this goldnas reads version 1"),
        ({"epochs": "many"}, "cannot read .*config.json"),
    ],
)
def test_a_folder_of_another_schema_is_one_line(
    run: Path, spoil: dict[str, Any], message: str
) -> None:
    changed(str(run / "config.json"), **spoil)()
    for command in ("report", "status"):
        code, stderr = goldnas(f"{command} {run}")
        assert code == 2
        assert re.search(message, stderr)
        assert stderr.count("\n") == 1
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "none"], "none is not the folder of a search"),
        (["status", "none"], "none is not the folder of a search"),
        (["report", "run", "-o", "report.pdf"], "--out report.pdf must end in .html, .htm"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str) -> None:
    code, _, stderr = invoke(*words)
    assert code == 2
    assert message in stderr
    assert stderr.count("\n") == 1


def test_a_damaged_line_of_the_log_is_one_line(run: Path) -> None:
    with (run / "events.jsonl").open("a") as log:
        log.write('{"time": 1, "event": "prune", "epoch": 1, "resources": 3, '
                  '"accuracy_before": 1, "accuracy_after": 1}\n')  # fmt: skip
    code, stderr = goldnas(f"report {run}")
    assert code == 2
    assert "events.jsonl: line 62 does not belong to this log" in stderr


# -- the log, and the command ----------------------------------------------------------------


def line(event: str, epoch: int, step: int, live: int, *went: str) -> dict[str, Any]:
    return {
        "time": 1.0,
        "event": event,
        "epoch": epoch,
        "step": step,
        "operators": went,
        "live_operators": live,
        "resources": {"FLOPs": 10.0 * live},
    }


def test_what_a_search_went_back_before_is_left_out(tmp_path: Path) -> None:
    start = {"time": 1.0, "event": "start", "epoch": 0, "step": 0, "resources": {"FLOPs": 50.0}}
    events = [
        start,
        line("prune", 0, 5, 4, "a"),
        line("epoch", 0, 10, 4),
        line("prune", 1, 15, 3, "b"),
        {"time": 1.0, "event": "setback", "reason": "", "step": 16, "back_to_step": 10},
        line("prune", 1, 17, 3, "c"),
        line("epoch", 1, 20, 3),
    ]
    timeline = Timeline.read(events, tmp_path)
    assert timeline.gone.keys() == {"a", "c"}
    assert [m.epochs for m in timeline.moments] == [0, 0.5, 1, 1.7, 2]
    assert timeline.moments[0].live == 5


def parsed(command: list[str], monkeypatch: pytest.MonkeyPatch) -> SearchConfig:
    """The settings that a command line would search with on the CPU."""
    taken: list[SearchConfig] = []

    def prepare(config: SearchConfig, tables: object, *, amp: str, **others: object) -> None:
        resolved = {"auto": "off"}.get(amp, amp)
        taken.append(msgspec.structs.replace(config, amp=resolved))
        raise ConfigError("that was all")

    monkeypatch.setattr("goldnas.searching.start.PreparedSearch", prepare)
    result = CliRunner().invoke(app, command)
    assert "that was all" in result.stderr
    return taken[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"budgets": ("600kFLOPs", "5ms"), "tables": ("device",), "seed": 3},
        {"pace": "paper", "epochs": 1000, "learning_rate": 0.01, "single": True,
         "lambda0": 1e-5},
        {"strategy": "darts1", "levels": 2, "learning_rate": 0.025, "gate_learning_rate": 3e-4,
         "edge_rule": True, "budgets": ("1MFLOPs",), "flip": False, "crop_padding": 0},
        {"strategy": "random", "networks": 5, "score": "naswot", "budgets": ("1MFLOPs",)},
        {"space": "mobile", "settings": {"width": 0.25, "stages": [[32, 2, 2]]},
         "budgets": ("1MFLOPs",), "data": "my data.npz", "amp": "bf16", "checkpointing": True},
        {"operators": ("skip_connect", "max_pool_3x3"), "cells": 3, "channels": 4, "epochs": 7,
         "budgets": ("1MFLOPs",), "levels": 2, "batch_size": 64, "accumulate": 2},
    ],
    ids=["tables", "paper", "darts", "random", "mobile", "gold"],
)  # fmt: skip
def test_the_command_on_the_page_repeats_the_search(
    run: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    config = SearchConfig(**{"train_device": "cpu"} | settings)
    command, without_options = word_search(write_call(config, run))
    words = shlex.split(command)
    assert words[0] == "goldnas"
    assert without_options == {}
    assert parsed(words[1:], monkeypatch) == config


def test_a_report_from_python_repeats_the_search_in_python(run: Path) -> None:
    config = SearchConfig(budgets=("1MFLOPs", "5ms"), tables=("device",), cells=3, momentum=0.8)
    call = str(write_call(config, Path("runs/a")))
    assert call.startswith("search(space('gold', cells=3), ")
    assert "data='digits', levels=1, " in call
    assert call.endswith("tables=['runs/a/tables/device.json'], out='runs/a-again')")
    assert "momentum=0.8" in call
    assert "budgets=['1MFLOPs', '5ms']" in call
    assert escape(str(write_call(SearchRun.open(run).config, run))) in make_report(run)


def test_settings_that_have_no_option_are_named(run: Path) -> None:
    _, given = word_search(write_call(SearchConfig(single=True, momentum=0.8), run))
    assert given == {"momentum": 0.8}
    changed(str(run / "config.json"), momentum=0.8)()
    assert "Settings that only Python sets: momentum 0.8" in reported(run).text


# -- at the end of a search ------------------------------------------------------------------


def test_a_search_writes_its_report(workplace: Path) -> None:
    assert not Path("run/report.html").exists()  # made with --no-report
    code, out, stderr = invoke("search", "--resume", "run")
    assert code == 0, stderr
    assert "wrote run/report.html" in out
    data = Page(Path("run/report.html")).for_script()
    assert data["costs"][0]["table"] == "cpu"


def test_a_report_that_cannot_be_written_does_not_spoil_the_search(workplace: Path) -> None:
    Path("run/report.html").mkdir()
    code, out, stderr = invoke("search", "--resume", "run")
    assert code == 0
    assert "no report was written: cannot write run/report.html" in stderr
    assert "Next: goldnas export run" in out


def test_a_search_can_leave_its_report_out(workplace: Path) -> None:
    code, stderr = goldnas(WITHIN)
    assert code == 0, stderr
    assert not Path("new/report.html").exists()


# -- status ----------------------------------------------------------------------------------


def status(run: Path) -> dict[str, Any]:
    code, out, stderr = invoke("status", run, "--json")
    assert code == 0, stderr
    found: dict[str, Any] = json.loads(out)
    return found


def test_the_status_of_a_search_that_ended(run: Path) -> None:
    found = status(run)
    best = SearchRun.open(run).front().pick("best")
    assert (found["state"], found["quiet_seconds"], found["epochs_done"]) == ("ended", None, 6)
    assert found["best"]["fingerprint"] == best.fingerprint
    assert found["operators"] == 84
    share = found["resources"]["FLOPs"]
    assert share["amount"] <= share["budget"]
    code, out, _ = invoke("status", run)
    assert code == 0
    assert "ended after" in out
    assert f"the best within all budgets is {best.fingerprint}" in out
    assert len(out.splitlines()) <= 24  # one screen


def test_the_status_of_a_search_in_progress(run: Path) -> None:
    import time

    events = [json.loads(text) for text in (run / "events.jsonl").read_text().splitlines()]
    third = [i for i, e in enumerate(events) if e["event"] == "epoch"][2]
    late = time.time() - events[third]["time"]
    lines = (json.dumps(e | {"time": e["time"] + late}) for e in events[: third + 1])
    (run / "events.jsonl").write_text("".join(f"{text}\n" for text in lines))
    found = status(run)
    assert (found["state"], found["epochs_done"]) == ("in progress", 3)
    assert found["seconds_left"] == 30.0  # three epochs of 10 s
    _, out, _ = invoke("status", run)
    assert "in progress" in out
    assert "3 of 6, about 0:00:30 left" in out


def test_the_status_of_a_search_that_may_have_been_stopped(run: Path) -> None:
    lines = (run / "events.jsonl").read_text().splitlines(keepends=True)
    (run / "events.jsonl").write_text("".join(lines[:-1]))
    assert status(run)["state"] == "quiet"
    _, out, _ = invoke("status", run)
    assert f"goldnas search --resume {run}" in out
    (run / "events.jsonl").unlink()
    assert status(run)["state"] == "not begun"
