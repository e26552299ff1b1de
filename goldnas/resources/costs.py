"""What every gate of a space costs in a resource."""

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
        """What every network costs besides its parts."""

    def cost(self, operator: str, site: AnySite) -> float:
        """Cost of one part, in FLOPs, parameters or microseconds."""


@dataclass(frozen=True)
class Costs:
    """One resource over one space, in FLOPs, parameters or microseconds."""

    name: str
    gates: npt.NDArray[np.float64]
    """``(G,)``: what each gate's operator costs."""
    fixed: float
    """What every network of the space costs besides."""

    resource: Resource | None = None
    """What costs, for sums over parts."""

    def total(self, active: npt.NDArray[np.bool_]) -> float:
        """Cost of the network that keeps the active gates, with those that nobody reads."""
        return fsum([self.fixed, *self.gates[active]])


@dataclass(frozen=True)
class OperatorCount(Costs):
    """How many operators there are, where a place may be empty: that counts as one, too.

    So no more than there are places means one at most at each.
    """

    places: tuple[tuple[int, ...], ...] = ()
    """The gates of each."""

    def total(self, active: npt.NDArray[np.bool_]) -> float:
        """How many the network that keeps the active gates has; one for an empty place."""
        return self.fixed + sum(max(1, int(active[list(place)].sum())) for place in self.places)


def compute_costs(space: SearchSpace, resource: Resource) -> Costs:
    """What the gates and the fixed part of a space cost.

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
