"""When to prune, what, and how hard to press, where gates decide."""

import numpy as np
import pytest

from goldnas.resources import Budget, Costs, Flops, Parameters, compute_costs
from goldnas.searching.config import SearchConfig
from goldnas.searching.feasibility import Feasibility, Mask, cheapest
from goldnas.searching.schedules import (
    AlgorithmOneSchedule,
    GateWeights,
    operators_at_a_time,
    weak_and_free,
    weakest_over,
)
from goldnas.spaces import GoldSpace

SPACE = GoldSpace(cells=5, channels=8, input_shape=(3, 16, 16))
GATES = len(SPACE.gates)
EVERYTHING = np.ones(GATES, dtype=bool)
LATENCY = Costs("latency@x", np.random.default_rng(5).exponential(10.0, GATES), fixed=100.0)
COSTS = [compute_costs(SPACE, Flops()), compute_costs(SPACE, Parameters()), LATENCY]


def config(**settings: object) -> SearchConfig:
    return SearchConfig(budgets=("1MFLOPs",), **settings)


def budget(cost: Costs, share: float) -> Budget:
    """So far from the smallest network to the full one."""
    smallest = cost.total(cheapest(SPACE, cost.gates, EVERYTHING))
    return Budget(cost.name, smallest + share * (cost.total(EVERYTHING) - smallest), cost.name)


def random_weights(generator: np.random.Generator, active: Mask) -> GateWeights:
    relative = generator.exponential(size=len(active)) * active
    return GateWeights(normalised=relative / 8, relative=relative)


# -- what goes over a limit --------------------------------------------------------------------


def test_a_weak_operator_that_costs_nothing_goes_and_others_do_not() -> None:
    """Identities have no FLOPs, so that no budget of FLOPs would ever remove one."""
    flops = COSTS[0].gates
    (first, second, third, *_), spending = np.flatnonzero(flops == 0), np.flatnonzero(flops)
    feasibility = Feasibility(SPACE, COSTS, [budget(COSTS[0], 0.5)])
    shares = np.full(GATES, 0.2)
    shares[[first, second]] = 0.01, 0.04
    shares[third] = 0.05
    shares[spending[-1]] = 0.03
    assert weak_and_free(feasibility, shares, EVERYTHING, 0.05) == [first, second]


def test_the_weakest_go_first_and_only_what_is_over_its_limit_decides() -> None:
    """An operator that costs nothing of what is over stays."""
    cost = Costs("FLOPs", np.where(np.arange(GATES) % 2 == 0, 0.0, 10.0), fixed=100.0)
    limit = cost.total(EVERYTHING) - 50
    feasibility = Feasibility(SPACE, [cost], [Budget("FLOPs", limit, "b")])
    relative = np.random.default_rng(0).permutation(GATES) / GATES + 0.5
    chosen = weakest_over(feasibility, {"FLOPs": limit}, relative, EVERYTHING)
    dear = np.flatnonzero(cost.gates > 0)
    assert sorted(chosen) == sorted(dear[np.argsort(relative[dear])][:5])


def test_an_operator_that_a_later_and_larger_one_made_room_for_comes_back() -> None:
    space = GoldSpace(cells=1, channels=4, nodes=2, input_shape=(1, 8, 8))
    gates = np.zeros(len(space.gates))
    gates[[1, 3]] = [1.0, 20.0]
    cost = Costs("FLOPs", gates, fixed=0.0)
    relative = np.ones(len(gates))
    relative[[1, 3]] = [0.1, 0.2]
    feasibility = Feasibility(space, [cost], [Budget("FLOPs", 2.0, "b")])
    everything = np.ones(len(gates), dtype=bool)
    assert weakest_over(feasibility, {"FLOPs": 2.0}, relative, everything) == [3]


# -- Algorithm 1 -------------------------------------------------------------------------------


def paper(share: float = 0.2, **settings: object) -> AlgorithmOneSchedule:
    feasibility = Feasibility(SPACE, COSTS, [budget(COSTS[0], share)])
    return AlgorithmOneSchedule(config(**settings), feasibility, 3, GATES)


