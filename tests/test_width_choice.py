"""Widths: numbers of channels as choices of a space."""

from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import goldnas
from goldnas.architecture import Architecture
from goldnas.exporting.fold import fold
from goldnas.resources import Budget, compute_costs, count_flops, count_parameters
from goldnas.resources.costs import sum_costs
from goldnas.searching.budgets import build_feasibility, check_feasible, list_limits
from goldnas.searching.feasibility import Feasibility, Mask
from goldnas.searching.sampler import BudgetedSampler
from goldnas.searching.strategies import STRATEGIES
from goldnas.searching.subnet import extract_subnet
from goldnas.site import AnySite
from goldnas.spaces import ChoiceSpace, find_space
from goldnas.spaces.sampling import draw_architectures
from goldnas.supernet import SuperNet
from nightly import at_night
from searches import assert_same_results, search, settings_of, stop_search

Widths = tuple[int, ...]


def conv(in_channels: int, channels: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
    )


def branch(channels: int) -> goldnas.Choice:
    return goldnas.Choice(
        {
            "conv_3x3": lambda: conv(channels, channels, 3),
            "inner": lambda: nn.Sequential(
                conv(channels, 6), nn.ReLU(), conv(6, channels, 3), nn.Dropout(0.1)
            ),
        }
    )


class Block(nn.Module):
    def __init__(self, widths: Widths, name: str) -> None:
        super().__init__()
        self.branch = branch(widths[-1])
        self.relu = nn.ReLU()
        self.width = goldnas.Width(widths, shared=name)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.width(self.relu(x + self.branch(x)))
        return out


