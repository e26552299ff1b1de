"""Carrying a front on below the budgets: what tighter budgets would have left."""

import math
from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any

import msgspec

from goldnas.ranges import Count
from goldnas.searching.gates import Gates
from goldnas.searching.pruning import TIGHTER_SHARES, remove_operators
from goldnas.searching.recorder import FrontRecorder
from goldnas.searching.session import Session
from goldnas.searching.supernet_learner import SupernetLearner

Removal = tuple[Count, Count]
"""A step, and the operator that goes there."""


class _BelowState(msgspec.Struct):
    level: Annotated[int, msgspec.Meta(ge=0, le=len(TIGHTER_SHARES))]
    scheduled_removals: list[Removal] | None


class BelowBudgets:
    """The last steps of a search that prunes, after the budgets are met.

    One more tenth of the steps is shared out between the tighter shares of the budgets. At
    each, weak operators go one by one while the rest trains on.

    Args:
        session: Of the search.
        learner: What is left of the super-network.
        gates: Of the learner.
        recorder: Of the front.
    """

    def __init__(
        self, session: Session, learner: SupernetLearner, gates: Gates, recorder: FrontRecorder
    ) -> None:
        self._session = session
        self._learner = learner
        self._gates = gates
        self._recorder = recorder
        self.level = 0
        """Of the tighter shares of the budgets, those that are over."""
        self.scheduled_removals: list[tuple[int, int]] | None = None
        """Operators that go at this level, each with the step before which it goes."""

    def run(self) -> None:
        """Go through the tighter shares, and record what each of them leaves."""
        loop = self._session.loop
        first = loop.epoch * loop.steps_per_epoch
        steps = steps_per_share(first)
        for level in range(self.level, len(TIGHTER_SHARES)):
            self.level = level
            start, end = first + level * steps, first + (level + 1) * steps
            if self.scheduled_removals is None:
                chosen = self._gates.weakest_over(TIGHTER_SHARES[level])
                if chosen is None:
                    break
                if not chosen:
                    continue
                # Even gaps over the first half of the steps; what is left after it at once.
                gap = max(1, steps // (2 * len(chosen)))
                self.scheduled_removals = [
                    (start + i * gap, index) for i, index in enumerate(chosen)
                ]
                loop.step = start
            self._train_to(end)
            self._recorder.record(self._learner, end - 1, ["beyond"])
            self.scheduled_removals, loop.losses = None, []

    def _train_to(self, end: int) -> None:
        """Train to a step, and remove what was scheduled by then."""
        loop = self._session.loop
        for batch in islice(self._session.data.batches_from(loop.step), end - loop.step):
            self._remove_scheduled(by=loop.step)
            loop.train_step(*batch)
            loop.end_step()
        loop.check_sane()
        self._remove_scheduled()

    def _remove_scheduled(self, *, by: float = math.inf) -> None:
        """Remove, one at a time, the operators whose turn comes by a step."""
        while self.scheduled_removals and self.scheduled_removals[0][0] <= by:
            _, index = self.scheduled_removals.pop(0)
            step = self._session.loop.step
            remove_operators(self._session, self._learner, self._gates, "beyond", step, [index])

    def state_dict(self) -> dict[str, Any]:
        """How far below the budgets the search is."""
        return {"level": self.level, "scheduled_removals": self.scheduled_removals}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, which may have more than this part's."""
        mine = msgspec.convert(state, _BelowState)
        check_removals(mine.scheduled_removals, len(self._session.space.gates))
        self.level, self.scheduled_removals = mine.level, mine.scheduled_removals


def check_removals(removals: Sequence[Removal] | None, gates: int) -> None:
    """Refuse to remove operators that do not exist.

    Raises:
        ValueError: Naming the first.
    """
    for step, index in removals or ():
        if index >= gates:
            raise ValueError(f"operator {index} of {gates} goes before step {step}")


def steps_per_share(steps: int) -> int:
    """Steps at each tighter share of the budgets, after so many steps above them."""
    return max(1, steps // 10 // len(TIGHTER_SHARES))
