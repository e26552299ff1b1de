"""GOLD-NAS at the planned pace: gates stay equal, and what is left is chosen by importance.

The gates stay equal while the super-network trains. Then the operators that will be left are
chosen all at once, by what each is worth, so that they spend the budgets. The others fade, the
least important first, and go one handful at a time while the rest trains on.
"""

import math
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from goldnas.errors import RunError
from goldnas.resource_names import OPERATORS
from goldnas.searching.below_budgets import (
    BelowBudgets,
    Removal,
    check_removals,
    steps_per_share,
)
from goldnas.searching.feasibility import Mask
from goldnas.searching.front import Front
from goldnas.searching.gate_training import GateTraining
from goldnas.searching.gates import verify_chosen
from goldnas.searching.importance import SPENT, MeasuredGates
from goldnas.searching.pruning import TIGHTER_SHARES, remove_operators
from goldnas.searching.recorder import FrontRecorder
from goldnas.searching.schedules import operators_at_a_time
from goldnas.searching.session import Session
from goldnas.searching.supernet_learner import SupernetLearner
from goldnas.training.divergence import DivergedError

TRAIN, GONE = 0.5, 0.7
"""Shares of the steps until the choice, and until the last operator is gone."""

RUNS, SHARE, ENOUGH = 3, 0.2, 500
"""In a search whose steps are so many that each run has enough: how often the super-network is
trained from fresh weights before the choice, and in which share of the steps."""