def narrow(one: Widths = (2, 4, 8), other: Widths = (8, 16), classes: int = 10) -> nn.Module:
    """Two streams with sums, each of one width; the layer between them has both."""
    return nn.Sequential(
        nn.Sequential(conv(1, one[-1], 3), nn.ReLU()),
        goldnas.Width(one, shared="one"),
        Block(one, "one"),
        goldnas.Choice(
            {k: lambda k=k: conv(one[-1], other[-1], int(k[1]), 2) for k in ("k1", "k3")}
        ),
        goldnas.Width(other, shared="other"),
        Block(other, "other"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(other[-1], classes),
    )


@pytest.fixture(scope="module")
def space() -> ChoiceSpace:
    return goldnas.space(narrow, input_shape=(1, 8, 8))


def every(space: ChoiceSpace) -> Iterator[Mask]:
    """Every network of a space, as its gates."""
    nesting = space.wiring.nesting
    for bits in product((False, True), repeat=len(space.gates)):
        kept = {i for i, bit in enumerate(bits) if bit}
        if kept == nesting.drop_orphans(kept) and all(kept & set(g) for g in space.groups):
            yield np.array(bits)


def describe(space: ChoiceSpace, mask: Mask) -> Architecture:
    return space.architecture(
        gate for gate, kept in zip(space.gates, mask, strict=True) if kept
    )


def test_there_are_as_many_networks_as_products_of_widths_and_subsets(
    space: ChoiceSpace,
) -> None:
    masks = list(every(space))
    assert len(masks) == 3 * 3 * 3 * 2 * 3
    assert 10 ** space.log10_size() == pytest.approx(len(masks))
    assert len({describe(space, mask).fingerprint for mask in masks}) == len(masks)


def test_costs_are_those_of_the_network_that_is_built(space: ChoiceSpace) -> None:
    costs = build_feasibility(space, []).costs
    for mask in list(every(space))[::7]:
        network = space.build(describe(space, mask))
        assert costs["FLOPs"].total(mask) == count_flops(network, space.input_shape)
        assert costs["params"].total(mask) == count_parameters(network)
        parts = space.plan(describe(space, mask)).parts()
        assert costs["FLOPs"].total(mask) == sum_costs(costs["FLOPs"].resource, parts)
        assert set(parts) <= set(space.rows())


def test_a_marginal_cost_is_what_a_gate_adds(space: ChoiceSpace) -> None:
    cost = build_feasibility(space, []).costs["FLOPs"]
    for mask in list(every(space))[::11]:
        for gate, amount in enumerate(cost.marginal(mask)):
            without, with_it = mask.copy(), mask.copy()
            without[gate], with_it[gate] = False, True
            assert amount == pytest.approx(cost.total(with_it) - cost.total(without))


@pytest.mark.parametrize("budget", ["15kFLOPs", "20kFLOPs", "60kFLOPs"])
def test_the_best_network_under_a_budget_is_found_exactly(
    space: ChoiceSpace, budget: str
) -> None:
    feasibility = build_feasibility(space, [budget, "2.5kparams"])
    values = np.random.default_rng(len(budget)).random(len(space.gates))
    fitting = [mask for mask in every(space) if feasibility.within(mask)]
    everything = np.ones(len(space.gates), dtype=bool)
    chosen = feasibility.choose(values, everything, floor=0.0)
    cheapest = feasibility.find(everything)
    assert chosen is not None
    assert cheapest is not None
    assert values[chosen].sum() == pytest.approx(max(values[mask].sum() for mask in fitting))
    assert values[chosen].sum() < values.sum()
    assert any((cheapest == mask).all() for mask in fitting)


def test_the_least_and_the_most_are_those_of_all_networks(space: ChoiceSpace) -> None:
    feasibility = build_feasibility(space, ["1FLOPs"])
    for limit in list_limits(feasibility)[:2]:
        amounts = [feasibility.costs[limit.resource].total(mask) for mask in every(space)]
        assert (limit.smallest, limit.full) == (min(amounts), max(amounts))
    with pytest.raises(goldnas.ConfigError, match="cannot be met"):
        check_feasible(feasibility)


def test_random_networks_keep_the_budgets_and_reach_every_width(space: ChoiceSpace) -> None:
    feasibility = build_feasibility(space, ["60kFLOPs"])
    flops, sampler = feasibility.costs["FLOPs"], BudgetedSampler(feasibility, seed=0)
    amounts = {mask.tobytes(): flops.total(mask) for mask in every(space)}
    most = 60_000
    reachable = {mask for mask, n in amounts.items() if sampler.floor * most <= n <= most}
    assert len(reachable) > 3
    drawn = {sampler.draw().tobytes() for _ in range(100)}
    assert drawn <= reachable
    assert len(drawn) > len(reachable) // 2


def test_random_networks_are_as_likely_as_each_other(space: ChoiceSpace) -> None:
    sampler = BudgetedSampler(build_feasibility(space, ["60kFLOPs"]), 0)
    sampler.floor = 0.0  # of all that meet the budget
    drawn = Counter(sampler.draw().tobytes() for _ in range(1000))
    within = [mask for mask in every(space) if sampler.use(mask) <= 1]
    assert drawn.keys() <= {mask.tobytes() for mask in within}
    assert len(drawn) > 0.95 * len(within)
    widest = [index for index, gate in enumerate(space.gates) if gate.name == "one.w8"]
    likely = sum(mask[widest[0]] for mask in within) / len(within)
    share = sum(n for m, n in drawn.items() if np.frombuffer(m, bool)[widest[0]]) / 1000
    assert share == pytest.approx(likely, abs=0.05)


def test_networks_for_calibration_are_networks(space: ChoiceSpace) -> None:
    legal = {describe(space, mask).fingerprint for mask in every(space)}
    drawn = list(draw_architectures(space, 30, seed=0))
    assert {architecture.fingerprint for architecture in drawn} <= legal
    assert len({architecture.choices["one"] for architecture in drawn}) == 3


def test_one_operator_at_each_place_says_nothing_of_widths(space: ChoiceSpace) -> None:
    feasibility = build_feasibility(space, ["100kFLOPs"], single=True)
    chosen = feasibility.choose(
        np.ones(len(space.gates)), np.ones(len(space.gates), bool), floor=0
    )
    assert chosen is not None
    choices = describe(space, chosen).choices
    assert all(len(keys) == 1 for keys in choices.values())
    assert (choices["one"], choices["other"]) == (("w8",), ("w16",))


def test_a_narrow_network_computes_what_the_search_computed(space: ChoiceSpace) -> None:
    torch.manual_seed(0)
    supernet = SuperNet(space).train()
    images = torch.randn(16, 1, 8, 8)
    for _ in range(2):
        supernet(images)
    names = {gate.name: index for index, gate in enumerate(space.gates)}
    with torch.no_grad():
        supernet.alpha[names["other.w16"]] = 1.0  # no longer as the others
    supernet.prune([names["one.w4"], names["3.k1"], names["2.branch.inner"]])
    assert not supernet.active[names["one.w8"]]  # it goes with the block before it
    network = extract_subnet(supernet, torch.device("cpu"))
    assert network[0][0][0].weight.shape[0] == 2
    with torch.no_grad():
        wanted, _ = supernet.eval()(images)
        assert torch.allclose(network.eval()(images), wanted, atol=1e-5)
        assert torch.allclose(fold(network)(images), wanted, atol=1e-5)


def test_a_network_at_hand_leaves_the_others_as_they_are(space: ChoiceSpace) -> None:
    supernet = SuperNet(space, relaxation="none")
    images = torch.randn(2, 1, 8, 8)
    before, _ = supernet.eval()(images)
    mask = torch.tensor([gate.name not in ("one.w4", "other.w16") for gate in space.gates])
    with supernet.restrict(mask):
        network = extract_subnet(supernet, torch.device("cpu"))
        inner, _ = supernet(images)
    after, _ = supernet(images)
    assert torch.equal(before, after)
    assert torch.allclose(network.eval()(images), inner, atol=1e-5)
    assert count_parameters(network) < count_parameters(supernet.network)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ([], "two or more"),
        ([8], "two or more"),
        ([8, 8], "two or more"),
        ([8, 4], "two or more"),
        ([0, 4], "whole numbers"),
        ([4, 8.0], "whole numbers"),
        (8, "whole numbers"),
        ([True, 4], "whole numbers"),
    ],
)
def test_widths_that_are_none_are_refused(widths: object, message: str) -> None:
    with pytest.raises(goldnas.ConfigError, match=message):
        goldnas.Width(widths)  # type: ignore[arg-type]


