"""Searches and measurements while they run: lines, and on a terminal the time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from goldnas.cli.console import err

if TYPE_CHECKING:
    from goldnas.search.gradual import GradualSearch, Observer


@contextmanager
def shown(search: "GradualSearch") -> Iterator[None]:
    """Show a search while it runs: a line per epoch, and on a terminal the time left."""
    if not err.is_terminal:
        search.observer = _event_printer(search)
        yield
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    config = search.config
    planned = config.pace == "planned"
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(
            "step {task.completed} of {task.total}" if planned else "step {task.completed}"
        ),
        *([TextColumn("time left"), TimeRemainingColumn()] if planned else []),
        console=err,
        refresh_per_second=2,
        speed_estimate_period=300,
    ) as progress:
        total = config.epochs * search.steps_per_epoch if planned else None
        task = progress.add_task("searching", total=total)
        show = _event_printer(search)

        def observe(event: str, fields: dict[str, Any]) -> None:
            if event == "step":
                progress.update(task, completed=fields["step"])
            show(event, fields)

        search.observer = observe
        yield


def _event_printer(search: "GradualSearch") -> "Observer":
    from goldnas.resources import format_amount

    def show(event: str, fields: dict[str, Any]) -> None:
        if event == "epoch":
            resources = ", ".join(
                format_amount(name, amount) for name, amount in fields["resources"].items()
            )
            of = f"/{search.config.epochs}" if search.config.pace == "planned" else ""
            err.print(
                f"epoch {fields['epoch'] + 1}{of}: loss {fields['loss']:.3f}, validation "
                f"{100 * fields['validation_accuracy']:.2f} %, {fields['live_operators']} "
                f"operators, {resources}, lambda {fields['pressure']:.1e}, "
                f"{fields['seconds']:.0f} s",
                soft_wrap=True,
                highlight=False,
            )
        elif event == "network":
            err.print(
                f"  saved {fields['fingerprint']}: {', '.join(fields['reasons'])}",
                soft_wrap=True,
                highlight=False,
            )

    return show


@contextmanager
def visits_shown() -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left on a terminal, a line per step elsewhere; both on stderr."""
    if not err.is_terminal:
        yield lambda done, total: err.print(f"measured: {done} of {total} visits")
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    # Redrawn rarely, and averaged over minutes: visits come in rounds, and drawing on the
    # machine that is being measured disturbs it.
    with Progress(
        SpinnerColumn(),
        TextColumn("measuring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("visits, time left"),
        TimeRemainingColumn(),
        console=err,
        refresh_per_second=2,
        speed_estimate_period=600,
    ) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
