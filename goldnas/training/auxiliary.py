"""A network with its auxiliary head, which helps it to learn and is removed afterwards."""

from torch import Tensor, nn

from goldnas.auxiliary_head import AuxiliaryHead
from goldnas.network import CellNetwork
from goldnas.spaces import SearchSpace


class WithAuxiliaryHead(nn.Module):
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
        self._last = ""
        """Key of the last cell, of a network of cells."""
        if not isinstance(network, CellNetwork):
            return
        cells = [int(key) for key in network.cells]
        place = space.place_auxiliary(cells)
        if place is None:  # what is left of a network that was shrunk
            return
        self._last, self._inner = str(max(cells)), str(place.cell)
        if auxiliary:
            self.auxiliary = AuxiliaryHead(place.channels, space.classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map inputs to outputs, as ``(B, classes)`` logits, and to auxiliary ones or None."""
        logits: Tensor
        if not isinstance(self.network, CellNetwork) or not self._last:
            logits = self.network(images)
            return logits, None
        features = self.network.features(images, keep=(self._inner, self._last))
        logits = self.network.classifier(features[self._last])
        if self.auxiliary is None:
            return logits, None
        return logits, self.auxiliary(features[self._inner])
