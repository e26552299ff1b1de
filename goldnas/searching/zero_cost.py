"""Scores of networks that nobody has trained: zero-cost proxies, the more the better.

They see an untrained network once, and know little: what they are worth in a space is to be
held against random networks there.
"""

import math

import torch
from torch import Tensor, nn

from goldnas.errors import ConfigError


@torch.no_grad()
def naswot(network: nn.Module, images: Tensor) -> float:
    """How differently a network's rectifiers respond to different images.

    Each image has a binary code: which units of the ReLU modules are on. K counts, for two
    images, the units in which their codes agree; the score is log |det K|.

    Args:
        network: With its first weights; its running statistics change.
        images: Such as ``(B, C, H, W)``, normalised, on its device.

    Raises:
        ConfigError: If it has no rectifiers.

    Source:
        Mellor et al., Neural Architecture Search without Training (arXiv:2006.04647), with the
        sum over layers of its public code.
    """
    agreement = torch.zeros(len(images), len(images), device=images.device)

    def add(module: nn.Module, inputs: object, output: Tensor) -> None:
        code = (output.flatten(1) > 0).to(agreement.dtype)
        agreement.add_(code @ code.T + (1 - code) @ (1 - code).T)

    if not any(isinstance(module, nn.ReLU) for module in network.modules()):
        raise ConfigError(
            "`score='naswot'` reads the nn.ReLU modules of a network, and this network has "
            "none; add some, or choose another `score`"
        )

    handles = [
        module.register_forward_hook(add)
        for module in network.modules()
        if isinstance(module, nn.ReLU)
    ]
    network.train()  # by the statistics of the batch: there are no others yet
    network(images)
    for handle in handles:
        handle.remove()
    return float(torch.linalg.slogdet(agreement.cpu().double()).logabsdet)


def synflow(network: nn.Module, input_shape: tuple[int, ...]) -> float:
    """How much of a signal flows through a network, over all its weights, as a logarithm.

    With the absolute values of the weights, an image of ones and no normalisation, it is
    log of the sum of |w dR/dw|, where R is the sum of the outputs.

    Args:
        network: With its first weights, which change; its normalisations have seen nothing.
        input_shape: Such as ``(C, H, W)``.

    Source:
        Tanaka et al., Pruning neural networks without any data (arXiv:2006.05467), as a score
        of networks in Abdelfattah et al., Zero-Cost Proxies (arXiv:2101.08134).
    """
    network.cpu().double().eval()  # a product over all layers leaves the range of fp32
    weights = list(network.parameters())
    with torch.no_grad():
        for weight in weights:
            weight.abs_()
    flow = network(torch.ones(1, *input_shape, dtype=torch.float64)).sum()
    gradients = torch.autograd.grad(flow, weights)
    with torch.no_grad():
        flows = [(w * g).sum() for w, g in zip(weights, gradients, strict=True)]
    return math.log(float(torch.stack(flows).sum()))
