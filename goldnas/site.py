"""The site of an operator: all properties of its place that change its cost."""

import re
from dataclasses import dataclass

from goldnas.errors import ConfigError

_SIZE = r"[0-9]{1,12}"
_TEXT = re.compile(rf"({_SIZE})x({_SIZE})x({_SIZE})->({_SIZE})/s([1-9][0-9]{{0,11}})(/affine)?")
_SHAPE = rf"{_SIZE}(?:x{_SIZE})*"
_SHAPES = re.compile(rf"({_SHAPE}(?:\+{_SHAPE})*)->({_SHAPE})")


@dataclass(frozen=True, order=True, slots=True)
class Site:
    """The shape of an operator's place in a network, without the batch.

    Its text form, ``16x32x32->16/s1``, is the key of latency tables.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output; for a classifier, classes.
        height: Height of the input.
        width: Width of the input.
        stride: 1; 2 if the resolution is halved; 4 if it is halved twice.
        affine: Whether normalisation is built as DARTS builds it for evaluation: with a
            learnt scale, and none after pooling and identity. In a search space it is
            False, and every operator ends in a normalisation without parameters.
    """

    in_channels: int
    out_channels: int
    height: int
    width: int
    stride: int = 1
    affine: bool = False

    @property
    def out_height(self) -> int:
        """Height of the output: rounded up, so that odd sizes work."""
        return -(-self.height // self.stride)

    @property
    def out_width(self) -> int:
        """Width of the output: rounded up, so that odd sizes work."""
        return -(-self.width // self.stride)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of the input."""
        return self.in_channels, self.height, self.width

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of all inputs: there is one."""
        return (self.input_shape,)

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of the output."""
        return self.out_channels, self.out_height, self.out_width

    def __str__(self) -> str:
        text = (
            f"{self.in_channels}x{self.height}x{self.width}->{self.out_channels}/s{self.stride}"
        )
        return text + "/affine" if self.affine else text

    @classmethod
    def parse(cls, text: str) -> "Site":
        """Read what ``str(site)`` wrote.

        Raises:
            ConfigError: If ``text`` is no site.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ConfigError(f"{text!r} is not a site; a site looks like 16x32x32->16/s1")
        channels, height, width, out_channels, stride = map(int, match.groups()[:5])
        return cls(channels, out_channels, height, width, stride, match[6] is not None)


@dataclass(frozen=True, order=True, slots=True)
class Shapes:
    """The place of a part with known shapes of inputs and output, and nothing else known.

    Its text form, ``3x32x32->16x16x16`` or ``2x128->16x64``, is the key of latency tables. For
    two inputs it is ``4x8x8+4x8x8->4x8x8``.

    Args:
        input_shape: Shape of the input without the batch, with any number of dimensions.
        output_shape: Shape of the output, likewise.
        other_inputs: Shapes of further inputs, likewise.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    other_inputs: tuple[tuple[int, ...], ...] = ()

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of all inputs, in order."""
        return (self.input_shape, *self.other_inputs)

    def __str__(self) -> str:
        inputs = "+".join("x".join(map(str, shape)) for shape in self.input_shapes)
        return f"{inputs}->{'x'.join(map(str, self.output_shape))}"


AnySite = Site | Shapes


def parse_site(text: str) -> AnySite:
    """Read the text of a :class:`Site` or of :class:`Shapes`.

    Raises:
        ConfigError: If ``text`` is not a site.
    """
    match = _SHAPES.fullmatch(text)
    if match is None:
        return Site.parse(text)
    *inputs, after = (
        tuple(map(int, sizes.split("x")))
        for side in match.groups()
        for sizes in side.split("+")
    )
    return Shapes(inputs[0], after, tuple(inputs[1:]))
