"""How much an operator has to do at a site, by formula: what its latency is held against."""

from collections.abc import Callable

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
"""Multiply-adds for one picture, by operator; others are compared among themselves only."""


def macs_of(operator: str, site: AnySite) -> int:
    """Multiply-adds for one picture; 0 for an operator or a site that says nothing of them."""
    return MACS[operator](site) if operator in MACS and isinstance(site, Site) else 0


def elements(site: Site) -> int:
    """Numbers that are read and written, for one picture."""
    read = site.in_channels * site.height * site.width
    return read + site.out_channels * site.out_height * site.out_width
