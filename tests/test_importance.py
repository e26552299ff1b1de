"""GOLD-NAS under ``single``: what is kept is chosen by importance, and spends the budgets."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import goldnas
import own_spaces
from goldnas.resources import Flops, compute_costs
from goldnas.searching.budgets import build_feasibility
from goldnas.searching.feasibility import Feasibility
from goldnas.searching.strategies import gold_planned
from goldnas.spaces import make_space
from goldnas.spaces.reference import name_function
from nightly import at_night
from searches import assert_same_results, make_loop, search, stop_search

SPACE = make_space(own_spaces.residual)
ALL = np.ones(len(SPACE.gates), dtype=bool)
SINGLE: dict[str, Any] = {
    "space": own_spaces.residual,
    "budgets": ("42kFLOPs",),
    "single": True,
    "cells": None,
    "channels": None,
    "auxiliary_weight": 0.0,
}


def networks(feasibility: Feasibility) -> list[np.ndarray]:
    """Every network of one candidate for each choice that is within the budgets."""
    found = []
    for kept in itertools.product(*SPACE.groups):
        mask = np.zeros(len(SPACE.gates), dtype=bool)
        mask[list(kept)] = True
        if feasibility.within(mask):
            found.append(mask)
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("floor", [0.0, 0.9])
@pytest.mark.parametrize("budgets", [("42kFLOPs",), ("42kFLOPs", "1150params"), ("30kFLOPs",)])
def test_the_choice_is_the_best_there_is(
    budgets: tuple[str, ...], floor: float, seed: int
) -> None:
    values = np.random.default_rng(seed).random(len(SPACE.gates))
    feasibility = build_feasibility(SPACE, budgets, single=True)
    found = feasibility.choose(values, ALL, floor=floor)
    assert found is not None

    def use(mask: np.ndarray) -> float:
        limited = [b for b in feasibility.budgets if b.resource != "operators"]
        return max(feasibility.costs[b.resource].total(mask) / b.limit for b in limited)

    spending = [mask for mask in networks(feasibility) if use(mask) >= floor]
    assert use(found) >= floor
    assert values[found].sum() == pytest.approx(max(values[mask].sum() for mask in spending))


def test_a_floor_that_no_network_reaches_is_as_near_as_can_be() -> None:
    """Of 54,056 and 58,152 FLOPs the smaller is the last step below 58 kFLOPs."""
    feasibility = build_feasibility(SPACE, ["58kFLOPs"], single=True)
    found = feasibility.choose(np.ones(len(ALL)), ALL, floor=0.97)
    assert found is not None
    assert feasibility.costs["FLOPs"].total(found) == 54_056


def test_without_a_network_within_the_budgets_there_is_no_choice() -> None:
    feasibility = build_feasibility(SPACE, ["1kFLOPs"], single=True)
    assert feasibility.choose(np.ones(len(ALL)), ALL, floor=0.97) is None


def test_a_budget_above_all_is_no_floor() -> None:
    feasibility = build_feasibility(SPACE, ["1MFLOPs"], single=True)
    values = np.arange(len(ALL), dtype=float)
    found = feasibility.choose(values, ALL, floor=0.97)
    assert found is not None
    assert values[found].sum() == max(values[mask].sum() for mask in networks(feasibility))


def test_one_candidate_is_left_the_budget_is_spent_and_no_pruning_is_a_cliff(
    tmp_path: Path,
) -> None:
    run = search(tmp_path / "a", epochs=8, **SINGLE)
    best = run.best
    assert all(len(kept) == 1 for kept in best.architecture.choices.values())
    # What costs 0.97 of the budget or more: 41,768 FLOPs, of two networks.
    assert best.resources["FLOPs"] == 41_768
    prunings = [event for event in run.read_events() if event["event"] == "prune"]
    gone = [name for event in prunings for name in event["operators"]]
    assert len(gone) == len(set(gone)) == len(SPACE.gates) - 3
    for event in prunings:
        assert event["accuracy_before"] - event["accuracy_after"] < 0.03
    built = best.build()
    assert built


def test_gates_stay_equal_until_the_choice_and_fade_after_it(tmp_path: Path) -> None:
    settings = SINGLE | {"space": name_function(own_spaces.residual)}
    loop = make_loop(tmp_path / "a", epochs=4, **settings)
    strategy = loop.strategy
    for epoch in range(3):
        for step, batch in enumerate(loop.data.batches(epoch), epoch * loop.steps_per_epoch):
            strategy.train_step(step, *batch)
            if step < strategy.first:
                assert len(set(loop.learner.supernet.alpha.tolist())) == 1
            strategy.after_step(step)
    assert (strategy.gates.importance() > 0).all()
    going = [index for _, index in strategy.removals]
    kept = [index for index in range(len(SPACE.gates)) if index not in going]
    gates = loop.learner.supernet.gates().tolist()
    assert all(gates[index] == 0.5 for index in kept)
    assert all(gates[index] < 0.5 for index in going)


@pytest.mark.parametrize(
    "step", [9, *(pytest.param(step, marks=at_night) for step in (2, 12, 14))]
)
def test_a_search_that_was_stopped_ends_in_the_same_bits(tmp_path: Path, step: int) -> None:
    """While it measures, at the choice, while operators fade, when they are gone."""
    settings = SINGLE | {"epochs": 3}
    whole = search(tmp_path / "a", **settings)
    stop_search(tmp_path / "b", "step", step, **settings)
    assert_same_results(whole, goldnas.load_run(tmp_path / "b").resume())


@pytest.mark.parametrize("step", [4, 8])
def test_a_long_search_measures_on_several_super_networks_and_goes_on_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """In its second run, and in the third; each begins with other weights, at the full rate."""
    monkeypatch.setattr(gold_planned, "ENOUGH", 3)
    settings = SINGLE | {"epochs": 3}
    loop = make_loop(tmp_path / "c", **settings | {"space": name_function(own_spaces.residual)})
    strategy = loop.strategy
    assert strategy.runs == 3
    begun = []
    for epoch in range(3):
        for number, batch in enumerate(loop.data.batches(epoch), epoch * loop.steps_per_epoch):
            if number < strategy.first and number % strategy.run_steps == 0:
                begun.append(next(loop.learner.supernet.network.parameters()).sum().item())
                assert strategy.learning_rate(number) == loop.config.learning_rate
            if number < strategy.first:
                strategy.train_step(number, *batch)
                strategy.after_step(number)
    assert len(set(begun)) == 3
    whole = search(tmp_path / "a", **settings)
    stop_search(tmp_path / "b", "step", step, **settings)
    assert_same_results(whole, goldnas.load_run(tmp_path / "b").resume())


def test_what_costs_nothing_is_kept_only_where_its_node_would_be_empty(tmp_path: Path) -> None:
    best = search(tmp_path / "a", epochs=4, budgets=("100kFLOPs",)).best
    space = goldnas.space("gold", **best.architecture.settings)
    cost = compute_costs(space, Flops(space.build_part)).gates
    kept = np.array(
        [gate.operator in best.architecture.choices.get(gate.place, ()) for gate in space.gates]
    )
    free = np.flatnonzero(kept & (cost <= 0.1 * cost.mean()))
    assert len(free) < (cost == 0).sum() / 2
    for index in free:
        others = kept.copy()
        others[index] = False
        assert not all(others[list(group)].any() for group in space.groups)


def test_checkpointing_changes_no_result_of_a_space_of_ones_own(tmp_path: Path) -> None:
    plain = search(tmp_path / "a", epochs=2, **SINGLE).best
    again = search(tmp_path / "b", epochs=2, checkpointing=True, **SINGLE).best
    assert again.fingerprint == plain.fingerprint
    assert again.accuracy == plain.accuracy


def test_a_search_of_a_single_step_leaves_one_candidate_too(tmp_path: Path) -> None:
    best = search(tmp_path / "a", epochs=1, batch_size=1024, **SINGLE).best
    assert best.meets_budgets
    assert all(len(kept) == 1 for kept in best.architecture.choices.values())


def test_importance_may_be_that_on_images_of_its_own(tmp_path: Path) -> None:
    best = search(tmp_path / "a", epochs=1, levels=2, **SINGLE).best
    assert best.meets_budgets
