"""Steps of a search whose gates learn: with the weights, or on a level of their own."""

from collections.abc import Callable

from torch import Tensor

from goldnas.data.examples import Batch
from goldnas.searching.gates import Gates
from goldnas.searching.session import Session
from goldnas.searching.supernet_learner import SupernetLearner


class GateTraining:
    """Steps of weights and gates: together, or on two levels.

    On one level both descend together, on the same images. On two, the gates have images of
    their own, and descend on those first, as in DARTS.

    Args:
        session: Of the search.
        learner: With the gates.
        gates: Of the learner.
        descend_gates: One descent of the gates on their own images, given the step, their batch
            and that of the weights; first order unless given.
    """

    def __init__(
        self,
        session: Session,
        learner: SupernetLearner,
        gates: Gates,
        descend_gates: Callable[[int, Batch, Batch], None] | None = None,
    ) -> None:
        self._session = session
        self._learner = learner
        self._gates = gates
        self._descend_gates = descend_gates or self._first_order

    def step(
        self, step: int, images: Tensor, labels: Tensor, for_gates: Batch | None = None
    ) -> Tensor:
        """Take one step; return the loss of the task."""
        learner, learning_rate = self._learner, self._session.loop.learning_rate(step)
        learner.supernet.train()
        if for_gates is None:
            loss = learner.compute_gradient(images, labels, learner.penalty_weight(step))
            learner.optimizer.descend(learning_rate)
            self._gates.descend()
        else:
            self._descend_gates(step, for_gates, (images, labels))
            loss = learner.compute_gradient(images, labels, 0.0)
            learner.optimizer.descend(learning_rate)
        return loss

    def _first_order(self, step: int, for_gates: Batch, for_weights: Batch) -> None:
        """Descend as if the weights were at their best already."""
        penalty_weight = self._learner.penalty_weight(step)
        self._learner.compute_gradient(*for_gates, penalty_weight)
        self._gates.descend()
