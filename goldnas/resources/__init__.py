"""Resources (FLOPs, parameters, latency, energy), their costs in a space, and budgets."""

from goldnas.resources.budget import Budget, list_alternatives, parse_budget, parse_budgets
from goldnas.resources.costs import (
    Costs,
    OperatorCount,
    PeakCosts,
    Resource,
    compute_costs,
    compute_peaks,
)
from goldnas.resources.energy import Energy
from goldnas.resources.flops import Flops, count_flops
from goldnas.resources.latency import HOT, Latency
from goldnas.resources.of_tables import list_predicted, predict_by
from goldnas.resources.parameters import Parameters, count_parameters
from goldnas.resources.predicted import Predicted

__all__ = [
    "HOT",
    "Budget",
    "Costs",
    "Energy",
    "Flops",
    "Latency",
    "OperatorCount",
    "Parameters",
    "PeakCosts",
    "Predicted",
    "Resource",
    "compute_costs",
    "compute_peaks",
    "count_flops",
    "count_parameters",
    "list_alternatives",
    "list_predicted",
    "parse_budget",
    "parse_budgets",
    "predict_by",
]
