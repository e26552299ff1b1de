"""The graph of a network, with the shape of everything that it computes."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from goldnas.errors import ConfigError, read_message
from goldnas.multiply_adds import count_multiply_adds

BATCH = 2
"""Images that the network is computed for once."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

FUNCTIONS = ("call_function", "call_method")
"""Kinds of nodes that are calls of no layer."""


def trace_graph(network: nn.Module, input_shape: Sequence[int]) -> fx.Graph:
    """Follow a network's forward down to the layers of PyTorch.

    Each node has its ``meta["value"]``: the shape of a tensor, a list of such, or None. What is
    no tensor, or is the same for all images, is in ``meta["constant"]``. Whether a function
    multiplies matrices is in ``meta["multiplies"]``.

    Args:
        network: Is not changed.
        input_shape: ``(C, H, W)``.

    Raises:
        ConfigError: If the forward cannot be followed (the message names the module), or if the
            network fails.
    """
    network = copy.deepcopy(network).eval()
    tracer = _Tracer(network)
    try:
        graph = tracer.trace(network)
    except Exception as error:  # of any kind: it is somebody's forward that is followed
        place = tracer.inside[-1] if tracer.inside else ""
        module = network.get_submodule(place)
        where = f"{place!r}, a {type(module).__name__}," if place else type(module).__name__
        raise ConfigError(
            f"the forward of {where} cannot be followed: {read_message(error)[:300]}. Let it "
            "compute the same for every input, without `if` and `for` over values"
        ) from None
    try:
        with torch.no_grad():
            _Shapes(fx.GraphModule(network, graph)).run(torch.randn(BATCH, *input_shape))
    except Exception as error:
        shape = "x".join(map(str, input_shape))
        raise ConfigError(
            f"the network fails on an input of {shape}: {read_message(error)[:300]}"
        ) from None
    return graph


class _Tracer(fx.Tracer):
    """Knows in which module it is when a forward cannot be followed."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # Tried here: while a network is followed, its modules do not compute.
        norms = {m for m in network.modules() if isinstance(m, BATCH_NORMS)}
        self._norms = {m for m in norms if _keeps_channels_apart(m)}
        """Normalisations, also with an activation, such as timm's."""
        self.inside: list[str] = []
        """Paths of the modules whose forward is followed, the innermost last."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """What is not followed further."""
        return m in self._norms or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.inside.append(self.path_of_module(m))
        found = super().call_module(m, forward, args, kwargs)
        self.inside.pop()  # not where it fails: the last one is to be named
        return found


@torch.no_grad()
def _keeps_channels_apart(norm: Any) -> bool:
    """Whether each channel depends on the same channel of the input alone: it is tried."""
    if any(True for child in norm.children() for _ in child.parameters()):
        return False  # of channels that goldnas does not know
    axes = next(n for n, kind in enumerate(BATCH_NORMS) if isinstance(norm, kind))
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, norm.num_features, *[3] * (axes + 1))
    one, other = (torch.randn(shape, generator=generator) for _ in range(2))
    other[:, ::2] = one[:, ::2]
    try:
        before, after = norm(one), norm(other)
    except Exception:  # of any kind: it is somebody's forward
        return False
    return before.shape == one.shape and torch.equal(before[:, ::2], after[:, ::2])


class _Shapes(fx.Interpreter):
    """Computes a graph, and keeps the shapes and the constants."""

    def run_node(self, n: fx.Node) -> Any:
        with _Products() as products:  # type: ignore[no-untyped-call]
            result = super().run_node(n)
        n.meta["multiplies"] = n.op in FUNCTIONS and products.any
        n.meta["value"] = _shape_of(result)
        fixed = n.op != "placeholder" and all("constant" in m.meta for m in n.all_input_nodes)
        if fixed or n.meta["value"] is None:
            n.meta["constant"] = result
        return result


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes whether anything has multiply-adds."""

    any = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        self.any = self.any or count_multiply_adds(func, args, kwargs, output) > 0
        return output


def _shape_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, tuple | list) and any(isinstance(v, Tensor) for v in value):
        return [_shape_of(v) for v in value]
    return None
