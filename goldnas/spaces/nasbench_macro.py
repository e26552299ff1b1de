"""The space of NAS-Bench-Macro (arXiv:2103.11922): a chain of eight layers."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from goldnas.architecture import Architecture
from goldnas.choice import Choice
from goldnas.errors import ConfigError
from goldnas.spaces.limits import MOST_CLASSES, check_whole
from goldnas.spaces.making import make_space
from goldnas.spaces.registry import STRINGS, register_function

NAME = "nasbench-macro"
STAGES = (2, 3, 3)
"""Layers of each stage; the first halves the image and doubles the channels."""
LAYERS = sum(STAGES)


class Residual(nn.Module):
    """What a block puts out, added to its input."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape."""
        y: Tensor = x + self.body(x)
        return y


def _conv_bn_relu(
    in_channels: int, channels: int, size: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, channels, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]


def _identity(in_channels: int, channels: int, stride: int, affine: bool) -> nn.Module:
    """An identity; if the shape changes, a convolution."""
    if (stride, in_channels) == (1, channels):
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1, stride, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


def _block(
    size: int, expansion: int, in_channels: int, channels: int, stride: int, affine: bool
) -> nn.Module:
    """A block of MobileNetV2, with ReLU; inner channels are not rounded."""
    inner = expansion * in_channels
    body = nn.Sequential(
        *_conv_bn_relu(in_channels, inner, 1),
        *_conv_bn_relu(inner, inner, size, stride, inner),
        nn.Conv2d(inner, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )
    return Residual(body) if (stride, in_channels) == (1, channels) else body


CANDIDATES: dict[str, Callable[[int, int, int, bool], nn.Module]] = {
    "identity": _identity,
    "mb_3x3_e3": partial(_block, 3, 3),
    "mb_5x5_e6": partial(_block, 5, 6),
}
"""What builds each operator, of channels in and out, the stride, and whether its last
normalisation has a scale. In the order of their digits."""


@register_function(NAME, channels=2, head=8)
def nasbench_macro(
    *,
    input_shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    channels: int = 32,
    head: int = 1280,
    affine: bool = True,
) -> nn.Module:
    """The network of NAS-Bench-Macro: a chain of eight layers, which the search chooses.

    A layer is an identity or a block of MobileNetV2, with a depthwise convolution of 3x3 and an
    expansion of 3, or 5x5 and 6. The benchmark has exactly one operator for each layer: search
    with ``single``.

    Args:
        input_shape: ``(C, H, W)``; any size.
        classes: Number of classes.
        channels: Channels of the first convolution; each of the three stages doubles them.
        head: Channels of the last convolution.
        affine: Whether the last normalisation of each operator has a scale and a shift, as in
            the benchmark. All other normalisations always have them.

    Raises:
        ConfigError: If a setting is out of range.
    """
    check_whole("`channels`", channels, most=256)
    check_whole("`head`", head, most=10_000)
    check_whole("`classes`", classes, most=MOST_CLASSES)
    if len(input_shape) != 3:
        raise ConfigError(
            f"`input_shape` of {NAME} must be channels, height, width, got {list(input_shape)}"
        )
    layers = nn.Sequential()
    width = channels
    for stage in STAGES:
        for layer in range(stage):
            here = (width, width, 1, affine) if layer else (width, 2 * width, 2, affine)
            layers.append(Choice({name: partial(b, *here) for name, b in CANDIDATES.items()}))
            width = here[1]
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(*_conv_bn_relu(input_shape[0], channels, 3)),
            layers=layers,
            head=nn.Sequential(*_conv_bn_relu(width, head, 1)),
            classifier=nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(head, classes)
            ),
        )
    )


def read_network(text: str, **settings: object) -> Architecture:
    """The architecture of a network's digits, ``01121022``: one of ``CANDIDATES`` per layer.

    Args:
        text: The digits.
        settings: Settings of the space.

    Raises:
        ConfigError: If the digits do not describe a network.
    """
    chosen = dict(_read_layers(text))
    space = make_space(NAME, **settings)
    return space.architecture(g for g in space.gates if chosen[g.place] == g.key)


def _read_layers(text: str) -> Iterator[tuple[str, str]]:
    text, names = text.strip(), tuple(CANDIDATES)
    if len(text) != LAYERS or not set(text) <= set("012"):
        raise ConfigError(
            f"{text!r} is not a network of NAS-Bench-Macro, which has {LAYERS} digits, as in "
            f"01121022: {', '.join(f'{i} {name}' for i, name in enumerate(names))}"
        )
    for layer, digit in enumerate(text):
        yield f"layers.{layer}", names[int(digit)]


STRINGS[NAME] = lambda text: {place: (key,) for place, key in _read_layers(text)}


def write_network(choices: Mapping[str, Sequence[str]]) -> str:
    """The digits of a network.

    Args:
        choices: Choices of an architecture of the space.

    Raises:
        ConfigError: If a layer has several operators, which digits cannot express.
    """
    several = [place for place, keys in choices.items() if len(keys) != 1]
    if several:
        raise ConfigError(
            f"{', '.join(several)} have several operators, but a network of NAS-Bench-Macro "
            "has one in each layer: search with `single`"
        )
    names = tuple(CANDIDATES)
    return "".join(str(names.index(choices[f"layers.{i}"][0])) for i in range(LAYERS))
