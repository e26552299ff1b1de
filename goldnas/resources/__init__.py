"""Resources (FLOPs, parameters, latency), their costs in a space, and budgets."""

from goldnas.resources.budget import Budget, parse_budget
from goldnas.resources.costs import (
    Costs,
    OperatorCount,
    PeakCosts,
    Resource,
    compute_costs,
    compute_peaks,
)
from goldnas.resources.flops import Flops, count_flops
from goldnas.resources.latency import HOT, Latency, list_latencies
from goldnas.resources.parameters import Parameters, count_parameters

__all__ = [
    "HOT",
    "Budget",
    "Costs",
    "Flops",
    "Latency",
    "OperatorCount",
    "Parameters",
    "PeakCosts",
    "Resource",
    "compute_costs",
    "compute_peaks",
    "count_flops",
    "count_parameters",
    "list_latencies",
    "parse_budget",
]
