"""Formulas for an operator's work at a site, to compare with its latency."""

from collections.abc import Callable

from goldnas.mobile_block import (
    MobileBlock,
    parse_block,
    parse_classifier,
    parse_convolution,
)
from goldnas.site import AnySite, Site


def _separable(site: Site, kernel: int, in_channels: int, out_channels: int) -> int:
    pixels = site.out_height * site.out_width
    return pixels * in_channels * (kernel * kernel + out_channels)


def _sep_conv(kernel: int) -> Callable[[Site], int]:
    def macs(site: Site) -> int:
        first = _separable(site, kernel, site.in_channels, site.in_channels)
        return first + _separable(site, kernel, site.in_channels, site.out_channels)

    return macs


def _dil_conv(kernel: int) -> Callable[[Site], int]:
    return lambda site: _separable(site, kernel, site.in_channels, site.out_channels)


def _conv(kernel: int) -> Callable[[Site], int]:
    def macs(site: Site) -> int:
        pixels = site.out_height * site.out_width
        return pixels * site.in_channels * site.out_channels * kernel * kernel

    return macs


def _stem0_imagenet(site: Site) -> int:
    half = site.out_channels // 2
    first = Site(site.in_channels, half, site.height, site.width, 2)
    second = Site(half, site.out_channels, first.out_height, first.out_width, 2)
    return _conv(3)(first) + _conv(3)(second)


def _mbconv(block: MobileBlock) -> Callable[[Site], int]:
    def macs(site: Site) -> int:
        inner = block.inner_channels(site.in_channels)
        pixels = site.out_height * site.out_width
        widening = site.height * site.width * site.in_channels * inner
        squeezing = 2 * inner * block.squeezed_channels(site.in_channels)
        convolving = pixels * inner * (block.kernel**2 + site.out_channels)
        return (widening if block.expansion != 1 else 0) + squeezing + convolving

    return macs


MACS: dict[str, Callable[[Site], int]] = {
    "sep_conv_3x3": _sep_conv(3),
    "sep_conv_5x5": _sep_conv(5),
    "dil_conv_3x3": _dil_conv(3),
    "dil_conv_5x5": _dil_conv(5),
    "relu_conv_bn": _conv(1),
    "stem_cifar": _conv(3),
    "stem0_imagenet": _stem0_imagenet,
    "stem1_imagenet": _conv(3),
    "factorized_reduce": _conv(1),
    "skip_connect": lambda site: _conv(1)(site) if site.stride == 2 else 0,
    "max_pool_3x3": lambda site: 0,
    "avg_pool_3x3": lambda site: 0,
    "classifier": lambda site: site.in_channels * site.out_channels,
}
"""Multiply-adds for one image, by operator; see ``find_work`` for families."""


def find_work(operator: str) -> Callable[[Site], int] | None:
    """Multiply-adds for one image as a function of the site; None if they are not known."""
    if operator in MACS:
        return MACS[operator]
    if (block := parse_block(operator)) is not None:
        return _mbconv(block)
    if (convolution := parse_convolution(operator)) is not None:
        return _conv(convolution[0])
    if (classifier := parse_classifier(operator)) is not None:
        inner = classifier[0]
        return lambda site: inner * (site.in_channels + site.out_channels)
    return None


def count_macs(operator: str, site: AnySite) -> int | None:
    """Multiply-adds for one image; None if the operator or the site does not determine them."""
    work = find_work(operator)
    return work(site) if work and isinstance(site, Site) else None


def count_pointwise(site: Site) -> int:
    """Multiply-adds of a pointwise convolution, for one image."""
    return _conv(1)(site)


def bound_macs(site: Site) -> int:
    """An upper bound on the multiply-adds of an operator of a network, for one image.

    The bound is a dense 7x7 convolution before the stride, with the larger number of channels.
    """
    channels = max(site.in_channels, site.out_channels)
    return 49 * site.in_channels * channels * site.height * site.width


def count_elements(site: Site) -> int:
    """How many numbers the operator reads and writes, for one image."""
    read = site.in_channels * site.height * site.width
    return read + site.out_channels * site.out_height * site.out_width
