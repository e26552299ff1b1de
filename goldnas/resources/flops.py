"""FLOPs, counted by fvcore on the real modules."""

import warnings
from functools import cache
from typing import Any

import torch
from torch import nn

from goldnas.operators import build_operator
from goldnas.site import Site


def count_flops(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Count the FLOPs of one picture through a module.

    Multiply-adds of convolutions and linear layers, one multiply-add as one FLOP: the
    convention of DARTS and of the mobile papers. Normalisation and pooling count nothing.

    Args:
        module: Maps ``(B, C, H, W)``; it is counted in evaluation mode.
        input_shape: ``(C, H, W)``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore imports and traces with torch.jit
        from fvcore.nn import FlopCountAnalysis

        training = module.training
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        counter = FlopCountAnalysis(module.eval(), torch.zeros(1, *input_shape, device=device))
        # What does nothing, as an identity, looks to fvcore like a part that is never called.
        counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counter.set_op_handle(
            **{"aten::batch_norm": _nothing, "aten::adaptive_avg_pool2d": _nothing}
        )
        total = int(counter.total())
        module.train(training)
    return total


def _nothing(inputs: list[Any], outputs: list[Any]) -> int:
    return 0


@cache
def _part_flops(operator: str, site: Site) -> int:
    return count_flops(build_operator(operator, site), site.input_shape)


class Flops:
    """Multiply-adds for one picture."""

    name = "FLOPs"
    overhead = 0.0

    def cost(self, operator: str, site: Site) -> float:
        """FLOPs of one operator at one site."""
        return _part_flops(operator, site)
