"""Searches, trainings and measurements while they run: lines, and on a terminal more."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from goldnas.cli.console import err, note, warn

if TYPE_CHECKING:
    from rich.progress import Progress

    from goldnas.training.loop import TrainingLoop


def warn_of_logger(loop: "TrainingLoop[Any]", event: str, fields: dict[str, Any]) -> None:
    """Say that a logger failed, if that is the event."""
    if event == "logger_failed":
        warn(
            f"logger {fields['logger']} failed and is not used any more: {fields['reason']}. "
            f"{loop.run.path}/events.jsonl has everything"
        )


def setback_line(loop: "TrainingLoop[Any]", event: str, fields: dict[str, Any]) -> str | None:
    """What to say of a setback, if the event is one."""
    if event == "out_of_memory":
        return (
            f"  out of memory in step {fields['step']}: from now on "
            f"{fields['images_at_once']} images at once, {fields['parts']} parts a step; "
            f"a step still learns from {loop.data.loader.images_per_batch}"
        )
    if event == "setback":
        return (
            f"  diverged in step {fields['step']}: {fields['reason']}; back to the state after "
            f"step {fields['back_to_step']}, with the learning rate halved to "
            f"{fields['learning_rate']:.2g}"
        )
    return None


def bar(what: str, unit: str, *, over_s: float, spinner: bool = False) -> "Progress":
    """A bar on stderr with the time left; with a spinner it stays there at its end.

    Args:
        what: Goes on.
        unit: Is counted.
        over_s: Seconds over which its speed is averaged.
        spinner: Whether something moves while nothing is counted.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        *([SpinnerColumn()] if spinner else []),
        TextColumn(what, markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}, time left", markup=False),
        TimeRemainingColumn(),
        console=err,
        refresh_per_second=2,
        speed_estimate_period=over_s,
        transient=not spinner,
    )


@contextmanager
def visits_shown() -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left on a terminal, a line per step elsewhere; both on stderr."""
    if not err.is_terminal:
        yield lambda done, total: note(f"measured: {done} of {total} visits")
        return
    # Redrawn rarely, and averaged over minutes: visits come in rounds, and drawing on the
    # machine that is being measured disturbs it.
    with bar("measuring", "visits", over_s=600, spinner=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
