"""FLOPs, counted by fvcore on the real modules."""

import warnings
from functools import cache
from typing import Any

import torch
from torch import nn

from goldnas.operators import PartBuilder, build_operator
from goldnas.resource_names import FLOPS
from goldnas.site import AnySite

_NOTHING = (
    "adaptive_avg_pool2d",
    "batch_norm",
    "grid_sampler",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "upsample_bilinear2d",
    "upsample_nearest2d",
)
"""What fvcore counts and the convention does not."""


def count_flops(module: nn.Module, *input_shapes: tuple[int, ...]) -> int:
    """Count the FLOPs of one image through a module.

    Multiply-adds of convolutions and linear layers, one multiply-add as one FLOP: the
    convention of DARTS and of the mobile papers. Normalisation and pooling count nothing.

    Args:
        module: Maps a batch; it is counted in evaluation mode.
        input_shapes: Of each of its inputs, without the batch: ``(C, H, W)``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore imports and traces with torch.jit
        from fvcore.nn import FlopCountAnalysis

        training = module.training
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        inputs = tuple(torch.zeros(1, *shape, device=device) for shape in input_shapes)
        counter = FlopCountAnalysis(module.eval(), inputs)
        # What does nothing, as an identity, looks to fvcore like a part that is never called.
        counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counter.set_op_handle(**{f"aten::{name}": _nothing for name in _NOTHING})
        total = int(counter.total())
        module.train(training)
    return total


def _nothing(inputs: list[Any], outputs: list[Any]) -> int:
    return 0


@cache
def _part_flops(build: PartBuilder, operator: str, site: AnySite) -> int:
    return count_flops(build(operator, site), *site.input_shapes)


class Flops:
    """Multiply-adds for one image.

    Args:
        build: Builds the parts that are counted.
    """

    name = FLOPS
    overhead = 0.0

    def __init__(self, build: PartBuilder = build_operator) -> None:
        self._build = build

    def cost(self, operator: str, site: AnySite) -> float:
        """FLOPs of one operator at one site."""
        return _part_flops(self._build, operator, site)
