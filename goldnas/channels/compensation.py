"""The channels that stay take over what they can of those that go.

Channels of one group resemble each other. So a channel that goes is written as a sum of those
that stay, as well as least squares can, and what a layer multiplied it by is added to its
weights for the others (He et al. 2017, arXiv:1707.06168, with one sum for all taps of a
kernel).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goldnas.channels.coupling import Coupling, Ids
from goldnas.channels.cutting import find_kept

MOST_CHANNELS = 4096
"""That a layer reads: one that reads more stays as it is, for the memory."""

_ROWS = 8192
"""Places of a batch that are looked at, at most."""

_RIDGE = 1e-2
"""Added to the variances, relative to their mean: few images do not say more."""


def compensate(
    network: nn.Module,
    coupling: Coupling,
    kept: Mapping[str, Ids],
    batches: Iterable[Tensor],
    all_reduce: Callable[[list[Tensor]], None] = lambda tensors: None,
) -> None:
    """Change the weights of layers that lose channels, in place, before these are cut.

    Layers without an offset put out a mean that differs: the normalisation that follows has
    to learn it anew.

    Args:
        network: That the coupling is of; it is computed in evaluation mode.
        coupling: Of its channels.
        kept: By name of a group, the channels that it keeps, in order.
        batches: Images ``(B, C, H, W)``.
        all_reduce: Adds up tensors over processes.
    """
    losing: dict[str, Tensor] = {}
    for path, channels in find_kept(coupling, kept, "in"):
        reads = len(coupling.layers[path]["in"].group)
        if 0 < len(channels) < reads <= MOST_CHANNELS:
            losing[path] = torch.as_tensor(channels)
    moments = _measure(network, losing, batches)
    for path, stays in losing.items():
        layer: Any = network.get_submodule(path)
        count, total, products = moments[path]
        all_reduce([count, total, products])
        mean = total / count
        covariance = products / count - torch.outer(mean, mean)
        goes = torch.from_numpy(np.setdiff1d(np.arange(len(mean)), stays.numpy()))
        inner = covariance[stays][:, stays]
        ridge = _RIDGE * inner.diagonal().mean().clamp(min=1e-12)
        inner.diagonal().add_(ridge)
        sums = torch.linalg.solve(inner, covariance[stays][:, goes])  # (stays, goes)
        with torch.no_grad():
            weight = layer.weight.detach().double().cpu()
            moved = torch.einsum("og...,sg->os...", weight[:, goes], sums)
            if layer.bias is not None:
                left = mean[goes] - mean[stays] @ sums
                taps = (
                    weight[:, goes].flatten(2).sum(2) if weight.dim() > 2 else weight[:, goes]
                )
                layer.bias.add_((taps @ left).to(layer.bias))
            weight[:, stays] += moved
            layer.weight.copy_(weight)


def _measure(
    network: nn.Module, paths: Iterable[str], batches: Iterable[Tensor]
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """How often, sums and sums of products of what some layers read, channel by channel."""
    moments: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def watch(path: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            (x,) = inputs
            x = x.detach()
            rows = x.flatten(0, -2) if isinstance(layer, nn.Linear) else _rows(x)
            rows = rows[:: max(1, len(rows) // _ROWS)].double().cpu()
            count, total, products = moments.setdefault(path, _zeros(rows.shape[1]))
            count += len(rows)
            total += rows.sum(0)
            products += rows.T @ rows

        return hook

    handles = [network.get_submodule(p).register_forward_pre_hook(watch(p)) for p in paths]
    was_training = network.training
    try:
        with torch.no_grad():
            for images in batches if handles else ():
                network.eval()(images)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return moments


def _rows(x: Tensor) -> Tensor:
    """The channels ``(N, C)`` of each place of ``(B, C, ...)``."""
    return x.movedim(1, -1).flatten(0, -2)


def _zeros(size: int) -> tuple[Tensor, Tensor, Tensor]:
    zeros = (torch.zeros(shape, dtype=torch.float64) for shape in ((1,), (size,), (size, size)))
    count, total, products = zeros
    return count, total, products
