"""Pruning never leaves the budgets out of reach."""

import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from goldnas.resources import Budget, Costs, Flops, Parameters, compute_costs
from goldnas.searching.feasibility import Feasibility, Mask, cheapest
from goldnas.spaces import GoldSpace

SPACE = GoldSpace(cells=3, channels=4, nodes=3, input_shape=(1, 8, 8), classes=3)
EVERYTHING = np.ones(len(SPACE.gates), dtype=bool)


def latency(seed: int) -> Costs:
    """As of a device on which time has little to do with FLOPs."""
    gates = np.random.default_rng(seed).exponential(10.0, len(SPACE.gates))
    return Costs(f"latency@{seed}", gates, fixed=50.0)


def resources(count: int) -> list[Costs]:
    return [compute_costs(SPACE, Flops()), compute_costs(SPACE, Parameters()), latency(7)][
        :count
    ]


def budgets_around(costs: list[Costs], seed: int, slack: float) -> list[Budget]:
    """Budgets that one network, cheap in a mixture of the resources, meets just so."""
    mixture = np.random.default_rng(seed).random(len(costs)) + 0.1
    scaled = sum(m * c.gates / c.gates.sum() for m, c in zip(mixture, costs, strict=True))
    network = cheapest(SPACE, np.asarray(scaled), EVERYTHING)
    return [Budget(c.name, slack * c.total(network), c.name) for c in costs]


def smallest(cost: Costs) -> float:
    return cost.total(cheapest(SPACE, cost.gates, EVERYTHING))


def covered(active: Mask) -> bool:
    """Whether each node has an operator, and each input of a cell a reader."""
    kept = [gate for gate, keep in zip(SPACE.gates, active, strict=True) if keep]
    nodes = {(gate.cell, gate.node) for gate in kept}
    inputs = {(gate.cell, gate.source) for gate in kept if gate.source < 2}
    return len(nodes) == 3 * 3 and len(inputs) == 3 * 2


