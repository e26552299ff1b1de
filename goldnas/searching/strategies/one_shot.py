"""One-shot pruning: train the whole super-network, then cut it to the budgets at once.

What GOLD-NAS does without: between the accuracy before the cut and the accuracy after it lies
the discretisation gap.
"""

import math
from collections.abc import Callable
from itertools import islice
from typing import Any, Protocol

from torch import Tensor

from goldnas.data.examples import Batch
from goldnas.searching.edge_rule import keep_two_edges
from goldnas.searching.front import Front
from goldnas.searching.gate_training import GateTraining
from goldnas.searching.gates import Gates
from goldnas.searching.pruning import TIGHTER_SHARES, remove_operators
from goldnas.searching.recorder import FrontRecorder
from goldnas.searching.schedules import weak_and_free
from goldnas.searching.session import Session
from goldnas.searching.strategies.registry import register_strategy
from goldnas.searching.subnet import extract_subnet, recalibrate
from goldnas.searching.supernet_learner import SupernetLearner

RECALIBRATED = 4096
"""Images, at most, that the statistics of a cut network are taken from."""


class Rates(Protocol):
    """How fast weights learn, and the weight of the penalty on gates."""

    def learning_rate(self, step: int) -> float:
        """Learning rate of the weights at a step."""

    def penalty_weight(self, step: int) -> float:
        """Lambda at a step."""


@register_strategy(
    "one-shot",
    description="train the super-network of gold with its penalty, then cut to the budgets",
    takes={"edge_rule"},
)
def one_shot(session: Session) -> "OneShot":
    """The super-network of GOLD-NAS, trained under its first penalty, and cut once."""
    return OneShot(session, Gates(session), PressedRates(session))


class PressedRates:
    """A cosine to a tenth of the learning rate, and a penalty that rises as the rate falls.

    Both stay as they are from 40 % of the steps on. The penalty alone would move a gate of mean
    cost by about one unit in the half of the steps that follows.

    Args:
        session: Of the search.
    """

    def __init__(self, session: Session) -> None:
        self._config = session.config
        total_steps = session.config.epochs * session.loop.steps_per_epoch
        self._last = max(0, round(0.9 * total_steps) - 1)
        self._first = min(self._last, round(0.4 * total_steps))
        self._most = session.config.lambda0 or 1 / max(1, self._last - self._first)

    def learning_rate(self, step: int) -> float:
        """Learning rate of the weights at a step."""
        progress = min(1.0, step / max(1, self._first))
        return self._config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))

    def penalty_weight(self, step: int) -> float:
        """Lambda at a step; 0 in the last tenth."""
        if step > self._last:
            return 0.0
        return self._most * min(1.0, step / max(1, self._first))


class OneShot:
    """Trains a whole super-network, and cuts it once.

    Args:
        session: Of the search.
        gates: That learn.
        rates: Of weights and penalty.
        descend_gates: See :class:`GateTraining`; given the learner.
    """

    def __init__(
        self,
        session: Session,
        gates: Gates,
        rates: Rates,
        descend_gates: Callable[[SupernetLearner], Callable[[int, Batch, Batch], None]]
        | None = None,
    ) -> None:
        self.session = session
        self.gates = gates
        self.rates = rates
        self.learner = SupernetLearner(
            session, gates=gates, penalty_weight=rates.penalty_weight
        )
        descend = descend_gates(self.learner) if descend_gates else None
        self.training = GateTraining(session, self.learner, gates, descend)
        self.recorder = FrontRecorder(session)

    # -- training ----------------------------------------------------------------------------

    @property
    def total_steps(self) -> int:
        """Steps of all epochs."""
        return self.session.config.epochs * self.session.loop.steps_per_epoch

    def describe_start(self) -> dict[str, Any]:
        """Nothing besides what the log says of the super-network."""
        return {}

    def train_step(self, step: int, *batch: Any) -> Tensor:
        """Let weights and gates descend."""
        return self.training.step(step, *batch)

    def learning_rate(self, step: int) -> float:
        """Learning rate of the weights."""
        return self.rates.learning_rate(step)

    def finished(self) -> bool:
        """Whether the last epoch is over."""
        return self.session.loop.epoch >= self.session.config.epochs

    def after_step(self, step: int) -> None:
        """Nothing is pruned while the super-network trains."""

    def after_epoch(self, step: int) -> None:
        """Nothing is recorded while the super-network trains."""

    # -- the cut -----------------------------------------------------------------------------

    def finish(self) -> Front:
        """Cut to the budgets, and on to one tighter share of them after the other."""
        step = self.session.loop.step - 1
        layout = self.session.space.cell_layout
        if self.session.config.edge_rule or (layout and layout.edges_per_node):
            self._cut(step, self._against_edge_rule())
        for share in (1.0, *TIGHTER_SHARES):
            chosen = self.gates.weakest_over(share)
            if chosen is None:
                break
            if share == 1:
                chosen += self._weak_and_free(without=chosen)
            if chosen or share == 1:  # else it is the network before
                self._cut(step, chosen)
                self.recorder.record(self.learner, step, ["end" if share == 1 else "beyond"])
        return self.recorder.finish()

    def _weak_and_free(self, without: list[int]) -> list[int]:
        """What GOLD-NAS would have pruned besides, since no budget asks for it."""
        left = self.learner.mask
        left[without] = False
        weights = self.gates.weights().normalised
        threshold = self.session.config.xi_max
        return weak_and_free(self.session.feasibility, weights, left, threshold)

    def _cut(self, step: int, chosen: list[int]) -> None:
        if not chosen:
            return
        session = self.session
        remove_operators(session, self.learner, self.gates, "cut", step, chosen)
        self._recalibrate()
        score = self.learner.score(session.data.check)
        session.emit("recalibrated", **{session.data.task.metric_kind.key: score})

    def _against_edge_rule(self) -> list[int]:
        """What DARTS would cut: all but the best operator of the two best edges of a node.

        The budgets have the last word: what they need to be met stays.
        """
        gates, weights = self.session.space.gates, self.gates.weights().relative
        by_weight = sorted(range(len(gates)), key=lambda index: -weights[index])
        keep = keep_two_edges(gates, by_weight)
        left, chosen = self.learner.mask, []
        for index in reversed(by_weight):
            if index not in keep and self.session.feasibility.may_prune(left, index):
                left[index] = False
                chosen.append(index)
        return chosen

    def _recalibrate(self) -> None:
        """Take the running statistics anew, from the network that is left."""
        loop, loader = self.session.loop, self.session.data.loader
        network = extract_subnet(self.learner.supernet, loop.device)
        batches = -(-RECALIBRATED // loader.images_per_batch)
        images = (images for images, _ in islice(loader.epoch(0), batches))
        recalibrate(network, images, loop.device, loop.ranks)
        self.learner.supernet.take_network_state(network.state_dict())

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The front."""
        return {"recorder": self.recorder.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.recorder.load_state_dict(state["recorder"])
