"""Whether training still learns, and whether all ranks learn the same."""

import hashlib
import math

import torch
from torch import Tensor, nn

DIVERGED = 10.0
"""How many times the loss of guessing is a loss that does not learn any more."""
RECENT = 20
"""Steps over whose mean that is judged."""


class DivergedError(Exception):
    """Training diverged. The training loop catches this error, and goes back."""


def check_sane(learner: nn.Module, losses: list[Tensor], classes: int | None) -> None:
    """Refuse a loss or weights that are not finite or have exploded.

    Args:
        learner: That was trained.
        losses: Of its last steps.
        classes: The number of classes; None for another task, for which no high loss is
            known.

    Raises:
        DivergedError: Saying what is wrong.
    """
    if not losses:
        return
    recent = torch.stack(losses[-RECENT:]).mean().item()
    if classes is not None and not recent <= DIVERGED * math.log(classes):
        raise DivergedError(f"the loss is {recent:.3g}")
    if not torch.stack(losses).isfinite().all():
        raise DivergedError("the loss was not finite")
    if not nn.utils.get_total_norm(learner.parameters()).isfinite():
        raise DivergedError("some weights are not finite")


def fingerprint(network: nn.Module) -> str:
    """A hash of everything learnt: weights, gates, running statistics."""
    learnt = hashlib.sha256()
    for value in network.state_dict().values():
        if value.is_floating_point():  # batches are counted too, each rank its own
            learnt.update(value.detach().cpu().flatten().view(torch.uint8).numpy())
    return learnt.hexdigest()
