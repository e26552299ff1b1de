"""Searches while they run: a line per epoch, and on a terminal a live display."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.table import Table

from goldnas.cli.console import err
from goldnas.cli.progress import shown

if TYPE_CHECKING:
    from goldnas.searching.strategies.engine import SupernetSearch
    from goldnas.training.loop import Observer

_RATE_OVER_S = 60.0
"""Seconds over which the rate of steps is taken."""


def search_shown(search: "SupernetSearch") -> AbstractContextManager[None]:
    """Show a search while it runs."""
    return shown(search, partial(_line, search), partial(_live, search))


def _line(search: "SupernetSearch", event: str, fields: dict[str, Any]) -> str | None:
    """What a search says of an event, if anything."""
    from goldnas.units import format_amount

    if event == "epoch":
        resources = ", ".join(
            format_amount(name, amount) for name, amount in fields["resources"].items()
        )
        # Some strategies press on nothing.
        weight = f", lambda {fields['penalty_weight']:.1e}" if search.presses else ""
        of = f"/{search.config.epochs}" if search.config.pace == "planned" else ""
        return (
            f"epoch {fields['epoch'] + 1}{of}: loss {fields['loss']:.3f}, validation "
            f"{_held_out(search, fields)}, {fields['live_operators']} "
            f"operators, {resources}{weight}, {fields['seconds']:.0f} s"
        )
    if event == "score" and fields["best"]:
        of = f"{fields['number']} of {search.config.samples}"
        return f"network {of}: score {fields['score']:.5g}, the best so far"
    if event == "network":
        return f"  saved {fields['fingerprint']}: {', '.join(fields['reasons'])}"
    return None


def _held_out(search: "SupernetSearch", fields: dict[str, Any]) -> str:
    if search.config.task is None:
        return f"{100 * fields['validation_accuracy']:.2f} %"
    return f"{search.data.task.name} {fields['validation_metric']:.4g}"


@contextmanager
def _live(search: "SupernetSearch") -> "Iterator[Observer]":
    from rich.live import Live

    display = SearchDisplay(search)
    with Live(get_renderable=display.table, console=err, refresh_per_second=2, transient=True):
        yield display.observe


class SearchDisplay:
    """Where a search stands: epoch, rate, time left, lambda, operators, resources."""

    def __init__(self, search: "SupernetSearch") -> None:
        self._search = search
        self._config = search.config
        self._step = search.step
        self._times: deque[tuple[float, int]] = deque([(time.monotonic(), search.step)])
        self._all = len(search.active)
        self._live = int(search.active.sum())
        self._beyond = search.below_budgets
        self._scored = 0
        self._resources: dict[str, float] = {
            name: cost.total(search.active) for name, cost in search.feasibility.costs.items()
        }

    def observe(self, event: str, fields: dict[str, Any]) -> None:
        """Take note of an event of the search."""
        self._live = fields.get("live_operators", self._live)
        if event != "network":  # one that was recorded may be larger than what is left
            self._resources = fields.get("resources", self._resources)
        if event == "step":
            now = time.monotonic()
            self._step = fields["step"]
            self._times.append((now, self._step))
            while len(self._times) > 2 and now - self._times[0][0] > _RATE_OVER_S:
                self._times.popleft()
        elif event == "setback":
            self._step = fields["back_to_step"]
            self._live = int(self._search.active.sum())
            self._beyond = self._search.below_budgets
            self._times.clear()
        elif event == "beyond":
            self._beyond = True
        elif event == "score":
            self._scored = fields["number"]

    def table(self) -> Table:
        """What is on the screen now."""
        from goldnas.units import format_amount

        search, step, beyond = self._search, self._step, self._beyond
        table = Table.grid(padding=(0, 2))
        planned = self._config.pace == "planned"
        epoch = min(step // search.steps_per_epoch + 1, self._config.epochs)
        stage, of = "epoch", f"{epoch}" + (f" of {self._config.epochs}" if planned else "")
        if beyond:
            stage, of = "below the budgets", ""
        elif self._scored or not search.trains:
            stage, of = "scored", f"{self._scored} of {self._config.samples}"
        table.add_row(stage, of, f"step {step}", self._speed(planned))
        table.add_row(
            "operators",
            f"{self._live} of {self._all}",
            f"lambda {search.penalty_weight(step):.1e}" if search.presses else "",
            f"learning rate {search.learning_rate(step):.2g}",
        )
        limits = {b.resource: b for b in search.feasibility.budgets}
        for name, amount in self._resources.items():
            budget = limits.get(name)
            table.add_row(
                name,
                format_amount(name, amount),
                "" if budget is None else f"budget {format_amount(name, budget.limit)}",
                "" if budget is None else f"{100 * amount / budget.limit:.0f} % of it",
            )
        return table

    def _speed(self, planned: bool) -> str:
        times = list(self._times)  # the screen is drawn by a thread of its own
        if len(times) < 2 or times[-1][0] <= times[0][0]:
            return ""
        (began, first), (now, last) = times[0], times[-1]
        rate = (last - first) / (now - began)
        text = f"{rate:.3g} steps/s"
        if planned and rate > 0:
            left_s = max(0, self._search.total_steps - last) / rate
            text += f", about {timedelta(seconds=round(left_s))} left"
        return text
