"""What a training loop trains, and who decides what happens around its steps."""

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from goldnas.data.examples import Normalisation
from goldnas.data.loader import TrainingLoader
from goldnas.task import Task

Result_co = TypeVar("Result_co", covariant=True)


class Learner(Protocol):
    """What learns: a super-network, or one network."""

    @property
    def module(self) -> nn.Module:
        """Maps inputs to outputs and auxiliary outputs, or None."""

    def build(self) -> None:
        """Make everything that learns, as it is before the first step."""

    def describe_start(self) -> dict[str, Any]:
        """What the log says of the learner when a loop starts, the first time or later."""

    def describe_epoch(self) -> dict[str, Any]:
        """What the log says of it after an epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that was learnt: tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; :meth:`build` was called before."""


class Strategy(Protocol[Result_co]):
    """How a learner is trained: its steps, what happens between them, and its end.

    A strategy is made with the loop that will run it, and uses the loop's services.
    """

    @property
    def learner(self) -> Learner:
        """What is trained."""

    def describe_start(self) -> dict[str, Any]:
        """What the log says of the strategy when a loop starts, the first time or later."""

    def learning_rate(self, step: int) -> float:
        """Learning rate of the weights at a step, without setbacks."""

    def finished(self) -> bool:
        """Whether the last epoch is over."""

    def train_step(self, step: int, *batch: Any) -> Tensor:
        """Take one step; return the loss of the task."""

    def after_step(self, step: int) -> None:
        """Act between two steps."""

    def after_epoch(self, step: int) -> None:
        """Act after an epoch whose last step this is."""

    def finish(self) -> Result_co:
        """Act after the last epoch."""

    def state_dict(self) -> dict[str, Any]:
        """What the strategy decides by: plain values, the same on all ranks."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


class LoopData(Protocol):
    """What a loop learns from."""

    @property
    def task(self) -> Task:
        """What is learnt."""

    @property
    def loader(self) -> TrainingLoader:
        """Of the items that the weights learn from."""

    @property
    def normalisation(self) -> Normalisation:
        """Of all of them."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, ...]]:
        """What each step of an epoch learns from, from one of the steps on."""
