"""Random networks that cost what the budgets allow."""

from collections.abc import Hashable, Iterator
from typing import Any

import msgspec
import numpy as np

from goldnas.errors import ConfigError
from goldnas.ranges import Count
from goldnas.resource_names import OPERATORS
from goldnas.searching.feasibility import Feasibility, Mask
from goldnas.spaces import SearchSpace
from goldnas.spaces.nesting import Nesting


class _SamplerState(msgspec.Struct, forbid_unknown_fields=True):
    gates: list[Count]
    draws: Count


class BudgetedSampler:
    """A random walk over the networks that meet all budgets and use most of the binding one.

    A step switches one operator of the space, or two at once, on or off. Where nodes keep a
    number of edges, it exchanges one operator, or two at once, for others of their nodes. Where
    widths are a choice, which change the cost of many operators, it does up to three such
    things at once. It is not taken if it leaves a node or an input without an operator or an
    output that depends on no input, goes over a budget, or uses less than :attr:`floor` of
    every budget. A step is as likely as its reversal, so in the long run each of these networks
    is as likely as any other (Metropolis).

    Args:
        feasibility: The costs and the budgets.
        seed: The same seed walks the same way.

    Raises:
        ConfigError: If no network meets the budgets.
    """

    FLOOR = 0.97
    """Of the budget that binds: random networks have to cost what others cost."""

    CLIMB, DRAW = 30, 4
    """Steps that are tried for each gate of the space: to reach the budgets, to draw."""

    def __init__(self, feasibility: Feasibility, seed: int) -> None:
        self._feasibility = feasibility
        self._seed = seed
        groups, single = feasibility.space.groups, feasibility.single
        self._sets = [(set(g), 1, len(g)) for g in groups] + [(set(p), 0, 1) for p in single]
        # What a peak forbids, too, is no matter of a sum.
        self._sets.append((set(np.flatnonzero(~feasibility.fits).tolist()), 0, 0))
        """Gates, and how many of them a network keeps, at least and at most."""
        self._sets_of: list[list[int]] = [[] for _ in feasibility.space.gates]
        """Of each gate, those that it is in."""
        for number, (gates, _, _) in enumerate(self._sets):
            for gate in gates:
                self._sets_of[gate].append(number)
        self._nodes = _list_nodes(feasibility.space)
        self._beside = _list_beside(feasibility.space)
        # One operator at most at each place is no matter of a sum.
        budgets = [b for b in feasibility.sums if not (single and b.resource == OPERATORS)]
        self._costs = [feasibility.costs[b.resource] for b in budgets]
        self._limits = [budget.limit for budget in budgets]
        start = self._start()
        if start is None:
            texts = ", ".join(budget.text for budget in feasibility.budgets)
            raise ConfigError(f"no network of this space meets {texts}; raise a budget")
        self.mask: Mask = start
        """``(G,)``, the network that was drawn last."""
        self.draws = 0
        self.floor = 0.0
        if self._nodes:
            self._set_floor()
            self._wander(self.CLIMB, np.random.default_rng(self._seed))
        else:
            self._climb()

    def draw(self) -> Mask:
        """Draw the next network, ``(G,)``."""
        self.draws += 1
        self._wander(self.DRAW, np.random.default_rng((self._seed, self.draws)))
        return self.mask.copy()

    def state_dict(self) -> dict[str, Any]:
        """What decides the draws to come, in plain numbers."""
        return {"gates": np.flatnonzero(self.mask).tolist(), "draws": self.draws}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        mine = msgspec.convert(state, _SamplerState)
        self.mask = np.zeros(len(self._sets_of), dtype=bool)
        self.mask[mine.gates] = True
        self.draws = mine.draws
        if not self._feasibility.within(self.mask):
            raise ValueError("the current network does not meet the budgets")

    def use(self, mask: Mask) -> float:
        """The share of the binding budget that a network uses."""
        return self._most(self._shares(mask))

    def _most(self, shares: list[float]) -> float:
        """The largest share; of the number of operators, which is always all, if alone."""
        binding = [
            s for s, cost in zip(shares, self._costs, strict=True) if cost.name != OPERATORS
        ]
        return max(binding or shares, default=1.0)

    def _shares(self, mask: Mask) -> list[float]:
        """The share of each budget that a network uses."""
        pairs = zip(self._costs, self._limits, strict=True)
        return [cost.total(mask) / limit for cost, limit in pairs]

    def _start(self) -> Mask | None:
        """The cheapest network; where nodes keep a number of edges, one that uses the floor."""
        everything = np.ones(len(self._sets_of), dtype=bool)
        if not self._nodes:
            return self._feasibility.find(everything)
        pairs = zip(self._costs, self._limits, strict=True)
        shares = np.sum([cost.gates / limit for cost, limit in pairs], axis=0)
        alike = self._feasibility.choose(0 * shares, everything, floor=self.FLOOR)
        if alike is None or self.use(alike) >= self.FLOOR:
            return alike
        return self._feasibility.choose(shares, everything, floor=0.0)  # the dearest there is

    def _set_floor(self) -> None:
        """Where no network uses as much as :attr:`FLOOR`, take that share of the most."""
        most = self.use(self.mask)
        self.floor = self.FLOOR * (1 if most >= self.FLOOR else most)

    def _climb(self) -> None:
        """Go from the cheapest network to the budgets, and set the floor."""
        random = np.random.default_rng(self._seed)
        best = self.mask
        for _ in range(self.CLIMB):
            self._wander(1, random)
            best = max(best, self.mask, key=self.use)
            self.floor = 0.9 * self.use(best)
        self.mask = best
        self._set_floor()

    def _wander(self, rounds: int, random: np.random.Generator) -> None:
        """Try as many steps as the space has gates, so many times over."""
        sets_of = self._sets_of
        steps = self._propose(rounds * len(sets_of), random)
        pairs = zip(self._costs, self._limits, strict=True)
        shares = [(cost.gates / limit).tolist() for cost, limit in pairs]
        together = any(len(cost.sets) for cost in self._costs)
        used = self._shares(self.mask)
        on = self.mask.tolist()
        members = [sum(on[gate] for gate in gates) for gates, _, _ in self._sets]
        wiring = self._feasibility.space.wiring
        nesting = wiring.nesting if wiring is not None and wiring.nesting.nests else None
        for step in steps:
            switched = list(step)
            if nesting is not None:
                switched = self._with_nested(nesting, switched, on, random)
            after = [
                amount + sum(-share[gate] if on[gate] else share[gate] for gate in switched)
                for amount, share in zip(used, shares, strict=True)
            ]
            if together:  # what one gate changes depends on the others
                changed = np.array(on)
                changed[switched] ^= True
                after = self._shares(changed)
            if not self.floor <= self._most(after) or max(after, default=0.0) > 1:
                continue
            touched = [(s, -1 if on[gate] else 1) for gate in switched for s in sets_of[gate]]
            for number, change in touched:
                members[number] += change
            for gate in switched:
                on[gate] = not on[gate]
            if self._may_keep(on, members, {number for number, _ in touched}):
                used = after
            else:
                for number, change in touched:
                    members[number] -= change
                for gate in switched:
                    on[gate] = not on[gate]
        mask = np.array(on)
        if self._feasibility.within(mask):  # sums of many steps are not exact
            self.mask = mask

    @staticmethod
    def _with_nested(
        nesting: Nesting, switched: list[int], on: list[bool], random: np.random.Generator
    ) -> list[int]:
        """What is to be switched with some gates: the choices within their candidates.

        A candidate comes with its choices made at random, in one of so many ways, so it goes
        that much more rarely. What would not be a network is not switched: the answer is empty.
        """
        every = list(switched)
        for gate in switched:
            parent = nesting.parents[gate]
            inner = nesting.within(gate)
            if (parent is not None and not on[parent]) or not set(inner).isdisjoint(switched):
                return []
            if not inner:
                continue
            if not on[gate]:
                every += nesting.draw(gate, random)
            elif random.random() * nesting.size(gate) < 1:
                every += [g for g in inner if on[g]]
            else:
                return []
        kept = {g for g in range(len(on)) if on[g]}.symmetric_difference(every)
        return every if nesting.is_made(kept) else []

    def _may_keep(self, on: list[bool], members: list[int], touched: set[int]) -> bool:
        """Whether some sets have as many gates as they may, and the output an input."""
        if not all(self._sets[s][1] <= members[s] <= self._sets[s][2] for s in touched):
            return False
        wiring = self._feasibility.space.wiring
        if wiring is None or wiring.always_linked:
            return True
        return wiring.is_linked([gate for gate, kept in enumerate(on) if kept])

    def _propose(self, count: int, random: np.random.Generator) -> Iterator[tuple[int, ...]]:
        """The gates that each of some steps switches."""
        gates = len(self._sets_of)
        if self._beside:
            yield from self._propose_beside_widths(count, random)
            return
        if not self._nodes:
            first = random.integers(gates, size=count).tolist()
            second = random.integers(-gates, gates, size=count).tolist()
            for one, other in zip(first, second, strict=True):
                yield (one,) if other < 0 or other == one else (one, other)
            return
        nodes = random.integers(len(self._nodes), size=(count, 2)).tolist()
        within = random.random(size=(count, 2, 2)).tolist()
        both = random.integers(2, size=count).tolist()
        for step in range(count):
            switched = [
                self._nodes[node][int(place * len(self._nodes[node]))]
                for node, places in zip(nodes[step], within[step], strict=True)
                for place in places
            ]
            switched = switched if both[step] else switched[:2]
            if len(set(switched)) == len(switched):
                yield tuple(switched)

    def _propose_beside_widths(
        self, count: int, random: np.random.Generator
    ) -> Iterator[tuple[int, ...]]:
        """One to three times a gate, or two of one place."""
        for moves in random.integers(1, 4, size=count).tolist():
            switched: list[int] = []
            for gate in random.integers(len(self._beside), size=moves).tolist():
                switched.append(gate)
                if random.random() < 0.5:
                    switched.append(int(random.choice(self._beside[gate])))
            if len(set(switched)) == len(switched):
                yield tuple(switched)


def _list_beside(space: SearchSpace) -> list[list[int]]:
    """For each gate, those of its place, where widths are a choice; else nothing."""
    if not space.combinations:
        return []
    places: dict[str, list[int]] = {}
    for index, gate in enumerate(space.gates):
        places.setdefault(gate.place, []).append(index)
    return [places[gate.place] for gate in space.gates]


def _list_nodes(space: SearchSpace) -> list[list[int]]:
    """The gates of each node, where nodes keep a number of edges; else nothing."""
    nodes: dict[Hashable, list[int]] = {}
    if space.cell_layout is not None and space.cell_layout.edges_per_node is not None:
        for index, gate in enumerate(space.gates):
            if gate.parts:
                nodes.setdefault(gate.node_id, []).append(index)
    return list(nodes.values())
