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
    over = [check.resource for check in checks if check.verdict == "FAIL"]
    if not over or not all(map(is_latency, over)):
        return []
    # What a prediction may be at most.
    most = {
        check.resource: check.budget.limit / (1 + (check.difference or 0))
        for check in checks
        if check.budget is not None
    }
    within = [
        network
        for network in front.networks
        if network.meets_budgets
        and network.resources.keys() >= set(over)
        and all(amount <= most.get(r, math.inf) for r, amount in network.resources.items())
    ]
    if not within:
        return []
    best = max(within, key=lambda network: network.merit)
    predicted = " and ".join(f"{r} {format_amount(r, best.resources[r])}" for r in over)
    return [
        f"network {best.fingerprint} of the same search should keep the budget, even if its "
        f"prediction ({predicted}) is off by as much: choose it with "
        f"`pick={best.fingerprint!r}`"
    ]
