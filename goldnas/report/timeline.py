"""The course of a search from its log: metric, size and removed operators, in order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from goldnas.comparison.history import Event, leave_out_undone
from goldnas.errors import RunError, read_message
from goldnas.log_records import CourseLine
from goldnas.metric import read_logged
from goldnas.ranges import Amounts, Count


class _Line(CourseLine, kw_only=True):
    """Of a search, which says of each what the super-network needs by then."""

    epoch: Count
    resources: Amounts

    @property
    def figure(self) -> float | None:
        """Accuracy, or the task's metric: on all held-out data, or on some after a pruning."""
        whole = self.event in ("start", "epoch")
        return read_logged(
            msgspec.structs.asdict(self), "validation_{}" if whole else "{}_after"
        )


class Tried(msgspec.Struct, frozen=True):
    """A network that a sampling strategy has tried."""

    number: int
    fingerprint: str
    score: float | None
    best: bool


@dataclass(frozen=True)
class Moment:
    """The super-network after an epoch, or after a pruning."""

    epochs: float
    """Over by then; a pruning comes within one."""
    live: int | None
    """Operators that are left; None where the log does not say."""
    resources: dict[str, float]
    """In FLOPs, parameters, microseconds, microjoules and bytes."""
    penalty_weight: float
    figure: float | None
    """Accuracy, or the task's metric, on held-out data: all of it after an epoch, some after a
    pruning."""
    loss: float | None = None
    went: tuple[str, ...] = ()
    """Operators, by their names in the log."""
    beyond: bool = False
    """Whether they went below the budgets."""


@dataclass(frozen=True)
class Timeline:
    """The log of one search, without undone work."""

    moments: tuple[Moment, ...]
    tried: tuple[Tried, ...]
    epochs_done: int
    trained_until: float
    """Epochs at which the front below the budgets begins; the end, where there is none."""

    @classmethod
    def read(cls, events: Sequence[Event], path: Path) -> "Timeline":
        """Read a log.

        Args:
            events: Lines of the log.
            path: Path of the search, for messages.

        Raises:
            RunError: If a line lacks a field.
        """
        kept = leave_out_undone(events)
        kinds = ("start", "epoch", "prune", "cut", "beyond")
        lines = [_read(e, _Line, path) for e in kept if e["event"] in kinds]
        tried = [_read(e, Tried, path) for e in kept if e["event"] == "score"]
        epochs = [line for line in lines if line.event == "epoch"]
        steps = next((line.step / (line.epoch + 1) for line in epochs if line.step), None)
        moments: list[Moment] = []
        for line in lines:
            if line.event == "start" and moments:
                continue  # a search that went on
            at = line.step / steps if steps else float(line.epoch)
            if line.event == "epoch" and not steps:
                at += 1
            moments.append(_moment(line, at))
        if len(moments) > 1 and moments[0].live is None and moments[1].live is not None:
            whole = moments[1].live + len(moments[1].went)
            moments[0] = replace(moments[0], live=whole)
        until = [m.epochs for m in moments if not m.beyond]
        return cls(tuple(moments), tuple(tried), len(epochs), max(until, default=0.0))

    @property
    def gone(self) -> dict[str, int]:
        """The operators that went, by name, and the number of the moment."""
        return {name: i for i, moment in enumerate(self.moments) for name in moment.went}


def _moment(line: _Line, epochs: float) -> Moment:
    return Moment(
        epochs=epochs,
        live=line.live_operators,
        resources=line.resources,
        penalty_weight=line.penalty_weight,
        figure=line.figure,
        loss=line.loss,
        went=line.operators,
        beyond=line.event == "beyond",
    )


def _read(event: Event, form: Any, path: Path) -> Any:
    try:
        return msgspec.convert(event, form)
    except msgspec.ValidationError as error:
        raise RunError(
            f"{path / 'events.jsonl'}: a line of {event['event']!r} is not of this log "
            f"({read_message(error)}); delete the file, nothing goes on from it"
        ) from None
