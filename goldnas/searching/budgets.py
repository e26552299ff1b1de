"""From budgets as they are typed to costs and limits, and whether they can be met."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from goldnas.errors import ConfigError
from goldnas.lut import LatencyTable
from goldnas.resource_names import OPERATORS, read_precision
from goldnas.resources import (
    Budget,
    Costs,
    Flops,
    OperatorCount,
    Parameters,
    PeakCosts,
    Resource,
    compute_costs,
    compute_peaks,
    list_predicted,
    parse_budgets,
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
    described: Mapping[str, Any] | None = None,
) -> Feasibility:
    """The costs of a space in every resource, and the budgets.

    Args:
        space: Of the search.
        budgets: As they are typed: ``600MFLOPs``, ``3Mparams``, ``5ms@pi5``, ``6mJ``.
        tables: Latency tables, whose names the budgets may name.
        single: Whether each node, or choice, keeps exactly one operator. A space that says how
            many edges a node keeps has one on each of them in any case.
        described: What exported files say of inputs and classes, as the conditions of a run
            have it.

    Raises:
        ConfigError: If a budget is malformed, given twice, or names no table.
        TableError: If a table lacks a row.
    """
    parsed = parse_budgets(budgets, tables)
    for budget in parsed:
        # Without a quantile, a budget of a loop is one of p50.
        resource = budget.resource.removesuffix(":p50")
        same = [one.text for one in parsed if one.resource.removesuffix(":p50") == resource]
        if len(same) > 1:
            raise ConfigError(
                f"budgets {' and '.join(same)} are for the same resource; keep one of them"
            )
    resources: list[Resource] = [
        Flops(space.build_part),
        Parameters(space.build_part),
        *list_predicted(tables, space, parsed),
    ]
    costs = [compute_costs(space, resource) for resource in resources]
    of_files = [b.resource for b in parsed if read_precision(b.resource) is not None]
    if of_files:
        # Here, since it imports onnx, which takes a second that other searches need not wait.
        from goldnas.exporting.file_costs import FileBytes, resource_of_file

        for name in of_files:
            counted = resource_of_file(name, space, described or {})
            compute = compute_costs if isinstance(counted, FileBytes) else compute_peaks
            costs.append(compute(space, counted))
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
        smallest = _smallest(space, cost)
        budget = next((b for b in feasibility.budgets if b.resource == cost.name), None)
        current = cost.total(everything if active is None else active)
        return Limit(cost.name, cost.total(smallest), current, cost.total(everything), budget)

    return [limit(cost) for cost in feasibility.costs.values()]


def describe_peaks(feasibility: Feasibility) -> list[str]:
    """A note for each budget of memory that not even a cheap network keeps.

    Its parts may fit alone and yet not together, and no sum of them shows it. The cheapest
    network is exported, which takes seconds.
    """
    space = feasibility.space
    budgets = [
        b for b in feasibility.budgets if isinstance(feasibility.costs[b.resource], PeakCosts)
    ]
    cheap = feasibility.find(np.ones(len(space.gates), dtype=bool)) if budgets else None
    if cheap is None:
        return []
    from goldnas.exporting.file_costs import count_file

    kept = (gate for gate, keep in zip(space.gates, cheap, strict=True) if keep)
    with torch.random.fork_rng(devices=[]):
        network = space.build(space.architecture(kept))
    counted = count_file(network, space.input_shape, [b.resource for b in budgets], {})
    return [
        f"a network as cheap as can be needs {format_amount(b.resource, counted[b.resource])} "
        f"at its peak, and {b.text} is less: the search may find none. Raise the budget, or "
        "search among smaller networks"
        for b in budgets
        if counted[b.resource] > b.limit
    ]


def _smallest(space: SearchSpace, cost: Costs) -> Mask:
    """The network that needs the least of a resource."""
    everything = np.ones(len(space.gates), dtype=bool)
    smallest = cheapest(space, cost.row, everything)
    assert smallest is not None  # without a ceiling there always is one
    # Without its largest gate, and those as large, as long as gates decide.
    while isinstance(cost, PeakCosts) and cost.total(smallest) > cost.fixed:
        below = cost.gates < cost.total(smallest)
        found = cheapest(space, cost.gates, below)
        if found is None:
            break
        smallest = found
    return smallest


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
