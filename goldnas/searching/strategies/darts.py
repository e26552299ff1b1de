"""DARTS (arXiv:1806.09055) in the same space: two levels, a softmax on each edge, one cut.

Two things differ from its authors' code, so that networks compare at equal cost: every cell
has gates of its own, and the cut goes on until the budgets hold.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from goldnas.data.examples import Batch
from goldnas.recompute import statistics_frozen
from goldnas.searching.strategies.one_shot import OneShotSearch


class DartsSearch(OneShotSearch):
    """Gates learn from images of their own, by Adam; first or second order."""

    presses = False  # DARTS knows no cost

    def planned_learning_rate(self, step: int) -> float:
        """Of the weights at this step: a cosine to a twenty-fifth, as 0.025 to 0.001."""
        progress = min(1.0, step / self.total_steps)
        share = 0.04 + 0.48 * (1 + math.cos(math.pi * progress))
        return self.config.learning_rate * share

    def penalty_weight(self, step: int) -> float:
        """None."""
        return 0.0

    def _gates_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            [self.supernet.alpha],
            lr=self.config.gate_learning_rate,
            betas=(0.5, 0.999),
            weight_decay=1e-3,
        )

    def _train_gates(self, step: int, for_gates: Batch, for_weights: Batch) -> None:
        if self.config.strategy == "darts1":
            super()._train_gates(step, for_gates, for_weights)
            return
        (group,) = self.weights_optimizer.param_groups
        momenta = [
            self.weights_optimizer.state[w].get("momentum_buffer") for w in group["params"]
        ]
        # Passes with weights that are tried, and put back, are not to be remembered.
        with statistics_frozen(self.supernet):
            self.supernet.alpha.grad = second_order_gradient(
                group["params"],
                self.supernet.alpha,
                train=lambda: self._gradient(*for_weights, 0.0),
                validate=lambda: self._gradient(*for_gates, 0.0),
                step_size=group["lr"],
                momenta=momenta,
                momentum=group["momentum"],
                weight_decay=group["weight_decay"],
            )
        self.gates_optimizer.step()


@torch.no_grad()
def second_order_gradient(
    weights: Sequence[Tensor],
    alpha: Tensor,
    *,
    train: Callable[[], object],
    validate: Callable[[], object],
    step_size: float,
    momenta: Sequence[Tensor | None],
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> Tensor:
    """The gradient of the validation loss after one step of the weights, in the gates.

    With w' = w - xi v, where v is the step of SGD on the training loss, it is
    dL_val(w', alpha)/dalpha - xi d2L_train(w, alpha)/(dalpha dw) dL_val(w', alpha)/dw', and the
    second term is a difference of two gradients (DARTS, equations 7 and 8).

    Args:
        weights: w; they are as before afterwards, to the bit.
        alpha: ``(G,)``.
        train: Leaves the gradients of the training loss in ``grad`` of weights and alpha.
        validate: The same of the validation loss.
        step_size: xi.
        momenta: Of SGD, of each weight; None before its first step.
        momentum: By which they decay.
        weight_decay: Of SGD.

    Returns:
        ``(G,)``.
    """
    before = [w.detach().clone() for w in weights]
    with torch.enable_grad():
        train()
    for w, velocity in zip(weights, momenta, strict=True):
        ahead = weight_decay * w if w.grad is None else w.grad + weight_decay * w
        w.sub_(step_size * (ahead if velocity is None else ahead + momentum * velocity))
    with torch.enable_grad():
        validate()
    assert alpha.grad is not None
    gradient = alpha.grad.clone()
    direction = [torch.zeros_like(w) if w.grad is None else w.grad.clone() for w in weights]
    radius = 0.01 / max(float(torch.nn.utils.get_total_norm(direction)), 1e-12)
    around: list[Tensor] = []
    for sign in (1.0, -1.0):
        for w, start, along in zip(weights, before, direction, strict=True):
            w.copy_(start).add_(along, alpha=sign * radius)
        with torch.enable_grad():
            train()
        around.append(alpha.grad.clone())
    for w, start in zip(weights, before, strict=True):
        w.copy_(start)
    return gradient - step_size * (around[0] - around[1]) / (2 * radius)
