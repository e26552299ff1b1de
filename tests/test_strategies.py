"""What every strategy promises: a front within the budgets, of networks that can be used."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forked import Forked
from goldnas.resources import count_flops, count_parameters
from goldnas.searching.config import SearchConfig
from goldnas.searching.folder import SearchRun
from goldnas.searching.start import SEARCHES, PreparedSearch
from goldnas.searching.strategies import STRATEGIES
from goldnas.searching.strategies.engine import SupernetSearch
from goldnas.searching.strategies.random import SampledSearch
from searches import SMALL, assert_same_results
from workplace import assert_one_line, goldnas

SETTINGS: dict[str, dict[str, Any]] = {
    name: {
        "strategy": name,
        "levels": strategy.levels[0],
        "learning_rate": strategy.learning_rate,
        "gate_learning_rate": strategy.gate_learning_rate,
        "epochs": 1,
        "auxiliary_weight": 0.0,
    }
    | ({"samples": 8, "score": "supernet"} if strategy.samples else {})
    for name, strategy in STRATEGIES.items()
}


def started(folder: Path, name: str, **settings: Any) -> SupernetSearch:
    prepared = PreparedSearch(SearchConfig(**(SMALL | SETTINGS[name] | settings)), [])
    prepared.check_feasible()
    return prepared.start(folder)


def sampled(folder: Path, **settings: Any) -> SampledSearch:
    search = started(folder, "random", **settings)
    assert isinstance(search, SampledSearch)
    return search


@pytest.fixture(scope="module", params=STRATEGIES)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A search by each strategy, at its end."""
    search = started(tmp_path_factory.mktemp("runs") / "a", request.param)
    search.search()
    return search.run


def test_every_strategy_has_a_search() -> None:
    assert SEARCHES.keys() == STRATEGIES.keys()


def test_the_best_network_meets_all_budgets(finished: SearchRun) -> None:
    front = finished.front()
    best = front.pick("best")
    assert best.meets_budgets
    assert all(best.resources[name] <= limit for name, limit in front.budgets.items())
    assert best.accuracy is not None
    assert 0 < best.accuracy <= 1


def test_every_recorded_network_builds_with_its_weights_and_costs_what_it_says(
    finished: SearchRun,
) -> None:
    for network in finished.front().networks:
        built = finished.network(network)
        assert finished.architecture(network).fingerprint == network.fingerprint
        assert network.resources == {
            "FLOPs": count_flops(built, (1, 8, 8)),
            "params": count_parameters(built),
        }


