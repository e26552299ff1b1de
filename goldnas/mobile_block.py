"""The operators of mobile networks, whose names describe how they are built.

``mbconv_5x5_e6_se_hswish`` is an inverted residual block (MobileNetV2, arXiv:1801.04381) with
a depthwise convolution of 5x5, six times as many inner channels as input channels,
squeeze-excitation and h-swish. An expansion of 2.5 becomes ``e2p5``, because the name of a
module may not have a point. Lint checks tables by these names without torch.
"""

import re
from dataclasses import dataclass

ACTIVATIONS = ("relu6", "relu", "hswish")
"""The first is that of a block whose name has none, as in MobileNetV2."""

SQUEEZES = ("none", "se", "se_in")
"""Squeeze-excitation: none; to a quarter of the block's inner channels, with a hard sigmoid
(MobileNetV3, arXiv:1905.02244); to a quarter of its input's, with a sigmoid (MnasNet,
arXiv:1807.11626, its public code)."""

_BLOCK = re.compile(
    r"mbconv_([3579])x\1_e([1-9]\d*(?:p\d*[1-9])?)(?:_(se|se_in))?(?:_(relu|hswish))?",
    re.ASCII,
)
_CONVOLUTION = re.compile(rf"conv_([13579])x\1_bn_({'|'.join(ACTIVATIONS)})", re.ASCII)
_CLASSIFIER = re.compile(rf"classifier_([1-9]\d{{0,5}})_({'|'.join(ACTIVATIONS)})", re.ASCII)


def round_channels(channels: float) -> int:
    """Round a number of channels to a multiple of 8, as mobile networks do.

    It is the nearest multiple that is at least 90 % of the number. Source: the public code of
    MobileNetV2.
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


@dataclass(frozen=True, slots=True)
class MobileBlock:
    """An inverted residual block, at any site."""

    kernel: int
    """Kernel of the depthwise convolution."""
    expansion: float
    """Channels inside, per channel of the input; with 1 there is no first convolution."""
    squeeze: str = "none"
    """One of ``SQUEEZES``."""
    activation: str = "relu6"
    """One of ``ACTIVATIONS``."""

    @property
    def name(self) -> str:
        """Name of the operator, as in tables and architectures."""
        expansion = f"{self.expansion:g}".replace(".", "p")
        text = f"mbconv_{self.kernel}x{self.kernel}_e{expansion}"
        text += "" if self.squeeze == "none" else f"_{self.squeeze}"
        return text if self.activation == "relu6" else f"{text}_{self.activation}"

    def inner_channels(self, in_channels: int) -> int:
        """Channels of the depthwise convolution."""
        return (
            in_channels if self.expansion == 1 else round_channels(self.expansion * in_channels)
        )

    def squeezed_channels(self, in_channels: int) -> int:
        """Channels between the two convolutions of the squeeze-excitation; 0 without one."""
        if self.squeeze == "none":
            return 0
        if self.squeeze == "se_in":
            return max(1, in_channels // 4)
        return round_channels(self.inner_channels(in_channels) // 4)


def find_expansion(in_channels: int, inner_channels: int) -> float | None:
    """The expansion of a block with this many inner channels, a round number if possible.

    None if no name would give the channels exactly.
    """
    ratio = inner_channels / in_channels
    for expansion in (float(round(ratio)), round(2 * ratio) / 2, ratio):
        block = MobileBlock(3, expansion)
        if (
            expansion >= 1
            and block.inner_channels(in_channels) == inner_channels
            and parse_block(block.name) == block
        ):
            return expansion
    return None


def parse_block(name: str) -> MobileBlock | None:
    """The block of a name; None if the name is of something else."""
    match = _BLOCK.fullmatch(name)
    if match is None:
        return None
    kernel, expansion, squeeze, activation = match.groups()
    times = float(expansion.replace("p", "."))
    return MobileBlock(int(kernel), times, squeeze or "none", activation or "relu6")


def parse_convolution(name: str) -> tuple[int, str] | None:
    """Kernel and activation of ``conv_3x3_bn_relu6``; None for another name."""
    match = _CONVOLUTION.fullmatch(name)
    return None if match is None else (int(match[1]), match[2])


def parse_classifier(name: str) -> tuple[int, str] | None:
    """Inner width and activation of ``classifier_1280_hswish``; None for another name."""
    match = _CLASSIFIER.fullmatch(name)
    return None if match is None else (int(match[1]), match[2])
