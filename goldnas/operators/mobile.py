"""Operators of MobileNet, MnasNet, ProxylessNAS and FBNet; their names say how they are built.

See :mod:`goldnas.mobile_block` for the names. Only the last normalisation of a block follows
``site.affine``: a gate may scale it. Those inside are followed by an activation, and always
have a scale and a shift.
"""

from functools import partial

from torch import Tensor, nn

from goldnas.mobile_block import (
    MobileBlock,
    parse_block,
    parse_classifier,
    parse_convolution,
)
from goldnas.operators.registry import OperatorBuilder, register_family
from goldnas.operators.skip import skip_connect
from goldnas.site import Site

_ACTIVATIONS = {"relu6": nn.ReLU6, "relu": nn.ReLU, "hswish": nn.Hardswish}


class SqueezeExcitation(nn.Module):
    """Scale each channel by the output of a small network on the means of all channels.

    Source: arXiv:1709.01507; with ReLU inside.
    """

    def __init__(self, channels: int, squeezed_channels: int, scale: nn.Module) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Conv2d(channels, squeezed_channels, 1)
        self.activation = nn.ReLU()
        self.excite = nn.Conv2d(squeezed_channels, channels, 1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape."""
        scale: Tensor = self.scale(self.excite(self.activation(self.squeeze(self.pool(x)))))
        return scale * x


class Residual(nn.Module):
    """A block and the skip connection around it.

    In a search space the shortcut is normalised, like the operator ``skip_connect``. So the
    gates of the block and of a skip connection at the same place differ only by the value of
    the block's convolutions, and sums of several operators do not grow from block to block.
    """

    def __init__(self, shortcut: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape."""
        y: Tensor = self.shortcut(x) + self.body(x)
        return y


def _convolved(
    in_channels: int,
    out_channels: int,
    kernel: int,
    activation: str,
    stride: int = 1,
    groups: int = 1,
) -> list[nn.Module]:
    """Convolution, batch norm, activation."""
    padding = kernel // 2
    return [
        nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        _ACTIVATIONS[activation](),
    ]


def mbconv(block: MobileBlock, site: Site) -> nn.Module:
    """Widen by a 1x1 convolution, convolve each channel, narrow by a 1x1 convolution.

    Where the shape is kept, the input is added.
    """
    inner = block.inner_channels(site.in_channels)
    layers: list[nn.Module] = []
    if block.expansion != 1:
        layers += _convolved(site.in_channels, inner, 1, block.activation)
    layers += _convolved(inner, inner, block.kernel, block.activation, site.stride, inner)
    if squeezed := block.squeezed_channels(site.in_channels):
        scale = nn.Hardsigmoid() if block.squeeze == "se" else nn.Sigmoid()
        layers.append(SqueezeExcitation(inner, squeezed, scale))
    layers += [
        nn.Conv2d(inner, site.out_channels, 1, bias=False),
        nn.BatchNorm2d(site.out_channels, affine=site.affine),
    ]
    body = nn.Sequential(*layers)
    if site.stride == 1 and site.in_channels == site.out_channels:
        return Residual(skip_connect(site), body)
    return body


@register_family("mbconv_3x3_e1", "mbconv_5x5_e6_se_hswish", "mbconv_7x7_e2p5_se_in_relu")
def _mbconv(name: str) -> OperatorBuilder | None:
    """Inverted residual blocks."""
    block = parse_block(name)
    return None if block is None else partial(mbconv, block)


@register_family("conv_3x3_bn_relu6", "conv_1x1_bn_hswish")
def _convolution(name: str) -> OperatorBuilder | None:
    """First and last convolutions of a network, with an activation after them."""
    if (parsed := parse_convolution(name)) is None:
        return None
    kernel, activation = parsed
    return lambda site: nn.Sequential(
        *_convolved(site.in_channels, site.out_channels, kernel, activation, site.stride)
    )


@register_family("classifier_16_hswish")
def _classifier(name: str) -> OperatorBuilder | None:
    """Classifiers with a layer inside, as MobileNetV3 has."""
    if (parsed := parse_classifier(name)) is None:
        return None
    inner, activation = parsed
    return lambda site: nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(site.in_channels, inner),
        _ACTIVATIONS[activation](),
        nn.Linear(inner, site.out_channels),
    )
