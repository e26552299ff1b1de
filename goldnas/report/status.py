"""The status of a search, as data."""

import time
from pathlib import Path

import msgspec

from goldnas.metric import Metric, MetricField, read_metric
from goldnas.report.content import Content
from goldnas.resource_names import OPERATORS
from goldnas.searching.baselines import ReadyMade

_QUIET_S = 900.0
"""Seconds without a line of the log after which a search that has not ended looks stopped: it
writes one each epoch, which may take longer."""


class ResourceStatus(msgspec.Struct, frozen=True):
    """One resource of the super-network."""

    amount: float
    """In FLOPs, parameters, microseconds, microjoules or bytes."""
    budget: float | None


class NetworkStatus(msgspec.Struct, frozen=True):
    """The best recorded network within all budgets."""

    fingerprint: str
    accuracy: float | None
    metric: MetricField
    """As in ``front.json``."""
    score: float | None
    resources: dict[str, float]

    @property
    def figure(self) -> Metric | None:
        """Its accuracy, or the task's metric; None where nothing was trained."""
        return read_metric(self.accuracy, self.metric)


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a search, which ``goldnas status --json`` prints."""

    folder: str
    state: str
    """``ended``, ``in progress``, ``quiet`` (nothing was logged for long) or ``not begun``."""
    data: str
    space: str
    strategy: str
    budgets: list[str]
    epochs_done: int
    epochs: int
    """To come to, at most."""
    networks_tried: int
    networks_to_try: int | None
    """By a strategy that samples."""
    seconds: float | None
    """Seconds that the search ran."""
    quiet_seconds: float | None
    """Since the last line of its log; None after the end."""
    seconds_left: float | None
    """Estimate for the remaining epochs, at the speed of the last; None if not known."""
    metric: Metric | None
    """Metric of the super-network after the last epoch: accuracy, or that of the task."""
    loss: float | None
    penalty_weight: float | None
    live_operators: int | None
    operators: int | None
    """Before any went."""
    resources: dict[str, ResourceStatus]
    networks: int
    """Recorded so far."""
    best: NetworkStatus | None
    trained: int
    """Trainings that are done."""
    measured: int
    """Networks that an export measured."""
    ready_made: list[ReadyMade] | None
    """Ready-made networks within the budgets; None of a search without a zoo."""
    verdicts: list[str]
    """The verdicts, if there are ready-made networks."""

    @classmethod
    def read(cls, path: Path, *, clock: float | None = None) -> "Status":
        """Read the folder of a search.

        Args:
            path: Path of the folder.
            clock: Seconds since 1970; by default now.

        Raises:
            RunError: If the path is not the folder of a search, or the folder is damaged.
        """
        content = Content.read(path)
        run, timeline = content.run, content.timeline
        now = time.time() if clock is None else clock
        last, began = content.last_event_time, content.timeline.moments[:1]
        quiet = None if last is None or content.ended else max(0.0, now - last)
        epochs = [moment for moment in timeline.moments if moment.loss is not None]
        lasting_s = [float(e["seconds"]) for e in run.events if e["event"] == "epoch"][-1:]
        left = run.config.epochs - timeline.epochs_done
        planned = run.config.pace == "planned" and not content.ended
        limits = {budget.resource: budget.limit for budget in content.budgets}
        current = content.now
        best = run.best
        return cls(
            folder=str(path),
            state=_state(content, quiet),
            data=run.data,
            space=run.config.space,
            strategy=run.config.strategy,
            budgets=[b.text for b in content.budgets] + ["single"] * run.config.single,
            epochs_done=timeline.epochs_done,
            epochs=run.config.epochs,
            networks_tried=len(timeline.tried),
            networks_to_try=run.config.networks,
            seconds=content.seconds,
            quiet_seconds=quiet,
            seconds_left=left * lasting_s[0] if planned and lasting_s and left > 0 else None,
            metric=content.metric.with_value(epochs[-1].figure)
            if epochs and epochs[-1].figure is not None
            else None,
            loss=epochs[-1].loss if epochs else None,
            penalty_weight=current.penalty_weight if current else None,
            live_operators=current.live if current else None,
            operators=began[0].live if began else None,
            resources={}
            if current is None
            else {
                name: ResourceStatus(amount, limits.get(name))
                for name, amount in current.resources.items()
                if name != OPERATORS
            },
            networks=len(run.networks),
            best=None
            if best is None
            else NetworkStatus(
                best.fingerprint, best.accuracy, best.metric, best.score, best.resources
            ),
            trained=len(run.trained),
            measured=sum(bool(one.tables) for one in run.measured.values()),
            ready_made=None
            if run.baselines is None
            else list(map(ReadyMade.read, run.baselines.within)),
            verdicts=content.contest,
        )


def _state(content: Content, quiet_s: float | None) -> str:
    if content.ended:
        return "ended"
    if quiet_s is None:
        return "not begun"
    epochs = [float(e["seconds"]) for e in content.run.events if e["event"] == "epoch"]
    return "quiet" if quiet_s > max(_QUIET_S, 3 * max(epochs, default=0.0)) else "in progress"
