"""The moving average of a network's weights."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of a network whose weights and statistics follow those of the network.

    The decay rises to its value, so that the average forgets the first steps: after ``n``
    updates it is ``(1 + n) / (10 + n)`` at most.
    """

    def follow(
        averages: list[Tensor] | tuple[Tensor, ...],
        currents: list[Tensor] | tuple[Tensor, ...],
        count: Tensor | int,
    ) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, currents, share)
        else:  # counts of batches, which nobody reads
            torch._foreach_copy_(averages, currents)

    return AveragedModel(network, multi_avg_fn=follow, use_buffers=True)
