"""Residual branches and blocks that can be removed as a whole."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from goldnas.channels.tracing import BATCH


def find_branches(network: nn.Module, input_shape: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """The blocks of a network that an identity can replace.

    Such a block adds something to its input, once or several times: with weights of zero it
    returns its input. Of nested blocks, the innermost are taken.

    Args:
        network: Is not changed.
        input_shape: ``(C, H, W)``.

    Returns:
        For the path of each block, the paths of the layers that decide whether the block adds
        something: with zero weights in these layers, it does not. They are as few as can be.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    given: dict[str, list[Tensor]] = {}
    handles = []
    for path, module in network.named_modules():
        if (
            path
            and any(True for _ in module.children())
            and any(True for _ in module.parameters())
        ):
            handles.append(module.register_forward_hook(_keeping(given, path)))
    generator = torch.Generator().manual_seed(0)
    network(torch.randn(BATCH, *input_shape, generator=generator))
    for handle in handles:
        handle.remove()
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(given, key=lambda path: path.count("."), reverse=True):
        inner = any(other.startswith(f"{path}.") for other in found)
        if inner or len(given[path]) != 1:
            continue
        block, (x,) = network.get_submodule(path), given[path]
        layers = [n for n, m in block.named_modules() if not list(m.children())]
        if not _is_silent(block, x, layers):
            continue
        found[path] = tuple(f"{path}.{name}" for name in _find_deciding(block, x, layers))
    order = [path for path, _ in network.named_modules()]
    return dict(sorted(found.items(), key=lambda pair: order.index(pair[0])))


def _keeping(given: dict[str, list[Tensor]], path: str) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        kept = given.setdefault(path, [])
        alike = len(inputs) == 1 and isinstance(inputs[0], Tensor)
        if alike and isinstance(output, Tensor) and output.shape == inputs[0].shape:
            kept.append(inputs[0].clone())
        else:
            kept += [torch.empty(0)] * 2  # no such block

    return hook


def _find_deciding(block: nn.Module, x: Tensor, layers: Sequence[str]) -> list[str]:
    """The fewest layers whose zeros make a block return its input, the last ones first."""
    for name in reversed(layers):
        if _is_silent(block, x, [name]):
            return [name]
    # A block that adds several things, as those of transformers do.
    needed = list(layers)
    for name in layers:
        fewer = [other for other in needed if other != name]
        if _is_silent(block, x, fewer):
            needed = fewer
    return needed


def _is_silent(block: nn.Module, x: Tensor, layers: Sequence[str]) -> bool:
    """Whether a block returns its input if the weights of some layers are zero."""
    weights = [p for n in layers for p in block.get_submodule(n).parameters(recurse=False)]
    if not weights:
        return False
    before = [weight.clone() for weight in weights]
    for weight in weights:
        weight.zero_()
    output = block(x.clone())
    for weight, values in zip(weights, before, strict=True):
        weight.copy_(values)
    return isinstance(output, Tensor) and torch.equal(output, x)
