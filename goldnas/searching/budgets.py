"""From budgets as they are typed to costs and limits, and whether they can be met."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from goldnas.errors import ConfigError
from goldnas.lut import LatencyTable
from goldnas.resource_names import OPERATORS
from goldnas.resources import (
    Budget,
    Costs,
    Flops,
    Latency,
    OperatorCount,
    Parameters,
    Resource,
    compute_costs,
    parse_budget,
)
from goldnas.resources.costs import list_sets
from goldnas.searching.feasibility import Feasibility, Mask, cheapest
from goldnas.spaces import SearchSpace
from goldnas.units import format_amount


@dataclass(frozen=True)
class Limit:
    """One resource: what the smallest, the current and the full network need of it."""

    resource: str
    smallest: float
    current: float
    full: float
    budget: Budget | None


def build_feasibility(
    space: SearchSpace,
    budgets: Sequence[str],
    tables: Sequence[LatencyTable] = (),
    *,
    single: bool = False,
) -> Feasibility:
    """The costs of a space in every resource, and the budgets.

    Args:
        space: Of the search.
        budgets: As they are typed: ``600MFLOPs``, ``3Mparams``, ``5ms@pi5``.
        tables: Latency tables, whose names the budgets may name.
        single: Whether each node, or choice, keeps exactly one operator. A space that says how
            many edges a node keeps has one on each of them in any case.

    Raises:
        ConfigError: If a budget is malformed, given twice, or names no table.
        TableError: If a table lacks a row.
    """
    parsed = [parse_budget(text, [table.name for table in tables]) for text in budgets]
    for budget in parsed:
        same = [other.text for other in parsed if other.resource == budget.resource]
        if len(same) > 1:
            raise ConfigError(
                f"budgets {' and '.join(same)} are for the same resource; keep one of them"
            )
    resources: list[Resource] = [
        Flops(space.build_part),
        Parameters(space.build_part),
        *(Latency(table, space) for table in tables),
    ]
    costs = [compute_costs(space, resource) for resource in resources]
    edges = space.cell_layout and space.cell_layout.edges_per_node
    if single or edges:
        places: dict[Hashable, list[int]] = {}
        ordered = space.wiring.nesting.ordered if space.wiring is not None else ()
        for index, gate in enumerate(space.gates):
            if index not in ordered:  # which are channels, and no operators
                places.setdefault(gate.node_id, []).append(index)
        parsed.append(Budget(OPERATORS, (edges or 1) * len(places), "single"))
        costs.append(_count_operators(space, list(map(tuple, places.values()))))
    return Feasibility(space, costs, parsed)


def _count_operators(space: SearchSpace, places: Sequence[tuple[int, ...]]) -> Costs:
    """One for each gate; where some of the places may be empty, they are told apart."""
    ones = np.zeros(len(space.gates))
    ones[[gate for place in places for gate in place]] = 1
    sets = list_sets(space)
    nothing = sets, np.zeros(len(sets))
    if space.wiring is None or set(places) <= set(space.groups):
        return Costs(OPERATORS, ones, 0.0, None, *nothing)
    return OperatorCount(OPERATORS, ones, 0.0, None, *nothing, places=tuple(places))


def list_limits(feasibility: Feasibility, active: Mask | None = None) -> list[Limit]:
    """The table that a user sees before training starts.

    Args:
        feasibility: Of the search.
        active: The gates that are left, where a search goes on.
    """
    space = feasibility.space
    everything = np.ones(len(space.gates), dtype=bool)

    def limit(cost: Costs) -> Limit:
        smallest = cheapest(space, cost.row, everything)
        assert smallest is not None  # without a ceiling there always is one
        budget = next((b for b in feasibility.budgets if b.resource == cost.name), None)
        current = cost.total(everything if active is None else active)
        return Limit(cost.name, cost.total(smallest), current, cost.total(everything), budget)

    return [limit(cost) for cost in feasibility.costs.values()]


def check_feasible(feasibility: Feasibility) -> None:
    """Refuse budgets that no network of the space meets.

    Raises:
        ConfigError: Saying by how much they are missed.
    """
    sizes = [
        f"`{name}`" for name in ("channels", "cells") if name in feasibility.space.settings
    ]
    advice = "Raise the budget"
    if sizes:
        advice += f", or search with fewer {' or '.join(sizes)}"
    for limit in list_limits(feasibility):
        budget = limit.budget
        if budget is not None and limit.smallest > budget.limit:
            raise ConfigError(
                f"budget {budget.text} cannot be met: the smallest network of this space needs "
                f"{format_amount(limit.resource, limit.smallest)}, "
                f"{format_amount(limit.resource, limit.smallest - budget.limit)} more. "
                f"{advice}"
            )
    everything = np.ones(len(feasibility.space.gates), dtype=bool)
    if feasibility.find(everything) is None:
        raise ConfigError(
            "no network of this space meets "
            f"{', '.join(budget.text for budget in feasibility.budgets)} together, though some "
            "network meets each of them alone. Raise one of them"
        )
