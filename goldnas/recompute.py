"""Computing a part of a network again in the backward pass, instead of keeping it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute(
    compute: Callable[..., Tensor], module: nn.Module, *inputs: Any, random: bool
) -> Tensor:
    """The output of ``compute``, which the backward pass computes again for the gradient.

    Args:
        compute: The part.
        module: That has its normalisations, whose running statistics are taken once.
        inputs: Of the part: all that it needs and that is not the same later.
        random: Whether it may draw numbers, as dropout does: the same are drawn again.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), freeze_statistics(module)

    output: Tensor = checkpoint(
        compute,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=random,
        context_fn=contexts,
    )
    return output


@contextmanager
def freeze_statistics(module: nn.Module) -> Iterator[None]:
    """Let a pass in training mode leave the running statistics of normalisations alone."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    held = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, held, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
