"""Parameters, counted on the real modules."""

from functools import cache

from torch import nn

from goldnas.operators import PartBuilder, build_operator
from goldnas.resource_names import PARAMETERS
from goldnas.site import AnySite


def count_parameters(module: nn.Module) -> int:
    """Count the parameters of a module, including frozen ones, but no buffers.

    A parameter that several of its modules share counts once.
    """
    return sum(parameter.numel() for parameter in module.parameters())


@cache
def _part_parameters(build: PartBuilder, operator: str, site: AnySite) -> int:
    return count_parameters(build(operator, site))


class Parameters:
    """Parameters, also frozen ones.

    Args:
        build: Builds the parts that are counted.
    """

    name = PARAMETERS
    overhead = 0.0

    def __init__(self, build: PartBuilder = build_operator) -> None:
        self._build = build

    def cost(self, operator: str, site: AnySite) -> float:
        """Parameters of one operator at one site."""
        return _part_parameters(self._build, operator, site)
