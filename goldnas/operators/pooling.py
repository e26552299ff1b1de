"""Pooling operators."""

from torch import nn

from goldnas.operators.registry import register_operator
from goldnas.site import Site


def _normalised(pool: nn.Module, site: Site) -> nn.Module:
    """Add the normalisation that pooling has during search and not in DARTS evaluation."""
    if site.affine:
        return pool
    return nn.Sequential(pool, nn.BatchNorm2d(site.out_channels, affine=False))


@register_operator("max_pool_3x3")
def max_pool_3x3(site: Site) -> nn.Module:
    """Take the maximum over 3x3 windows."""
    return _normalised(nn.MaxPool2d(3, site.stride, padding=1), site)


@register_operator("avg_pool_3x3")
def avg_pool_3x3(site: Site) -> nn.Module:
    """Average over 3x3 windows, padding not counted."""
    pool = nn.AvgPool2d(3, site.stride, padding=1, count_include_pad=False)
    return _normalised(pool, site)
