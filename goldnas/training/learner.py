"""A network with what it needs to learn, and nobody needs afterwards."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from goldnas.auxiliary_head import AuxiliaryHead
from goldnas.network import CellNetwork
from goldnas.spaces import SearchSpace


class Learner(nn.Module):
    """A network and its auxiliary head.

    Args:
        network: To train.
        space: That built it.
        auxiliary: Whether to train an auxiliary head, on the cell at two thirds of the depth,
            or on the one before it where nobody reads that one. Networks of cells have one.
    """

    def __init__(self, network: nn.Module, space: SearchSpace, *, auxiliary: bool) -> None:
        super().__init__()
        self.network = network
        self.auxiliary: AuxiliaryHead | None = None
        if not isinstance(network, CellNetwork):
            return
        cells = [int(key) for key in network.cells]
        place = space.auxiliary_place(cells)
        assert place is not None  # where there are cells there is one
        self._last, self._inner = str(max(cells)), str(place.cell)
        if auxiliary:
            self.auxiliary = AuxiliaryHead(place.channels, space.classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map inputs to outputs, as ``(B, classes)`` logits, and to auxiliary ones or None."""
        logits: Tensor
        if not isinstance(self.network, CellNetwork):
            logits = self.network(images)
            return logits, None
        features = self.network.features(images, keep=(self._inner, self._last))
        logits = self.network.classifier(features[self._last])
        if self.auxiliary is None:
            return logits, None
        return logits, self.auxiliary(features[self._inner])


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
