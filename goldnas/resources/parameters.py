"""Parameters, counted on the real modules."""

from functools import cache

from torch import nn

from goldnas.operators import build_operator
from goldnas.site import Site


def count_parameters(module: nn.Module) -> int:
    """Count the trainable numbers of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


@cache
def _part_parameters(operator: str, site: Site) -> int:
    return count_parameters(build_operator(operator, site))


class Parameters:
    """Trainable parameters."""

    name = "params"
    overhead = 0.0

    def cost(self, operator: str, site: Site) -> float:
        """Parameters of one operator at one site."""
        return _part_parameters(operator, site)
