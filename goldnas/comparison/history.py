"""The time of a search and the loss of its cuts in the metric, from its log."""

import math
from collections.abc import Sequence
from typing import Any

from goldnas.metric import ACCURACY, read_logged

Event = dict[str, Any]
"""A line of ``events.jsonl``."""


def count_seconds(events: Sequence[Event]) -> float | None:
    """Seconds that a search ran, including all its work; None if it never began.

    The time counts from each ``start`` to the last line that follows it. Work that a later
    start repeats after a crash counts once. The time between two runs does not count.
    """
    sessions: list[list[Event]] = []
    for event in events:
        if event["event"] == "start":
            sessions.append([])
        if sessions:
            sessions[-1].append(event)
    seconds, again_from = 0.0, math.inf
    for session in reversed(sessions):
        began = float(session[0]["time"])
        lasting = [float(e["time"]) for e in session if e.get("step", 0) <= again_from]
        seconds += max(lasting, default=began) - began
        again_from = min(again_from, session[0].get("step", math.inf))
    return seconds if sessions else None


def list_drops(events: Sequence[Event], *, higher_is_better: bool = True) -> list[float]:
    """How much the metric became worse immediately at each cut.

    A cut is a pruning of a gradual search on its way to the budgets, or the final pruning of
    other strategies. Cuts below the budgets do not count, and neither do cuts that a later
    start or a setback undid.
    """
    kept = leave_out_undone(events)
    ends = [
        place
        for place, event in enumerate(kept)
        if event["event"] == "network" and "end" in event["reasons"]
    ]
    sign = 1 if higher_is_better else -1
    return [
        sign * (_logged(event, "{}_before") - _logged(event, "{}_after"))
        for event in kept[: ends[-1] if ends else None]
        if event["event"] in ("prune", "cut")
    ]


def _logged(event: Event, name: str) -> float:
    value = read_logged(event, name)
    if value is None:
        raise KeyError(name.format(ACCURACY.key))
    return value


def has_ended(events: Sequence[Event]) -> bool:
    """Whether the search has ended."""
    return bool(events) and events[-1]["event"] == "end"


def leave_out_undone(events: Sequence[Event]) -> list[Event]:
    """The events that the search did not go back before."""
    back_to = {"start": "step", "setback": "back_to_step"}
    kept: list[Event] = []
    for event in events:
        key = back_to.get(event["event"])
        if key is not None and (step := event.get(key)) is not None:
            # A cut comes after the last step, and is done again whenever a search goes on.
            kept = [e for e in kept if e.get("step", 0) <= step and e["event"] != "cut"]
        kept.append(event)
    return kept
