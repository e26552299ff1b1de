"""Operators and whole networks as ONNX, exported once for all tests that need them."""

from functools import cache
from typing import Any

import onnx
import torch

from goldnas.exporting.onnx import to_onnx
from goldnas.operators import CANDIDATES, FAMILIES, Part, build_operator
from goldnas.profiling.compose import compose_network
from goldnas.spaces import SPACES, GoldSpace
from goldnas.spaces.sampling import draw_architectures
from nightly import EXAMPLES

# Small, since sizes do not matter here; odd, since that is the harder case; and of one cell,
# which reduces, so that its operators have both strides.
_SIDES = {"cifar": 15, "imagenet": 63}
"""By stem."""


def _small(kind: type[GoldSpace], **settings: Any) -> GoldSpace:
    side = _SIDES[kind.stem]
    return kind(channels=4, input_shape=(3, side, side), **settings)


OF_OPERATORS = [
    _small(kind, cells=1, operators=tuple(sorted(CANDIDATES))) for kind in SPACES.values()
]
OF_NETWORKS = [  # of spaces that differ in their operators alone, one
    _small(kind, cells=2, operators=("max_pool_3x3", "sep_conv_3x3", "skip_connect"))
    for kind in {kind.stem: kind for kind in reversed(SPACES.values())}.values()
]
NETWORKS = 5 if EXAMPLES else 3


def parts() -> list[Part]:
    """Every operator of every space, at each stride that it has there."""
    rows = [part for space in (*OF_OPERATORS, *OF_NETWORKS) for part in space.rows()]
    return list({(name, site.stride): (name, site) for name, site in rows}.values())


FIXED_STRIDE = {
    **{name: site.stride for name, site in parts() if name not in CANDIDATES},
    "conv_3x3_bn_relu6": 2,
    "conv_1x1_bn_hswish": 1,
    "classifier_16_hswish": 1,
}
"""Fixed parts change the channels, each at one stride; candidates keep them, at both."""


EXAMPLES = [name for examples in FAMILIES for name in examples]
"""Of the families of operators."""


@cache
def operator(part: Part) -> onnx.ModelProto:
    name, site = part
    torch.manual_seed(0)
    model = to_onnx(build_operator(name, site), (1, *site.input_shape))
    return onnx.load_model_from_string(model)


@cache
def networks(space: GoldSpace) -> tuple[bytes, ...]:
    """Random networks, from nearly minimal to nearly full."""
    shape = (1, *space.input_shape)
    return tuple(
        compose_network(space.build(architecture), operator, shape)
        for architecture in draw_architectures(space, NETWORKS, seed=0)
    )