# -- files, tables, searches -------------------------------------------------------------------


def test_an_architecture_names_one_width(space: ChoiceSpace) -> None:
    choices = {"one": ("w4",), "2.branch": ("inner",), "3": ("k1", "k3")}
    choices |= {"other": ("w8",), "5.branch": ("conv_3x3",)}
    whole = Architecture(space=space.name, settings=space.settings, choices=choices)
    again = Architecture.from_json(whole.to_json())
    network = find_space(again).build(again)
    assert network[3].operators["k1"][0].weight.shape[:2] == (8, 4)
    assert list(network[1].operators) == ["w2", "w4"]
    for keys, message in (
        (("w2", "w4"), "name one"),
        (("w3",), "no candidate"),
        ((), "no cand"),
    ):
        wrong = Architecture(
            space=space.name, settings=space.settings, choices=choices | {"one": keys}
        )
        with pytest.raises(goldnas.ConfigError, match=message):
            space.build(wrong)


class Irregular:
    """A device whose times have nothing to do with widths."""

    name, overhead = "latency@irregular", 7.0

    def cost(self, operator: str, site: AnySite) -> float:
        """Microseconds."""
        return float(np.random.default_rng(list(f"{operator} {site}".encode())).exponential(9))


def test_a_table_has_a_row_for_every_pair_of_widths(space: ChoiceSpace) -> None:
    sites = {str(site) for operator, site in space.rows() if operator.endswith("/k3_of_8x16")}
    whole = {str(site) for operator, site in space.rows() if operator.endswith("/k3")}
    assert whole == {"8x8x8->16x4x4"}
    assert sites | whole == {f"{i}x8x8->{o}x4x4" for i in (2, 4, 8) for o in (8, 16)}


def test_budgets_hold_for_whatever_the_rows_of_a_table_say(space: ChoiceSpace) -> None:
    costs = compute_costs(space, Irregular())
    assert (costs.together < 0).any()
    for mask in list(every(space))[::5]:
        parts = space.plan(describe(space, mask)).parts()
        assert costs.total(mask) == pytest.approx(sum_costs(costs.resource, parts))
    amounts = {mask.tobytes(): costs.total(mask) for mask in every(space)}
    limit = float(np.quantile(list(amounts.values()), 0.2))
    feasibility = Feasibility(space, [costs], [Budget(costs.name, limit, "some ms")])
    values = np.random.default_rng(1).random(len(space.gates))
    everything = np.ones(len(space.gates), dtype=bool)
    chosen = feasibility.choose(values, everything, floor=0.0)
    assert chosen is not None
    fitting = [np.frombuffer(m, dtype=bool) for m, us in amounts.items() if us <= limit]
    assert values[chosen].sum() == pytest.approx(max(values[m].sum() for m in fitting))
    assert list_limits(feasibility)[0].smallest == pytest.approx(min(amounts.values()))


