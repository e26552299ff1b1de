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

    def total(self, active: npt.NDArray[np.bool_]) -> float:
        """Cost of the network that keeps the active gates."""
        return fsum([self.fixed, *self.gates[active]])


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
    )


def sum_costs(resource: Resource, parts: Iterable[Part]) -> float:
    """Cost of a network from its parts."""
    return resource.overhead + fsum(resource.cost(operator, site) for operator, site in parts)