class StoppedOnPurposeError(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("event", ["step", "score"])
def test_a_search_that_was_stopped_ends_in_the_same_bits(
    finished: SearchRun, tmp_path: Path, event: str
) -> None:
    name = finished.config.strategy
    strategy = STRATEGIES[name]
    if name == "gold" or (event == "score" and not strategy.samples):
        pytest.skip("of gold in test_search.py; what is not sampled is not scored")
    if event == "step" and strategy.study:
        pytest.skip("a study's steps are those of random")
    search = started(tmp_path / "b", name)
    seen: list[str] = []

    def stop(happened: str, fields: dict[str, Any]) -> None:
        seen.append(happened)
        if seen.count(event) == 2:
            raise StoppedOnPurposeError

    search.observer = stop
    with pytest.raises(StoppedOnPurposeError):
        search.search()
    torch.manual_seed(123)  # whatever happened to the global state in between
    resumed = PreparedSearch.resume(SearchRun.open(tmp_path / "b"))
    resumed.search()
    assert_same_results(finished, resumed.run)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL there")
def test_a_search_that_is_killed_while_it_scores_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    words = (
        *("--strategy", "random", "--samples", "400", "--epochs", "1", "--cells", "2"),
        *("--channels", "4", "--budget", "100kFLOPs", "--train-device", "cpu", "--out", folder),
    )
    search = Forked("search", *words, said=tmp_path / "said")
    deadline = time.monotonic() + 60
    while not (folder / "events.jsonl").exists() or not scores_of(SearchRun.open(folder)):
        assert time.monotonic() < deadline
        assert search.running
        time.sleep(0.01)
    assert search.kill()
    resumed = PreparedSearch.resume(SearchRun.open(folder))
    assert isinstance(resumed, SampledSearch)
    resumed.samples = 20
    front = resumed.search()
    assert front.pick("best").meets_budgets
    assert len({event["fingerprint"] for event in scores_of(resumed.run)}) >= 20


def scores_of(run: SearchRun) -> list[dict[str, Any]]:
    return [event for event in run.events() if event["event"] == "score"]


def test_random_networks_cost_what_the_budget_allows(tmp_path: Path) -> None:
    search = sampled(tmp_path / "a", samples=30, score="synflow")
    search.search()
    spent = [event["resources"]["FLOPs"] for event in scores_of(search.run)]
    assert len(spent) == 30
    assert all(90_000 <= flops <= 100_000 for flops in spent)
    assert len({event["fingerprint"] for event in scores_of(search.run)}) == 30


def test_every_network_of_the_window_is_drawn_about_as_often(tmp_path: Path) -> None:
    """One cell, so that the networks can be listed."""
    search = sampled(
        tmp_path / "a",
        cells=1,
        operators=("sep_conv_3x3",),
        budgets=("60kFLOPs",),
        samples=1,
        score=None,
    )
    walk, space = search.sampler, search.data.space
    every = np.array(list(np.ndindex(*(2,) * len(space.gates))), dtype=bool)
    inside = {
        mask.tobytes()
        for mask in every
        if all(mask[list(group)].any() for group in space.groups)
        and walk.floor <= walk.use(mask) <= 1
    }
    assert 20 < len(inside) < 2000
    drawn = [walk.draw().tobytes() for _ in range(8 * len(inside))]
    assert set(drawn) <= inside
    assert len(set(drawn)) > 0.99 * len(inside)
    counts = np.unique(drawn, return_counts=True)[1]
    # Of independent draws the deviation is the root of 8, which is 2.8.
    assert 2.5 < counts.std() < 3.3


def test_a_single_random_network_is_neither_trained_nor_scored(tmp_path: Path) -> None:
    search = sampled(tmp_path / "a", samples=1, score=None)
    (network,) = search.search().networks
    assert (network.accuracy, network.score, network.step) == (None, None, 0)
    assert search.run.front().pick("best") == network
    assert [event["event"] for event in search.run.events()] == [
        "start",
        "score",
        "network",
        "end",
    ]


@pytest.mark.parametrize("score", ["naswot", "synflow"])
def test_a_proxy_ranks_networks_without_training(tmp_path: Path, score: Any) -> None:
    search = sampled(tmp_path / "a", score=score)
    front = search.search()
    scores = {event["fingerprint"]: event["score"] for event in scores_of(search.run)}
    assert len(set(scores.values())) > 1
    best = front.pick("best")
    assert best.score == max(scores.values()) == scores[best.fingerprint]
    assert all(network.accuracy is None and network.step == 0 for network in front.networks)
    again = sampled(tmp_path / "b", score=score)
    assert again.search() == front


def test_a_restricted_supernet_is_the_network_of_its_gates(tmp_path: Path) -> None:
    search = sampled(tmp_path / "a")
    supernet, space = search.supernet.double(), search.data.space
    before = list(supernet.state_dict())
    images = torch.rand(8, *space.input_shape, dtype=torch.float64)
    mask = torch.from_numpy(search.sampler.draw())
    for training in (True, False):
        with supernet.restricted(mask):
            architecture = space.architecture(supernet.active_gates())
            network = space.build(architecture).double().train(training)
            weights = supernet.network_state()
            network.load_state_dict({name: weights[name] for name in network.state_dict()})
            logits, _ = supernet.train(training)(images)
            assert torch.allclose(logits, network(images), rtol=1e-9)
    assert list(supernet.state_dict()) == before
    assert supernet.active.all()


def test_a_step_trains_the_weights_of_one_network_alone(tmp_path: Path) -> None:
    search = sampled(tmp_path / "a")
    before = {name: weight.clone() for name, weight in search.supernet.named_parameters()}
    for step, (images, labels) in zip(range(2), search.data.loader.epoch(0), strict=False):
        search._train_step(step, images, labels)
        idle = {
            f"network.cells.{gate.cell}.operators.{gate.key}."
            for gate, kept in zip(search.data.space.gates, search.active, strict=True)
            if not kept
        }
        for name, weight in search.supernet.named_parameters():
            if name != "alpha":
                same = any(name.startswith(prefix) for prefix in idle)
                assert torch.equal(weight, before[name]) == same, name
                before[name] = weight.detach().clone()


@pytest.mark.parametrize("name", ["evolution", "tpe"])
def test_a_study_learns_from_its_trials_and_scores_none_that_is_over_budget(
    tmp_path: Path, name: str
) -> None:
    search = started(tmp_path / "a", name, samples=80, score="synflow")
    front = search.search()
    scores = scores_of(search.run)
    assert len(scores) == 80
    over = [event for event in scores if not event["meets_budgets"]]
    assert over
    assert all(event["score"] is None for event in over)
    assert all(event["resources"]["FLOPs"] > 100_000 for event in over)
    assert all(network.meets_budgets for network in front.networks)
    known = [event["score"] for event in scores if event["meets_budgets"]]
    assert sum(known[-20:]) / 20 > sum(known[:8]) / 8  # the first eight are random


def test_two_searches_work_on_one_study(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    settings: dict[str, Any] = {
        "budgets": ("60kFLOPs",),
        "score": "synflow",
        "samples": 6,
        "cells": 1,
        "storage": storage,
    }
    first = started(tmp_path / "a", "evolution", **settings)

    def stop(event: str, fields: dict[str, Any]) -> None:
        if event == "score" and fields["number"] == 2:
            raise StoppedOnPurposeError

    first.observer = stop
    with pytest.raises(StoppedOnPurposeError):
        first.search()
    second = started(tmp_path / "b", "evolution", **settings)
    front = second.search()
    assert len(scores_of(second.run)) == 4
    assert "best of 6" in front.pick("best").reasons
    resumed = PreparedSearch.resume(SearchRun.open(tmp_path / "a"))
    assert resumed.search() == front


REFUSED = {
    "unknown": ("--strategy hope", "unknown strategy 'hope'; known: gold, .*tpe"),
    "samples of gold": (
        "--samples 3",
        "strategy gold samples no networks; leave --samples out",
    ),
    "score of gold": ("--score naswot", "strategy gold samples no networks; leave --score out"),
    "a study of none": (
        "--strategy random --storage sqlite:///x.db",
        "strategy random keeps no study; leave",
    ),
    "epochs of a proxy": (
        "--strategy random --score naswot --epochs 3",
        "nothing is trained .*leave --epochs out",
    ),
    "two levels": ("--strategy random --levels 2", "strategy random runs on 1 levels, got"),
    "a storage that is none": (
        "--strategy tpe --storage nowhere",
        "cannot use the study in 'nowhere' .*mend --storage",
    ),
    "a storage out of reach": (
        "--strategy tpe --storage sqlite:////no/such/folder/x.db",
        "cannot use the study in 'sqlite:////no/such/folder/x.db' .*unable to open",
    ),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_a_strategy_does_not_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, stderr = goldnas(
        f"search --cells 2 --channels 4 --budget 100kFLOPs --out a {options}"
    )
    assert_one_line(code, stderr, message)
    assert not list(tmp_path.iterdir())


def test_a_missing_optuna_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "goldnas.searching.strategies.optuna_study.find_spec", lambda name: None
    )
    command = "search --cells 2 --channels 4 --budget 100kFLOPs --strategy tpe --out"
    code, stderr = goldnas(f"{command} {tmp_path / 'a'}")
    assert_one_line(code, stderr, r"strategy tpe needs Optuna: pip install 'goldnas\[optuna\]'")
    assert not (tmp_path / "a").exists()
