"""Whether budgets can still be met, and by which network."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from goldnas.resources import Budget, Costs
from goldnas.spaces import SearchSpace

Mask = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.float64]

_TOLERANCE = 2e-6
"""Of the solver, on constraints that are scaled to 1."""


def cheapest(
    space: SearchSpace,
    weights: Weights,
    active: Mask,
    ceilings: Sequence[tuple[Weights, float]] = (),
) -> Mask | None:
    """The cheapest network that pruning can leave, found exactly (a linear integer program).

    Args:
        space: Its :attr:`groups` each keep at least one gate.
        weights: ``(G,)``, what each gate costs; not negative.
        active: ``(G,)``, the gates there are to choose from.
        ceilings: Further costs ``(G,)`` of the gates, each with a limit to their sum of about
            1 at most.

    Returns:
        ``(G,)``, a subset of ``active``, or None if no network keeps the ceilings.
    """
    rows = [row for row, group in enumerate(space.groups) for _ in group]
    columns = [gate for group in space.groups for gate in group]
    shape = (len(space.groups), len(weights))
    covered = csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    solution = milp(
        weights / max(weights.max(), 1e-300),
        integrality=np.ones(len(weights)),
        bounds=Bounds(0, active.astype(float)),
        constraints=[
            LinearConstraint(covered, lb=1),
            *(LinearConstraint(costs[np.newaxis], ub=limit) for costs, limit in ceilings),
        ],
    )
    return None if solution.x is None else np.asarray(solution.x > 0.5)


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
        """A network within all budgets, kept to answer quickly; it changes no answer."""

    def within(self, active: Mask) -> bool:
        """Whether the network of these gates meets every budget."""
        return all(self.costs[b.resource].total(active) <= b.limit for b in self.budgets)

    def find(self, active: Mask) -> Mask | None:
        """A network within all budgets among the active gates, or None if there is none."""
        scaled, ceilings = np.zeros(len(active)), []
        for budget in self.budgets:
            cost = self.costs[budget.resource]
            scaled += cost.gates / budget.limit
            ceilings.append((cost.gates / budget.limit, 1 - cost.fixed / budget.limit))
        # The solver may overstep a ceiling by its tolerance: then once more, that much lower.
        for margin in (0.0, _TOLERANCE):
            lowered = [(costs, limit - margin) for costs, limit in ceilings]
            chosen = cheapest(self.space, scaled, active, lowered)
            if chosen is None or self.within(chosen):
                return chosen
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
        witness = self.find(left)
        if witness is None:
            return False
        self._witness = witness
        return True
