"""Which figures an event of a run has. Needs no torch."""

from collections.abc import Mapping
from typing import Any

_EVENTS = ("epoch", "prune", "beyond", "cut", "score", "end")
"""Those with figures that belong to a step."""

_PLACES = ("epoch", "step", "number")
"""Fields that say when, and not how much."""


def select_scalars(
    event: str, fields: Mapping[str, Any], *, kind: str, budgets: Mapping[str, float]
) -> dict[str, float]:
    """The figures of an event, by name; empty for an event without figures.

    Args:
        event: Name of the event, as in ``events.jsonl``.
        fields: Fields of the event; null values are left out.
        kind: ``search`` or ``training``, the group of an epoch's figures. For other events the
            group is the name of the event.
        budgets: Limits of resources, in FLOPs, parameters, microseconds, microjoules and bytes.

    Returns:
        Names such as ``search/loss``, ``prune/accuracy_after``, ``search/FLOPs``, and
        ``search/budget_share/FLOPs`` for the amount divided by its budget.
    """
    if event not in _EVENTS or "step" not in fields:
        return {}
    figures = {name: value for name, value in fields.items() if name not in _PLACES}
    for name, amount in fields.get("resources", {}).items():
        figures[name] = amount
        if name in budgets:
            figures[f"budget_share/{name}"] = amount / budgets[name]
    group = kind if event == "epoch" else event
    return {
        f"{group}/{name}": float(value)
        for name, value in figures.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def read_step(fields: Mapping[str, Any]) -> int:
    """The step of the figures: finished training steps, plus networks tried since."""
    return int(fields["step"]) + int(fields.get("number", 0))
