"""The form of the lines of a log: a record for each event that goldnas writes.

A line may have further fields, and a log further events, for example those of a strategy of
one's own. The fields of these records have the stated types. A field with a default may be
missing.
"""

import msgspec

from goldnas.ranges import Amounts, Bytes, Count, NotNegative, Number, Seconds, Share, Time


class Line(msgspec.Struct, kw_only=True):
    """What every line has."""

    time: Time
    event: str
    step: Count = 0


class CourseLine(Line, kw_only=True):
    """How far it is: of ``start``, ``epoch``, ``prune``, ``cut`` and ``beyond``."""

    epoch: Count = 0
    resources: Amounts | None = None
    budgets: Amounts | None = None
    scored: Count = 0
    ranks: Count = 1
    live_operators: Count | None = None
    operators: tuple[str, ...] = ()
    penalty_weight: NotNegative = 0.0
    learning_rate: NotNegative = 0.0
    loss: Number | None = None
    memory_bytes: Bytes | None = None
    peak_memory_bytes: Bytes | None = None
    seconds: Seconds = 0.0
    validation_accuracy: Share | None = None
    accuracy_before: Share | None = None
    accuracy_after: Share | None = None
    validation_metric: Number | None = None
    metric_before: Number | None = None
    metric_after: Number | None = None


class EpochLine(CourseLine, kw_only=True):
    """Says how long it took."""

    seconds: Seconds


class CutLine(CourseLine, kw_only=True):
    """Says what the cut cost."""

    step: Count

    def __post_init__(self) -> None:
        accuracies = self.accuracy_before, self.accuracy_after
        metrics = self.metric_before, self.metric_after
        if None in accuracies and None in metrics:
            raise ValueError("no accuracy_before and accuracy_after")


class NetworkLine(Line, kw_only=True):
    """A network that was recorded."""

    fingerprint: str
    reasons: tuple[str, ...]
    accuracy: Share | None = None
    score: Number | None = None
    resources: Amounts = {}
    epoch: Count = 0


class ScoreLine(Line, kw_only=True):
    """A network that a strategy which samples has tried."""

    number: Count
    fingerprint: str
    score: Number | None
    best: bool
    resources: Amounts = {}


class SetbackLine(Line, kw_only=True):
    """Training diverged."""

    back_to_step: Count
    reason: str = ""
    learning_rate: NotNegative = 0.0


class MemoryLine(Line, kw_only=True):
    """A step did not fit in memory."""

    images_at_once: Count
    parts: Count


class EndLine(Line, kw_only=True):
    """The end of a search or a training."""

    epoch: Count = 0
    networks: Count = 0
    seconds: Seconds = 0.0
    validation_accuracy: Share | None = None
    test_accuracy: Share | None = None
    validation_metric: Number | None = None
    test_metric: Number | None = None


class RecalibratedLine(Line, kw_only=True):
    """The statistics of a network that was cut were estimated anew."""

    accuracy: Share | None = None
    metric: Number | None = None


class TeacherLine(Line, kw_only=True):
    """What the teacher of a training has on the test set."""

    test_accuracy: Share


RECORDS: dict[str, type[Line]] = {
    "start": CourseLine,
    "epoch": EpochLine,
    "prune": CutLine,
    "cut": CutLine,
    "beyond": CourseLine,
    "network": NetworkLine,
    "score": ScoreLine,
    "setback": SetbackLine,
    "out_of_memory": MemoryLine,
    "recalibrated": RecalibratedLine,
    "teacher": TeacherLine,
    "end": EndLine,
}
"""By event."""
