"""When to prune, what to prune, and how hard to press the gates: two paces."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

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


class PruningSchedule(Protocol):
    """Decides after a step of training whether and what to prune."""

    plateau: bool
    """Whether the architecture before the last pruning had been stable."""

    def due(self, step: int) -> bool:
        """Whether to prune after this step, counted from 0 over the whole search."""

    def learning_rate(self, step: int) -> float:
        """Learning rate of the weights at this step."""

    def penalty_weight(self, step: int) -> float:
        """Lambda at this step: the weight of the penalty in the loss."""

    def choose(self, step: int, weights: GateWeights, active: Mask) -> list[int]:
        """The gates to prune now; adapts lambda."""

    def state_dict(self) -> dict[str, float]:
        """What :meth:`load_state_dict` needs to go on."""

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a state."""


def operators_at_a_time(config: SearchConfig, gates: int) -> int:
    """n0: one gate in a hundred, rounded up, unless set; 4 of the paper's 392."""
    return config.n0 or -(-gates // 100)


class AlgorithmOneSchedule:
    """Algorithm 1: prune once an epoch whatever is weak, until the budgets hold."""

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
        self.lambda_, self.increase = state["lambda"], state["increase"]
        self.stable_epochs = int(state["stable_epochs"])


class LinearBudgetSchedule:
    """Prune a few operators at a time along a plan that meets every budget in time.

    The weights train first, with a cosine from the learning rate to a tenth of it. Then, at
    that tenth, each resource falls in a straight line from its full value to its budget, in
    as many prunings as there are handfuls of n0 operators. The last tenth of the steps
    trains what is left. At each pruning the weakest operators go, relative to the mean of
    their node, until the plan holds. An operator that spends nothing of what is budgeted, as
    an identity of FLOPs, is in no plan: it goes as in Algorithm 1, once it is weak.

    lambda starts so that the penalty alone would move a gate of mean cost by about one unit
    between the first pruning and the last, however many steps that is. Where the operators
    that must go are not weak it grows, where they are it relaxes.
    """

    TRAIN, REST = 0.4, 0.1
    """Shares of the steps before the first pruning and after the last."""

    WEAK = 0.3
    """Share of its node's mean under which an operator is weak."""

    RANGE = 30.0
    """How far lambda may move, as a factor, up or down."""

    def __init__(
        self, config: SearchConfig, feasibility: Feasibility, total_steps: int, gates: int
    ) -> None:
        self.config = config
        self.feasibility = feasibility
        self.plateau = False
        self.last = max(0, round((1 - self.REST) * total_steps) - 1)
        self.first = min(self.last, round(self.TRAIN * total_steps))
        steps = max(1, self.last - self.first)
        self.n0 = operators_at_a_time(config, gates)
        prunings = min(steps, -(-gates // self.n0))
        self.interval = steps // prunings
        self.lambda0 = config.lambda0 or 1 / steps
        self.lambda_ = self.lambda0
        # From one end of the range to the other in as many prunings as half the plan has.
        self.growth = self.RANGE ** (4 / prunings)
        everything = np.ones(gates, dtype=bool)
        self.full = {name: c.total(everything) for name, c in feasibility.costs.items()}

    def due(self, step: int) -> bool:
        """At even distances between the first and the last pruning."""
        if not self.first <= step <= self.last:
            return False
        return step == self.last or (step - self.first) % self.interval == 0

    def learning_rate(self, step: int) -> float:
        """Cosine to a tenth until the first pruning, then constant."""
        progress = min(1.0, step / max(1, self.first))
        return self.config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))

    def penalty_weight(self, step: int) -> float:
        """Lambda, which rises from 0 until the first pruning; 0 again after the last."""
        if step > self.last:
            return 0.0
        return self.lambda_ * min(1.0, step / max(1, self.first))

    def allowed(self, step: int) -> dict[str, float]:
        """The plan: what each budgeted resource may cost after this step."""
        progress = (step - self.first) / (self.last - self.first) if step < self.last else 1.0
        return {
            b.resource: max(
                b.limit, (1 - progress) * self.full[b.resource] + progress * b.limit
            )
            for b in self.feasibility.budgets
        }

    def choose(self, step: int, weights: GateWeights, active: Mask) -> list[int]:
        """The weakest that bring the network back under the plan, and the weak for free."""
        chosen = weakest_over(self.feasibility, self.allowed(step), weights.relative, active)
        if chosen:
            strongest = max(weights.relative[index] for index in chosen)
            factor = self.growth if strongest > self.WEAK else 1 / self.growth
            lowest, highest = self.lambda0 / self.RANGE, self.lambda0 * self.RANGE
            self.lambda_ = min(max(self.lambda_ * factor, lowest), highest)
        if all(self.full[b.resource] <= b.limit for b in self.feasibility.budgets):
            return []  # the whole network was asked for
        left = active.copy()
        for index in chosen:
            left[self.feasibility.with_nested(index)] = False
        free = weak_and_free(self.feasibility, weights.normalised, left, self.config.xi_max)
        return chosen + free[: self.n0]

    def state_dict(self) -> dict[str, float]:
        """Lambda."""
        return {"lambda": self.lambda_}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a state."""
        self.lambda_ = state["lambda"]


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
        helps = any((costs[name].gates[going] > 0).any() for name in over(left))
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
    """The weak operators that spend nothing of what is budgeted, the weakest first.

    No budget asks for them to go, and a gate hides them while it is nearly shut. But a network
    that is trained anew has no gates: there they count as much as any other operator.

    Args:
        feasibility: Guards what may go.
        weights: ``(G,)``, w~ of GOLD-NAS.
        active: ``(G,)``, the gates that are left.
        threshold: xi_max, the share of its node under which an operator is weak.
    """
    costs = [feasibility.costs[budget.resource].gates for budget in feasibility.budgets]
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
