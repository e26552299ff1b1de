"""Searches of hours: stopped by a signal, thrown back by a NaN, short of memory."""

import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from goldnas.api.runs import Run
from goldnas.cli.cores import count_free_cores, read_core_times_s
from goldnas.cli.search_display import SearchDisplay
from goldnas.errors import ConfigError, RunError, StoppedError
from goldnas.searching.folder import SearchRun
from goldnas.searching.start import PreparedSearch, SearchLoop, run_search
from goldnas.training import checkpoints
from goldnas.training.distributed import Ranks
from goldnas.training.gradients import BatchGradients, check_batch
from nightly import at_night
from searches import assert_same_results, make_loop

QUICK: dict[str, Any] = {
    **{"cells": 1, "budgets": ("45kFLOPs",), "epochs": 2},
    **{"auxiliary_weight": 0.0, "check_images": 50},
}
STEPS = 10
"""Of a quick search, five an epoch; at most five more follow below the budgets."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SearchRun:
    search = make_loop(tmp_path_factory.mktemp("runs") / "a", **QUICK)
    run_search(search)
    assert search.steps_per_epoch * search.config.epochs == STEPS
    return search.run


# -- signals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "number"),
    [(7, signal.SIGTERM), pytest.param(12, signal.SIGINT, marks=at_night)],
    ids=["while pruning", "below the budgets"],
)
def test_a_signal_stops_after_the_step_and_the_rest_is_the_same_bits(
    finished: SearchRun, tmp_path: Path, step: int, number: int
) -> None:
    search = make_loop(tmp_path / "a", **QUICK)
    search.stop_signal = lambda: number if search.step == step else 0
    with pytest.raises(StoppedError, match=rf"after step {step}, .*resume") as stopped:
        run_search(search)
    assert stopped.value.status == 128 + number
    resumed = PreparedSearch.resume(SearchRun.open(tmp_path / "a"))
    assert resumed.step == step
    run_search(resumed)
    assert_same_results(Run(finished), Run(resumed.run))
    events = [event for event in resumed.run.read_events() if event["event"] != "start"]
    whole = [event for event in finished.read_events() if event["event"] != "start"]
    for ours, theirs in zip(events, whole, strict=True):  # no line is missing, none twice
        for field in ours.keys() - {"time", "seconds"}:
            assert ours[field] == theirs[field], (ours["event"], field)


def test_a_crash_costs_minutes_however_long_an_epoch_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SAVE_EVERY_S", 0.0)
    search = make_loop(tmp_path / "a", **QUICK)

    def crash() -> int:
        return 0 if search.step < 3 else 1 // 0

    search.stop_signal = crash
    with pytest.raises(ZeroDivisionError):
        run_search(search)
    state = search.run.read_checkpoint()
    assert state is not None
    assert (state["epoch"], state["step"]) == (0, 2)


# -- setbacks ----------------------------------------------------------------------------------


def spoil(search: SearchLoop, *steps: int, factor: float = float("nan")) -> None:
    """Multiply weights by a factor after each of these steps, once for each mention."""
    left = list(steps)

    def observe(event: str, fields: dict[str, Any]) -> None:
        if event == "step" and fields["step"] in left:
            left.remove(fields["step"])
            with torch.no_grad():
                next(search.learner.supernet.network.classifier.parameters()).mul_(factor)

    search.events.observer = observe


def assert_finite(run: SearchRun) -> None:
    state = run.read_checkpoint()
    assert state is not None
    for value in state["supernet"].values():
        assert value.isfinite().all()
    for network in run.front().networks:
        for value in run.network(network).state_dict().values():
            assert value.isfinite().all()


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=at_night) for seed in (1, 2, 3, 4))]
)
def test_nan_at_a_random_step_costs_a_setback_and_nothing_else(
    tmp_path: Path, seed: int
) -> None:
    step = random.Random(seed).randint(1, STEPS + 2)
    search = make_loop(tmp_path / "a", **QUICK, seed=seed)
    spoil(search, step)
    front = run_search(search)
    assert any("end" in n.reasons and n.meets_budgets for n in front.networks)
    (setback,) = (event for event in search.run.read_events() if event["event"] == "setback")
    assert setback["back_to_step"] < setback["step"]
    assert search.checkpoints.setbacks == 1
    assert_finite(search.run)


def test_every_setback_halves_the_learning_rate_and_the_fourth_is_the_end(
    tmp_path: Path,
) -> None:
    search = make_loop(tmp_path / "a", **QUICK)
    planned = search.learning_rate(5)
    spoil(search, 7, 7, 7, 7)
    with pytest.raises(
        RunError, match=r"diverged .*4 times.* lower `learning_rate` than 0\.05"
    ):
        run_search(search)
    setbacks = [event for event in search.run.read_events() if event["event"] == "setback"]
    assert [event["learning_rate"] / planned for event in setbacks] == [0.5, 0.25, 0.125]
    resumed = PreparedSearch.resume(SearchRun.open(tmp_path / "a"))
    assert (resumed.step, resumed.checkpoints.setbacks) == (5, 3)
    run_search(resumed)  # what was wrong is gone
    assert_finite(resumed.run)


@at_night
def test_a_loss_far_above_guessing_is_as_bad_as_nan(tmp_path: Path) -> None:
    search = make_loop(tmp_path / "a", **QUICK)
    spoil(search, 7, factor=1e6)
    run_search(search)
    (setback,) = (event for event in search.run.read_events() if event["event"] == "setback")
    assert setback["back_to_step"] == 5
    assert_finite(search.run)


# -- memory ------------------------------------------------------------------------------------


class NoNormalisation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3, dtype=torch.float64)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.flatten(1))
        return logits


def gradient(images: Tensor, labels: Tensor, *, accumulate: int, room: int) -> list[Tensor]:
    """The gradient on a device with room for so many images."""
    torch.manual_seed(0)
    network: Any = NoNormalisation()

    def loss_of(some: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        if len(some) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        loss = F.cross_entropy(network(some), theirs)
        return loss, loss

    gradients = BatchGradients(
        Ranks(), num_images=len(images), accumulate=accumulate, halved=lambda *sizes: None
    )
    loss = gradients.compute(network, images, labels, loss_of)
    return [loss, *(p.grad for p in network.parameters())]


@pytest.mark.parametrize("accumulate", [1, 3, 5])
@pytest.mark.parametrize("room", [99, 20, 5, 2])
def test_the_gradient_is_that_of_the_whole_batch_however_it_is_divided(
    accumulate: int, room: int
) -> None:
    images = torch.randn(22, 3, 2, 2, dtype=torch.float64)
    labels = torch.randint(3, (22,))
    whole = gradient(images, labels, accumulate=1, room=99)
    for ours, theirs in zip(
        gradient(images, labels, accumulate=accumulate, room=room), whole, strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def limit_memory(search: SearchLoop, room: int) -> list[list[int]]:
    """Let the device have room for so many images; return those of each step, by part."""
    steps: list[list[int]] = []
    loss_of = search.learner.compute_loss

    def limited(images: Tensor, labels: Tensor) -> Any:
        step = search.step
        if len(images) > room:
            steps[step:] = []
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        steps.extend([] for _ in range(step + 1 - len(steps)))
        steps[step].append(len(images))
        return loss_of(images, labels)

    search.learner.compute_loss = limited  # type: ignore[method-assign]
    return steps


def test_out_of_memory_halves_what_is_in_memory_and_not_what_a_step_learns_from(
    tmp_path: Path,
) -> None:
    search = make_loop(tmp_path / "a", **QUICK)
    steps = limit_memory(search, 100)
    front = run_search(search)
    assert any("end" in n.reasons and n.meets_budgets for n in front.networks)
    assert all(sum(parts) == 256 for parts in steps if parts)
    assert max(max(parts) for parts in steps if parts) == 64
    told = [event for event in search.run.read_events() if event["event"] == "out_of_memory"]
    assert [(event["images_at_once"], event["parts"]) for event in told] == [
        (128, 2),
        (64, 4),
    ]
    resumed = PreparedSearch.resume(SearchRun.open(tmp_path / "a"))
    assert resumed.gradients.parts == 4  # it would run out again


@at_night
def test_accumulating_from_the_beginning_is_what_out_of_memory_comes_to(tmp_path: Path) -> None:
    short = make_loop(tmp_path / "a", **QUICK | {"epochs": 1})
    limit_memory(short, 128)
    told: list[str] = []
    short.events.observer = lambda event, fields: told.append(event)
    run_search(short)
    assert told.count("out_of_memory") == 1
    accumulating = make_loop(tmp_path / "b", **QUICK | {"epochs": 1}, accumulate=2)
    run_search(accumulating)
    assert_same_results(Run(short.run), Run(accumulating.run))


def test_memory_for_less_than_two_images_ends_with_advice(tmp_path: Path) -> None:
    search = make_loop(tmp_path / "a", **QUICK)
    limit_memory(search, 1)
    with pytest.raises(RunError, match=r"out of memory with 2 images .* fewer `channels`"):
        run_search(search)


def test_a_batch_cannot_be_divided_into_single_images(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"256 images .* 1 x 129 parts .*of 258 or more"):
        make_loop(tmp_path / "a", accumulate=129)
    assert not (tmp_path / "a").exists()
    check_batch(256, ranks=8, accumulate=16)
    with pytest.raises(ConfigError, match="16 x 16 parts"):
        check_batch(256, ranks=16, accumulate=16)


# -- the display -------------------------------------------------------------------------------


def test_a_terminal_shows_where_the_search_stands(tmp_path: Path) -> None:
    search = make_loop(tmp_path / "a", **QUICK | {"budgets": ("45kFLOPs", "9kparams")})
    display = SearchDisplay(search)
    screens: list[str] = []

    def observe(event: str, fields: dict[str, Any]) -> None:
        display.observe(event, fields)
        console = Console(file=io.StringIO(), width=120)
        console.print(display.table())
        screens.append(console.file.getvalue())  # type: ignore[attr-defined]

    search.events.observer = observe
    run_search(search)
    for shown in ("epoch", "1 of 2", "step 2", "steps/s", "left", "operators  ", "28 of 28"):
        assert any(shown in screen for screen in screens[:6]), shown
    assert all("learning rate" in screen for screen in screens)
    assert all("budget 45 kFLOPs" in screen for screen in screens)
    shares = [int(s.split("% of it")[0].split()[-1]) for s in screens]
    assert shares[0] > 100 > shares[-1]
    assert all(later <= sooner for sooner, later in pairwise(shares))
    assert any("below the budgets" in screen for screen in screens[-6:])


@contextmanager
def other_work(core: int, processes: int) -> Iterator[None]:
    """Processes that never rest, on one core."""
    spin = (
        f"import os; os.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE)
        for _ in range(processes)
    ]
    try:
        for other in others:
            assert other.stdout is not None
            other.stdout.readline()
        yield
    finally:
        for other in others:
            other.communicate(other.kill())


on_linux = pytest.mark.skipif(read_core_times_s() is None, reason="the system does not count")


@on_linux
def test_a_terminal_shows_that_other_work_has_the_cores(tmp_path: Path) -> None:
    search = make_loop(tmp_path / "a", **QUICK)
    mine = os.sched_getaffinity(0)
    with other_work(min(mine), 3):
        os.sched_setaffinity(0, {min(mine)})
        try:
            display = SearchDisplay(search)
            end = time.monotonic() + 0.7
            while time.monotonic() < end:
                pass
            display.observe("step", {"step": 1})
        finally:
            os.sched_setaffinity(0, mine)
    console = Console(file=io.StringIO(), width=120)
    console.print(display.table())
    assert "busy machine" in console.file.getvalue()  # type: ignore[attr-defined]


@on_linux
def test_cores_on_which_other_work_runs_are_not_free() -> None:
    with other_work(min(os.sched_getaffinity(0)), (os.cpu_count() or 1) + 3):
        assert count_free_cores() == 1
