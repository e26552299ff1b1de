"""The cost of every gate of a space in a resource."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import fsum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from goldnas.operators import Part
from goldnas.site import AnySite
from goldnas.spaces import Combination, SearchSpace


class Resource(Protocol):
    """Something a network uses up, additive over its parts."""

    @property
    def name(self) -> str:
        """As ``goldnas/resource_names.py`` names it."""

    @property
    def overhead(self) -> float:
        """Cost of every network in addition to its parts."""

    def cost(self, operator: str, site: AnySite) -> float:
        """Cost of one part, in FLOPs, parameters, microseconds, microjoules or bytes."""


@dataclass(frozen=True)
class Costs:
    """One resource over one space, in FLOPs, parameters, microseconds, microjoules or bytes."""

    name: str
    gates: npt.NDArray[np.float64]
    """``(G,)``: cost of each gate's operator."""
    fixed: float
    """Cost of every network of the space in addition to its gates."""

    resource: Resource | None = None
    """What costs, for sums over parts."""

    sets: npt.NDArray[np.intp] = field(default_factory=lambda: np.empty((0, 1), np.intp))
    """``(S, M)``: gates that cost something together; a smaller set has some of them twice."""
    together: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """``(S,)``: what each set costs besides if all of it is kept; may be negative."""

    @property
    def row(self) -> npt.NDArray[np.float64]:
        """``(G + S,)``: of the gates, then of the sets."""
        return np.concatenate([self.gates, self.together])

    def total(self, active: npt.NDArray[np.bool_]) -> float:
        """Cost of the network with the active gates, including operators that nobody reads."""
        kept = active[self.sets].all(axis=1)
        return fsum([self.fixed, *self.gates[active], *self.together[kept]])

    def marginal(self, active: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """``(G,)``: what the network with the active gates costs more with each gate."""
        if not len(self.sets):
            return self.gates
        costs = self.gates.copy()
        for members, amount in zip(self.sets, self.together, strict=True):
            for gate in set(members.tolist()):
                if active[members[members != gate]].all():
                    costs[gate] += amount
        return costs

    def of_parts(self, parts: Iterable[Part]) -> float:
        """Cost of a network from its parts."""
        assert self.resource is not None
        return sum_costs(self.resource, parts)

    def charge(self, active: npt.NDArray[np.bool_], limit: float) -> npt.NDArray[np.float64]:
        """``(G,)``: what each gate adds to an amount over a limit; 0 if it is no help to go."""
        return self.marginal(active)


@dataclass(frozen=True)
class PeakCosts(Costs):
    """A resource of which a network needs what its largest part needs, at least.

    Other things may be there while that part computes, so it is a lower bound.
    """

    def total(self, active: npt.NDArray[np.bool_]) -> float:
        """What the largest part needs of the network with the active gates."""
        return float(self.gates[active].max(initial=self.fixed))

    def of_parts(self, parts: Iterable[Part]) -> float:
        """What the largest of some parts needs."""
        assert self.resource is not None
        return max((self.resource.cost(*part) for part in parts), default=0.0)

    def charge(self, active: npt.NDArray[np.bool_], limit: float) -> npt.NDArray[np.float64]:
        """``(G,)``: 1 of each gate that is over the limit alone."""
        return (self.gates > limit).astype(float)


@dataclass(frozen=True)
class OperatorCount(Costs):
    """The number of operators; an empty place counts as one operator, too.

    So a budget of as many operators as places means at most one operator at each place.
    """

    places: tuple[tuple[int, ...], ...] = ()
    """The gates of each."""

    def total(self, active: npt.NDArray[np.bool_]) -> float:
        """Number of operators of the network with the active gates; 1 for an empty place."""
        return self.fixed + sum(max(1, int(active[list(place)].sum())) for place in self.places)


def compute_costs(space: SearchSpace, resource: Resource) -> Costs:
    """The costs of the gates and of the fixed part of a space.

    Raises:
        TableError: If a latency table lacks a part of the space.
    """
    gates = np.array(
        [fsum(resource.cost(*part) for part in gate.parts) for gate in space.gates],
        dtype=float,
    )
    amounts = {
        combination.gates: _amount(resource, combination) for combination in space.combinations
    }
    sets = [gates for gates in amounts if len(gates) > 1]
    for (gate, *others), amount in amounts.items():
        gates[gate] += 0.0 if others else amount
    return Costs(
        name=resource.name,
        gates=gates,
        fixed=sum_costs(resource, space.fixed_parts),
        resource=resource,
        sets=list_sets(space),
        together=np.array([amounts[gates] for gates in sets], dtype=float),
    )


def compute_peaks(space: SearchSpace, resource: Resource) -> PeakCosts:
    """What the largest part of each gate, and of the fixed part of a space, needs."""

    def largest(parts: Iterable[Part]) -> float:
        return max((resource.cost(*part) for part in parts), default=0.0)

    return PeakCosts(
        name=resource.name,
        gates=np.array([largest(gate.parts) for gate in space.gates], dtype=float),
        fixed=largest(space.fixed_parts),
        resource=resource,
    )


def list_sets(space: SearchSpace) -> npt.NDArray[np.intp]:
    """``(S, M)``: the sets of gates of a space that cost something together."""
    sets = [
        combination.gates for combination in space.combinations if len(combination.gates) > 1
    ]
    most = max(map(len, sets), default=1)
    filled = [gates + gates[-1:] * (most - len(gates)) for gates in sets]
    return np.array(filled, dtype=np.intp).reshape(-1, most)


def _amount(resource: Resource, combination: Combination) -> float:
    """What gates cost together, besides what fewer of them do."""
    added = [resource.cost(*part) for part in combination.more]
    return fsum(added + [-resource.cost(*part) for part in combination.less])


def sum_costs(resource: Resource, parts: Iterable[Part]) -> float:
    """Cost of a network from its parts."""
    return resource.overhead + fsum(resource.cost(operator, site) for operator, site in parts)
