"""Convolutional operators of DARTS (arXiv:1806.09055), and the fixed parts of a network.

Every convolution is without bias. Padding keeps the size at stride 1.
"""

from torch import nn

from goldnas.operators.registry import register_operator
from goldnas.site import Site


def depthwise_separable(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    affine: bool = False,
) -> nn.Sequential:
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""
    padding = dilation * (kernel - 1) // 2
    depthwise = nn.Conv2d(
        in_channels,
        in_channels,
        kernel,
        stride,
        padding,
        dilation,
        groups=in_channels,
        bias=False,
    )
    return nn.Sequential(
        nn.ReLU(),
        depthwise,
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels, affine=affine),
    )


def sep_conv(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, affine: bool = False
) -> nn.Sequential:
    """Two depthwise-separable convolutions in a row, the first with the stride."""
    return nn.Sequential(
        *depthwise_separable(in_channels, in_channels, kernel, stride, affine=affine),
        *depthwise_separable(in_channels, out_channels, kernel, affine=affine),
    )


def relu_conv_bn(in_channels: int, out_channels: int, affine: bool = False) -> nn.Sequential:
    """ReLU, 1x1 convolution, batch norm: the preprocessing of a cell's input."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels, affine=affine),
    )


def stem_cifar(in_channels: int, out_channels: int) -> nn.Sequential:
    """3x3 convolution and batch norm; its scale is learnt during search too."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def stem0_imagenet(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3x3 convolutions that each halve the resolution, with learnt normalisation."""
    half = out_channels // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, half, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(half),
        nn.ReLU(),
        nn.Conv2d(half, out_channels, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def stem1_imagenet(in_channels: int, out_channels: int) -> nn.Sequential:
    """ReLU, a 3x3 convolution that halves the resolution, and learnt normalisation."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def classifier(in_channels: int, classes: int) -> nn.Sequential:
    """Global average pooling and a linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, classes))


@register_operator("sep_conv_3x3")
def sep_conv_3x3(site: Site) -> nn.Module:
    """Depthwise-separable 3x3 convolution, twice."""
    return sep_conv(site.in_channels, site.out_channels, 3, site.stride, site.affine)


@register_operator("sep_conv_5x5")
def sep_conv_5x5(site: Site) -> nn.Module:
    """Depthwise-separable 5x5 convolution, twice."""
    return sep_conv(site.in_channels, site.out_channels, 5, site.stride, site.affine)


@register_operator("dil_conv_3x3")
def dil_conv_3x3(site: Site) -> nn.Module:
    """Depthwise-separable 3x3 convolution with dilation 2, once."""
    return depthwise_separable(
        site.in_channels, site.out_channels, 3, site.stride, 2, site.affine
    )


@register_operator("dil_conv_5x5")
def dil_conv_5x5(site: Site) -> nn.Module:
    """Depthwise-separable 5x5 convolution with dilation 2, once."""
    return depthwise_separable(
        site.in_channels, site.out_channels, 5, site.stride, 2, site.affine
    )


@register_operator("relu_conv_bn", candidate=False)
def _relu_conv_bn(site: Site) -> nn.Module:
    """Preprocess a cell's input at its own resolution."""
    return relu_conv_bn(site.in_channels, site.out_channels, site.affine)


@register_operator("stem_cifar", candidate=False)
def _stem_cifar(site: Site) -> nn.Module:
    """Build the first layer for small images."""
    return stem_cifar(site.in_channels, site.out_channels)


@register_operator("stem0_imagenet", candidate=False)
def _stem0_imagenet(site: Site) -> nn.Module:
    """Build the first layers for large images; the site's stride is 4."""
    return stem0_imagenet(site.in_channels, site.out_channels)


@register_operator("stem1_imagenet", candidate=False)
def _stem1_imagenet(site: Site) -> nn.Module:
    """Build the layers between the first two inputs of cells; the site's stride is 2."""
    return stem1_imagenet(site.in_channels, site.out_channels)


@register_operator("classifier", candidate=False)
def _classifier(site: Site) -> nn.Module:
    """Build the last layer; the site's output channels are the classes."""
    return classifier(site.in_channels, site.out_channels)
