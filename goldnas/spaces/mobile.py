"""The chain space of MobileNet, MnasNet, ProxylessNAS and FBNet.

A network is a first convolution, a separable block, stages of inverted residual blocks, a last
convolution and a classifier. Each block of a stage is a choice of kernel, expansion and
squeeze-excitation. If a block keeps the shape, a skip connection is one more candidate, which
leaves the block out. The channels of a stage may be a choice, too.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

from torch import nn

from goldnas.choice import Choice, Width
from goldnas.errors import ConfigError
from goldnas.mobile_block import ACTIVATIONS, SQUEEZES, MobileBlock, round_channels
from goldnas.operators import build_operator
from goldnas.site import Site
from goldnas.spaces.limits import MOST_CLASSES, MOST_INPUTS, check_whole
from goldnas.spaces.registry import register_function

MOST_BLOCKS = 100

MOST_CHANNELS = 4096

STAGES = ((32, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1))
"""Channels, blocks and stride of the stages of ProxylessNAS (arXiv:1812.00332)."""


@register_function(
    "mobile",
    later=["widths"],
    width=0.25,
    stages=[[32, 2, 2], [64, 1, 2]],
    kernels=[3, 7],
    expansions=[1, 3],
    squeezes=["none", "se"],
    activations=["relu6", "relu", "relu", "hswish", "hswish"],
    head=16,
    classifier=16,
)
def mobile(
    *,
    input_shape: Sequence[int] = (3, 224, 224),
    classes: int = 1000,
    width: float = 1.0,
    stages: Sequence[Sequence[int]] = STAGES,
    kernels: Sequence[int] = (3, 5, 7),
    expansions: Sequence[float] = (3, 6),
    squeezes: Sequence[str] | Sequence[Sequence[str]] = ("none",),
    skip: bool = True,
    activations: str | Sequence[str] = "relu6",
    stem: int = 32,
    stem_stride: int = 2,
    first: int = 16,
    head: int = 1280,
    classifier: int | None = None,
    affine: bool = False,
    widths: Sequence[float] = (1.0,),
) -> nn.Module:
    """The chain of inverted residual blocks of MobileNet and ProxylessNAS, with its choices.

    Args:
        input_shape: ``(C, H, W)``; any size.
        classes: Number of classes.
        width: Factor on all channels, which are rounded to multiples of 8. A factor below 1
            does not apply after the last stage.
        stages: ``(channels, blocks, stride)`` of each stage; its first block has the stride.
        kernels: Kernels of depthwise convolutions to choose from.
        expansions: Expansions to choose from: channels inside a block per input channel.
        squeezes: Kinds of squeeze-excitation to choose from: ``none``, ``se``, ``se_in``; or
            a list of kinds for each stage.
        skip: Whether a search may leave out blocks that keep the shape.
        activations: One activation for all layers, or one each for the stem, the first block,
            every stage, and the layers after the stages: ``relu6``, ``relu``, ``hswish``.
        stem: Channels of the first convolution.
        stem_stride: Stride of the first convolution; 1 suits small images.
        first: Channels of the separable block after the first convolution.
        head: Channels of the last convolution.
        classifier: Width of a layer inside the classifier; None for no such layer.
        affine: Learnt normalisation in the blocks, and none on skip connections, as in
            published networks. Gated blocks need False.
        widths: Shares of the channels of a stage to choose from, 1 among them; each is rounded
            to a multiple of 8. What is inside a block keeps its channels.

    Raises:
        ConfigError: If a setting is out of range.
    """
    _check_shapes(input_shape, stages)
    for name, value in [("stem", stem), ("first", first), ("head", head)]:
        check_whole(name, value, most=MOST_CHANNELS)
    check_whole("classes", classes, most=MOST_CLASSES)
    check_whole("stem_stride", stem_stride, most=2)
    if not isinstance(width, int | float) or not 0.05 <= width <= 20:
        raise ConfigError(f"width must lie in 0.05 to 20, got {width!r}")
    _check_widths(widths)
    by_stage = _by_stage(squeezes, len(stages))
    kinds = [_candidates(kernels, expansions, of_stage) for of_stage in by_stage]
    stem_kind, first_kind, *stage_kinds, head_kind = _activations(activations, len(stages))

    here = tuple(input_shape)

    def advance(out_channels: int, stride: int = 1, affine: bool = False) -> Site:
        """The site of the next part; after it, the chain goes on with its output."""
        nonlocal here
        site = Site(here[0], out_channels, here[1], here[2], stride, affine)
        here = (out_channels, site.out_height, site.out_width)
        return site

    def choice(
        site: Site, candidates: Sequence[tuple[int, float, str]], activation: str
    ) -> Choice:
        names = [MobileBlock(*kind, activation).name for kind in candidates]
        if skip and site.stride == 1 and site.in_channels == site.out_channels:
            names.append("skip_connect")
        return Choice({name: partial(build_operator, name, site) for name in names})

    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["stem"] = build_operator(
        f"conv_3x3_bn_{stem_kind}", advance(round_channels(width * stem), stem_stride)
    )
    # No gate scales this block, so its normalisation always learns a scale.
    parts["first"] = build_operator(
        MobileBlock(3, 1, activation=first_kind).name,
        advance(round_channels(width * first), affine=True),
    )
    chain = parts["stages"] = nn.Sequential()
    stream = ""  # the Width of what the next block reads
    for number, ((channels, blocks, stride), candidates, kind) in enumerate(
        zip(stages, kinds, stage_kinds, strict=True)
    ):
        out_channels = round_channels(width * channels)
        sites = [advance(out_channels, 1 if i else stride, affine) for i in range(blocks)]
        some = sorted({round_channels(share * out_channels) for share in widths})
        keeps_shape = sites[0].stride == 1 and sites[0].in_channels == out_channels
        if len(some) > 1 and keeps_shape and not stream:
            raise ConfigError(
                f"stage {number} adds to the {out_channels} channels of the block before it, "
                "which has no `widths`; give the stage other channels or a stride of 2"
            )
        stream = (stream if keeps_shape else f"stage_{number}") if len(some) > 1 else ""
        stage = nn.Sequential()
        for index, site in enumerate(sites):
            stage.add_module(str(index), choice(site, candidates, kind))
            if stream:
                stage.add_module(f"{index}_width", Width(some, shared=stream))
        chain.append(stage)
    wider = max(1.0, width)
    parts["head"] = build_operator(
        f"conv_1x1_bn_{head_kind}", advance(round_channels(wider * head))
    )
    last = "classifier"
    if classifier is not None:
        check_whole("classifier", classifier, most=MOST_CHANNELS)
        last = f"classifier_{round_channels(wider * classifier)}_{head_kind}"
    parts["classifier"] = build_operator(last, advance(classes))
    return nn.Sequential(parts)


def _check_shapes(input_shape: Sequence[int], stages: Sequence[Sequence[int]]) -> None:
    if not _is_list(input_shape) or len(input_shape) != 3:
        raise ConfigError(f"input_shape must be channels, height, width, got {input_shape!r}")
    for size in input_shape:
        check_whole("each size of input_shape", size, most=MOST_INPUTS)
    threes = _is_list(stages) and all(_is_list(stage) and len(stage) == 3 for stage in stages)
    if not threes or not stages:
        raise ConfigError(
            f"stages must be lists of channels, blocks and stride, got {stages!r}"
        )
    for channels, blocks, stride in stages:
        check_whole("channels of a stage", channels, most=MOST_CHANNELS)
        check_whole("blocks of a stage", blocks, most=MOST_BLOCKS)
        check_whole("stride of a stage", stride, most=2)
    if (blocks := sum(stage[1] for stage in stages)) > MOST_BLOCKS:
        raise ConfigError(f"stages may have at most {MOST_BLOCKS} blocks in all, got {blocks}")


def _check_widths(widths: Sequence[float]) -> None:
    numbers = _is_list(widths) and all(
        isinstance(share, int | float) and 0 < share <= 1 for share in widths
    )
    if not numbers or 1 not in widths or len(set(widths)) < len(widths):
        raise ConfigError(
            f"widths must be different shares of channels, above 0 and up to 1, and 1 must be "
            f"among them, got {widths!r}"
        )


def _candidates(
    kernels: Sequence[int], expansions: Sequence[float], squeezes: Sequence[str]
) -> list[tuple[int, float, str]]:
    """Every kernel with every expansion and kind of squeeze-excitation."""
    for name, values in [
        ("kernels", kernels),
        ("expansions", expansions),
        ("squeezes", squeezes),
    ]:
        if not _is_list(values) or not values or len(set(values)) < len(values):
            raise ConfigError(f"{name} must be one or more different ones, got {values!r}")
    if not set(kernels) <= {3, 5, 7, 9}:
        raise ConfigError(f"kernels must be 3, 5, 7 or 9, got {list(kernels)}")
    if not all(isinstance(e, int | float) and 1 <= e < 100 for e in expansions):
        raise ConfigError(f"expansions must be numbers from 1, got {list(expansions)}")
    if not set(squeezes) <= set(SQUEEZES):
        raise ConfigError(f"squeezes must be among {', '.join(SQUEEZES)}, got {list(squeezes)}")
    return list(product(kernels, expansions, squeezes))


def _by_stage(squeezes: Sequence[Any], stages: int) -> list[Sequence[str]]:
    """The kinds of squeeze-excitation of each stage."""
    if not _is_list(squeezes) or not squeezes or not all(map(_is_list, squeezes)):
        return [squeezes] * stages
    if len(squeezes) != stages:
        raise ConfigError(
            f"squeezes must be one list, or one each for {stages} stages; got {len(squeezes)}"
        )
    return list(squeezes)


def _activations(activations: str | Sequence[str], stages: int) -> list[str]:
    """The activation of the stem, the first block, each stage, and what follows."""
    listed = [activations] * (stages + 3) if isinstance(activations, str) else list(activations)
    if len(listed) != stages + 3:
        raise ConfigError(
            f"activations must be one, or one each for the stem, the first block, {stages} "
            f"stages and the head, {stages + 3} in all; got {len(listed)}"
        )
    if not set(listed) <= set(ACTIVATIONS):
        raise ConfigError(f"activations must be among {', '.join(ACTIVATIONS)}, got {listed}")
    return listed


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)
