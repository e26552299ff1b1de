"""The space of NAS-Bench-201 (arXiv:2001.00326): one cell of six edges, repeated."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce
from operator import add

from torch import Tensor, nn

from goldnas.architecture import Architecture
from goldnas.choice import Choice, Zero
from goldnas.errors import ConfigError
from goldnas.spaces.limits import MOST_CLASSES, check_whole
from goldnas.spaces.making import make_space
from goldnas.spaces.registry import STRINGS, register_function

NAME = "nasbench201"
NODES = 4
EDGES = tuple((source, node) for node in range(1, NODES) for source in range(node))
"""Source and node of each edge, in the order of a cell's string."""

_OPERATOR = re.compile(r"([a-z0-9_]+)~(\d)", re.ASCII)


def _relu_conv_bn(
    in_channels: int, channels: int, size: int, stride: int, affine: bool
) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(in_channels, channels, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


def _average(channels: int, affine: bool) -> nn.Module:
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)


def _convolution(size: int, channels: int, affine: bool) -> nn.Module:
    return _relu_conv_bn(channels, channels, size, 1, affine)


CANDIDATES: dict[str, Callable[[int, bool], nn.Module]] = {
    "none": lambda channels, affine: Zero(),
    "skip_connect": lambda channels, affine: nn.Identity(),
    "nor_conv_1x1": partial(_convolution, 1),
    "nor_conv_3x3": partial(_convolution, 3),
    "avg_pool_3x3": _average,
}
"""What builds each operator, of channels and whether its normalisation has a scale."""


class Cell(nn.Module):
    """The input and three nodes; each node sums its edges from all earlier nodes."""

    def __init__(self, channels: int, affine: bool) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                f"{source}_{node}": Choice(
                    {name: partial(b, channels, affine) for name, b in CANDIDATES.items()},
                    shared=f"edge_{source}_{node}",
                )
                for source, node in EDGES
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape."""
        states = [x]
        for node in range(1, NODES):
            inputs = (self.edges[f"{source}_{node}"](states[source]) for source in range(node))
            states.append(reduce(add, inputs))
        return states[-1]


class Reduction(nn.Module):
    """A residual block that halves the image and doubles the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _relu_conv_bn(channels, 2 * channels, 3, 2, affine=True),
            _relu_conv_bn(2 * channels, 2 * channels, 3, 1, affine=True),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, 2), nn.Conv2d(channels, 2 * channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, 2C, H / 2, W / 2)``."""
        y: Tensor = self.body(x) + self.shortcut(x)
        return y


@register_function(NAME, channels=2, cells=2, input_shape=[2, 16, 12])
def nasbench201(
    *,
    input_shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    channels: int = 16,
    cells: int = 5,
    affine: bool = True,
) -> nn.Module:
    """The network of NAS-Bench-201: three stages of one cell, which the search chooses.

    Every cell has the same operators on the same edges. The benchmark has exactly one operator
    on each edge: search with ``single``.

    Args:
        input_shape: ``(C, H, W)``; the sizes are multiples of 4.
        classes: Number of classes.
        channels: Channels of the first stage; each later stage has twice as many.
        cells: Cells of each stage.
        affine: Whether the normalisations of the cells have a scale and a shift, as in the
            benchmark.

    Raises:
        ConfigError: If a setting is out of range.
    """
    check_whole("`channels`", channels, most=512)
    check_whole("`cells`", cells, most=50)
    check_whole("`classes`", classes, most=MOST_CLASSES)
    if len(input_shape) != 3 or any(size % 4 or size < 4 for size in input_shape[1:]):
        raise ConfigError(
            "images of nasbench201 are halved twice, so their height and width must be "
            f"multiples of 4; got `input_shape={tuple(input_shape)}`"
        )
    layers: list[nn.Module] = [
        nn.Sequential(
            nn.Conv2d(input_shape[0], channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
    ]
    for stage in range(3):
        width = channels * 2**stage
        if stage:
            layers.append(Reduction(width // 2))
        layers += [Cell(width, affine) for _ in range(cells)]
    last = channels * 4
    layers.append(
        nn.Sequential(
            nn.BatchNorm2d(last),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(last, classes),
        )
    )
    return nn.Sequential(*layers)


def read_cell(text: str, **settings: object) -> Architecture:
    """The architecture of a cell's string: ``|none~0|+|none~0|none~1|+|...``.

    Args:
        text: For each edge the operator, ``~`` and the node that the edge reads.
        settings: Settings of the space.

    Raises:
        ConfigError: If the string does not describe a cell.
    """
    chosen = dict(_read_edges(text))
    space = make_space(NAME, **settings)
    return space.architecture(g for g in space.gates if chosen[g.place] == g.key)


def _read_edges(text: str) -> Iterator[tuple[str, str]]:
    nodes = text.strip().split("+")
    for node, operators in enumerate(nodes, start=1):
        parts = [_OPERATOR.fullmatch(part) for part in operators.strip("|").split("|")]
        found = [(match[1], int(match[2])) for match in parts if match]
        known = all(operator in CANDIDATES for operator, _ in found)
        if len(nodes) != NODES - 1 or [s for _, s in found] != list(range(node)) or not known:
            raise ConfigError(
                f"{text!r} is not a cell of NAS-Bench-201, which has three nodes, as in "
                "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|, and the operators "
                f"{', '.join(CANDIDATES)}"
            )
        for operator, source in found:
            yield f"edge_{source}_{node}", operator


STRINGS[NAME] = lambda text: {place: (key,) for place, key in _read_edges(text)}


def write_cell(choices: Mapping[str, Sequence[str]]) -> str:
    """The string of a cell.

    Args:
        choices: Choices of an architecture of the space.

    Raises:
        ConfigError: If an edge has several operators, which the string cannot express.
    """
    several = [place for place, keys in choices.items() if len(keys) != 1]
    if several:
        raise ConfigError(
            f"{', '.join(several)} have several operators, but a cell of NAS-Bench-201 has one "
            "on each edge: search with `single`"
        )
    return "+".join(
        "|" + "".join(f"{choices[f'edge_{s}_{node}'][0]}~{s}|" for s in range(node))
        for node in range(1, NODES)
    )
