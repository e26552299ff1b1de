"""A network cut out of a super-network, with its weights and statistics of its own."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from goldnas.supernet import SuperNet
from goldnas.tensor_file import load_state
from goldnas.training.distributed import Ranks
from goldnas.training.gradients import running_statistics
from goldnas.training.machine import place_module


def extract_subnet(supernet: SuperNet, device: torch.device) -> nn.Module:
    """The network that is left, as a plain module; nothing is shared with the whole."""
    space = supernet.space
    with torch.device("meta"):  # the weights are about to be replaced
        network = space.build(space.architecture(supernet.active_gates()), gated=True)
    load_state(network, supernet.network_state(), assign=True)
    return place_module(network, device)


def recalibrate(
    network: nn.Module, images: Iterable[Tensor], device: torch.device, ranks: Ranks
) -> None:
    """Compute the running statistics of the normalisations again.

    In a super-network they also come from other networks.

    Args:
        network: On ``device``.
        images: Batches ``(B, C, H, W)``, of this rank.
        device: Of this rank.
        ranks: Whose means all take.
    """
    update_bn(images, network, device)
    statistics = running_statistics(network)
    ranks.all_reduce(statistics)
    for tensor in statistics:
        tensor.div_(ranks.count)
