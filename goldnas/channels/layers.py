"""The layers whose channels goldnas can remove."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CHANNELWISE = (*BATCH_NORMS, nn.LayerNorm, nn.PReLU)
"""Layers with weights that pass their channels on."""
LAYERS = (nn.Linear, *CONVOLUTIONS, *CHANNELWISE)

_STATE = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
"""What these layers hold, by name."""


def find_channel_axis(layer: nn.Module) -> int | None:
    """The axis of the channels in what a layer reads and puts out: 1 or -1.

    A layer of somebody's own counts if it is of a subclass and does the same with its channels.
    That is tried on numbers. A layer that has more than its class, such as hooks or a mask,
    does not count: goldnas does not know which of its numbers belong to which channel.

    Returns:
        None if goldnas cannot remove channels of the layer.
    """
    if not isinstance(layer, LAYERS):
        return None
    if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) != 1:
        return None
    if isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
        return None  # one slope for all channels
    if isinstance(layer, CONVOLUTIONS) and not (
        layer.groups == 1 or layer.groups == layer.in_channels == layer.out_channels
    ):
        return None
    held = {name for name, _ in (*layer.named_parameters(), *layer.named_buffers())}
    if not held <= _STATE or layer._forward_hooks or layer._forward_pre_hooks:
        return None
    last = isinstance(layer, nn.Linear | nn.LayerNorm)
    if type(layer) in LAYERS:
        return -1 if last else 1
    axes = (-1, 1) if isinstance(layer, nn.LayerNorm) else (-1,) if last else (1,)
    return next((axis for axis in axes if _acts_alike(layer, axis)), None)


@torch.no_grad()
def _acts_alike(layer: nn.Module, axis: int) -> bool:
    """Whether a layer does with its channels what its base class does."""
    whole = copy.deepcopy(layer)
    random = torch.Generator().manual_seed(0)
    for values in (*whole.parameters(), *whole.buffers()):
        if values.is_floating_point():
            values.copy_(torch.rand(values.shape, generator=random) + 0.5)
    try:
        return _loses_channels_well(whole, axis, random)
    except Exception:  # of any kind: it is somebody's forward
        return False


def _loses_channels_well(whole: nn.Module, axis: int, random: torch.Generator) -> bool:
    """Whether a layer without some of its channels puts out what the whole layer does."""
    reads, writes = _count_channels(whole)
    both = isinstance(whole, CHANNELWISE) or getattr(whole, "groups", 1) > 1
    images = torch.randn((2, reads, *_sides(whole)), generator=random).movedim(1, axis)
    # Not all by the same rule, since a layer may have one for each half.
    for stay, put_out in (
        (torch.arange(0, reads, 2), torch.arange(min(1, writes - 1), writes, 3)),
        (torch.arange(reads // 2, reads), torch.arange(0, writes // 2 + 1)),
    ):
        smaller = copy.deepcopy(whole)
        cut_layer(smaller, {"both": stay} if both else {"in": stay, "out": put_out})
        left = images.index_select(axis, stay)
        found = smaller(left)
        if isinstance(smaller, nn.LayerNorm):
            weights = (smaller.weight, smaller.bias, smaller.eps)
            normalised = layer_norm(left.movedim(axis, -1), (len(stay),), *weights)
            wanted = normalised.movedim(-1, axis)
        else:
            silent = torch.zeros_like(images).index_copy(axis, stay, left)
            wanted = whole(silent).index_select(axis, stay if both else put_out)
        if found.shape != wanted.shape:
            return False
        if not torch.allclose(found, wanted, rtol=1e-3, atol=1e-3):
            return False
    return True


def _count_channels(layer: nn.Module) -> tuple[int, int]:
    """How many channels a layer reads and puts out."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, nn.LayerNorm):
        return layer.normalized_shape[0], layer.normalized_shape[0]
    if isinstance(layer, BATCH_NORMS):
        return layer.num_features, layer.num_features
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters, layer.num_parameters
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return layer.in_channels, layer.out_channels


def _sides(layer: nn.Module) -> list[int]:
    """A size of images that a layer takes."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        sizes = zip(layer.kernel_size, layer.dilation, strict=True)
        return [dilation * (size - 1) + 3 for size, dilation in sizes]
    axes = next((n for n, kind in enumerate(BATCH_NORMS, 1) if isinstance(layer, kind)), 2)
    return [3] * axes


def cut_layer(layer: nn.Module, stay: Mapping[str, Tensor]) -> None:
    """Remove channels of a layer, in place.

    Args:
        layer: One of ``LAYERS``.
        stay: The indices of the channels that stay, ``(C,)``, by role: ``in`` and ``out``, or
            ``both`` of a layer that passes its channels on one by one.
    """
    if isinstance(layer, nn.LayerNorm):
        for name in ("weight", "bias"):
            _select(layer, name, 0, stay["both"])
        layer.normalized_shape = (len(stay["both"]),)
    elif isinstance(layer, BATCH_NORMS):
        for name in ("weight", "bias", "running_mean", "running_var"):
            _select(layer, name, 0, stay["both"])
        layer.num_features = len(stay["both"])
    elif isinstance(layer, nn.PReLU):
        _select(layer, "weight", 0, stay["both"])
        layer.num_parameters = len(stay["both"])
    elif "both" in stay:
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        layer.groups = layer.in_channels = layer.out_channels = len(stay["both"])
        for name in ("weight", "bias"):
            _select(layer, name, 0, stay["both"])
    else:
        _select(layer, "weight", 0, stay["out"])
        _select(layer, "weight", 1, stay["in"])
        _select(layer, "bias", 0, stay["out"])
        if isinstance(layer, nn.Linear):
            layer.out_features, layer.in_features = layer.weight.shape
        else:
            assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
            layer.out_channels, layer.in_channels = layer.weight.shape[:2]


def _select(layer: nn.Module, name: str, dim: int, index: Tensor) -> None:
    """Keep some entries of a parameter or a buffer along one dimension."""
    tensor = getattr(layer, name)
    if tensor is None or len(index) == tensor.shape[dim]:
        return
    taken = tensor.detach().index_select(dim, index.to(tensor.device))
    if isinstance(tensor, nn.Parameter):
        taken = nn.Parameter(taken, tensor.requires_grad)
    setattr(layer, name, taken)
