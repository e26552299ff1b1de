"""Layers of somebody's own, of which some keep channels apart, and networks of them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shrinkables import Flow, conv, head


class Halved(nn.Conv2d):
    """What a channel becomes depends on the half that it is in."""

    def forward(self, x: Tensor) -> Tensor:
        one, other = super().forward(x).chunk(2, dim=1)
        return torch.cat([one.sigmoid(), other], dim=1)


class Added(nn.Conv2d):
    """Puts out what it reads, too."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Activated(nn.BatchNorm2d):
    """A normalisation with its activation, as timm has it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


class Turned(nn.BatchNorm2d):
    """Puts out other channels than it reads."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flip(1)


class Scaled(nn.BatchNorm2d):
    """Has weights of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale[:, None, None]


class Padded(nn.Conv2d):
    """Pads as its input needs it, as timm's networks with weights of TensorFlow do."""

    def forward(self, x: Tensor) -> Tensor:
        left, top = (
            max((math.ceil(side / step) - 1) * step + size - side, 0)
            for side, step, size in zip(x.shape[2:], self.stride, self.kernel_size, strict=True)
        )
        x = F.pad(x, (top // 2, top - top // 2, left // 2, left - left // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


class Standardised(nn.Conv2d):
    """What a channel puts out depends on all that it reads, also on silent ones."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / self.weight.flatten(1).std(1)[:, None, None, None]
        return F.conv2d(x, weight, self.bias, padding=1)


class Normalised(nn.LayerNorm):
    """Over channels that are not the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


def halved(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Convolutions of somebody's own that are more than that."""
    return nn.Sequential(
        conv(input_shape[0], 16),
        Halved(16, 16, 3, padding=1),
        Added(16, 16, 3, padding=1),
        conv(16, 12),
        head(12, classes),
    )


def sloped(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Activations with a slope for each channel, a shift of the places, and powers."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.slopes(net.stem(x)).roll((1, 2), dims=(2, 3))
        return net.head(net.last(x**2 + torch.amax(x, dim=(2, 3), keepdim=True)))

    layers = {"stem": nn.Conv2d(input_shape[0], 16, 3, padding=1), "slopes": nn.PReLU(16)}
    return Flow(flow, **layers, last=conv(16, 12), head=head(12, classes))


def padded(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Convolutions of somebody's own."""
    return nn.Sequential(
        *(Padded(input_shape[0], 16, 3, stride=2), nn.ReLU()),
        *(Padded(16, 16, 3, groups=16), nn.ReLU(), Padded(16, 12, 5)),
        head(12, classes),
    )


def standardised(input_shape: Sequence[int], classes: int) -> nn.Module:
    """A convolution of somebody's own that is no such."""
    return nn.Sequential(conv(input_shape[0], 16), Standardised(16, 16, 3), head(16, classes))


def normalised(input_shape: Sequence[int], classes: int) -> nn.Module:
    """A layer normalisation of somebody's own."""
    return nn.Sequential(conv(input_shape[0], 16), Normalised(16), head(16, classes))


def activated(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Normalisations of somebody's own."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 16, 3, padding=1, bias=False),
        Activated(16),
        nn.Conv2d(16, 12, 3, padding=1, bias=False),
        Activated(12),
        head(12, classes),
    )


def turned(input_shape: Sequence[int], classes: int) -> nn.Module:
    """A normalisation of somebody's own that is no such."""
    return nn.Sequential(conv(input_shape[0], 16), Turned(16), head(16, classes))


def scaled(input_shape: Sequence[int], classes: int) -> nn.Module:
    """A normalisation of somebody's own, with weights that goldnas cannot cut."""
    return nn.Sequential(conv(input_shape[0], 16), Scaled(16), head(16, classes))
