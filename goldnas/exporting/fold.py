"""Normalisation and gates folded into the weights: the network as it is deployed.

Exporters and runtimes fold a batch normalisation only in some graphs, and do so wrongly with
some number formats. Because goldnas folds first, every operator and every network reaches all
of them in one form.
"""

import copy
from itertools import pairwise
from typing import TypeGuard

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from goldnas.choice import Choice, Width, Zero
from goldnas.network import Cell
from goldnas.operators import find_builder, find_part
from goldnas.operators.mobile import Residual
from goldnas.operators.skip import FactorizedReduce

_NORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}
"""Layers that a normalisation can be folded into. Only these exact classes: a derived class, or
a layer with a computed weight, does more."""


class Scaled(nn.Module):
    """An operator and its gate, for gates that no normalisation can absorb."""

    def __init__(self, operator: nn.Module, gate: torch.Tensor) -> None:
        super().__init__()
        self.operator = operator
        self.register_buffer("gate", gate)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Map the operator's input, and scale the output."""
        output: torch.Tensor = self.gate * self.operator(*inputs)
        return output


def fold(module: nn.Module) -> nn.Module:
    """Copy a module for inference: in evaluation mode, with normalisation and gates folded.

    A normalisation that follows no convolution (after pooling, on a skip connection) stays.
    Outputs are those of ``module.eval()`` up to rounding, about 1e-6 of the largest.
    """
    module = copy.deepcopy(module).eval().requires_grad_(False)
    for block in module.modules():
        if isinstance(block, Width):
            if block.gates is not None and (block.gates == block.gates[0]).all():
                block.gates = None
            continue
        if isinstance(block, Cell | Choice) and block.gates is not None:
            gated = zip(block.gates, block.operators.items(), strict=True)
            for gate, (key, operator) in gated:
                if not isinstance(operator, Zero):
                    block.operators[key] = _gated(operator, gate)
            block.gates = None
        if isinstance(block, Choice) and block.output_shape is not None:
            for key, operator in list(block.operators.items()):
                if isinstance(operator, Zero):
                    del block.operators[key]
    ours = {m for p in module.modules() if _is_registered(p) for m in p.modules()}
    for part in module.modules():
        if _is_sequence(part):
            _fold_neighbours(part, shorten=part in ours)
        elif isinstance(part, FactorizedReduce):
            _fold_halves(part)
    return module


def _is_registered(module: nn.Module) -> bool:
    part = find_part(module)
    return part is not None and find_builder(part[0]) is not None


def _is_sequence(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether a module computes its layers one after the other, and nothing else."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _gated(operator: nn.Module, gate: torch.Tensor) -> nn.Module:
    """Scale an operator's output, by its last layer if that is linear."""
    if isinstance(operator, Residual):
        operator.shortcut = _gated(operator.shortcut, gate)
        operator.body = _gated(operator.body, gate)
        return operator
    last = operator
    while _is_sequence(last) and len(last):
        last = last[-1]
    if isinstance(last, FactorizedReduce):
        last = last.norm
    modules = [module for _, module in operator.named_modules(remove_duplicate=False)]
    if modules.count(last) == 1 and type(last) in (*_NORMS, nn.Linear):
        for parameter in last.parameters():
            parameter.mul_(gate)
        return operator
    if (
        modules.count(last) > 1
        or not isinstance(last, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
        or last.running_var is None
    ):
        return Scaled(operator, gate.clone())
    ones, zeros = torch.ones_like(last.running_var), torch.zeros_like(last.running_var)
    last.weight = nn.Parameter(gate * (last.weight if last.affine else ones), False)
    last.bias = nn.Parameter(gate * (last.bias if last.affine else zeros), False)
    last.affine = True
    return operator


def _fold_neighbours(sequence: nn.Sequential, *, shorten: bool) -> None:
    """Fold each normalisation right after a convolution into it.

    Args:
        sequence: A sequence of layers.
        shorten: Whether the normalisation goes. Where others may count the layers, an identity
            takes its place.
    """
    for index, (conv, norm) in reversed(list(enumerate(pairwise(sequence)))):
        if _NORMS.get(type(conv)) is type(norm) and norm.running_var is not None:
            assert isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d)
            assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
            sequence[index] = fuse_conv_bn_eval(conv, norm)
            if shorten:
                del sequence[index + 1]
            else:
                sequence[index + 1] = nn.Identity()


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
