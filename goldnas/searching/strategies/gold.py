"""GOLD-NAS (arXiv:2007.03331): train weights and gates together, prune gradually."""

import math
from itertools import islice
from typing import Any

from torch import Tensor

from goldnas.errors import RunError, count_of
from goldnas.searching.front import Front
from goldnas.searching.gate_training import GateTraining
from goldnas.searching.gates import Gates, verify_chosen
from goldnas.searching.pruning import TIGHTER_SHARES, remove_operators
from goldnas.searching.recorder import FrontRecorder
from goldnas.searching.schedules import (
    AlgorithmOneSchedule,
    LinearBudgetSchedule,
    PruningSchedule,
)
from goldnas.searching.session import Session
from goldnas.searching.strategies.gold_single import ImportancePruning
from goldnas.searching.strategies.registry import register_strategy
from goldnas.searching.supernet_learner import SupernetLearner


@register_strategy(
    "gold",
    description="GOLD-NAS: one level, pruned gradually (arXiv:2007.03331)",
    takes={"pace"},
    penalised=True,
)
def gold(session: Session) -> "GoldNas | ImportancePruning":
    """By gates; by importance where one operator is to be left at each place."""
    by_importance = session.config.single and session.config.pace == "planned"
    return ImportancePruning(session) if by_importance else GoldNas(session)


