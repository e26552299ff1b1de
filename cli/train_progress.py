"""Trainings while they run: a line per epoch, and on a terminal a bar with the time left."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from goldnas.cli.console import err

if TYPE_CHECKING:
    from goldnas.retraining.training import Training


@contextmanager
def training_shown(training: "Training") -> Iterator[None]:
    """Show a training while it runs."""
    if not training.ranks.first:
        yield
        return

    def show(event: str, fields: dict[str, Any]) -> None:
        if (line := _line(training, event, fields)) is not None:
            err.print(line, soft_wrap=True, highlight=False)

    if not err.is_terminal:
        training.observer = show
        yield
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn(training.architecture.fingerprint),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, time left"),
        TimeRemainingColumn(),
        console=err,
        refresh_per_second=2,
        speed_estimate_period=60,
        transient=True,
    ) as progress:
        task = progress.add_task("", total=training.total_steps, completed=training.step)

        def observe(event: str, fields: dict[str, Any]) -> None:
            show(event, fields)
            if event in ("step", "setback"):
                progress.update(task, completed=training.step)

        training.observer = observe
        yield


def _line(training: "Training", event: str, fields: dict[str, Any]) -> str | None:
    """What a training says of an event, if anything."""
    if event == "epoch":
        held_out = fields["validation_accuracy"]
        validation = "" if held_out is None else f"validation {100 * held_out:.2f} %, "
        return (
            f"epoch {fields['epoch'] + 1}/{training.config.epochs}: loss {fields['loss']:.3f}, "
            f"{validation}learning rate {fields['learning_rate']:.2g}, "
            f"{fields['seconds']:.0f} s"
        )
    if event == "out_of_memory":
        return (
            f"  out of memory in step {fields['step']}: from now on "
            f"{fields['pictures_at_once']} pictures at once, {fields['parts']} parts a step; "
            f"a step still learns from {training.data.loader.images_per_batch}"
        )
    if event == "setback":
        return (
            f"  diverged in step {fields['step']}: {fields['reason']}; back to the state after "
            f"step {fields['back_to_step']}, with the learning rate halved to "
            f"{fields['learning_rate']:.2g}"
        )
    return None
