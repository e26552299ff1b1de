"""When to prune, what to prune, and how hard to press: two paces.

Both raise and relax the pressure lambda as Algorithm 1 of GOLD-NAS (arXiv:2007.03331) does.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from goldnas.search.config import SearchConfig
from goldnas.search.feasibility import Feasibility, Mask

Weights = npt.NDArray[np.float64]


@dataclass
class Pressure:
    """lambda, the weight of the resource term in the loss."""

    lambda0: float
    c0: float
    strength: float = 0.0
    """lambda."""
    step: float = field(default=0.0)
    """Delta, by which lambda grows next."""

    def __post_init__(self) -> None:
        self.step = self.step or self.lambda0

    def update(self, *, enough: bool) -> None:
        """Relax where enough operators were weak, else press geometrically harder."""
        if enough:
            self.step = self.lambda0
            self.strength /= self.c0
        else:
            # A cap, which the paper does not have: beyond it the gates only saturate.
            self.step = min(self.step * self.c0, 1.0)
            self.strength = min(self.strength + self.step, 1.0)


@dataclass(frozen=True)
class GateWeights:
    """The gates as pruning sees them, each ``(G,)``, 0 where pruned."""

    normalised: Weights
    """w~: share of the node's sum."""
    relative: Weights
    """K w~: over the node's mean."""


class Pace(Protocol):
    """Decides after a step of training whether and what to prune."""

    pressure: Pressure
    plateau: bool
    """Whether the architecture before the last pruning had been stable."""

    def due(self, step: int) -> bool:
        """Whether to prune after this step, counted from 0 over the whole search."""

    def learning_rate(self, step: int) -> float:
        """Learning rate of the weights at this step."""

    def choose(self, step: int, weights: GateWeights, active: Mask) -> list[int]:
        """The gates to prune now; updates the pressure."""

    def state(self) -> dict[str, float]:
        """What :meth:`restore` needs to go on."""

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a state."""


def operators_at_a_time(config: SearchConfig, gates: int) -> int:
    """n0: one gate in a hundred, rounded up, unless set; 4 of the paper's 392."""
    return config.n0 or -(-gates // 100)


class PaperPace:
    """Algorithm 1: prune once an epoch whatever is weak, until the budgets hold."""

    def __init__(
        self, config: SearchConfig, feasibility: Feasibility, steps_per_epoch: int, gates: int
    ) -> None:
        self.config = config
        self.feasibility = feasibility
        self.steps_per_epoch = steps_per_epoch
        self.n0 = operators_at_a_time(config, gates)
        self.pressure = Pressure(config.lambda0, config.c0)
        self.stable_epochs = 0
        self.plateau = False

    def due(self, step: int) -> bool:
        """At the end of every epoch."""
        return (step + 1) % self.steps_per_epoch == 0

    def learning_rate(self, step: int) -> float:
        """Constant, as in the paper's search."""
        return self.config.learning_rate

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
            if self.feasibility.may_prune(left, index):
                left[index] = False
                chosen.append(index)
                moderate += share >= self.config.xi_min
        self.pressure.update(enough=len(chosen) >= self.n0)
        self.plateau = bool(chosen) and self.stable_epochs >= self.config.t0
        self.stable_epochs = 0 if chosen else self.stable_epochs + 1
        return chosen

    def state(self) -> dict[str, float]:
        """The pressure, lambda; its step, Delta; and t."""
        return {
            "strength": self.pressure.strength,
            "step": self.pressure.step,
            "stable_epochs": self.stable_epochs,
        }

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a state."""
        self.pressure.strength, self.pressure.step = state["strength"], state["step"]
        self.stable_epochs = int(state["stable_epochs"])


class PlannedPace:
    """Prune a few operators at a time along a plan that meets every budget in time.

    The weights train first, with a cosine from the learning rate to a tenth of it. Then, at
    that tenth, each resource falls in a straight line from its full value to its budget, in
    as many prunings as there are handfuls of n0 operators. The last tenth of the steps
    trains what is left. At each pruning the weakest operators go, relative to the mean of
    their node, until the plan holds; had some of them not been weak, the pressure grows.
    """

    TRAIN, REST = 0.4, 0.1
    """Shares of the steps before the first pruning and after the last."""

    WEAK = 0.5
    """An operator under half of its node's mean is weak."""

    def __init__(
        self, config: SearchConfig, feasibility: Feasibility, total_steps: int, gates: int
    ) -> None:
        self.config = config
        self.feasibility = feasibility
        self.pressure = Pressure(config.lambda0, config.c0)
        self.plateau = False
        self.last = max(0, round((1 - self.REST) * total_steps) - 1)
        self.first = min(self.last, round(self.TRAIN * total_steps))
        handfuls = -(-gates // operators_at_a_time(config, gates))
        self.interval = max(1, (self.last - self.first) // handfuls)
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
        """The weakest operators whose removal brings the network back under the plan."""
        allowed = self.allowed(step)
        costs = self.feasibility.costs
        left, chosen = active.copy(), []
        for index in _weakest_first(weights.relative, active):
            over = [name for name, limit in allowed.items() if costs[name].total(left) > limit]
            if not over:
                break
            helps = any(costs[name].gates[index] > 0 for name in over)
            if helps and self.feasibility.may_prune(left, index):
                left[index] = False
                chosen.append(index)
        for index in sorted(chosen, key=lambda i: -weights.relative[i]):
            left[index] = True  # back, where a later and larger one made room for it
            if all(costs[name].total(left) <= limit for name, limit in allowed.items()):
                chosen.remove(index)
            else:
                left[index] = False
        weak = all(weights.relative[index] < self.WEAK for index in chosen)
        self.pressure.update(enough=weak)
        return chosen

    def state(self) -> dict[str, float]:
        """The pressure, lambda, and its step, Delta."""
        return {"strength": self.pressure.strength, "step": self.pressure.step}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a state."""
        self.pressure.strength, self.pressure.step = state["strength"], state["step"]


def _weakest_first(weights: Weights, active: Mask) -> list[int]:
    order = np.argsort(weights, kind="stable")
    return [int(index) for index in order if active[index]]