def strong() -> GateWeights:
    """None under a threshold."""
    return GateWeights(np.full(GATES, 0.125), np.ones(GATES))


def weak(shares: dict[int, float]) -> GateWeights:
    normalised = np.full(GATES, 0.125)
    normalised[list(shares)] = list(shares.values())
    return GateWeights(normalised, 1 - normalised)  # Algorithm 1 goes by the share alone


FREE = [i for i, g in enumerate(SPACE.gates) if g.node > 2]
"""Many of these may go: their nodes have six operators and more."""


def test_lambda_grows_geometrically_while_nothing_is_weak() -> None:
    """By hand: Delta doubles from 1e-5, then adds to lambda."""
    schedule = paper()
    assert schedule.penalty_weight(0) == 0.0
    trajectory = []
    for epoch in range(10):
        assert schedule.choose(3 * epoch + 2, strong(), EVERYTHING) == []
        trajectory.append(
            (schedule.penalty_weight(3 * epoch + 3), schedule.state_dict()["increase"])
        )
    expected = [
        (2e-5, 2e-5),
        (6e-5, 4e-5),
        (1.4e-4, 8e-5),
        (3e-4, 1.6e-4),
        (6.2e-4, 3.2e-4),
        (1.26e-3, 6.4e-4),
        (2.54e-3, 1.28e-3),
        (5.1e-3, 2.56e-3),
        (1.022e-2, 5.12e-3),
        (2.046e-2, 1.024e-2),
    ]
    np.testing.assert_allclose(trajectory, expected, rtol=1e-9)


def test_lambda_relaxes_where_enough_were_weak_and_its_step_starts_anew() -> None:
    schedule = paper(n0=2)
    for _ in range(3):
        schedule.choose(2, strong(), EVERYTHING)
    assert schedule.penalty_weight(0) == pytest.approx(1.4e-4)
    active = EVERYTHING.copy()
    assert len(schedule.choose(2, weak({FREE[0]: 0.02, FREE[1]: 0.03}), active)) == 2
    assert schedule.penalty_weight(0) == pytest.approx(0.7e-4)
    assert schedule.state_dict()["increase"] == 1e-5
    active[FREE[:2]] = False
    assert len(schedule.choose(2, weak({FREE[2]: 0.02}), active)) == 1  # fewer than n0
    assert schedule.penalty_weight(0) == pytest.approx(0.9e-4)
    assert schedule.state_dict()["increase"] == 2e-5
    active[FREE[2]] = False
    # Those that went at once, under xi_min, count among the n0.
    assert len(schedule.choose(2, weak({FREE[3]: 0.001, FREE[5]: 0.02}), active)) == 2
    assert schedule.penalty_weight(0) == pytest.approx(0.45e-4)
    assert schedule.state_dict()["increase"] == 1e-5


def test_other_lambda0_and_c0_give_another_trajectory() -> None:
    schedule = paper(lambda0=1e-3, c0=3.0)
    found = []
    for _ in range(3):
        schedule.choose(2, strong(), EVERYTHING)
        found.append(schedule.penalty_weight(0))
    assert found == pytest.approx([3e-3, 12e-3, 39e-3])


def test_lambda_never_grows_without_bound() -> None:
    schedule = paper()
    for _ in range(2000):
        schedule.choose(2, strong(), EVERYTHING)
    assert 0.1 < schedule.penalty_weight(0) <= 1.0


def test_pruning_is_due_at_the_end_of_every_epoch_and_the_learning_rate_is_constant() -> None:
    schedule = paper()
    assert [step for step in range(10) if schedule.due(step)] == [2, 5, 8]
    assert {schedule.learning_rate(step) for step in range(10)} == {0.05}


def test_all_under_xi_min_go_and_at_most_n0_of_the_others_the_weakest() -> None:
    very = {index: 0.001 * (1 + k) for k, index in enumerate(FREE[:18:2])}
    moderate = {index: 0.04 - 0.002 * k for k, index in enumerate(FREE[1:18:2])}
    chosen = paper(n0=4).choose(2, weak(very | moderate), EVERYTHING)
    weakest = sorted(moderate, key=lambda index: moderate[index])[:4]
    assert set(chosen) == set(very) | set(weakest)
    assert len(chosen) == 9 + 4


