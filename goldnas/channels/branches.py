"""Residual branches and blocks that can be removed as a whole."""

import copy
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from goldnas.channels.cutting import remove_branches
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
    generator = torch.Generator().manual_seed(0)
    for (
        weight
    ) in network.parameters():  # of zeros before the training, anything would be silent
        if weight.is_floating_point() and not weight.any():
            weight.copy_(torch.rand(weight.shape, generator=generator))
    calls: dict[str, list[_Call | None]] = {}
    handles = []
    for path, module in network.named_modules():
        if (
            path
            and not isinstance(module, torch.jit.ScriptModule)  # they take no hooks
            and any(True for _ in module.children())
            and any(True for _ in module.parameters())
        ):
            handles.append(
                module.register_forward_hook(_keeping(calls, path), with_kwargs=True)
            )
    images = torch.randn(BATCH, *input_shape, generator=generator)
    network(images)
    for handle in handles:
        handle.remove()
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(calls, key=lambda path: path.count("."), reverse=True):
        inner = any(other.startswith(f"{path}.") for other in found)
        call, *again = calls[path]
        if inner or again or call is None:
            continue
        block = network.get_submodule(path)
        layers = [n for n, m in block.named_modules() if n and _has_own_weights(m)]
        if not _is_silent(block, call, layers):
            continue
        found[path] = tuple(f"{path}.{name}" for name in _find_deciding(block, call, layers))
    if not _does_without(network, found, images):  # some are asked for more than they put out
        found = {
            p: layers for p, layers in found.items() if _does_without(network, [p], images)
        }
    order = [path for path, _ in network.named_modules()]
    return dict(sorted(found.items(), key=lambda pair: order.index(pair[0])))


def _does_without(network: nn.Module, paths: Collection[str], images: Tensor) -> bool:
    """Whether a network computes without some blocks; they are there again at the end."""
    blocks = {path: network.get_submodule(path) for path in paths}
    remove_branches(network, paths)
    try:
        network(images)
    except Exception:  # of any kind: it is somebody's forward
        return False
    finally:
        for path, block in blocks.items():
            network.set_submodule(path, block)
    return True


class _Call(NamedTuple):
    """How a network calls a block."""

    x: Tensor
    """Random numbers in place of its input: negative ones only if that has some."""
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
            generator = torch.Generator().manual_seed(0)
            x = torch.randn(inputs[0].shape, generator=generator)
            if inputs[0].any() and inputs[0].min() >= 0:  # after a ReLU
                x = x.abs()
            kept.append(_Call(x, inputs[1:], by_name))
        else:
            kept.append(None)

    return hook


def _has_own_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


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
