"""Whether budgets can still be met, and by which network."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from goldnas.resources import Budget, Costs
from goldnas.spaces import SearchSpace

Mask = npt.NDArray[np.bool_]

_ATTEMPTS = 64


class Feasibility:
    """Guards pruning: an operator may go only if a network within all budgets remains.

    Pruning cannot be undone. Without this guard a search may cut every cheap operator of a
    node, and end with a network that no pruning brings under its budget.
    """

    def __init__(
        self, space: SearchSpace, costs: Sequence[Costs], budgets: Sequence[Budget]
    ) -> None:
        self.space = space
        self.budgets = tuple(budgets)
        self.costs = {cost.name: cost for cost in costs}
        self._witness: Mask | None = None

    def within(self, active: Mask) -> bool:
        """Whether the network of these gates meets every budget."""
        return all(self.costs[b.resource].total(active) <= b.limit for b in self.budgets)

    def find(self, active: Mask) -> Mask | None:
        """A network within all budgets among the active gates, or None if none was found.

        The cheapest network in a weighted sum of the resources, each over what its budget
        leaves after the fixed part; a resource that this network overspends gains weight.
        With one budget the first attempt decides; with several this is a heuristic.
        """
        scaled = []
        for budget in self.budgets:
            cost = self.costs[budget.resource]
            if budget.limit < cost.fixed:
                return None
            scaled.append(cost.gates / max(budget.limit - cost.fixed, 1e-12))
        weights = np.ones(len(scaled))
        for _ in range(_ATTEMPTS):
            chosen = self.space.cheapest(np.asarray(weights @ np.array(scaled)), active)
            if self.within(chosen):
                return chosen
            spent = np.array([cost[chosen].sum() for cost in scaled])
            weights *= np.maximum(spent, 0.5)
            weights /= weights.sum()
        return None

    def may_prune(self, active: Mask, index: int) -> bool:
        """Whether a network within all budgets is left without this gate."""
        if self._witness is None or (self._witness & ~active).any():
            self._witness = self.find(active)
        if self._witness is None:
            return False
        if not self._witness[index]:
            return True
        left = active.copy()
        left[index] = False
        witness = self.find(left) if self._covered(left) else None
        if witness is None:
            return False
        self._witness = witness
        return True

    def _covered(self, active: Mask) -> bool:
        return all(active[list(group)].any() for group in self.space.groups)