class ImportancePruning:
    """Prunes a super-network to a network, by the importance of its operators.

    Args:
        session: Of the search.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.gates = MeasuredGates(session)
        self.learner = SupernetLearner(session, gates=self.gates)
        self.training = GateTraining(session, self.learner, self.gates)
        self.recorder = FrontRecorder(session, recalibrate=True)
        self.below = BelowBudgets(session, self.learner, self.gates, self.recorder)
        self.removals: list[tuple[int, int]] | None = None
        """The gates that go, each with the step after which it goes; None before the choice."""
        self.planned = session.config.epochs * session.loop.steps_per_epoch
        """Steps of all epochs."""
        run = round(SHARE * self.planned)
        self.runs = RUNS if run >= ENOUGH else 1
        self.first = self.runs * run if self.runs > 1 else max(1, round(TRAIN * self.planned))
        self.run_steps = self.first // self.runs
        """Steps of each run."""
        self.last = max(self.first, round(GONE * self.planned) - 1)
        self.last = min(self.last, self.planned - 1)

    @property
    def total_steps(self) -> int:
        """Steps of all epochs, and of those below the budgets."""
        return self.planned + len(TIGHTER_SHARES) * steps_per_share(self.planned)

    def describe_start(self) -> dict[str, Any]:
        """Nothing besides what the log says of the super-network."""
        return {}

    def finished(self) -> bool:
        """Whether the last epoch is over."""
        return self.session.loop.epoch >= self.session.config.epochs

    def learning_rate(self, step: int) -> float:
        """Learning rate of the weights: cosines.

        Before the choice of operators, each super-network takes the first 80 % of a cosine from
        the full rate to zero. After it, a cosine goes from a half to a hundredth of the rate.
        For each network below the budgets, a cosine begins at a tenth.
        """
        if step < self.first:
            return self._cosine(0.8 * (step % self.run_steps) / self.run_steps, 1.0, 0.0)
        if step < self.planned:
            return self._cosine((step - self.first) / (self.planned - self.first), 0.5)
        steps = steps_per_share(self.planned)
        return self._cosine((step - self.planned) % steps / steps, 0.1)

    def _cosine(self, progress: float, start: float, end: float = 0.01) -> float:
        """From a share of the learning rate to another."""
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.session.config.learning_rate * (end + (start - end) * cosine)

    def train_step(self, step: int, *batch: Any) -> Tensor:
        """Let the weights descend; measure before the choice, and let gates fade after it."""
        # Not at first: what untrained weights say is of little worth.
        self.gates.measuring = (
            step < self.first and step % self.run_steps >= self.run_steps // 2
        )
        for end, index in self.removals or ():
            if end >= step:
                self.gates.fade(index, (end - step) / (end - self.first + 1))
        return self.training.step(step, *batch)

    def after_step(self, step: int) -> None:
        """Choose when it is time to; then remove what is due."""
        if step + 1 == self.first:
            self._choose()
        elif step + 1 < self.first and (step + 1) % self.run_steps == 0:
            # What operators are worth differs from one super-network to the next.
            self.learner.build(restarts=(step + 1) // self.run_steps)
        due = [index for end, index in self.removals or () if end == step]
        if not due:
            return
        self.session.loop.check_sane()
        verify_chosen(self.session, f"after step {step + 1}", due)
        remove_operators(self.session, self.learner, self.gates, "prune", step, due)
        if newly_met := self.recorder.newly_met(self.learner):
            self.recorder.record(self.learner, step, [f"met {text}" for text in newly_met])

    def _choose(self) -> None:
        """Say what will be left, and when each of the others goes."""
        self.session.loop.check_sane()
        active = self.learner.mask
        importance, worth = self.gates.importance(), self.gates.worth()
        if not np.isfinite(importance).all():
            raise DivergedError("the importance of an operator is not a finite number")
        feasibility = self.session.feasibility
        if feasibility.within(active):
            kept: Mask | None = active  # the whole network was asked for
        else:
            kept = feasibility.choose(worth, active, floor=SPENT)
        assert kept is not None  # the search began only because there is one
        if self.session.config.single:
            self._record_tighter(worth, kept)
        going = feasibility.list_going(active, kept)
        order = going[np.argsort(importance[going], kind="stable")]
        at_a_time = operators_at_a_time(self.session.config, len(active))
        handfuls = -(-len(order) // at_a_time)
        ends = np.linspace(self.first, self.last, handfuls + 1)[1:].round().astype(int)
        ends = np.minimum(ends, self.last)  # of a search of one step, which is before the first
        self.removals = [
            (int(ends[i // at_a_time]), int(index)) for i, index in enumerate(order)
        ]

    def _record_tighter(self, worth: np.ndarray, chosen: Mask) -> None:
        """Record what tighter budgets would leave, where no pruning leads there.

        Where one operator is left at each place, a cheaper network has others. Its weights are
        those of the whole super-network, so it is to be trained.
        """
        for share in TIGHTER_SHARES if self._limited else ():
            tighter = self.session.feasibility.tightened(share)
            kept = tighter.choose(worth, self.learner.mask, floor=SPENT)
            if kept is None:
                break
            if (kept != chosen).any():
                with self.learner.supernet.restrict(torch.as_tensor(kept)):
                    self.recorder.record(self.learner, self.first - 1, ["beyond"])
                chosen = kept

    @property
    def _limited(self) -> bool:
        """Whether there is a budget besides the number of operators."""
        return any(b.resource != OPERATORS for b in self.session.feasibility.budgets)

    def after_epoch(self, step: int) -> None:
        """Record the network of the last epoch, and those that an epoch of pruning left."""
        if self.finished():
            self.recorder.record(self.learner, step, ["end"])
        elif (
            not self.learner.mask.all()
            and self.learner.architecture.fingerprint != self.recorder.recorded
        ):
            self.recorder.record(self.learner, step, ["plateau"])

    def finish(self) -> Front:
        """Carry the front on below the budgets."""
        self.below.run()
        return self.recorder.finish()

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The front, what was measured, what goes."""
        return {
            "recorder": self.recorder.state_dict(),
            "importance": self.gates.state_dict(),
            "removals": self.removals,
            **self.below.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            RunError: If an earlier goldnas left it, which went by gates here, too.
        """
        if "importance" not in state:
            raise RunError(
                f"an earlier goldnas began {self.session.run.path} and pruned by gates: search "
                "again with another `out`"
            )
        self.recorder.load_state_dict(state["recorder"])
        self.gates.load_state_dict(state["importance"])
        self.below.load_state_dict(state)
        self.removals = msgspec.convert(state["removals"], list[Removal] | None)
        check_removals(self.removals, len(self.session.space.gates))