SEARCH = {"space": narrow, "cells": None, "channels": None, "auxiliary_weight": 0.0}


def test_a_search_that_was_stopped_goes_on(tmp_path: Path) -> None:
    settings = SEARCH | {"budgets": ("40kFLOPs",), "epochs": 2}
    whole = search(tmp_path / "a", **settings)
    stop_search(tmp_path / "b", "prune", 1, **settings)
    assert_same_results(whole, goldnas.load_run(tmp_path / "b").resume())
    assert whole.best.meets_budgets
    network = goldnas.load_run(tmp_path / "a").best
    assert count_flops(network.build(), (1, 8, 8)) == network.resources["FLOPs"]


BY_DAY = ("one-shot", "random")
"""A strategy of each kind; that which is stopped above is of the third."""


@pytest.mark.parametrize(
    "strategy",
    [pytest.param(s, marks=[] if s in BY_DAY else at_night) for s in STRATEGIES],
)
def test_every_strategy_searches_widths(strategy: str, tmp_path: Path) -> None:
    settings = settings_of(strategy) | SEARCH | {"budgets": ("40kFLOPs",), "single": True}
    run = search(tmp_path / "run", **settings)
    assert run.best.meets_budgets
    assert all(len(keys) == 1 for keys in run.best.architecture.choices.values())


# -- what is refused ---------------------------------------------------------------------------


class Added(nn.Module):
    """Adds what a Width narrows to what none narrows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.width = conv(8, 8, 3), goldnas.Width([4, 8])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.width(self.conv(x))


class Both(nn.Module):
    """Lets others read what a Width reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.width = conv(8, 8, 3), goldnas.Width([4, 8])
        self.left, self.right = conv(8, 8), conv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        out: Tensor = self.left(self.width(x)) + self.right(x)
        return out


class Sigmoid(nn.Module):
    """Makes something of zeros, between modules."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.conv = goldnas.Width([4, 8]), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(self.width(x).sigmoid())
        return out


def two(*layers: nn.Module) -> list[nn.Module]:
    return [goldnas.Width([4, 8]), *layers, conv(8, 8)]


REFUSED = {
    "the last be the channels": lambda: [goldnas.Width([4, 16]), conv(8, 8)],
    "puts out what the Width": lambda: [],
    "with different widths": lambda: [Added(), conv(8, 8)],
    "let all others read the Width": lambda: [Both()],
    "a function between modules": lambda: [Sigmoid()],
    "2 makes something else": lambda: two(nn.BatchNorm2d(8), conv(8, 8, 3)),
    "passes on the channels": lambda: two(
        goldnas.Choice({"skip": nn.Identity, "conv": lambda: conv(8, 8)})
    ),
    "needs all of the channels": lambda: two(nn.Conv2d(8, 8, 3, groups=2)),
    "no Width can be next to": lambda: two(Sized()),
    "within a candidate": lambda: two(goldnas.Choice({"inner": lambda: within()})),
    "may be empty": lambda: two(goldnas.Choice({"conv": lambda: conv(8, 8)}, optional=True)),
    "shared as 'one', but have": lambda: [
        *(goldnas.Width([4, 8], shared="one"), conv(8, 8)),
        *(goldnas.Width([2, 8], shared="one"), conv(8, 8)),
    ],
}


def within() -> nn.Module:
    return nn.Sequential(conv(8, 8), goldnas.Width([4, 8]), conv(8, 8))


class Sized(nn.Module):
    """Does what nobody can follow."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


@pytest.mark.parametrize("message", REFUSED)
def test_a_width_is_refused_where_its_channels_cannot_be_followed(message: str) -> None:
    def refused() -> nn.Module:
        layers = REFUSED[message]() or [goldnas.Width([4, 8])]
        return nn.Sequential(conv(1, 8), *layers)

    with pytest.raises(goldnas.ConfigError, match=message) as caught:
        goldnas.space(refused, input_shape=(1, 4, 4))
    assert "\n" not in str(caught.value)
