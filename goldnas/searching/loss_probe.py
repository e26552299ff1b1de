"""How much the loss of a network rises without some of its parts, measured."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from goldnas.channels import Coupling, LayerChannels, Role
from goldnas.data.examples import Batch
from goldnas.recompute import freeze_statistics
from goldnas.training.distributed import Ranks

_LEAST = 1e-4
"""Rise that every part is worth at least, relative to the loss."""


class LossProbe:
    """Measures the loss of a network without some of its parts, on some training images.

    Args:
        network: That is left.
        coupling: Of its channels.
        compute_loss: Of a batch; the first of what it returns is the loss.
        batches: Images and labels.
        ranks: All of them get the same numbers.
    """

    def __init__(
        self,
        network: nn.Module,
        coupling: Coupling,
        compute_loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        batches: Sequence[Batch],
        ranks: Ranks,
    ) -> None:
        self._network = network
        self._coupling = coupling
        self._compute_loss = compute_loss
        self._batches = batches
        self._ranks = ranks
        self._loss = self._measure()

    def rise_without(
        self, channels: Mapping[int, npt.NDArray[np.int64]], branches: Iterable[str] = ()
    ) -> float:
        """How much the loss rises without some parts; always above 0.

        Args:
            channels: Channels that no layer reads, by the index of their group.
            branches: Paths of the layers through which branches add something; here they add
                nothing.
        """
        kept: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            for path, roles in self._coupling.layers.items():
                gone = np.zeros(0, dtype=bool) if "in" not in roles else _gone(roles, channels)
                if gone.any():
                    weight = self._network.get_submodule(path).weight
                    assert isinstance(weight, Tensor)
                    kept.append((weight, weight.clone()))
                    weight[:, torch.as_tensor(gone)] = 0
            for path in branches:
                for weight in self._network.get_submodule(path).parameters(recurse=False):
                    kept.append((weight, weight.clone()))
                    weight.zero_()
        rise = self._measure() - self._loss
        with torch.no_grad():
            for weight, values in reversed(kept):
                weight.copy_(values)
        return max(rise, _LEAST * self._loss, 1e-9)

    def _measure(self) -> float:
        """The mean loss; normalisations take the statistics of the batch."""
        total, count = 0.0, 0
        self._network.eval()
        for module in self._network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train()
        with torch.no_grad(), freeze_statistics(self._network):
            for images, labels in self._batches:
                loss, _ = self._compute_loss(images, labels)
                total += len(images) * float(loss)
                count += len(images)
        mean = torch.tensor([total / count])
        self._ranks.all_reduce([mean])
        return float(mean) / self._ranks.count


def _gone(
    roles: Mapping[Role, LayerChannels], channels: Mapping[int, npt.NDArray[np.int64]]
) -> npt.NDArray[np.bool_]:
    """Which of what a layer reads is of some channels."""
    read = roles["in"]
    gone = np.zeros(len(read.group), dtype=bool)
    for group, which in channels.items():
        gone |= (read.group == group) & np.isin(read.channel, which)
    return gone
