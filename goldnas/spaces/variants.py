"""The GOLD-NAS cell space at other sizes, and with other operators."""

from dataclasses import dataclass

from goldnas.spaces.gold import GoldSpace
from goldnas.spaces.registry import register_cells

DARTS_OPERATORS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


@register_cells
@dataclass(frozen=True, kw_only=True)
class GoldImageNetSpace(GoldSpace):
    """The cells behind the ImageNet stem of DARTS (arXiv:1806.09055), for large images."""

    channels: int = 48

    input_shape: tuple[int, int, int] = (3, 224, 224)

    classes: int = 1000

    name = "gold-imagenet"
    stem = "imagenet"


@register_cells
@dataclass(frozen=True, kw_only=True)
class GoldExtendedSpace(GoldSpace):
    """The cells with all seven operators of DARTS on every edge."""

    operators: tuple[str, ...] = DARTS_OPERATORS

    name = "gold-extended"
