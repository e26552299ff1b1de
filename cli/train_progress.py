"""Trainings while they run: a line per epoch, and on a terminal a bar with the time left."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from goldnas.cli.progress import bar, shown

if TYPE_CHECKING:
    from goldnas.training.loop import Observer
    from goldnas.training.network_training import Training


def training_shown(training: "Training") -> AbstractContextManager[None]:
    """Show a training while it runs."""
    return shown(training, partial(_line, training), partial(_bar, training))


@contextmanager
def _bar(training: "Training") -> "Iterator[Observer]":
    with bar(training.architecture.fingerprint, "steps", over_s=60) as progress:
        task = progress.add_task("", total=training.total_steps, completed=training.step)

        def observe(event: str, fields: dict[str, Any]) -> None:
            if event in ("step", "setback"):
                progress.update(task, completed=training.step)

        yield observe


def _line(training: "Training", event: str, fields: dict[str, Any]) -> str | None:
    """What a training says of an event, if anything."""
    if event != "epoch":
        return None
    validation = _held_out(training, fields)
    return (
        f"epoch {fields['epoch'] + 1}/{training.config.epochs}: loss {fields['loss']:.3f}, "
        f"{validation}learning rate {fields['learning_rate']:.2g}, "
        f"{fields['seconds']:.0f} s"
    )


def _held_out(training: "Training", fields: dict[str, Any]) -> str:
    if (accuracy := fields.get("validation_accuracy")) is not None:
        return f"validation {100 * accuracy:.2f} %, "
    if (metric := fields.get("validation_metric")) is not None:
        return f"validation {training.data.task.name} {metric:.4g}, "
    return ""
