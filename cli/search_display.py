"""A search on a terminal: where it stands, live."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from rich.table import Table

from goldnas.cli.console import as_text, err
from goldnas.cli.cores import read_core_times_s

if TYPE_CHECKING:
    from goldnas.searching.start import SearchLoop
    from goldnas.searching.strategies import SearchStrategy

_RATE_OVER_S = 60.0
"""Seconds over which the rate of steps is taken."""

_BUSY = 0.15
"""Share of the time that a search waits for a core, from which on the display says so."""


def strategy_of(loop: "SearchLoop") -> "SearchStrategy":
    """The strategy of the loop of a search."""
    return cast("SearchStrategy", loop.strategy)


@contextmanager
def live_display(loop: "SearchLoop") -> "Iterator[SearchDisplay]":
    """Draw a search twice a second, until its end."""
    from rich.live import Live

    display = SearchDisplay(loop)
    with Live(get_renderable=display.table, console=err, refresh_per_second=2, transient=True):
        yield display


class SearchDisplay:
    """Where a search stands: epoch, rate, time left, lambda, operators, resources."""

    def __init__(self, loop: "SearchLoop") -> None:
        self._loop = loop
        self._strategy = strategy_of(loop)
        self._session = self._strategy.session
        self._step = loop.step
        self._times: deque[tuple[float, int]] = deque([(time.monotonic(), loop.step)])
        self._core_times_s = deque([read_core_times_s()])
        self._live = self._strategy.learner.count_left()
        self._all = self._strategy.learner.count_all()
        self._beyond = False
        self._scored = 0
        self._resources = self._strategy.learner.resources()

    def observe(self, event: str, fields: dict[str, Any]) -> None:
        """Take note of an event of the search."""
        self._live = fields.get("live_operators", self._live)
        if event != "network":  # one that was recorded may be larger than what is left
            self._resources = fields.get("resources", self._resources)
        if event == "step":
            now = time.monotonic()
            self._step = fields["step"]
            self._times.append((now, self._step))
            self._core_times_s.append(read_core_times_s())
            while len(self._times) > 2 and now - self._times[0][0] > _RATE_OVER_S:
                self._times.popleft()
                self._core_times_s.popleft()
        elif event == "setback":
            self._step = fields["back_to_step"]
            self._live = self._strategy.learner.count_left()
            self._times.clear()
            self._core_times_s.clear()
        elif event == "beyond":
            self._beyond = True
        elif event == "score":
            self._scored = fields["number"]

    def table(self) -> Table:
        """What is on the screen now."""
        from goldnas.units import format_amount

        loop, step, config = self._loop, self._step, self._session.config
        table = Table.grid(padding=(0, 2))
        planned = config.pace == "planned"
        epoch = min(step // loop.steps_per_epoch + 1, config.epochs)
        stage, of = "epoch", f"{epoch}" + (f" of {config.epochs}" if planned else "")
        if self._beyond:
            stage, of = "below the budgets", ""
        elif self._scored or not self._strategy.total_steps:
            stage, of = "scored", f"{self._scored} of {config.networks}"
        table.add_row(stage, of, f"step {step}", self._speed(planned))
        penalty_weight = self._strategy.learner.penalty_weight(step)
        table.add_row(
            self._session.strategy.counts,
            f"{self._live} of {self._all}",
            f"lambda {penalty_weight:.1e}" if penalty_weight else "",
            f"learning rate {loop.learning_rate(step):.2g}",
        )
        if waiting := self._waiting():
            table.add_row("busy machine", f"{waiting:.0%} of the time waits for a core")
        limits = {b.resource: b for b in self._session.feasibility.budgets}
        for name, amount in self._resources.items():
            budget = limits.get(name)
            table.add_row(
                as_text(name),
                format_amount(name, amount),
                "" if budget is None else f"budget {format_amount(name, budget.limit)}",
                "" if budget is None else f"{100 * amount / budget.limit:.0f} % of it",
            )
        return table

    def _waiting(self) -> float:
        """The share of the time in which other work has the cores; 0 if it is little."""
        known = [times for times in list(self._core_times_s) if times is not None]
        if len(known) < 2:
            return 0.0
        ran_s, waited_s = (
            last - first for first, last in zip(known[0], known[-1], strict=True)
        )
        share = waited_s / max(ran_s + waited_s, 1e-9)
        return share if share > _BUSY else 0.0

    def _speed(self, planned: bool) -> str:
        times = list(self._times)  # the screen is drawn by a thread of its own
        if len(times) < 2 or times[-1][0] <= times[0][0]:
            return ""
        (began, first), (now, last) = times[0], times[-1]
        rate = (last - first) / (now - began)
        text = f"{rate:.3g} steps/s"
        if planned and rate > 0:
            left_s = max(0, self._strategy.total_steps - last) / rate
            text += f", about {timedelta(seconds=round(left_s))} left"
        return text
