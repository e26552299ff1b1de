"""Algorithm 1 of GOLD-NAS (arXiv:2007.03331): weights and gates together, pruned gradually."""

from typing import Any

from torch import Tensor

from goldnas.errors import RunError, count_of
from goldnas.searching.below_budgets import BelowBudgets, steps_per_share
from goldnas.searching.front import Front
from goldnas.searching.gate_training import GateTraining
from goldnas.searching.gates import Gates, verify_chosen
from goldnas.searching.pruning import TIGHTER_SHARES, remove_operators
from goldnas.searching.recorder import FrontRecorder
from goldnas.searching.schedules import AlgorithmOneSchedule
from goldnas.searching.session import Session
from goldnas.searching.supernet_learner import SupernetLearner


class AlgorithmOne:
    """Prunes a super-network to a network, a few operators at a time.

    Args:
        session: Of the search.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        config, steps_per_epoch = session.config, session.loop.steps_per_epoch
        self.schedule = AlgorithmOneSchedule(
            config, session.feasibility, steps_per_epoch, len(session.space.gates)
        )
        self.gates = Gates(session)
        self.learner = SupernetLearner(
            session,
            gates=self.gates,
            penalty_weight=self.schedule.penalty_weight,
        )
        self.training = GateTraining(session, self.learner, self.gates)
        self.recorder = FrontRecorder(session)
        self.below = BelowBudgets(session, self.learner, self.gates, self.recorder)

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
        """Whether the budgets hold after an epoch, or the last epoch is over."""
        epoch = self.session.loop.epoch
        if epoch > 0 and self.session.feasibility.within(self.learner.mask):
            return True
        return epoch >= self.session.config.epochs

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
        """Record the network of the last epoch; plateaus are known at the next pruning."""
        if self.finished():
            self.recorder.record(self.learner, step, ["end"])

    # -- below the budgets -------------------------------------------------------------------

    def finish(self) -> Front:
        """Carry the front on below the budgets.

        Raises:
            RunError: If the last epoch left a budget unmet.
        """
        self._check_budgets()
        self.below.run()
        return self.recorder.finish()

    def _check_budgets(self) -> None:
        if not self.session.feasibility.within(self.learner.mask):
            raise self.session.loop.ranks.common(
                RunError(
                    f"{count_of(self.session.config.epochs, 'epoch')} ended over budget: "
                    f"{', '.join(self.recorder.unmet)}. Algorithm 1 has no deadline: allow "
                    "more `epochs`, or give `pace='planned'`"
                )
            )

    def _remove(self, event: str, step: int, chosen: list[int]) -> None:
        remove_operators(self.session, self.learner, self.gates, event, step, chosen)

    # -- state -------------------------------------------------------------------------------

    @property
    def total_steps(self) -> int:
        """Steps of all epochs, with those below the budgets: at most."""
        steps = self.session.config.epochs * self.session.loop.steps_per_epoch
        return steps + len(TIGHTER_SHARES) * steps_per_share(steps)

    def state_dict(self) -> dict[str, Any]:
        """The front, the schedule, and how far below the budgets the search is."""
        return {
            "recorder": self.recorder.state_dict(),
            "schedule": self.schedule.state_dict(),
            **self.below.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.recorder.load_state_dict(state["recorder"])
        self.schedule.load_state_dict(state["schedule"])
        self.below.load_state_dict(state)
