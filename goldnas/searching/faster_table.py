"""Budgets by the faster of several tables: ``5ms@ort,openvino``.

A search chooses one of the tables at its start. The smaller of two sums is not a sum over
operators, so the penalty and the integer program could not use it. One runtime may be faster
for small networks and another one for large networks. So the search compares the tables at the
size that the budget allows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from goldnas.errors import ConfigError
from goldnas.lut import LatencyTable
from goldnas.resource_names import FLOPS
from goldnas.resources import list_alternatives
from goldnas.searching.budgets import build_feasibility, list_limits
from goldnas.searching.widths import build_widths
from goldnas.spaces import SearchSpace
from goldnas.spaces.shrunk import ShrunkSpace
from goldnas.units import format_amount


@dataclass(frozen=True)
class _Room:
    """What some budgets have room for."""

    flops: float
    """Of the largest network that keeps them; 0 if none does, or a network is shrunk."""
    used: float
    """The largest share of a budget that this network uses; without one, the smallest network
    of the space; or the network that is shrunk."""
    described: str

    @property
    def rank(self) -> tuple[float, float]:
        """More is better."""
        return self.flops, -self.used


def choose_tables(
    space: SearchSpace,
    budgets: Sequence[str],
    tables: Sequence[LatencyTable],
    **settings: Any,
) -> tuple[tuple[str, ...], list[str]]:
    """Choose one table for each budget that names several.

    It is the table by which the largest network, in FLOPs, keeps all budgets. If a network is
    shrunk, it is the table by which that network is the fastest. Budgets that name the same
    tables get the same one.

    Args:
        space: Of the search.
        budgets: As they are typed.
        tables: Latency tables, whose names the budgets may name.
        settings: Others of :func:`build_feasibility`.

    Returns:
        The budgets, each with one table at most, and a sentence about each choice.

    Raises:
        ConfigError: If a budget is malformed or names no table, or several tables that are of
            energies or of different processors.
        TableError: If a table lacks a row.
    """
    alternatives = [list_alternatives(text, tables) for text in budgets]
    for text, named in zip(budgets, alternatives, strict=True):
        _check_one_processor(text, [table for table in tables if table.name in named])
    lists = list(dict.fromkeys(frozenset(named) for named in alternatives if named))
    if not lists:
        return tuple(budgets), []

    rooms: dict[tuple[str, ...], _Room] = {}
    for names in product(*map(sorted, lists)):
        chosen = dict(zip(lists, names, strict=True))
        texts = tuple(
            named[chosen[frozenset(named)]] if named else text
            for text, named in zip(budgets, alternatives, strict=True)
        )
        if isinstance(space, ShrunkSpace):
            rooms[texts] = _room_for_whole(space, texts, tables)
        else:
            rooms[texts] = _room(space, texts, tables, settings)
    best, *others = sorted(rooms, key=lambda texts: rooms[texts].rank, reverse=True)
    compared = [f"{_list_differing(best, others[0])} {rooms[best].described}"]
    compared += [f"{_list_differing(texts, best)} {rooms[texts].described}" for texts in others]
    told = [
        f"budget {text}: the search keeps {kept}. {'; '.join(compared)}"
        for text, kept in zip(budgets, best, strict=True)
        if text != kept
    ]
    return best, told


def _list_differing(budgets: Sequence[str], others: Sequence[str]) -> str:
    return " and ".join(text for text in budgets if text not in others)


def _check_one_processor(text: str, tables: Sequence[LatencyTable]) -> None:
    models = {table.name: table.conditions.cpu_model for table in tables}
    if len(set(models.values())) > 1:
        listed = ", ".join(f"{name} is of {model}" for name, model in models.items())
        raise ConfigError(
            f"budget {text!r} is for the faster of several runtimes of one device, but "
            f"{listed}; give each device a budget of its own"
        )


def _room(
    space: SearchSpace,
    budgets: Sequence[str],
    tables: Sequence[LatencyTable],
    settings: Mapping[str, Any],
) -> _Room:
    """How large a network keeps the budgets."""
    feasibility = build_feasibility(space, budgets, tables, **settings)
    everything = np.ones(len(space.gates), dtype=bool)
    flops = feasibility.costs[FLOPS]
    largest = feasibility.choose(flops.marginal(everything), everything, floor=0)
    if largest is None:
        limits = [(one, one.budget) for one in list_limits(feasibility)]
        needed = max(one.smallest / budget.limit for one, budget in limits if budget)
        described = f"allows no network: the smallest takes {needed:.2f} times it"
        return _Room(0.0, needed, described)
    used = max(
        feasibility.costs[budget.resource].total(largest) / budget.limit
        for budget in feasibility.budgets
    )
    total = flops.total(largest)
    return _Room(total, used, f"allows up to {format_amount(FLOPS, total)}")


def _room_for_whole(
    space: ShrunkSpace, budgets: Sequence[str], tables: Sequence[LatencyTable]
) -> _Room:
    """What the whole network uses of the budgets."""
    widths = build_widths(space, budgets, tables)
    whole = widths.total(space.whole)
    used = max(whole[budget.resource] / budget.limit for budget in widths.budgets)
    return _Room(0.0, used, f"is {1 / used:.0%} of the network's latency")
