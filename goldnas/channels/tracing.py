"""The graph of a network, with the shape of everything that it computes."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from goldnas.errors import ConfigError, read_message

BATCH = 2
"""Images that the network is computed for once."""


def trace_graph(network: nn.Module, input_shape: Sequence[int]) -> fx.Graph:
    """Follow a network's forward down to the layers of PyTorch.

    Each node has its ``meta["value"]``: the shape of a tensor, a list of such, or None. What is
    no tensor, or is the same for all images, is in ``meta["constant"]``.

    Args:
        network: Is not changed.
        input_shape: ``(C, H, W)``.

    Raises:
        ConfigError: If the forward cannot be followed (the message names the module), or if the
            network fails.
    """
    network = copy.deepcopy(network).eval()
    tracer = _Tracer()
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

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []
        """Paths of the modules whose forward is followed, the innermost last."""

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.inside.append(self.path_of_module(m))
        found = super().call_module(m, forward, args, kwargs)
        self.inside.pop()  # not where it fails: the last one is to be named
        return found


class _Shapes(fx.Interpreter):
    """Computes a graph, and keeps the shapes and the constants."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta["value"] = _shape_of(result)
        fixed = n.op != "placeholder" and all("constant" in m.meta for m in n.all_input_nodes)
        if fixed or n.meta["value"] is None:
            n.meta["constant"] = result
        return result


def _shape_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, tuple | list) and any(isinstance(v, Tensor) for v in value):
        return [_shape_of(v) for v in value]
    return None
