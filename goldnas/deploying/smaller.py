"""Another network of a search, where one takes longer than predicted."""

import math
from collections.abc import Sequence

from goldnas.exporting.budget_check import BudgetCheck
from goldnas.resource_names import is_latency
from goldnas.searching.front import Front
from goldnas.units import format_amount


def suggest_smaller(front: Front, checks: Sequence[BudgetCheck]) -> list[str]:
    """Name the best network that should keep the latencies that another one exceeds.

    A search spends its budget to the last percent, and a table is off by a few. The predictions
    of the networks of one search are taken to be off by the same factor.

    Args:
        front: Of the search.
        checks: Of the network that was exported.

    Returns:
        One line; none if another resource is over its budget, or the front has no such network.
    """
    over = [check for check in checks if check.verdict == "FAIL"]
    if not over or not all(is_latency(check.resource) for check in over):
        return []
    most_us = {
        check.resource: check.budget.limit / (1 + check.difference)
        for check in over
        if check.budget is not None and check.difference is not None
    }
    within = [
        network
        for network in front.networks
        if all(network.resources.get(r, math.inf) <= most for r, most in most_us.items())
    ]
    if not within:
        return []
    best = max(within, key=lambda network: network.merit)
    predicted = " and ".join(f"{r} {format_amount(r, best.resources[r])}" for r in most_us)
    return [
        f"network {best.fingerprint} of the same search should keep the budget, even if its "
        f"prediction ({predicted}) is off by as much: choose it with "
        f"`pick={best.fingerprint!r}`"
    ]
