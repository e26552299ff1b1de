"""Whether budgets can still be met, and by which network."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint
from scipy.sparse import csr_array

from goldnas.resource_names import OPERATORS
from goldnas.resources import Budget, Costs, OperatorCount, PeakCosts
from goldnas.resources.costs import list_sets
from goldnas.searching.integer_program import solve
from goldnas.spaces import SearchSpace
from goldnas.spaces.nesting import Nesting

Mask = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.float64]

_TOLERANCE = 2e-6
"""Of the solver, on constraints that are scaled to 1."""


def cheapest(
    space: SearchSpace,
    weights: Weights,
    active: Mask,
    ceilings: Sequence[tuple[Weights, float]] = (),
    single: Sequence[Sequence[int]] = (),
) -> Mask | None:
    """The cheapest network that pruning can leave, found exactly (a linear integer program).

    Args:
        space: Each of its :attr:`groups` keeps at least one gate. Its :attr:`wiring` links
            outputs to inputs.
        weights: ``(G,)``, what each gate costs; or ``(G + S,)``, :attr:`Costs.row`.
        active: ``(G,)``, the gates there are to choose from.
        ceilings: Further costs, likewise, each with a limit to their sum of about 1 at most.
        single: Sets of gates of which one is kept at most.

    Returns:
        ``(G,)``, a subset of ``active``, or None if no network keeps the ceilings.
    """
    limits = [(costs, -np.inf, limit) for costs, limit in ceilings]
    return _solve(space, weights / max(weights.max(), 1e-300), active, limits, single)


def _solve(
    space: SearchSpace,
    weights: Weights,
    active: Mask,
    limits: Sequence[tuple[Weights, float, float]],
    single: Sequence[Sequence[int]] = (),
) -> Mask | None:
    """The network of the least weight whose costs lie within limits, lower and upper.

    Args:
        space: Of the network.
        weights: ``(G,)``; or ``(G + S,)``, with those of the sets that cost together.
        active: ``(G,)``, the gates there are to choose from.
        limits: Costs, likewise, each with its limits.
        single: Sets of gates of which one is kept at most.
    """
    gates = len(active)
    # Beside the gates, whether each choice is linked to the input: a number from 0 to 1. Then
    # whether all of a set is kept, which the constraints below let be nothing but 0 or 1.
    rules = () if space.wiring is None else space.wiring.rules
    links = max((n + 1 for rule in rules for n in (*rule.one_of, rule.given or 0)), default=0)
    links = max(0, links - gates)
    sets = [sorted(set(members)) for members in list_sets(space).tolist()]
    columns = gates + links + len(sets)

    def widen(values: Weights, value: float = 0.0) -> Weights:
        own = np.full(len(sets), value) if len(values) == gates else values[gates:]
        return np.concatenate([values[:gates], np.full(links, value), own])

    constraints = [
        LinearConstraint(_incidence(space.groups, columns), lb=1),
        *(LinearConstraint(widen(costs)[np.newaxis], lb=lb, ub=ub) for costs, lb, ub in limits),
    ]
    if rules:
        holds = _incidence([rule.one_of for rule in rules], columns)
        given = _incidence([[] if r.given is None else [r.given] for r in rules], columns)
        least = np.array([float(rule.given is None) for rule in rules])
        constraints.append(LinearConstraint(holds - given, lb=least))
    if single:
        constraints.append(LinearConstraint(_incidence(single, columns), ub=1))
    if sets:
        first = gates + links
        each = [(first + number, gate) for number, one in enumerate(sets) for gate in one]
        all_of = _incidence([[one] for one, _ in each], columns)
        alone = _incidence([[gate] for _, gate in each], columns)
        constraints.append(LinearConstraint(all_of - alone, ub=0))
        whole = _incidence([[first + number] for number in range(len(sets))], columns)
        members = _incidence(sets, columns)
        least = np.array([1.0 - len(one) for one in sets])
        constraints.append(LinearConstraint(whole - members, lb=least))
    solution = solve(
        widen(weights),
        integrality=widen(np.ones(gates)),
        bounds=Bounds(0, widen(active.astype(float), 1.0)),
        constraints=constraints,
    )
    return None if solution.x is None else np.asarray(solution.x[:gates] > 0.5)


def _incidence(sets: Sequence[Sequence[int]], columns: int) -> csr_array:
    """A row for each set of columns: ones there."""
    rows = [row for row, members in enumerate(sets) for _ in members]
    places = [member for members in sets for member in members]
    return csr_array((np.ones(len(rows)), (rows, places)), shape=(len(sets), columns))


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
        single = self.costs.get(OPERATORS)
        self.single = single.places if isinstance(single, OperatorCount) else ()
        """Sets of gates of which a network keeps one at most, where no sum says so."""
        peaks = [b for b in self.budgets if isinstance(self.costs.get(b.resource), PeakCosts)]
        self.sums = tuple(budget for budget in self.budgets if budget not in peaks)
        """The budgets of what adds up."""
        self.fits = np.ones(len(space.gates), dtype=bool)
        """``(G,)``, the gates that are within every budget of a peak alone."""
        for budget in peaks:
            self.fits &= self.costs[budget.resource].gates <= budget.limit
        self._witness: Mask | None = None
        """A network within all budgets, kept to answer quickly; it changes no answer."""

    @property
    def _nesting(self) -> Nesting | None:
        """Which choices are within others, if some are."""
        wiring = self.space.wiring
        return wiring.nesting if wiring is not None and wiring.nesting.nests else None

    def with_nested(self, index: int) -> list[int]:
        """A gate, and those of the choices within its candidate: they go with it."""
        nesting = self._nesting
        return [index] if nesting is None else [index, *nesting.within(index)]

    def is_at_hand(self, index: int, active: Mask) -> bool:
        """Whether the candidate that a gate is within is kept, if it is within one."""
        parent = None if self._nesting is None else self._nesting.parents[index]
        return parent is None or bool(active[parent])

    def list_going(self, active: Mask, kept: Mask) -> npt.NDArray[np.intp]:
        """The active gates that are not kept, without those that go with another."""
        going = np.flatnonzero(active & ~kept)
        return going[[self.is_at_hand(int(gate), kept) for gate in going]]

    def tightened(self, share: float) -> "Feasibility":
        """The same with a share of each budget of what adds up, the operators apart."""
        budgets = [
            replace(budget, limit=share * budget.limit)
            if budget in self.sums and budget.resource != OPERATORS
            else budget
            for budget in self.budgets
        ]
        return Feasibility(self.space, list(self.costs.values()), budgets)

    def cheap(self, share: float) -> Mask:
        """``(G,)``, the gates that cost at most a share of the mean one, under every budget.

        None of a Width: what more channels are worth has nothing to do with what they cost.
        """
        everything = np.ones(len(self.space.gates), dtype=bool)
        costs = [self.costs[budget.resource].marginal(everything) for budget in self.sums]
        below = [cost <= share * cost.mean() for cost in costs]
        cheap = np.asarray(np.all(below, axis=0)) if below else ~everything
        cheap[list(self.space.wiring.nesting.ordered if self.space.wiring else ())] = False
        return cheap

    def within(self, active: Mask) -> bool:
        """Whether the network of these gates meets every budget."""
        return all(self.costs[b.resource].total(active) <= b.limit for b in self.budgets)

    def find(self, active: Mask) -> Mask | None:
        """A network within all budgets among the active gates, or None if there is none."""
        scaled: Weights = np.zeros(len(active) + len(list_sets(self.space)))
        ceilings = []
        for budget in self.sums:
            share = self._share(budget)
            scaled = scaled + share
            ceilings.append((share, 1 - self.costs[budget.resource].fixed / budget.limit))
        # The solver may overstep a ceiling by its tolerance: then once more, that much lower.
        for margin in (0.0, _TOLERANCE):
            lowered = [(costs, limit - margin) for costs, limit in ceilings]
            chosen = cheapest(self.space, scaled, active & self.fits, lowered, self.single)
            if chosen is None or self.within(chosen):
                return chosen
        return None

    def choose(self, values: Weights, active: Mask, *, floor: float) -> Mask | None:
        """The network of the greatest total value within all budgets.

        Args:
            values: ``(G,)``, what each gate is worth. Of gates worth less than 0, as few as
                possible are kept.
            active: ``(G,)``, the gates there are to choose from.
            floor: The network uses at least this share of one budget, if some network exceeds
                the budget; or as near to it as the space allows.

        Returns:
            ``(G,)``, a subset of ``active``; None if no network meets the budgets.
        """
        values = values if self._nesting is None else self._nesting.own(values)
        worth = -values / max(np.abs(values).max(), 1e-300)
        budgets = [b for b in self.budgets if self._binds(b, active)]
        found = self._choose(worth, active, {})
        if found is None or not budgets or self._use(found, budgets) >= floor:
            return found
        # The budgets are not spent: spend one, at the least loss of value.
        bound = [self._choose(worth, active, {b.resource: floor}) for b in budgets]
        using = [mask for mask in bound if mask is not None]
        if not using:  # no network spends that much: take what spends the most
            most = [self._choose(-self._share(b), active, {}) for b in budgets]
            using = [mask for mask in most if mask is not None]
            return max(using, key=lambda mask: self._use(mask, budgets), default=found)
        return min(using, key=lambda mask: float(worth[mask].sum()))

    def _binds(self, budget: Budget, active: Mask) -> bool:
        """Whether some network, the other budgets aside, exceeds a budget of a resource."""
        if budget.resource == OPERATORS or budget not in self.sums:
            return False
        counted = [b for b in self.budgets if b.resource == OPERATORS]
        limits = [(self._share(b), -np.inf, 1.0) for b in counted]
        allowed = active & self.fits
        largest = _solve(self.space, -self._share(budget), allowed, limits, self.single)
        return largest is not None and self._use(largest, [budget]) > 1

    def _share(self, budget: Budget) -> Weights:
        """What each gate costs, and each set of gates, as a share of a budget."""
        return self.costs[budget.resource].row / budget.limit

    def _use(self, mask: Mask, budgets: Sequence[Budget]) -> float:
        """The greatest share of a budget that a network uses."""
        return max(self.costs[b.resource].total(mask) / b.limit for b in budgets)

    def _choose(self, weights: Weights, active: Mask, floors: dict[str, float]) -> Mask | None:
        """The network of the least weight that uses these shares of budgets at least."""
        for margin in (0.0, _TOLERANCE):
            limits = []
            for budget in self.sums:
                fixed = self.costs[budget.resource].fixed / budget.limit
                least = floors.get(budget.resource, -np.inf) - fixed
                limits.append((self._share(budget), least, 1 - fixed - margin))
            chosen = _solve(self.space, weights, active & self.fits, limits, self.single)
            if chosen is None or self.within(chosen):
                return chosen
        return None

    def may_prune(self, active: Mask, index: int) -> bool:
        """Whether a network within all budgets is left without this gate.

        Choices inside the candidate of the gate go with it. Until then, such a choice keeps at
        least one operator.
        """
        if self._nesting is not None and self._nesting.is_needed(index, active):
            return False
        if self._witness is None or (self._witness & ~active).any():
            self._witness = self.find(active)
        if self._witness is None:
            return False
        if not self._witness[index]:
            return True
        left = active.copy()
        left[self.with_nested(index)] = False
        witness = self.find(left)
        if witness is None:
            return False
        self._witness = witness
        return True
