"""When to prune, what to prune, and how hard to press the gates, where gates decide."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from goldnas.ranges import NotNegative
from goldnas.searching.config import SearchConfig
from goldnas.searching.feasibility import Feasibility, Mask

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GateWeights:
    """The gates as pruning sees them, each ``(G,)``, 0 where pruned."""

    normalised: Weights
    """w~: share of the node's sum."""
    relative: Weights
    """K w~: over the node's mean."""


def operators_at_a_time(config: SearchConfig, gates: int) -> int:
    """n0: one gate in a hundred, rounded up, unless set; 4 of the paper's 392."""
    return config.n0 or -(-gates // 100)


class _ScheduleState(msgspec.Struct, rename={"lambda_": "lambda"}):
    lambda_: NotNegative
    increase: NotNegative
    stable_epochs: NotNegative


class AlgorithmOneSchedule:
    """Algorithm 1: prune weak operators once an epoch, until the budgets hold."""

    def __init__(
        self, config: SearchConfig, feasibility: Feasibility, steps_per_epoch: int, gates: int
    ) -> None:
        self.config = config
        self.feasibility = feasibility
        self.steps_per_epoch = steps_per_epoch
        self.n0 = operators_at_a_time(config, gates)
        self.lambda0 = config.lambda0 or 1e-5
        self.lambda_ = 0.0
        """Of the loss, lambda."""
        self.increase = self.lambda0
        """By which lambda grows next, Delta."""
        self.stable_epochs = 0
        self.plateau = False

    def due(self, step: int) -> bool:
        """At the end of every epoch."""
        return (step + 1) % self.steps_per_epoch == 0

    def learning_rate(self, step: int) -> float:
        """Constant, as in the paper's search."""
        return self.config.learning_rate

    def penalty_weight(self, step: int) -> float:
        """Lambda, as step 3 of Algorithm 1 left it."""
        return self.lambda_

    def choose(self, step: int, weights: GateWeights, active: Mask) -> list[int]:
        """All operators under xi_min, and the n0 weakest of those under xi_max."""
        left, chosen = active.copy(), []
        moderate = 0
        for index in _weakest_first(weights.normalised, active):
            share = weights.normalised[index]
            if self.feasibility.within(left) or share >= self.config.xi_max:
                break
            if share >= self.config.xi_min and moderate == self.n0:
                break
            if left[index] and self.feasibility.may_prune(left, index):
                left[self.feasibility.with_nested(index)] = False
                chosen.append(index)
                moderate += share >= self.config.xi_min
        if len(chosen) < self.n0:
            # The cap, which the paper does not have, is far beyond where gates saturate.
            self.increase = min(self.increase * self.config.c0, 1.0)
            self.lambda_ = min(self.lambda_ + self.increase, 1.0)
        else:
            self.increase = self.lambda0
            self.lambda_ /= self.config.c0
        self.plateau = bool(chosen) and self.stable_epochs >= self.config.t0
        self.stable_epochs = 0 if chosen else self.stable_epochs + 1
        return chosen

    def state_dict(self) -> dict[str, float]:
        """lambda; its step, Delta; and t."""
        return {
            "lambda": self.lambda_,
            "increase": self.increase,
            "stable_epochs": self.stable_epochs,
        }

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a state."""
        mine = msgspec.convert(state, _ScheduleState)
        self.lambda_, self.increase = mine.lambda_, mine.increase
        self.stable_epochs = int(mine.stable_epochs)


def weakest_over(
    feasibility: Feasibility, limits: Mapping[str, float], weights: Weights, active: Mask
) -> list[int]:
    """The weakest operators whose removal brings a network back under limits.

    Args:
        feasibility: Guards what may go.
        limits: By resource; none under the budgets of ``feasibility``.
        weights: ``(G,)``, of which the smallest go first.
        active: ``(G,)``, the gates that are left.
    """
    costs = feasibility.costs

    def over(left: Mask) -> list[str]:
        return [name for name, limit in limits.items() if costs[name].total(left) > limit]

    left, chosen = active.copy(), []
    went: dict[int, list[int]] = {}
    for index in _weakest_first(weights, active):
        going = [gate for gate in feasibility.with_nested(index) if left[gate]]
        helps = any((costs[n].charge(left, limits[n])[going] > 0).any() for n in over(left))
        if helps and left[index] and feasibility.may_prune(left, index):
            left[going] = False
            chosen.append(index)
            went[index] = going
    for index in sorted(chosen, key=lambda i: -weights[i]):
        if not feasibility.is_at_hand(index, left):
            continue
        left[went[index]] = True  # back, where a later and larger one made room for it
        if over(left):
            left[went[index]] = False
        else:
            chosen.remove(index)
    return chosen


def weak_and_free(
    feasibility: Feasibility, weights: Weights, active: Mask, threshold: float
) -> list[int]:
    """The weak operators that cost nothing under the budgets, the weakest first.

    No budget asks to remove them, and a nearly shut gate hides them. But a network that is
    trained from scratch has no gates: there they count as much as any other operator.

    Args:
        feasibility: Guards what may go.
        weights: ``(G,)``, w~ of GOLD-NAS.
        active: ``(G,)``, the gates that are left.
        threshold: xi_max, the share of its node under which an operator is weak.
    """
    costs = [feasibility.costs[b.resource].charge(active, b.limit) for b in feasibility.budgets]
    left, chosen = active.copy(), []
    for index in _weakest_first(weights, active):
        if weights[index] >= threshold:
            break
        going = feasibility.with_nested(index)
        spends = any((cost[going] > 0).any() for cost in costs)
        if not spends and left[index] and feasibility.may_prune(left, index):
            left[going] = False
            chosen.append(index)
    return chosen


def _weakest_first(weights: Weights, active: Mask) -> list[int]:
    order = np.argsort(weights, kind="stable")
    return [int(index) for index in order if active[index]]
