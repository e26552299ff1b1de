"""What a network is trained for: a loss, and a metric that says how good it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from goldnas.errors import ConfigError, name_type
from goldnas.metric import ACCURACY, MetricKind
from goldnas.reference import call_function, explain_error

LossFunction = Callable[[Tensor, Tensor], Tensor]


def _mean(mean: Tensor) -> Tensor:
    return mean


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a network learns, and the metric that judges it.

    Args:
        loss: Function of the outputs and targets of a batch. It returns a scalar, the mean over
            the batch.
        metric: Function of the same. It returns a tensor whose first dimension is the batch.
            The metric is the mean over all items, whichever batches they were in.
        name: Name of the metric, in tables and files.
        higher_is_better: Whether a higher metric is better.
        summary: Function from that mean to the metric, if the metric is not the mean itself: a
            root, or a quotient of two means.

    Raises:
        ConfigError: If the name is not valid.

    Example:
        >>> from torch.nn import functional as F
        >>> task = goldnas.Task(
        ...     loss=F.mse_loss,
        ...     metric=lambda outputs, targets: (outputs - targets).abs(),
        ...     name="mean error",
        ...     higher_is_better=False,
        ... )
        >>> task.metric_kind.name
        'mean error'
    """

    loss: LossFunction
    metric: LossFunction
    name: str
    higher_is_better: bool = True
    summary: Callable[[Tensor], Any] = _mean

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or "\n" in self.name:
            raise ConfigError(
                f"the metric of a task must have a short text as its name, got {self.name!r}"
            )
        if self.name == ACCURACY.name and self.metric is not _right:
            raise ConfigError(
                "the metric of a task cannot be named 'accuracy', which is the share of "
                "correctly classified inputs; give it another name, such as 'pixel accuracy'"
            )

    def compute_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch.

        Raises:
            ConfigError: If the function fails.
        """
        loss: Tensor = self._tried("loss", self.loss, outputs, targets)
        return loss

    def compute_statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What :meth:`summarise` takes the mean of, ``(B, ...)``.

        Raises:
            ConfigError: If the function fails.
        """
        found: Tensor = self._tried("metric", self.metric, outputs, targets)
        return found

    def summarise(self, mean: Tensor) -> float:
        """The metric, from the mean of the statistics over all items.

        Raises:
            ConfigError: If the function fails.
        """
        return float(self._tried("summary", self.summary, mean))

    @property
    def metric_kind(self) -> MetricKind:
        """What networks are judged by, as files and logs have it."""
        return MetricKind(self.name, self.higher_is_better)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Try the task on a batch.

        Args:
            outputs: As networks put out.
            targets: Of some items.

        Raises:
            ConfigError: If a function fails, or returns something else than it should.
        """
        loss: Any = self.compute_loss(outputs.requires_grad_(), targets)
        if not isinstance(loss, Tensor) or loss.dim() or not loss.requires_grad:
            raise ConfigError(
                f"the loss of task {self.name!r} is {_described(loss)}; it must be a scalar "
                "tensor that depends on the outputs: the mean over the batch"
            )
        with torch.no_grad():
            found: Any = self.compute_statistics(outputs, targets)
            if not isinstance(found, Tensor) or not found.dim() or len(found) != len(targets):
                raise ConfigError(
                    f"the metric of task {self.name!r} is {_described(found)} for "
                    f"{len(targets)} items; it must be a tensor with a row for each item"
                )
            self.summarise(found.double().mean(0))

    def _tried(self, what: str, function: Callable[..., Any], *tensors: Tensor) -> Any:
        try:
            result = function(*tensors)
            return float(result) if what == "summary" else result
        except Exception as error:
            if isinstance(error, RuntimeError) and "memory" in str(error):
                raise  # who trains halves the batch
            shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors)
            raise ConfigError(
                f"the {what} of task {self.name!r} fails on {shapes}: "
                f"{explain_error(error, function)}"
            ) from error


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether each is classified right, ``(B,)``."""
    return logits.argmax(dim=1) == labels


CLASSIFICATION = Task(loss=F.cross_entropy, metric=_right, name=ACCURACY.name)
"""Unless something else is said."""


def load_task(name: str | None) -> Task:
    """The task that a function returns; classification for None.

    Raises:
        ConfigError: If there is no such function, it fails, or returns something else.
    """
    if name is None:
        return CLASSIFICATION
    task = call_function(name, "a task", "a goldnas.Task")
    if not isinstance(task, Task):
        raise ConfigError(f"{name} returns {name_type(task)}, and must return a goldnas.Task")
    return task


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        gradient = "" if value.requires_grad else " without a gradient"
        return f"a tensor of {tuple(value.shape)}{gradient}"
    return name_type(value)
