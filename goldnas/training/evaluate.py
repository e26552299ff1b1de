"""How often a network is right."""

import torch
from torch import nn

from goldnas.training.data import ImageData, Normalisation
from goldnas.training.loader import evaluation_batches


@torch.no_grad()
def accuracy(
    network: nn.Module,
    images: ImageData,
    normalisation: Normalisation,
    device: torch.device,
    *,
    batch_size: int = 256,
) -> float:
    """Share of pictures that a network classifies right, in evaluation mode.

    The network's mode is put back afterwards.
    """
    training = network.training
    network.eval()
    right = torch.zeros((), dtype=torch.long, device=device)
    for pictures, labels in evaluation_batches(images, normalisation, batch_size=batch_size):
        output = network(pictures.to(device, memory_format=torch.channels_last))
        logits = output[0] if isinstance(output, tuple) else output
        right += (logits.argmax(dim=1) == labels.to(device)).sum()
    network.train(training)
    return int(right) / len(images)