def prune_until_nothing_may_go(
    feasibility: Feasibility, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    active, left = EVERYTHING.copy(), -1
    while left != active.sum():
        left = active.sum()
        for index in generator.permutation(np.flatnonzero(active)):
            if feasibility.may_prune(active, int(index)):
                active[index] = False
                assert covered(active)
    return active


@pytest.mark.parametrize("slack", [1.0, 1.01, 1.3])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_pruning_in_any_order_ends_within_the_budgets(count: int, slack: float) -> None:
    costs = resources(count)
    for seed in range(3):
        budgets = budgets_around(costs, seed, slack)
        feasibility = Feasibility(SPACE, costs, budgets)
        active = prune_until_nothing_may_go(feasibility, np.random.default_rng(seed))
        assert feasibility.within(active)
        for budget, cost in zip(budgets, costs, strict=True):
            assert cost.total(active) <= budget.limit


@pytest.mark.parametrize("cost", [*resources(2), latency(0), latency(1)], ids=lambda c: c.name)
def test_the_tightest_budget_of_all_is_still_met_exactly(cost: Costs) -> None:
    budget = Budget(cost.name, smallest(cost), "tight")
    feasibility = Feasibility(SPACE, [cost], [budget])
    active = prune_until_nothing_may_go(feasibility, np.random.default_rng(0))
    assert cost.total(active) == budget.limit


def test_with_one_budget_a_network_is_left_after_every_pruning_that_was_allowed() -> None:
    (cost,) = resources(1)
    budgets = [Budget(cost.name, 1.02 * smallest(cost), "b")]
    feasibility = Feasibility(SPACE, [cost], budgets)
    active = EVERYTHING.copy()
    for index in np.random.default_rng(1).permutation(len(active)):
        if feasibility.may_prune(active, int(index)):
            active[index] = False
            assert Feasibility(SPACE, [cost], budgets).find(active) is not None
        else:  # and it was right to refuse
            left = active.copy()
            left[index] = False
            assert not covered(left) or cost.total(cheapest(SPACE, cost.gates, left)) > (
                budgets[0].limit
            )


def test_asking_changes_nothing() -> None:
    costs = resources(3)
    feasibility = Feasibility(SPACE, costs, budgets_around(costs, 0, 1.1))
    active = EVERYTHING.copy()
    first = [feasibility.may_prune(active, i) for i in range(len(active))]
    assert active.all()
    assert [feasibility.may_prune(active, i) for i in range(len(active))] == first


def test_the_answer_is_about_the_network_it_is_asked_about() -> None:
    """Whatever was asked before: here, about networks that share little."""
    (cost,) = resources(1)
    budgets = [Budget(cost.name, 1.5 * smallest(cost), "b")]
    used, generator = Feasibility(SPACE, [cost], budgets), np.random.default_rng(0)
    answers = []
    for _ in range(20):
        active = generator.random(len(EVERYTHING)) < 0.6
        if not covered(active):
            continue
        for index in np.flatnonzero(active)[::7]:
            answers.append(used.may_prune(active, int(index)))
            assert Feasibility(SPACE, [cost], budgets).may_prune(active, index) == answers[-1]
    assert {True, False} == set(answers)


# Where the costs of two resources are at odds, a weighted sum of them overlooks networks.
HIDDEN = GoldSpace(cells=1, channels=4, nodes=3, input_shape=(1, 8, 8))
HIDDEN_COSTS = [
    Costs("FLOPs", np.array([9, 1, 3, 6, 7, 6, 8, 0, 3, 5, 4, 3, 3, 0, 1, 5, 4, 9.0]), 0.0),
    Costs("params", np.array([2, 8, 2, 1, 1, 3, 1, 8, 8, 8, 4, 0, 2, 4, 5, 4, 6, 3.0]), 0.0),
]
HIDDEN_BUDGETS = [Budget("FLOPs", 11.0, "b"), Budget("params", 11.0, "b")]


def test_a_network_that_would_not_be_found_again_is_not_lost() -> None:
    feasibility = Feasibility(HIDDEN, HIDDEN_COSTS, HIDDEN_BUDGETS)
    active = np.ones(18, dtype=bool)
    for index in (2, 13):
        assert feasibility.may_prune(active, index)
        active[index] = False
    for _ in range(2):
        for index in np.flatnonzero(active):
            if feasibility.may_prune(active, int(index)):
                active[index] = False
    assert feasibility.within(active)


def test_a_guard_made_anew_knows_a_network_where_the_old_one_does() -> None:
    """A resumed search has a new one, and must end as if it had not stopped."""
    feasibility = Feasibility(HIDDEN, HIDDEN_COSTS, HIDDEN_BUDGETS)
    active = np.ones(18, dtype=bool)
    for index in (2, 13):
        assert feasibility.may_prune(active, index)
        active[index] = False
    anew = Feasibility(HIDDEN, HIDDEN_COSTS, HIDDEN_BUDGETS)
    assert [anew.may_prune(active, int(i)) for i in np.flatnonzero(active)] == [
        feasibility.may_prune(active, int(i)) for i in np.flatnonzero(active)
    ]


def test_the_last_operator_of_a_node_and_the_last_reader_of_an_input_stay() -> None:
    """However generous the budget."""
    (cost,) = resources(1)
    feasibility = Feasibility(SPACE, [cost], [Budget(cost.name, 1e12, "any")])
    place = [(gate.cell, gate.source, gate.node) for gate in SPACE.gates]
    active = np.array([p[2] != 4 or p == (0, 2, 4) for p in place])
    last_of_node = [i for i in np.flatnonzero(active) if place[i] == (0, 2, 4)]
    active[last_of_node[0]] = False
    for cell in (1, 2):
        active[[i for i, p in enumerate(place) if p[::2] == (cell, 4)]] = True
    assert not feasibility.may_prune(active, last_of_node[1])
    reads = [i for i in np.flatnonzero(active) if place[i][:2] == (1, 0)]
    assert len(reads) > 2
    active[reads[1:]] = False
    assert not feasibility.may_prune(active, reads[0])
    others = set(np.flatnonzero(active)) - {last_of_node[1], reads[0]}
    assert all(feasibility.may_prune(active, int(index)) for index in others)


def test_a_cheap_operator_stays_where_only_it_meets_the_budget() -> None:
    """The trap that the guard is for: it may be the weakest of its node."""
    space = GoldSpace(cells=1, channels=4, nodes=1, input_shape=(1, 8, 8), classes=3)
    assert [gate.operator for gate in space.gates] == ["skip_connect", "sep_conv_3x3"] * 2
    cost = Costs("FLOPs", np.array([1.0, 5.0, 1.0, 5.0]), fixed=10.0)
    for limit, allowed in [
        (12, [False, True, False, True]),
        (16, [True, True, True, True]),
        (11, [False, False, False, False]),
    ]:
        feasibility = Feasibility(space, [cost], [Budget("FLOPs", limit, "b")])
        everything = np.ones(4, dtype=bool)
        assert [feasibility.may_prune(everything, i) for i in range(4)] == allowed
    feasibility = Feasibility(space, [cost], [Budget("FLOPs", 16, "b")])
    everything[0] = False
    assert not feasibility.may_prune(everything, 2)


# -- finding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_found_is_within_the_budgets_and_among_the_active(
    count: int, seed: int
) -> None:
    costs = resources(count)
    budgets = budgets_around(costs, seed, 1.0)
    chosen = Feasibility(SPACE, costs, budgets).find(EVERYTHING)
    assert chosen is not None
    assert covered(chosen)
    assert all(c.total(chosen) <= b.limit for c, b in zip(costs, budgets, strict=True))
    fewer = chosen | (np.random.default_rng(seed).random(len(chosen)) < 0.3)
    again = Feasibility(SPACE, costs, budgets).find(fewer)
    assert again is not None
    assert not (again & ~fewer).any()


