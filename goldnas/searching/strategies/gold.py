"""The GOLD-NAS search (arXiv:2007.03331): train weights and gates together, prune gradually."""

import math
from itertools import islice
from typing import Any

from goldnas.errors import RunError
from goldnas.searching.schedules import AlgorithmOneSchedule, LinearBudgetSchedule, Pace
from goldnas.searching.strategies.gated import GatedSearch


class GradualSearch(GatedSearch):
    """A super-network that becomes a network, a few operators at a time."""

    presses = True

    BEYOND = (0.97, 0.94, 0.91, 0.88, 0.85)
    """Shares of the budgets at which the front goes on below them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config, gates = self.config, len(self.data.space.gates)
        steps = config.epochs * self.steps_per_epoch
        self.pace: Pace = (
            AlgorithmOneSchedule(config, self.feasibility, self.steps_per_epoch, gates)
            if config.pace == "paper"
            else LinearBudgetSchedule(config, self.feasibility, steps, gates)
        )
        self.level = 0
        """Of :attr:`BEYOND`, those that are over."""
        self.doomed: list[tuple[int, int]] | None = None
        """The operators that go at this level, each with the step before which it goes."""

    def planned_learning_rate(self, step: int) -> float:
        """Of the weights at this step."""
        return self.pace.learning_rate(step)

    def penalty_weight(self, step: int) -> float:
        """Lambda at this step."""
        return self.pace.penalty_weight(step)

    @property
    def below_budgets(self) -> bool:
        """Whether the front is being carried on below the budgets."""
        return self.doomed is not None

    @property
    def total_steps(self) -> int:
        """Steps of a planned search, with those below the budgets; of any other, at most."""
        steps = super().total_steps
        return steps + len(self.BEYOND) * self._segment(steps)

    def _finished(self) -> bool:
        done = super()._finished()
        if self.config.pace == "paper" and self.epoch > 0:
            return done or self.feasibility.within(self.active)
        return done

    def _after_step(self, step: int) -> None:
        if self.pace.due(step):
            self._prune(step)

    def _prune(self, step: int) -> None:
        self._check_sane()
        chosen = self.pace.choose(step, self._gate_weights(), self.active)
        self.ranks.verify(
            f"after step {step + 1}", lambda: {"the operators to prune": str(chosen)}
        )
        if not chosen:
            return
        if self.pace.plateau:
            self._record(step, ["plateau"])
        self._remove("prune", step, chosen)
        newly_met = [b.text for b in self._met_budgets() if b.text not in self.met]
        if newly_met:
            self.met |= set(newly_met)
            self._record(step, [f"met {text}" for text in newly_met])

    def _after_epoch(self, step: int) -> None:
        if self._finished():
            self._record(step, ["end"])
        elif self._at_new_plateau():
            self._record(step, ["plateau"])

    def _at_new_plateau(self) -> bool:
        """Whether a planned search has pruned since it recorded a network.

        Its plan falls evenly, so the end of any epoch is as good a plateau as another; the
        pace of the paper finds its plateaus itself.
        """
        pruned = not self.active.all()
        planned = self.config.pace == "planned"
        return planned and pruned and self._architecture().fingerprint != self.recorded

    def _after_training(self) -> None:
        """Carry the front on below the budgets: what a tighter budget would have left.

        After the last epoch one more tenth of the steps is shared out between the levels of
        :attr:`BEYOND`. At each, weak operators go one at a time while the rest trains on.

        Raises:
            RunError: If the last epoch left a budget unmet.
        """
        if not self.feasibility.within(self.active):
            unmet = [b.text for b in self.feasibility.budgets if b.text not in self.met]
            raise self.ranks.common(
                RunError(
                    f"{self.config.epochs} epochs ended over budget: {', '.join(unmet)}. "
                    "Algorithm 1 has no deadline: allow more --epochs, or use --pace planned"
                )
            )
        first = self.epoch * self.steps_per_epoch
        segment = self._segment(first)
        for level in range(self.level, len(self.BEYOND)):
            self.level = level
            start, end = first + level * segment, first + (level + 1) * segment
            if self.doomed is None:
                chosen = self._weakest_over(self.BEYOND[level])
                if chosen is None:
                    return
                if not chosen:
                    continue
                # Even gaps over the first half of the segment; what is left after it at once.
                gap = max(1, segment // (2 * len(chosen)))
                self.doomed = [(start + i * gap, index) for i, index in enumerate(chosen)]
                self.step = start
            for batch in islice(self._batches(), end - self.step):
                self._remove_doomed(by=self.step)
                self.losses.append(self._train_step(self.step, *batch))
                self._end_step()
            self._check_sane()
            self._remove_doomed()
            self._record(end - 1, ["beyond"])
            self.doomed, self.losses = None, []

    def _segment(self, steps: int) -> int:
        """Steps of each level below the budgets, after so many steps above them."""
        return max(1, steps // 10 // len(self.BEYOND))

    def _remove_doomed(self, *, by: float = math.inf) -> None:
        """Remove, one at a time, the operators whose turn comes by a step."""
        while self.doomed and self.doomed[0][0] <= by:
            _, index = self.doomed.pop(0)
            self._remove("beyond", self.step, [index])

    def _own_state(self) -> dict[str, Any]:
        return {"pace": self.pace.state(), "level": self.level, "doomed": self.doomed}

    def _restore_own(self, state: dict[str, Any]) -> None:
        self.pace.restore(state["pace"])
        self.level, self.doomed = state["level"], state["doomed"]