@pytest.mark.parametrize(
    ("share", "goes"), [(0.0099, True), (0.01, True), (0.0499, True), (0.05, False)]
)
def test_nothing_at_or_over_xi_max_goes(share: float, goes: bool) -> None:
    chosen = paper().choose(2, weak({FREE[0]: share}), EVERYTHING)
    assert chosen == ([FREE[0]] if goes else [])


def test_thresholds_are_settings() -> None:
    weights = weak({FREE[0]: 0.02, FREE[2]: 0.02, FREE[4]: 0.02, FREE[6]: 0.08})
    assert len(paper(n0=1).choose(2, weights, EVERYTHING)) == 1
    assert len(paper(n0=1, xi_min=0.03).choose(2, weights, EVERYTHING)) == 3
    assert len(paper(n0=9, xi_max=0.1).choose(2, weights, EVERYTHING)) == 4


def test_pruning_stops_where_the_budget_holds() -> None:
    schedule = paper(share=0.9)
    weights = GateWeights(np.full(GATES, 0.005), np.full(GATES, 0.04))
    active = EVERYTHING.copy()
    chosen = schedule.choose(2, weights, active)
    active[chosen] = False
    assert schedule.feasibility.within(active)
    active[chosen[-1]] = True
    assert not schedule.feasibility.within(active)
    active[chosen[-1]] = False
    assert schedule.choose(5, weights, active) == []


def test_the_guard_holds_where_every_operator_is_weak() -> None:
    schedule = paper(share=0.05)
    weights = GateWeights(np.full(GATES, 0.005), np.full(GATES, 0.04))
    active = EVERYTHING.copy()
    active[schedule.choose(2, weights, active)] = False
    assert schedule.feasibility.within(active)
    assert all(active[list(group)].any() for group in SPACE.groups)


def test_a_plateau_is_t0_epochs_without_pruning_before_one_with() -> None:
    schedule = paper(t0=3)
    active, plateaus = EVERYTHING.copy(), []
    prunes = [True, False, False, True, False, False, False, True, True]
    for epoch, prune in enumerate(prunes):
        weights = weak({FREE[epoch]: 0.001}) if prune else strong()
        active[schedule.choose(3 * epoch + 2, weights, active)] = False
        plateaus.append(schedule.plateau)
    assert plateaus == [False] * 7 + [True, False]


def test_a_restored_schedule_goes_on_as_if_it_had_not_stopped() -> None:
    def fresh() -> AlgorithmOneSchedule:
        feasibility = Feasibility(SPACE, COSTS, [budget(COSTS[0], 0.2)])
        return AlgorithmOneSchedule(config(t0=1), feasibility, 10, GATES)

    schedule = fresh()
    generator, active = np.random.default_rng(0), EVERYTHING.copy()
    pruned = 0
    for step in filter(schedule.due, range(200)):
        again = fresh()
        again.load_state_dict(schedule.state_dict())
        weights = random_weights(generator, active)
        if step % 3 == 0:
            weights = GateWeights(weights.normalised + 0.05, weights.relative)
        chosen = schedule.choose(step, weights, active)
        assert again.choose(step, weights, active) == chosen
        assert again.penalty_weight(step + 1) == schedule.penalty_weight(step + 1)
        assert again.state_dict() == schedule.state_dict()
        assert again.plateau == schedule.plateau
        active[chosen] = False
        pruned += len(chosen)
    assert pruned > 20


@pytest.mark.parametrize(("gates", "n0"), [(392, 4), (224, 3), (56, 1), (100, 1), (101, 2)])
def test_one_gate_in_a_hundred_goes_at_a_time_unless_set(gates: int, n0: int) -> None:
    assert operators_at_a_time(config(), gates) == n0
    assert operators_at_a_time(config(n0=7), gates) == 7
