"""A ResNet and a MobileNet of laptop size, for shrink.py."""

from collections.abc import Sequence

from torch import Tensor, nn


def conv_norm(
    channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution and its normalisation."""
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class BasicBlock(nn.Module):
    """Two convolutions, and a shortcut (He et al. 2016)."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(channels, out_channels, 3, stride)
        self.second = conv_norm(out_channels, out_channels, 3)
        same = stride == 1 and channels == out_channels
        self.shortcut = nn.Identity() if same else conv_norm(channels, out_channels, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)``."""
        output: Tensor = self.relu(self.second(self.relu(self.first(x))) + self.shortcut(x))
        return output


class InvertedResidual(nn.Module):
    """Wider, depthwise, narrower (Sandler et al. 2018)."""

    def __init__(self, channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * channels
        self.body = nn.Sequential(
            *conv_norm(channels, inner, 1),
            nn.ReLU6(),
            *conv_norm(inner, inner, 3, stride, groups=inner),
            nn.ReLU6(),
            *conv_norm(inner, out_channels, 1),
        )
        self.adds = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)``."""
        output: Tensor = self.body(x)
        return output + x if self.adds else output


def resnet(
    input_shape: Sequence[int],
    classes: int,
    widths: Sequence[int] = (32, 64, 128),
    blocks: int = 2,
) -> nn.Module:
    """A ResNet of basic blocks, for small images."""
    layers: list[nn.Module] = [conv_norm(input_shape[0], widths[0], 3), nn.ReLU()]
    channels = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            layers.append(BasicBlock(channels, width, stride))
            channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )


def mobilenet(
    input_shape: Sequence[int],
    classes: int,
    widths: Sequence[int] = (32, 48, 96),
    blocks: int = 2,
    expansion: int = 4,
) -> nn.Module:
    """A MobileNetV2, for small images."""
    layers: list[nn.Module] = [conv_norm(input_shape[0], widths[0], 3), nn.ReLU6()]
    channels = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            layers.append(InvertedResidual(channels, width, stride, expansion))
            channels = width
    return nn.Sequential(
        *layers,
        *conv_norm(channels, 4 * channels, 1),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * channels, classes),
    )
