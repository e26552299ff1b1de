"""What strategies do beyond what all of them promise, which conformance/ tests."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import goldnas
from forked import Forked
from nightly import at_night
from searches import StoppedOnPurposeError, make_loop, search
from workplace import assert_one_line
from workplace import goldnas as run_goldnas

FEW: dict[str, Any] = {
    "strategy": "random",
    "networks": 8,
    "score": "supernet",
    "epochs": 1,
    "auxiliary_weight": 0.0,
}


def sampled(folder: Path, **settings: Any) -> goldnas.Run:
    """A search among random networks."""
    return search(folder, **settings_without_epochs(FEW | settings))


def settings_without_epochs(settings: dict[str, Any]) -> dict[str, Any]:
    """Nothing is trained but for the score of the super-network."""
    if settings["score"] != "supernet":
        settings["epochs"] = None
    return settings


def scores_of(run: goldnas.Run) -> list[dict[str, Any]]:
    return [event for event in run.read_events() if event["event"] == "score"]


@at_night
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL there")
def test_a_search_that_is_killed_while_it_scores_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    words = (
        *("--strategy", "random", "--networks", "60", "--epochs", "1", "--cells", "2"),
        *("--channels", "4", "--budget", "100kFLOPs", "--train-device", "cpu", "--out", folder),
    )
    search = Forked("search", *words, said=tmp_path / "said")
    deadline = time.monotonic() + 60
    while not (folder / "events.jsonl").exists() or not scores_of(goldnas.load_run(folder)):
        assert time.monotonic() < deadline
        assert search.running
        time.sleep(0.01)
    assert search.kill()
    run = goldnas.load_run(folder)
    assert not run.finished
    assert run.resume().best.meets_budgets
    assert len({event["fingerprint"] for event in scores_of(run)}) == 60


def test_random_networks_cost_what_the_budget_allows(tmp_path: Path) -> None:
    run = sampled(tmp_path / "a", networks=30, score="synflow")
    spent = [event["resources"]["FLOPs"] for event in scores_of(run)]
    assert len(spent) == 30
    assert all(90_000 <= flops <= 100_000 for flops in spent)
    assert len({event["fingerprint"] for event in scores_of(run)}) == 30


@at_night
def test_every_network_of_the_window_is_drawn_about_as_often(tmp_path: Path) -> None:
    """One cell, so that the networks can be listed."""
    settings = {"cells": 1, "operators": ("sep_conv_3x3",), "budgets": ("60kFLOPs",)}
    loop = make_loop(tmp_path / "a", strategy="random", networks=1, **settings)
    sampler, space = loop.strategy.sampler, loop.data.space
    every = np.array(list(np.ndindex(*(2,) * len(space.gates))), dtype=bool)
    inside = {
        mask.tobytes()
        for mask in every
        if all(mask[list(group)].any() for group in space.groups)
        and sampler.floor <= sampler.use(mask) <= 1
    }
    assert 20 < len(inside) < 2000
    drawn = [sampler.draw().tobytes() for _ in range(8 * len(inside))]
    assert set(drawn) <= inside
    assert len(set(drawn)) > 0.99 * len(inside)
    counts = np.unique(drawn, return_counts=True)[1]
    # Of independent draws the deviation is the root of 8, which is 2.8.
    assert 2.5 < counts.std() < 3.3


def test_a_single_random_network_is_neither_trained_nor_scored(tmp_path: Path) -> None:
    run = sampled(tmp_path / "a", networks=1, score=None)
    (network,) = run.front
    record = network.record
    assert (record.accuracy, record.score, record.step) == (None, None, 0)
    assert run.best == network
    assert [event["event"] for event in run.read_events()] == [
        "start",
        "score",
        "network",
        "end",
    ]


@pytest.mark.parametrize("score", ["naswot", "synflow"])
def test_a_proxy_ranks_networks_without_training(tmp_path: Path, score: Any) -> None:
    run = sampled(tmp_path / "a", score=score)
    scores = {event["fingerprint"]: event["score"] for event in scores_of(run)}
    assert len(set(scores.values())) > 1
    best = run.best.record
    assert best.score == max(scores.values()) == scores[best.fingerprint]
    assert all(network.accuracy is None and network.record.step == 0 for network in run.front)
    assert sampled(tmp_path / "b", score=score).front.record == run.front.record


def test_a_restricted_supernet_is_the_network_of_its_gates(tmp_path: Path) -> None:
    loop = make_loop(tmp_path / "a", **FEW)
    supernet, space = loop.learner.supernet.double(), loop.data.space
    before = list(supernet.state_dict())
    images = torch.rand(8, *space.input_shape, dtype=torch.float64)
    mask = torch.from_numpy(loop.strategy.sampler.draw())
    for training in (True, False):
        with supernet.restrict(mask):
            architecture = space.architecture(supernet.active_gates())
            network = space.build(architecture).double().train(training)
            weights = supernet.network_state()
            network.load_state_dict({name: weights[name] for name in network.state_dict()})
            logits, _ = supernet.train(training)(images)
            assert torch.allclose(logits, network(images), rtol=1e-9)
    assert list(supernet.state_dict()) == before
    assert supernet.active.all()


def test_a_step_trains_the_weights_of_one_network_alone(tmp_path: Path) -> None:
    loop = make_loop(tmp_path / "a", **FEW)
    supernet = loop.learner.supernet
    before = {name: weight.clone() for name, weight in supernet.named_parameters()}
    for _, batch in zip(range(2), loop.data.batches(0), strict=False):
        loop.train_step(*batch)
        idle = {
            f"network.cells.{gate.cell}.operators.{gate.key}."
            for gate, kept in zip(loop.data.space.gates, loop.learner.mask, strict=True)
            if not kept
        }
        for name, weight in supernet.named_parameters():
            if name != "alpha":
                same = any(name.startswith(prefix) for prefix in idle)
                assert torch.equal(weight, before[name]) == same, name
                before[name] = weight.detach().clone()


@pytest.mark.parametrize("name", ["evolution", pytest.param("tpe", marks=at_night)])
def test_a_study_learns_from_its_trials_and_scores_none_that_is_over_budget(
    tmp_path: Path, name: str
) -> None:
    settings: dict[str, Any] = {"cells": 1, "budgets": ("45kFLOPs",), "epochs": None}
    run = search(tmp_path / "a", strategy=name, networks=50, score="synflow", **settings)
    scores = scores_of(run)
    assert len(scores) == 50
    over = [event for event in scores if not event["meets_budgets"]]
    assert over
    assert all(event["score"] is None for event in over)
    assert all(event["resources"]["FLOPs"] > 45_000 for event in over)
    assert all(network.meets_budgets for network in run.front)
    known = [event["score"] for event in scores if event["meets_budgets"]]
    assert sum(known[-20:]) / 20 > sum(known[:8]) / 8  # the first eight are random


def test_two_searches_work_on_one_study(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    settings: dict[str, Any] = {
        "strategy": "evolution",
        "budgets": ("60kFLOPs",),
        "score": "synflow",
        "networks": 6,
        "cells": 1,
        "epochs": None,
        "storage": storage,
    }

    def stop(event: str, fields: dict[str, Any]) -> None:
        if event == "score" and fields["number"] == 2:
            raise StoppedOnPurposeError

    with pytest.raises(StoppedOnPurposeError):
        search(tmp_path / "a", on_event=stop, **settings)
    second = search(tmp_path / "b", **settings)
    assert len(scores_of(second)) == 4
    assert "best of 6" in second.best.reasons
    first = goldnas.load_run(tmp_path / "a").resume()
    assert first.front.record == second.front.record


REFUSED = {
    "unknown": ("--strategy hope", "unknown strategy 'hope'; known: .*gold.*tpe"),
    "networks of gold": ("--networks 3", "strategy gold does not use --networks 3"),
    "networks as they were called": ("--samples 3", "strategy gold does not use --networks"),
    "score of gold": ("--score naswot", "strategy gold does not use --score naswot; leave"),
    "a study of none": (
        "--strategy random --storage sqlite:///x.db",
        "strategy random does not use --storage sqlite:///x.db; leave",
    ),
    "epochs of a proxy": (
        "--strategy random --score naswot --epochs 3",
        "only --score supernet trains .*leave --epochs out",
    ),
    "two levels": ("--strategy random --levels 2", "takes only --levels 1; leave --levels 2"),
    "a storage that is none": (
        "--strategy tpe --storage nowhere",
        "cannot use the study in 'nowhere' .*--storage",
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
    code, stderr = run_goldnas(
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
    code, stderr = run_goldnas(f"{command} {tmp_path / 'a'}")
    assert_one_line(code, stderr, r"strategy tpe needs Optuna: pip install 'goldnas\[optuna\]'")
    assert not (tmp_path / "a").exists()
