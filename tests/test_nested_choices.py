"""Choices within candidates of others: what is not chosen decides nothing."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import goldnas
import own_spaces
from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.resources import Flops, compute_costs, count_flops
from goldnas.searching.budgets import build_feasibility
from goldnas.searching.feasibility import Mask, cheapest
from goldnas.searching.sampler import BudgetedSampler
from goldnas.searching.schedules import weakest_over
from goldnas.spaces import make_space
from goldnas.supernet import SuperNet
from searches import assert_same_results, search, stop_search

SPACE = make_space(own_spaces.nesting)
NAMES = [gate.name for gate in SPACE.gates]
EVERYTHING = np.ones(len(NAMES), dtype=bool)
DEEP, TWICE = "1.operators.deep.1", "1.operators.deep.1.operators.twice"
PLAIN = {"1": ("conv_5x5",), "2": ("skip",)}
SKIPS = {"1": ("deep",), DEEP: ("skip",), "2": ("skip",)}


def architecture(choices: dict[str, tuple[str, ...]]) -> Architecture:
    return Architecture(space=SPACE.name, settings=SPACE.settings, choices=choices)


def is_network(mask: Mask) -> bool:
    kept = (gate for gate, keep in zip(SPACE.gates, mask, strict=True) if keep)
    try:
        SPACE.plan(SPACE.architecture(kept))
    except ConfigError:
        return False
    return True


@pytest.fixture(scope="module")
def networks() -> list[Mask]:
    """All of the space, of which some have an output that depends on no input."""
    masks = (np.array(bits) for bits in itertools.product([False, True], repeat=len(NAMES)))
    return [mask for mask in masks if is_network(mask)]


def test_every_network_is_counted_and_those_that_are_not_linked_are_refused(
    networks: list[Mask],
) -> None:
    unlinked = 39  # the second choice keeps nothing but an empty one
    assert round(10 ** SPACE.log10_size()) == len(networks) + unlinked == 351
    assert SPACE.groups == ((0, 1), (8, 9))


def test_a_candidate_costs_what_it_always_has_and_its_choices_cost_beside_it() -> None:
    costs = compute_costs(SPACE, Flops(SPACE.build_part))
    flops = dict(zip(NAMES, costs.gates, strict=True))
    assert flops["1.deep"] == 4 * 4 * 64
    assert flops[f"{TWICE}.0.conv_3x3"] == 9 * 4 * 4 * 64
    assert flops[f"{DEEP}.twice"] == flops["2.inner"] == 0
    for choices in (PLAIN, SKIPS):
        network = SPACE.build(architecture(choices))
        kept = np.array([g.key in choices.get(g.place, ()) for g in SPACE.gates])
        assert count_flops(network, (1, 8, 8)) == costs.total(kept)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            PLAIN | {DEEP: ("skip",)},
            f"{DEEP}, .* 'deep' of 1, but does not keep that candidate: leave",
        ),
        (SKIPS | {f"{TWICE}.0": ("conv_1x1",)}, f"{TWICE}.0, .* candidate 'twice'"),
        ({"1": ("deep",), "2": ("skip",)}, f"keeps no candidate at {DEEP}"),
        (PLAIN | {"2": ("inner",)}, "would not depend on its input"),
    ],
)
def test_an_architecture_says_nothing_of_what_is_not_chosen(
    choices: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        SPACE.plan(architecture(choices))


def test_what_is_within_goes_with_a_candidate() -> None:
    supernet = SuperNet(SPACE, checkpointing=True)
    images = torch.randn(4, 1, 8, 8)
    supernet(images)[0].square().sum().backward()
    assert supernet.alpha.grad is not None
    assert supernet.alpha.grad.count_nonzero() == len(NAMES)
    left = len(list(supernet.parameters()))
    removed = supernet.prune([NAMES.index(f"{DEEP}.twice"), NAMES.index(f"{TWICE}.0.conv_1x1")])
    assert len(removed) == 4  # a weight of each convolution
    assert len(list(supernet.parameters())) == left - 4
    with supernet.restrict(torch.tensor([name in ("1.conv_5x5", "2.skip") for name in NAMES])):
        assert supernet(images)[0].isfinite().all()
        kept = [gate.name for gate in supernet.active_gates()]
    assert kept == ["1.conv_5x5", "2.skip"]
    supernet.prune([0])
    assert next(g.name for g in supernet.active_gates()) == "1.conv_5x5"
    network = SPACE.build(SPACE.architecture(supernet.active_gates()), gated=True)
    network.load_state_dict(supernet.network_state())
    torch.testing.assert_close(network.eval()(images), supernet.eval()(images)[0])


def test_the_cheapest_network_is_one_of_all(networks: list[Mask]) -> None:
    for seed in range(5):
        weights = np.random.default_rng(seed).random(len(NAMES))
        found = cheapest(SPACE, weights, EVERYTHING)
        assert found is not None
        assert is_network(found)
        assert weights[found].sum() == pytest.approx(min(weights[m].sum() for m in networks))


@pytest.mark.parametrize("single", [False, True])
def test_pruning_in_any_order_leaves_a_network(single: bool) -> None:
    feasibility = build_feasibility(SPACE, ["11kFLOPs"], single=single)
    for seed in range(4):
        active = EVERYTHING.copy()
        for index in np.random.default_rng(seed).permutation(len(NAMES)):
            if active[index] and feasibility.may_prune(active, int(index)):
                active[feasibility.with_nested(int(index))] = False
                assert is_network(active)
        assert feasibility.within(active)


def test_the_weakest_go_and_come_back_with_what_is_within_them() -> None:
    feasibility = build_feasibility(SPACE, ["20kFLOPs"])
    for seed in range(10):
        values = np.random.default_rng(seed).random(len(NAMES))
        left = EVERYTHING.copy()
        for index in weakest_over(feasibility, {"FLOPs": 20e3}, values, EVERYTHING):
            left[feasibility.with_nested(index)] = False
        assert is_network(left)
        assert feasibility.within(left)


def test_random_networks_are_as_likely_as_each_other(networks: list[Mask]) -> None:
    sampler = BudgetedSampler(build_feasibility(SPACE, ["30kFLOPs"]), 0)
    sampler.floor = 0.0  # of all that meet the budget
    drawn = Counter(sampler.draw().tobytes() for _ in range(3000))
    within = [mask for mask in networks if sampler.use(mask) <= 1]
    assert drawn.keys() <= {mask.tobytes() for mask in within}
    deep = sum(mask[0] for mask in within) / len(within)
    share = sum(n for m, n in drawn.items() if np.frombuffer(m, dtype=bool)[0]) / 3000
    assert share == pytest.approx(deep, abs=0.05)
    assert len(drawn) > 0.95 * len(within)


def test_a_search_that_was_stopped_goes_on(tmp_path: Path) -> None:
    settings = {"space": own_spaces.nesting, "budgets": ("14kFLOPs",), "epochs": 2}
    settings |= {"cells": None, "channels": None, "auxiliary_weight": 0.0}
    whole = search(tmp_path / "a", **settings)
    stop_search(tmp_path / "b", "prune", 1, **settings)
    assert_same_results(whole, goldnas.load_run(tmp_path / "b").resume())
    assert whole.best.meets_budgets
