"""FLOPs, counted on the real modules while they compute."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from goldnas.errors import ConfigError
from goldnas.multiply_adds import (
    count_multiply_adds,
    has_formula,
    is_free,
    looks_at_numbers,
    name_operator,
)
from goldnas.operators import PartBuilder, build_operator
from goldnas.resource_names import FLOPS
from goldnas.site import AnySite


def count_flops(module: nn.Module, *input_shapes: tuple[int, ...]) -> int:
    """Count the FLOPs of one image through a module.

    FLOPs are the multiply-adds of convolutions, linear layers and all other matrix products.
    One multiply-add is one FLOP, as in DARTS and the mobile papers. Normalisation, pooling and
    element-wise functions count as 0.

    If the module's work depends on the numbers of its input, it is counted on zeros, on ones
    and on noise.

    Args:
        module: Maps a batch; it is counted in evaluation mode.
        input_shapes: Shape of each input without the batch: ``(C, H, W)``.

    Raises:
        ConfigError: If the module computes an operator without a formula for its multiply-adds
            (``torch.utils.flop_counter.register_flop_formula`` adds one), or if it multiplies
            more for some inputs than for others.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    inputs = [torch.zeros(1, *shape, device=device) for shape in input_shapes]
    counter = _count(module, inputs)
    for operator, owner in counter.unknown.items():
        raise ConfigError(
            f"the FLOPs of {owner} are unknown: it computes {operator}, which goldnas and "
            "torch cannot count. Use matrix products or convolutions, or give it a formula: "
            f"torch.utils.flop_counter.register_flop_formula(torch.ops.{operator})"
        )
    for owner in counter.deciding:
        for name, others in _draw_others(inputs):
            try:
                other = _count(module, others).total
            except Exception:  # such as noise for the number of a word
                continue
            if other != counter.total:
                raise ConfigError(
                    f"the FLOPs of {owner} depend on the values of its input: "
                    f"{counter.total} for zeros, {other} for {name}. Let it compute the same "
                    "for every input"
                )
    return counter.total


def _draw_others(inputs: list[Tensor]) -> Iterator[tuple[str, list[Tensor]]]:
    """Inputs that are no zeros, and what they are."""
    yield "ones", [torch.ones_like(x) for x in inputs]
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(x.shape, generator=generator).to(x.device) for x in inputs]
    yield "noise", noise


def _count(module: nn.Module, inputs: list[Tensor]) -> "_Counter":
    """Compute a module, and leave its modes as they are."""
    modes = [(part, part.training) for part in module.modules()]
    learnt = [p for p in module.parameters() if p.requires_grad]
    counter = _Counter(module)
    try:
        # Its tracker of modules looks for the gradients of whatever has one.
        for parameter in learnt:
            parameter.requires_grad_(False)
        with warnings.catch_warnings(), torch.no_grad(), _unfused(), counter.modules, counter:
            warnings.simplefilter("ignore")  # what it warns of is said where it is used
            module.eval()(*inputs)
    finally:
        for part, training in modes:
            part.training = training
        for parameter in learnt:
            parameter.requires_grad_(True)
    return counter


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what the operators of a network multiply."""

    supports_higher_order_operators = True

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self.unknown: dict[str, str] = {}
        """What cannot be counted, and the class of the module that computes it."""
        self.deciding: list[str] = []
        """The class of the module that first looks at numbers; empty if none does."""
        self.modules = ModuleTracker()
        self._module = module

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute it; by its definition, if neither a formula nor silence is right."""
        kwargs = kwargs or {}
        if not self.deciding and looks_at_numbers(func):
            self.deciding.append(self._find_owner())
        if not has_formula(func) and not is_free(func):
            if isinstance(func, OpOverload):
                with self:
                    output = func.decompose(*args, **kwargs)
                if output is not NotImplemented:
                    return output
            self.unknown.setdefault(name_operator(func), self._find_owner())
        output = func(*args, **kwargs)
        self.total += count_multiply_adds(func, args, kwargs, output)
        return output

    def _find_owner(self) -> str:
        """The class of the innermost module that computes."""
        path = max(self.modules.parents, key=len).partition(".")[2]
        return type(self._module.get_submodule(path)).__name__


@contextmanager
def _unfused() -> Iterator[None]:
    """Let attention compute as matrix products, which is the same on every device."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@cache
def _part_flops(build: PartBuilder, operator: str, site: AnySite) -> int:
    return count_flops(build(operator, site), *site.input_shapes)


class Flops:
    """Multiply-adds for one image.

    Args:
        build: Builds the parts that are counted.
    """

    name = FLOPS
    overhead = 0.0

    def __init__(self, build: PartBuilder = build_operator) -> None:
        self._build = build

    def cost(self, operator: str, site: AnySite) -> float:
        """FLOPs of one operator at one site.

        Raises:
            ConfigError: If it computes something that cannot be counted.
        """
        return _part_flops(self._build, operator, site)
