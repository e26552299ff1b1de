"""How weights learn: SGD along a clipped gradient of the loss of a task."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from goldnas.data.examples import to_device
from goldnas.task import Task
from goldnas.tensor_file import check_tensor
from goldnas.training.config import StepSettings
from goldnas.training.teacher import Distillation


class WeightsOptimizer:
    """SGD with momentum and weight decay, along a clipped gradient.

    Args:
        weights: Of a network, on ``device``.
        config: Momentum, weight decay and the largest norm of the gradient.
        device: That trains.
        slower: Those of the weights that learn at a share of the learning rate.
        share: Of the learning rate, for them.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        config: StepSettings,
        device: torch.device,
        *,
        slower: Iterable[nn.Parameter] = (),
        share: float = 1.0,
    ) -> None:
        self._gradient_clip = config.gradient_clip
        apart = {id(weight): weight for weight in slower}
        fast = [weight for weight in weights if id(weight) not in apart]
        groups = [{"params": fast}] + [{"params": [*apart.values()]}] * bool(apart)
        self._shares = (1.0, share)
        self.sgd = torch.optim.SGD(
            groups,
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            # One pass over all weights, where there are hundreds of small ones.
            fused=device.type in ("cpu", "cuda"),
        )

    @property
    def weights(self) -> list[nn.Parameter]:
        """The weights that learn."""
        return [weight for group in self.sgd.param_groups for weight in group["params"]]

    def descend(self, learning_rate: float) -> None:
        """Take one step along the gradient that is in the weights."""
        nn.utils.clip_grad_norm_(self.weights, self._gradient_clip)
        for group, share in zip(self.sgd.param_groups, self._shares, strict=False):
            group["lr"] = learning_rate * share
        self.sgd.step()

    def forget(self, removed: Iterable[nn.Parameter]) -> None:
        """Drop pruned weights and their momentum."""
        gone = {id(weight) for weight in removed}
        for group in self.sgd.param_groups:
            for weight in [w for w in group["params"] if id(w) in gone]:
                self.sgd.state.pop(weight, None)
            group["params"] = [w for w in group["params"] if id(w) not in gone]

    def start_momentum(self, *, anew: bool = True) -> None:
        """Give a momentum of zero to every weight that has no momentum yet.

        A fused optimiser wants a momentum of every weight, or of none, and steps that train
        parts of a network leave some weights without a gradient.
        """
        for weight in self.weights:
            if anew or self.sgd.state[weight].get("momentum_buffer") is None:
                self.sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)

    def momenta(self) -> list[Tensor | None]:
        """Of each weight; None before its first step."""
        return [self.sgd.state[weight].get("momentum_buffer") for weight in self.weights]

    def state_dict(self) -> dict[str, Any]:
        """Of the optimiser."""
        return self.sgd.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; weights that were pruned by then have to be forgotten before."""
        load_optimizer(self.sgd, state)
        if self.sgd.state:
            self.start_momentum(anew=False)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the state of an optimiser, and keep its settings.

    Raises:
        ValueError: If that is of other weights, or no finite numbers.
    """
    own = optimizer.state_dict()["param_groups"]
    if [g["params"] for g in state["param_groups"]] != [g["params"] for g in own]:
        raise ValueError("an optimiser has other weights")
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    remembered: dict[int, dict[str, Tensor | None]] = state["state"]
    for index, moments in remembered.items():
        for name, moment in moments.items():
            # Adam counts its steps, in a tensor of one number.
            like = torch.zeros(()) if name == "step" else weights[index]
            if moment is not None:
                check_tensor(f"{name} of weight {index}", moment, like)
    names = {tuple(moments) for moments in remembered.values()}
    if len(names) > 1 or min(remembered, default=0) < 0:
        raise ValueError("an optimiser remembers other things of some weights than of others")
    optimizer.load_state_dict({"state": remembered, "param_groups": own})


def compute_loss(
    module: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    task: Task,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
    auxiliary_weight: float,
    distillation: Distillation | None = None,
) -> tuple[Tensor, Tensor]:
    """The loss of some inputs, and the part of the loss that comes from the task alone.

    Args:
        module: Maps inputs to outputs and auxiliary outputs, or None.
        inputs: ``(B, ...)``.
        targets: ``(B, ...)``.
        task: Whose loss it is.
        device: Of the module.
        autocast: For the forward pass.
        auxiliary_weight: Of the loss of the auxiliary outputs.
        distillation: Adds what a teacher says of the outputs.
    """
    inputs = to_device(inputs, device, non_blocking=True)
    targets = targets.to(device, non_blocking=True)
    with autocast():
        outputs, auxiliary = module(inputs)
        loss = of_task = task.compute_loss(outputs, targets)
        if distillation is not None:
            loss = distillation.compute(loss, inputs, outputs)
        if auxiliary is not None:
            loss = loss + auxiliary_weight * task.compute_loss(auxiliary, targets)
    return loss, of_task