class GoldNas:
    """A super-network that becomes a network, a few operators at a time.

    Args:
        session: Of the search.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.schedule = _make_schedule(session)
        self.gates = Gates(session)
        self.learner = SupernetLearner(
            session,
            gates=self.gates,
            penalty_weight=self.schedule.penalty_weight,
        )
        self.training = GateTraining(session, self.learner, self.gates)
        self.recorder = FrontRecorder(session)
        self.level = 0
        """Of the tighter shares of the budgets, those that are over."""
        self.scheduled_removals: list[tuple[int, int]] | None = None
        """Operators that go at this level, each with the step before which it goes."""

    # -- until the budgets hold --------------------------------------------------------------

    def describe_start(self) -> dict[str, Any]:
        """Nothing besides what the log says of the super-network."""
        return {}

    def train_step(self, step: int, *batch: Any) -> Tensor:
        """Let weights and gates descend."""
        return self.training.step(step, *batch)

    def learning_rate(self, step: int) -> float:
        """Learning rate of the weights: the schedule's."""
        return self.schedule.learning_rate(step)

    def finished(self) -> bool:
        """Whether the last epoch is over; with Algorithm 1, also whether the budgets hold."""
        done = self.session.loop.epoch >= self.session.config.epochs
        if self.session.config.pace == "paper" and self.session.loop.epoch > 0:
            return done or self.session.feasibility.within(self.learner.mask)
        return done

    def after_step(self, step: int) -> None:
        """Prune where the schedule says so; record what meets a budget for the first time."""
        if not self.schedule.due(step):
            return
        self.session.loop.check_sane()
        chosen = self.schedule.choose(step, self.gates.weights(), self.learner.mask)
        verify_chosen(self.session, f"after step {step + 1}", chosen)
        if not chosen:
            return
        if self.schedule.plateau:
            self.recorder.record(self.learner, step, ["plateau"])
        self._remove("prune", step, chosen)
        if newly_met := self.recorder.newly_met(self.learner):
            self.recorder.record(self.learner, step, [f"met {text}" for text in newly_met])

    def after_epoch(self, step: int) -> None:
        """Record the network of the last epoch, and those that an epoch of pruning left."""
        if self.finished():
            self.recorder.record(self.learner, step, ["end"])
        elif self._at_new_plateau():
            self.recorder.record(self.learner, step, ["plateau"])

    def _at_new_plateau(self) -> bool:
        """Whether a planned search has pruned since it recorded a network.

        The plan falls evenly, so the end of any epoch is as good a plateau as another.
        Algorithm 1 finds its plateaus itself.
        """
        pruned = not self.learner.mask.all()
        planned = self.session.config.pace == "planned"
        return (
            planned
            and pruned
            and (self.learner.architecture.fingerprint != self.recorder.recorded)
        )

    # -- below the budgets -------------------------------------------------------------------

    def finish(self) -> Front:
        """Carry the front on below the budgets: what tighter budgets would have left.

        After the last epoch one more tenth of the steps is shared out between the tighter
        shares of the budgets. At each, weak operators go one by one while the rest trains on.

        Raises:
            RunError: If the last epoch left a budget unmet.
        """
        self._check_budgets()
        first = self.session.loop.epoch * self.session.loop.steps_per_epoch
        steps = _steps_per_share(first)
        for level in range(self.level, len(TIGHTER_SHARES)):
            self.level = level
            start, end = first + level * steps, first + (level + 1) * steps
            if self.scheduled_removals is None:
                chosen = self.gates.weakest_over(TIGHTER_SHARES[level])
                if chosen is None:
                    break
                if not chosen:
                    continue
                # Even gaps over the first half of the steps; what is left after it at once.
                gap = max(1, steps // (2 * len(chosen)))
                self.scheduled_removals = [
                    (start + i * gap, index) for i, index in enumerate(chosen)
                ]
                self.session.loop.step = start
            self._train_to(end)
            self.recorder.record(self.learner, end - 1, ["beyond"])
            self.scheduled_removals, self.session.loop.losses = None, []
        return self.recorder.finish()

    def _train_to(self, end: int) -> None:
        """Train to a step, and remove what was scheduled by then."""
        loop = self.session.loop
        for batch in islice(self.session.data.batches_from(loop.step), end - loop.step):
            self._remove_scheduled(by=loop.step)
            loop.train_step(*batch)
            loop.end_step()
        loop.check_sane()
        self._remove_scheduled()

    def _remove_scheduled(self, *, by: float = math.inf) -> None:
        """Remove, one at a time, the operators whose turn comes by a step."""
        while self.scheduled_removals and self.scheduled_removals[0][0] <= by:
            _, index = self.scheduled_removals.pop(0)
            self._remove("beyond", self.session.loop.step, [index])

    def _check_budgets(self) -> None:
        if not self.session.feasibility.within(self.learner.mask):
            raise self.session.loop.ranks.common(
                RunError(
                    f"{count_of(self.session.config.epochs, 'epoch')} ended over budget: "
                    f"{', '.join(self.recorder.unmet)}. Algorithm 1 has no deadline: allow "
                    "more `epochs`, or use `pace='planned'`"
                )
            )

    def _remove(self, event: str, step: int, chosen: list[int]) -> None:
        remove_operators(self.session, self.learner, self.gates, event, step, chosen)

    # -- state -------------------------------------------------------------------------------

    @property
    def total_steps(self) -> int:
        """Steps of a planned search, with those below the budgets; of any other, at most."""
        steps = self.session.config.epochs * self.session.loop.steps_per_epoch
        return steps + len(TIGHTER_SHARES) * _steps_per_share(steps)

    def state_dict(self) -> dict[str, Any]:
        """The front, the schedule, and how far below the budgets the search is."""
        return {
            "recorder": self.recorder.state_dict(),
            "schedule": self.schedule.state_dict(),
            "level": self.level,
            "scheduled_removals": self.scheduled_removals,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.recorder.load_state_dict(state["recorder"])
        self.schedule.load_state_dict(state["schedule"])
        self.level = state["level"]
        self.scheduled_removals = state["scheduled_removals"]


def _make_schedule(session: Session) -> PruningSchedule:
    config, gates = session.config, len(session.space.gates)
    steps_per_epoch = session.loop.steps_per_epoch
    if config.pace == "paper":
        return AlgorithmOneSchedule(config, session.feasibility, steps_per_epoch, gates)
    total_steps = config.epochs * steps_per_epoch
    return LinearBudgetSchedule(config, session.feasibility, total_steps, gates)


def _steps_per_share(steps: int) -> int:
    """Steps at each tighter share of the budgets, after so many steps above them."""
    return max(1, steps // 10 // len(TIGHTER_SHARES))
