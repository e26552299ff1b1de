"""Searches and measurements while they run: lines, and on a terminal a live display."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from goldnas.cli.console import err

if TYPE_CHECKING:
    from goldnas.search.engine import Observer, SupernetSearch


@contextmanager
def shown(search: "SupernetSearch") -> Iterator[None]:
    """Show a search while it runs: a line per epoch, and on a terminal a live display."""
    if not search.ranks.first:
        yield
        return
    show = _event_printer(search)
    if not err.is_terminal:
        search.observer = show
        yield
        return
    from rich.live import Live

    from goldnas.cli.live import SearchDisplay

    display = SearchDisplay(search)

    def observe(event: str, fields: dict[str, Any]) -> None:
        display.observe(event, fields)
        show(event, fields)

    search.observer = observe
    with Live(get_renderable=display.table, console=err, refresh_per_second=2, transient=True):
        yield


def _event_printer(search: "SupernetSearch") -> "Observer":
    def show(event: str, fields: dict[str, Any]) -> None:
        if (line := _line(search, event, fields)) is not None:
            err.print(line, soft_wrap=True, highlight=False)

    return show


def _line(search: "SupernetSearch", event: str, fields: dict[str, Any]) -> str | None:
    """What a search says of an event, if anything."""
    from goldnas.resources import format_amount

    if event == "epoch":
        resources = ", ".join(
            format_amount(name, amount) for name, amount in fields["resources"].items()
        )
        # Some strategies press on nothing.
        pressure = f", lambda {fields['pressure']:.1e}" if search.presses else ""
        of = f"/{search.config.epochs}" if search.config.pace == "planned" else ""
        return (
            f"epoch {fields['epoch'] + 1}{of}: loss {fields['loss']:.3f}, validation "
            f"{100 * fields['validation_accuracy']:.2f} %, {fields['live_operators']} "
            f"operators, {resources}{pressure}, {fields['seconds']:.0f} s"
        )
    if event == "score" and fields["best"]:
        of = f"{fields['number']} of {search.config.samples}"
        return f"network {of}: score {fields['score']:.5g}, the best so far"
    if event == "network":
        return f"  saved {fields['fingerprint']}: {', '.join(fields['reasons'])}"
    if event == "out_of_memory":
        return (
            f"  out of memory in step {fields['step']}: from now on "
            f"{fields['pictures_at_once']} pictures at once, {fields['parts']} parts a step; "
            f"a step still learns from {search.data.loader.images_per_batch}"
        )
    if event == "setback":
        return (
            f"  diverged in step {fields['step']}: {fields['reason']}; back to the state after "
            f"step {fields['back_to_step']}, with the learning rate halved to "
            f"{fields['learning_rate']:.2g}"
        )
    return None


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
