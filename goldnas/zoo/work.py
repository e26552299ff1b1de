"""The work of a network for one image, by kinds that matter for its latency."""

from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from goldnas.multiply_adds import count_multiply_adds


@dataclass(frozen=True)
class Work:
    """Amounts, for one image."""

    dense: float
    """Multiply-adds of convolutions between all channels."""
    grouped: float
    """Multiply-adds of convolutions in groups, which use a processor less well."""
    matrix: float
    """Multiply-adds of other matrix products."""
    elements: float
    """Numbers that all operators put out: they go through memory."""
    parameters: float
    """Numbers that the network learns: they go through memory once."""
    operators: float
    """Number of operators that compute something."""

    @property
    def flops(self) -> float:
        """Multiply-adds."""
        return self.dense + self.grouped + self.matrix

    @property
    def amounts(self) -> tuple[float, ...]:
        """All of them, in this order."""
        return astuple(self)


def count_work(module: nn.Module, input_shape: tuple[int, ...]) -> Work:
    """Count the work of a module for one image, without computing it.

    Args:
        module: Is moved to the device ``meta``, in evaluation mode.
        input_shape: ``(C, H, W)``.
    """
    module = module.to("meta").eval()
    counter = _Counter()
    with torch.no_grad(), counter:
        module(torch.zeros(1, *input_shape, device="meta"))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Work(parameters=float(parameters), **counter.amounts)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what operators do."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        names = ("dense", "grouped", "matrix", "elements", "operators")
        self.amounts = dict.fromkeys(names, 0.0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Let it be inferred, and note what it would take."""
        output = func(*args, **(kwargs or {}))
        multiplied = count_multiply_adds(func, args, kwargs or {}, output)
        if multiplied:
            kind = "matrix"
            if func is torch.ops.aten.convolution.default:
                kind = "grouped" if args[8] > 1 else "dense"
            self.amounts[kind] += multiplied
        if multiplied or not func.is_view:
            self.amounts["operators"] += 1
            if isinstance(output, torch.Tensor):
                self.amounts["elements"] += output.numel()
        return output
