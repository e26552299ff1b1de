"""The cost of every gate of a space in a resource."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from goldnas.operators import Part
from goldnas.site import AnySite
from goldnas.spaces import SearchSpace


class Resource(Protocol):
    """Something a network uses up, additive over its parts."""

    @property
    def name(self) -> str:
        """As ``goldnas/resource_names.py`` names it."""

    @property
    def overhead(self) -> float:
        """Cost of every network in addition to its parts."""

    def cost(self, operator: str, site: AnySite) -> float:
        """Cost of one part, in FLOPs, parameters, microseconds or bytes."""


@dataclass(frozen=True)
class Costs:
    """One resource over one space, in FLOPs, parameters, microseconds or bytes."""

    name: str
    gates: npt.NDArray[np.float64]
    """``(G,)``: cost of each gate's operator."""
    fixed: float
    """Cost of every network of the space in addition to its gates."""

    resource: Resource | None = None
    """What costs, for sums over parts."""

    def total(self, active: npt.NDArray[np.bool_]) -> float:
        """Cost of the network with the active gates, including operators that nobody reads."""
        return fsum([self.fixed, *self.gates[active]])

    def of_parts(self, parts: Iterable[Part]) -> float:
        """Cost of a network from its parts."""
        assert self.resource is not None
        return sum_costs(self.resource, parts)

    def charge(self, limit: float) -> npt.NDArray[np.float64]:
        """``(G,)``: what each gate adds to an amount over a limit; 0 if it is no help to go."""
        return self.gates


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

    def charge(self, limit: float) -> npt.NDArray[np.float64]:
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
    return Costs(
        name=resource.name,
        gates=np.array(
            [fsum(resource.cost(*part) for part in gate.parts) for gate in space.gates],
            dtype=float,
        ),
        fixed=sum_costs(resource, space.fixed_parts),
        resource=resource,
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


def sum_costs(resource: Resource, parts: Iterable[Part]) -> float:
    """Cost of a network from its parts."""
    return resource.overhead + fsum(resource.cost(operator, site) for operator, site in parts)
