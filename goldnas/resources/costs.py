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
        """``FLOPs``, ``params``, or ``latency@`` and the name of a table."""

    @property
    def overhead(self) -> float:
        """Cost of every network in addition to its parts."""

    def cost(self, operator: str, site: AnySite) -> float:
        """Cost of one part, in FLOPs, parameters or microseconds."""


@dataclass(frozen=True)
class Costs:
    """One resource over one space, in FLOPs, parameters or microseconds."""

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


def sum_costs(resource: Resource, parts: Iterable[Part]) -> float:
    """Cost of a network from its parts."""
    return resource.overhead + fsum(resource.cost(operator, site) for operator, site in parts)
