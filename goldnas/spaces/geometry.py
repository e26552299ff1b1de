"""The sites of the parts of a network of cells: the only module that computes shapes."""

from dataclasses import dataclass
from typing import Literal

from goldnas.operators import RegisteredPart as Part
from goldnas.site import Site
from goldnas.spaces.space import CellLayout


@dataclass(frozen=True, slots=True)
class CellSites:
    """The sites of one cell."""

    preprocess: tuple[Part, Part]
    """What maps the outputs of the two cells before to the channels of this one."""
    from_inputs: Site
    """Site of edges from the two inputs, where a reduction halves the image."""
    from_nodes: Site
    """Site of edges from the cell's own nodes."""

    def edge(self, source: int) -> Site:
        """The site of the edges that come from a state."""
        return self.from_inputs if source < 2 else self.from_nodes


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sites of one network of cells."""

    stems: tuple[Part, ...]
    """What the first cell reads: one part twice; or a part and another that halves it."""
    cells: tuple[CellSites, ...]
    classifier: Part


def work_out_geometry(
    layout: CellLayout,
    *,
    stem: Literal["cifar", "imagenet"],
    channels: int,
    input_shape: tuple[int, int, int],
    classes: int,
    affine: bool,
) -> Geometry:
    """Compute the shapes of a network from the stem to the classifier.

    Args:
        layout: Layout of the cells.
        stem: Kind of the stem before the cells.
        channels: Channels of each node in the first stage.
        input_shape: ``(C, H, W)``.
        classes: Number of classes.
        affine: Whether normalisation is learnt, as in the evaluation of DARTS.
    """
    stems = _stems(stem, channels, input_shape, affine)
    # Channels, height and width of the two states that enter the next cell.
    before, now = stems[0][1].output_shape, stems[-1][1].output_shape
    halved = len(stems) == 2
    cells = []
    for reduction, concat in zip(layout.reductions, layout.concat, strict=True):
        channels *= 2 if reduction else 1
        pre0 = (
            "factorized_reduce" if halved else "relu_conv_bn",
            Site(before[0], channels, *before[1:], 2 if halved else 1, affine),
        )
        pre1 = ("relu_conv_bn", Site(now[0], channels, *now[1:], 1, affine))
        inner = Site(channels, channels, *now[1:], 2 if reduction else 1, affine)
        after = Site(channels, channels, inner.out_height, inner.out_width, 1, affine)
        cells.append(CellSites((pre0, pre1), inner, after))
        before, now = now, (channels * len(concat), inner.out_height, inner.out_width)
        halved = reduction
    return Geometry(stems, tuple(cells), ("classifier", Site(now[0], classes, now[1], now[2])))


def _stems(
    stem: str, channels: int, input_shape: tuple[int, int, int], affine: bool
) -> tuple[Part, ...]:
    in_channels, height, width = input_shape
    if stem == "cifar":
        return (("stem_cifar", Site(in_channels, 3 * channels, height, width, 1, affine)),)
    first = Site(in_channels, channels, height, width, 4, affine)
    second = Site(channels, channels, first.out_height, first.out_width, 2, affine)
    return ("stem0_imagenet", first), ("stem1_imagenet", second)
