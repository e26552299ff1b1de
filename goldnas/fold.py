"""Normalisation and gates folded into the weights: the network as it is deployed.

Exporters and runtimes fold a batch normalisation in some graphs and not in others, and with
some number formats wrongly. Folded here, every operator and every network reaches each of
them in one form.
"""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from goldnas.network import Cell
from goldnas.operators.mobile import Residual
from goldnas.operators.skip import FactorizedReduce


class Scaled(nn.Module):
    """An operator and its gate, where no normalisation can take the gate in."""

    def __init__(self, operator: nn.Module, gate: torch.Tensor) -> None:
        super().__init__()
        self.operator = operator
        self.register_buffer("gate", gate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map what the operator maps."""
        output: torch.Tensor = self.gate * self.operator(x)
        return output


def folded(module: nn.Module) -> nn.Module:
    """Copy a module for inference: in evaluation mode, with what can be folded folded.

    A normalisation that follows no convolution (after pooling, on a skip connection) stays.
    Outputs are those of ``module.eval()`` up to rounding, about 1e-6 of the largest.
    """
    module = copy.deepcopy(module).eval().requires_grad_(False)
    for cell in module.modules():
        if isinstance(cell, Cell) and cell.gates is not None:
            for gate, (key, operator) in zip(cell.gates, cell.operators.items(), strict=True):
                cell.operators[key] = _gated(operator, gate)
            cell.gates = None
    for part in module.modules():
        if isinstance(part, nn.Sequential):
            _fold_neighbours(part)
        elif isinstance(part, FactorizedReduce):
            _fold_halves(part)
    return module


def _gated(operator: nn.Module, gate: torch.Tensor) -> nn.Module:
    """Scale an operator's output, by its last normalisation if it ends in one."""
    if isinstance(operator, Residual):
        operator.shortcut = _gated(operator.shortcut, gate)
        operator.body = _gated(operator.body, gate)
        return operator
    last = operator
    while isinstance(last, nn.Sequential) and len(last):
        last = last[-1]
    if isinstance(last, FactorizedReduce):
        last = last.norm
    if not isinstance(last, nn.BatchNorm2d) or last.running_var is None:
        return Scaled(operator, gate.clone())
    ones, zeros = torch.ones_like(last.running_var), torch.zeros_like(last.running_var)
    last.weight = nn.Parameter(gate * (last.weight if last.affine else ones), False)
    last.bias = nn.Parameter(gate * (last.bias if last.affine else zeros), False)
    last.affine = True
    return operator


def _fold_neighbours(sequence: nn.Sequential) -> None:
    """Fold each normalisation right after a convolution into it."""
    for index, (conv, norm) in reversed(list(enumerate(pairwise(sequence)))):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            sequence[index] = fuse_conv_bn_eval(conv, norm)
            del sequence[index + 1]


def _fold_halves(reduce: FactorizedReduce) -> None:
    """Fold the one normalisation of two convolutions into both."""
    norm, half = reduce.norm, reduce.conv_even.out_channels
    statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    for conv, channels in (
        (reduce.conv_even, slice(None, half)),
        (reduce.conv_odd, slice(half, None)),
    ):
        mean, var, weight, bias = (s if s is None else s[channels] for s in statistics)
        assert mean is not None  # they are tracked by default
        assert var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, mean, var, norm.eps, weight, bias
        )
    reduce.add_module("norm", nn.Identity())
