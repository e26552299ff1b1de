"""Residual branches and blocks that can be removed as a whole."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

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
        something: with zero weights in these layers, it does not. None of them can be left out.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    calls: dict[str, list[_Call | None]] = {}
    handles = []
    for path, module in network.named_modules():
        if (
            path
            and any(True for _ in module.children())
            and any(True for _ in module.parameters())
        ):
            handles.append(
                module.register_forward_hook(_keeping(calls, path), with_kwargs=True)
            )
    generator = torch.Generator().manual_seed(0)
    network(torch.randn(BATCH, *input_shape, generator=generator))
    for handle in handles:
        handle.remove()
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(calls, key=lambda path: path.count("."), reverse=True):
        inner = any(other.startswith(f"{path}.") for other in found)
        call, *again = calls[path]
        if inner or again or call is None:
            continue
        block = network.get_submodule(path)
        layers = [n for n, m in block.named_modules() if not list(m.children())]
        if not _is_silent(block, call, layers):
            continue
        found[path] = tuple(f"{path}.{name}" for name in _find_deciding(block, call, layers))
    order = [path for path, _ in network.named_modules()]
    return dict(sorted(found.items(), key=lambda pair: order.index(pair[0])))


class _Call(NamedTuple):
    """How a network calls a block."""

    x: Tensor
    others: tuple[Any, ...]
    by_name: dict[str, Any]


def _keeping(calls: dict[str, list[_Call | None]], path: str) -> Any:
    """A hook that notes the calls of a block; None for one that changes the shape."""

    def hook(
        module: nn.Module, inputs: tuple[Any, ...], by_name: dict[str, Any], output: Any
    ) -> None:
        kept = calls.setdefault(path, [])
        alike = inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor)
        if alike and output.shape == inputs[0].shape:
            kept.append(_Call(inputs[0].clone(), inputs[1:], by_name))
        else:
            kept.append(None)

    return hook


def _find_deciding(block: nn.Module, call: _Call, layers: Sequence[str]) -> list[str]:
    """Layers whose zeros make a block return its input, of which none can be left out."""
    for name in reversed(layers):
        if _is_silent(block, call, [name]):
            return [name]
    # A block that adds several things, as those of transformers do.
    needed = list(layers)
    for name in layers:
        fewer = [other for other in needed if other != name]
        if _is_silent(block, call, fewer):
            needed = fewer
    return needed


def _is_silent(block: nn.Module, call: _Call, layers: Sequence[str]) -> bool:
    """Whether a block returns its input if the weights of some layers are zero."""
    weights = [p for n in layers for p in block.get_submodule(n).parameters(recurse=False)]
    if not weights:
        return False
    before = [weight.clone() for weight in weights]
    for weight in weights:
        weight.zero_()
    output = block(call.x.clone(), *call.others, **call.by_name)
    for weight, values in zip(weights, before, strict=True):
        weight.copy_(values)
    return isinstance(output, Tensor) and torch.equal(output, call.x)
