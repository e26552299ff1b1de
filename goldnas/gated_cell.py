"""A cell while it is trained behind its gates, in as few passes over memory as it takes.

The mathematics is that of :class:`goldnas.network.Cell`, which stays the way to read it and
what is computed in evaluation. Here, what operators have in common is computed once, and no
gate costs a pass of its own.
"""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goldnas.network import Cell
from goldnas.operators.skip import FactorizedReduce
from goldnas.recompute import recompute


class GatedCell(Cell):
    """A cell whose training pass shares work between operators."""

    checkpointing = False
    """Whether the backward pass computes the inside of the cell again instead of keeping it."""

    @classmethod
    def from_cell(cls, cell: Cell) -> Self:
        """Take over the parts of a plain cell."""
        operators = dict(cell.operators.items())
        return cls(cell.preprocess0, cell.preprocess1, operators, cell.concat)

    def forward(
        self, s0: Tensor, s1: Tensor, gates: list[Tensor] | Tensor | None = None
    ) -> Tensor:
        """Map the outputs of the two cells before to the concatenated nodes."""
        if not self.training or gates is None:
            return super().forward(s0, s1, gates)
        if not self.checkpointing:
            return self._shared(s0, s1, gates)
        return recompute(self._shared, self, s0, s1, gates, random=False)

    def _shared(self, s0: Tensor, s1: Tensor, gates: list[Tensor] | Tensor) -> Tensor:
        states: dict[int, Tensor] = {}
        rectified: dict[int, Tensor] = {}
        if self.preprocess0 is not None:
            states[0] = self.preprocess0(s0)
        if self.preprocess1 is not None:
            states[1] = self.preprocess1(s1)
        channels = next(iter(states.values())).shape[1]  # what every operator puts out too
        scales = torch.stack(list(gates)).unsqueeze(1).repeat(1, channels)
        for scale, (key, operator) in zip(scales.unbind(), self.operators.items(), strict=True):
            source, node = map(int, key.split("_")[:2])

            def relu(source: int = source) -> Tensor:
                """The ReLU of the source, which every convolution on it starts with."""
                if source not in rectified:
                    rectified[source] = F.relu(states[source])
                return rectified[source]

            output = _gated(operator, scale, states[source], relu)
            # In place: nothing that made the sum so far needs it for its gradient.
            states[node] = states[node].add_(output) if node in states else output
        for state in map(states.__getitem__, self.concat):
            if state.requires_grad:
                state.register_hook(_dense)  # type: ignore[no-untyped-call]
        return self.joined(states)


def _dense(gradient: Tensor) -> Tensor:
    """Gather the gradient of a node, a slice of that of the cell's output, in memory.

    Normalisations are several times slower on slices, and up to ten of them read this one.
    """
    if gradient.stride(1) == 1:
        return gradient.contiguous(memory_format=torch.channels_last)
    return gradient.contiguous()


def _gated(
    operator: nn.Module, scale: Tensor, x: Tensor, rectified: Callable[[], Tensor]
) -> Tensor:
    """An operator's output times its gate; by its last normalisation, if it ends in one."""
    if isinstance(operator, nn.BatchNorm2d):
        return _normalised(operator, scale, x)
    if isinstance(operator, FactorizedReduce):
        return _normalised(operator.norm, scale, operator.convolved(rectified()))
    layers = list(operator) if isinstance(operator, nn.Sequential) else [operator]
    if layers and isinstance(layers[0], nn.ReLU):
        del layers[0]
        x = rectified()
    norm = layers.pop() if layers and isinstance(layers[-1], nn.BatchNorm2d) else None
    for layer in layers:
        x = layer(x)
    return scale.view(-1, 1, 1) * x if norm is None else _normalised(norm, scale, x)


def _normalised(norm: nn.Module, scale: Tensor, x: Tensor) -> Tensor:
    """Normalise by the statistics of the batch, with the gate as the scale of each channel."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.momentum is not None  # so that its count of batches is read by nobody
    return F.batch_norm(
        x,
        norm.running_mean,
        norm.running_var,
        scale * norm.weight if norm.affine else scale,
        scale * norm.bias if norm.affine else None,
        training=True,
        momentum=norm.momentum,
        eps=norm.eps,
    )
