"""A trained network that becomes smaller, a few channels at a time, while it learns on.

The idea is GOLD-NAS's (arXiv:2007.03331): remove a little, train on, remove again, with the
resources as the measure. Here the network is trained already, it is its own teacher, and its
channels and branches are what goes. Each time the integer program chooses what is worth the
least within a limit, and the limit falls from what the whole network needs to the budgets.
"""

import math
from typing import Any

import msgspec
import numpy as np
from torch import Tensor

from goldnas.architecture import SHRUNK
from goldnas.errors import ConfigError, RunError
from goldnas.metric import write_metric
from goldnas.ranges import Count
from goldnas.searching.config import SearchConfig
from goldnas.searching.front import Front, FrontNetwork
from goldnas.searching.recorder import FrontRecorder
from goldnas.searching.session import Session
from goldnas.searching.shrink_config import LEARNING_RATE
from goldnas.searching.shrink_learner import ShrinkLearner
from goldnas.searching.strategies.registry import register_strategy
from goldnas.spaces.shrunk import ShrunkSpace
from goldnas.training.divergence import DivergedError

SHRINKING = 0.15
"""Share of the steps in which something goes; in the others the network learns on."""

AT_A_TIME = 0.08
"""Share of a resource that goes at a time, at least: of few steps more goes at once."""

LEAST_STEPS = 8
"""Between two times."""

PROBING = 0.15
"""Share of the training steps' time in which the loss is measured without parts."""


def _check(config: SearchConfig) -> None:
    if config.space != SHRUNK:
        raise ConfigError(
            "`strategy='shrink'` needs a trained network, and a search has none; use `shrink()`"
        )


class _ShrinkState(msgspec.Struct, forbid_unknown_fields=True):
    recorder: dict[str, Any]
    cuts_done: Count


