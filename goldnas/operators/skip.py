"""The skip connection, and its replacement where the resolution halves."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goldnas.operators.registry import register_operator
from goldnas.site import Site


class FactorizedReduce(nn.Module):
    """ReLU, two strided 1x1 convolutions on grids one pixel apart, concatenated, normalised.

    Source: DARTS (arXiv:1806.09055), its public code.
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool = False) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv_even = nn.Conv2d(in_channels, half, 1, stride=2, bias=False)
        self.conv_odd = nn.Conv2d(in_channels, out_channels - half, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, H, W)`` to ``(B, C_out, ceil(H/2), ceil(W/2))``."""
        y: Tensor = self.norm(self.convolved(F.relu(x)))
        return y

    def convolved(self, x: Tensor) -> Tensor:
        """What is between the ReLU and the normalisation."""
        # An odd side has one pixel fewer on the shifted grid: pad it back.
        odd = F.pad(x[:, :, 1:, 1:], (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        return torch.cat([self.conv_even(x), self.conv_odd(odd)], dim=1)


@register_operator("factorized_reduce", candidate=False)
def factorized_reduce(site: Site) -> nn.Module:
    """Halve the resolution with 1x1 convolutions; the preprocessing after a reduction."""
    return FactorizedReduce(site.in_channels, site.out_channels, site.affine)


@register_operator("skip_connect")
def skip_connect(site: Site) -> nn.Module:
    """Pass the input through, normalised; where the resolution halves, FactorizedReduce."""
    if site.stride == 2:
        return factorized_reduce(site)
    return nn.Identity() if site.affine else nn.BatchNorm2d(site.out_channels, affine=False)