def test_nothing_is_found_below_the_smallest_network() -> None:
    for cost in resources(3):
        found = [
            Feasibility(SPACE, [cost], [Budget(cost.name, limit, "b")]).find(EVERYTHING)
            for limit in (
                smallest(cost) * (1 + 1e-9),
                smallest(cost) * (1 - 1e-9),
                cost.fixed,
                cost.fixed / 2,
            )
        ]
        assert [network is not None for network in found] == [True, False, False, False]


def test_nothing_is_found_where_the_budgets_exclude_each_other() -> None:
    """Each can be met alone: what is cheap in one resource is dear in the other."""
    first = np.where(np.arange(len(EVERYTHING)) % 2 == 0, 1.0, 3.0)
    costs = [Costs("FLOPs", first, 0.0), Costs("params", 4.0 - first, 0.0)]
    limits = [smallest(cost) for cost in costs]
    for cost, limit in zip(costs, limits, strict=True):
        alone = Feasibility(SPACE, costs, [Budget(cost.name, limit, "b")])
        assert alone.find(EVERYTHING) is not None
    together = [Budget(c.name, limit, "b") for c, limit in zip(costs, limits, strict=True)]
    feasibility = Feasibility(SPACE, costs, together)
    assert feasibility.find(EVERYTHING) is None
    assert not any(feasibility.may_prune(EVERYTHING, i) for i in range(len(EVERYTHING)))


@pytest.mark.parametrize("fair_costs", [(4.0, 4.0), (3.0, 6.0), (6.0, 3.0)])
def test_a_compromise_is_found_that_no_resource_alone_would_choose(
    fair_costs: tuple[float, float],
) -> None:
    """Three kinds of network: cheap in one, cheap in the other, fair in both."""
    space = GoldSpace(
        cells=3,
        channels=4,
        nodes=3,
        input_shape=(1, 8, 8),
        operators=("skip_connect", "sep_conv_3x3", "max_pool_3x3"),
    )
    kind = np.arange(len(space.gates)) % 3
    first, second = fair_costs
    costs = [
        Costs("FLOPs", np.array([1.0, 9.0, first])[kind], 0.0),
        Costs("params", np.array([9.0, 1.0, second])[kind], 0.0),
    ]
    # An operator for each of three nodes in each of three cells.
    budgets = [
        Budget(cost.name, 9 * fair, "b") for cost, fair in zip(costs, fair_costs, strict=True)
    ]
    chosen = Feasibility(space, costs, budgets).find(np.ones(len(kind), dtype=bool))
    assert chosen is not None
    assert set(kind[chosen]) == {2}


def test_what_the_solver_prints_is_not_on_stdout() -> None:
    program = (
        "import ctypes\n"
        "from goldnas.searching.integer_program import _stdout_is_stderr\n"
        "print('before')\n"
        "with _stdout_is_stderr():\n"
        "    ctypes.CDLL(None).puts(b'from the solver')\n"
        "print('after')\n"
    )
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["before", "after"]
    assert done.stderr.splitlines() == ["from the solver"]
    closed = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" >&-', *command], capture_output=True, text=True
    )
    assert "Traceback" not in closed.stderr