class Shrinking:
    """Shrinks a network to its budgets.

    Args:
        session: Of the shrinking.
    """

    def __init__(self, session: Session) -> None:
        assert session.widths is not None  # PreparedSearch sees to it
        self.session = session
        self._costs = session.widths
        self.learner = ShrinkLearner(session)
        self._whole = self._costs.total(self._costs.space.whole)
        self.recorder = FrontRecorder(session, start=self._whole)
        self.total_steps = session.config.epochs * session.loop.steps_per_epoch
        self._ends = self._plan()
        """Steps after which something goes, the last one's limits being the budgets."""
        self._cuts_done = 0

    def _plan(self) -> list[int]:
        shares = [b.limit / self._whole[b.resource] for b in self._costs.budgets]
        least = min([1.0, *shares])
        if least >= 1:
            return []
        last = max(1, round(SHRINKING * self.total_steps))
        times = math.ceil(math.log(least) / math.log(1 - AT_A_TIME))
        times = max(1, min(times, last // LEAST_STEPS))
        return [int(end) for end in np.linspace(0, last, times + 1)[1:].round() - 1]

    def _limits(self, number: int) -> dict[str, float]:
        """What the network may need after a number of times: falling by equal shares."""
        progress = number / len(self._ends)
        return {
            b.resource: self._whole[b.resource]
            * min(1.0, b.limit / self._whole[b.resource]) ** progress
            if number < len(self._ends)
            else b.limit
            for b in self._costs.budgets
        }

    # -- the loop ----------------------------------------------------------------------------

    def describe_start(self) -> dict[str, Any]:
        """Nothing besides what the log says of the network."""
        if not self._ends and self.session.loop.step == 0:
            met = ", ".join(budget.text for budget in self._costs.budgets)
            told = (
                f"the whole network meets {met} already: no channel is removed, and "
                "training continues"
            )
            self.session.loop.events.emit_unlogged("note", text=told)
        return {}

    def finished(self) -> bool:
        """Whether the last epoch is over."""
        return self.session.loop.epoch >= self.session.config.epochs

    def learning_rate(self, step: int) -> float:
        """Of the weights: constant while something goes, then a cosine to zero."""
        highest = self.session.config.learning_rate
        last = self._ends[-1] if self._ends else 0
        if step <= last:
            return highest
        left = (step - last) / max(1, self.total_steps - last)
        return highest * 0.5 * (1 + math.cos(math.pi * left))

    def train_step(self, step: int, images: Tensor, labels: Tensor, others: Any) -> Tensor:
        """One descent, which says what the parts are worth as long as something goes."""
        measures = self._cuts_done < len(self._ends)
        return self.learner.train_step(step, images, labels, measures=measures)

    def after_step(self, step: int) -> None:
        """Let something go, when it is time to; record the network before."""
        if self._cuts_done == len(self._ends) or step < self._ends[self._cuts_done]:
            return
        self._record_share(step)
        self._cuts_done += 1
        self._shrink(step)

    def _shrink(self, step: int) -> None:
        session, learner = self.session, self.learner
        session.loop.check_sane()
        limits = self._limits(self._cuts_done)
        if self._costs.within(learner.size, limits):
            return
        # What will be left is chosen as a whole, so that it spends the budgets. What goes now
        # is a part of what does not stay.
        wanted = {b.resource: b.limit for b in self._costs.budgets}
        importance = learner.importance(self._count_images())
        last = self._costs.choose(importance, learner.size, wanted)
        if not all(np.isfinite(values).all() for values in importance.channels):
            raise DivergedError("the importance of a channel is not a finite number")
        size = last and self._costs.choose(importance, learner.size, limits, last)
        if size is None:
            raise RunError(
                "found no size of the network within "
                f"{', '.join(b.text for b in self._costs.budgets)}, though the smallest size "
                "is within: give another `step`"
            )
        key = session.data.task.metric_kind.key
        before, was = learner.score(session.data.check), learner.size
        learner.shrink(size)
        session.emit(
            "prune",
            epoch=step // session.loop.steps_per_epoch,
            step=step + 1,
            operators=_name_changes(self._costs.space, was, learner.size),
            **{f"{key}_before": before, f"{key}_after": learner.score(session.data.check)},
            penalty_weight=0.0,
            live_operators=learner.count_left(),
            resources=learner.resources(),
        )

    def _count_images(self) -> int:
        """Training images on which the loss is measured, each time that something goes.

        So many that it takes a small share of the training, within bounds.
        """
        between = (self._ends[-1] + 1) / len(self._ends)
        images = between * self.session.loop.data.loader.images_per_batch
        # Forwards alone take a third of a step.
        of_each = 3 * PROBING * images / self.learner.count_probes()
        return int(np.clip(of_each, 32, 512))

    def _record_share(self, step: int) -> None:
        """Record the network, if something went before and it has learnt since."""
        learner = self.learner
        if learner.size == self._costs.space.whole:
            return
        if learner.architecture.fingerprint != self.recorder.recorded:
            first = self._costs.budgets[0].resource
            share = self._costs.total(learner.size)[first] / self._whole[first]
            self._record(step, [f"{share:.0%} of {first.partition('@')[0]}"])

    def _record(self, step: int, reasons: list[str]) -> None:
        session, learner = self.session, self.learner
        resources = self._costs.total(learner.size)
        network = FrontNetwork(
            fingerprint=learner.architecture.fingerprint,
            **write_metric(
                session.data.task.metric_kind, learner.score(session.data.validation)
            ),
            resources=resources,
            epoch=max(0, step // session.loop.steps_per_epoch),
            step=step + 1,
            reasons=tuple(reasons),
            meets_budgets=session.meets_budgets(resources),
        )
        state = learner.network.state_dict()
        weights = {name: value.detach().cpu().clone() for name, value in state.items()}
        self.recorder.keep(network, learner.architecture, weights)

    def after_epoch(self, step: int) -> None:
        """Record the network of the last epoch."""
        if self.finished():
            self._record(step, [*(f"met {b.text}" for b in self._costs.budgets), "end"])

    def finish(self) -> Front:
        """Say whether the teacher was better than what is left."""
        session = self.session
        theirs = self.learner.score_teacher(session.data.validation)
        if theirs is not None:
            mine = self.learner.score(session.data.validation)
            told = f"the whole network has {100 * theirs:.2f} % on the held-out images"
            if theirs < mine:
                told += (
                    f", less than the {100 * mine:.2f} % of the smaller network: the whole "
                    "network was not trained to its end"
                )
            session.loop.events.emit_unlogged("note", text=told)
        return self.recorder.finish()

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The front, and how often something went."""
        return {
            "recorder": self.recorder.state_dict(),
            "cuts_done": self._cuts_done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        # Earlier versions kept the share at which they would record a network next.
        kept = {name: value for name, value in state.items() if name != "level"}
        mine = msgspec.convert(kept, _ShrinkState)
        if mine.cuts_done > len(self._ends):
            raise ValueError(f"{mine.cuts_done} removals of channels")
        self.recorder.load_state_dict(mine.recorder)
        self._cuts_done = mine.cuts_done


def _name_changes(space: ShrunkSpace, was: Any, size: Any) -> list[str]:
    """What went, in words of the log."""
    widths = zip(space.coupling.groups, was.widths, size.widths, strict=True)
    branches = zip(space.branches, was.branches, size.branches, strict=True)
    gone = [path for path, before, after in branches if before and not after]
    fewer = [f"{g.name}: {before} to {after}" for g, before, after in widths if after < before]
    return [*gone, *fewer]


@register_strategy(
    "shrink",
    listed=False,
    counts="channels",
    description="makes a trained network smaller; used by goldnas shrink",
    learning_rate=LEARNING_RATE,
    check=_check,
)
def shrink(session: Session) -> Shrinking:
    """Of a network that is trained already."""
    return Shrinking(session)
