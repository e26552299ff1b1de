"""A second classifier on an inner cell, for training only. It knows torch and nothing else."""

from torch import Tensor, nn
from torch.nn import functional as F


class Quarters(nn.Module):
    """The means of an image's quarters; of an odd side, both halves have the middle.

    What ``AdaptiveAvgPool2d(2)`` computes, which Apple's GPUs have for even sides only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C, 2, 2)``."""
        height, width = x.shape[-2:]
        half = ((height + 1) // 2, (width + 1) // 2)
        step = (max(1, height // 2), max(1, width // 2))
        # A side of one pixel has one window, which stands for both halves.
        return F.avg_pool2d(x, half, step).expand(-1, -1, 2, 2)


class AuxiliaryHead(nn.Module):
    """A second classifier on an inner cell, for training only (DARTS, arXiv:1806.09055).

    The pooling adapts to the size of its input, so that small images work.
    """

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            Quarters(),
            nn.Conv2d(in_channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` features to ``(B, classes)`` logits."""
        logits: Tensor = self.layers(x)
        return logits
