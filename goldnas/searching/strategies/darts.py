"""DARTS (arXiv:1806.09055): two levels, a softmax on each edge, one cut.

One thing differs from its authors' code, so that networks compare at equal cost: the cut goes
on until the budgets hold. In the space ``darts`` cells share their gates and nodes keep two
edges, as there; in the others every cell has gates of its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from goldnas.data.examples import Batch
from goldnas.recompute import freeze_statistics
from goldnas.searching.gates import Gates
from goldnas.searching.session import Session
from goldnas.searching.strategies.one_shot import OneShot
from goldnas.searching.strategies.registry import register_strategy
from goldnas.searching.supernet_learner import SupernetLearner

_DARTS: dict[str, Any] = {
    "takes": {"edge_rule"},
    "relaxation": "softmax",
    "levels": (2,),
    "learning_rate": 0.025,
    "gate_learning_rate": 3e-4,
}


@register_strategy(
    "darts1",
    description="DARTS, first order: two levels, softmax, cut at the end (arXiv:1806.09055)",
    **_DARTS,
)
def darts1(session: Session) -> OneShot:
    """Gates that learn as if the weights were at their best already."""
    gates = Gates(session, _adam(session))
    return OneShot(session, gates, CosineRates(session))


@register_strategy(
    "darts2",
    description="DARTS, second order: as darts1, with gates that look one weight step ahead",
    **_DARTS,
)
def darts2(session: Session) -> OneShot:
    """Gates that learn from the weights as they will be one step later."""
    gates = Gates(session, _adam(session))

    def descend_gates(learner: SupernetLearner) -> Callable[[int, Batch, Batch], None]:
        return lambda step, for_gates, for_weights: _second_order(
            session, learner, gates, step, for_gates, for_weights
        )

    return OneShot(session, gates, CosineRates(session), descend_gates)


@dataclass(frozen=True)
class CosineRates:
    """A cosine to a twenty-fifth of the learning rate, as 0.025 to 0.001; no penalty."""

    session: Session

    def learning_rate(self, step: int) -> float:
        """Learning rate of the weights at a step."""
        config = self.session.config
        progress = min(1.0, step / (config.epochs * self.session.loop.steps_per_epoch))
        share = 0.04 + 0.48 * (1 + math.cos(math.pi * progress))
        return config.learning_rate * share

    def penalty_weight(self, step: int) -> float:
        """None: DARTS knows no cost."""
        return 0.0


def _adam(session: Session) -> Callable[[nn.Parameter], torch.optim.Optimizer]:
    return lambda alpha: torch.optim.Adam(
        [alpha], lr=session.config.gate_learning_rate, betas=(0.5, 0.999), weight_decay=1e-3
    )


def _second_order(
    session: Session,
    learner: SupernetLearner,
    gates: Gates,
    step: int,
    for_gates: Batch,
    for_weights: Batch,
) -> None:
    """One descent of the gates, one step of the weights ahead."""
    config, alpha = session.config, learner.supernet.alpha
    # Passes with weights that are tried, and put back, are not to be remembered.
    with freeze_statistics(learner.supernet):
        alpha.grad = second_order_gradient(
            learner.optimizer.weights,
            alpha,
            train=lambda: learner.compute_gradient(*for_weights, 0.0),
            validate=lambda: learner.compute_gradient(*for_gates, 0.0),
            step_size=session.loop.learning_rate(step),
            momenta=learner.optimizer.momenta(),
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
    gates.descend()


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
