"""The graph of a network, with the shape of everything that it computes."""

import copy
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from goldnas.channels.layers import find_channel_axis
from goldnas.errors import ConfigError, read_message
from goldnas.multiply_adds import count_multiply_adds

BATCH = 2
"""Images that the network is computed for once."""

FUNCTIONS = ("call_function", "call_method")
"""Kinds of nodes that are calls of no layer."""

FACTORIES = (
    *("zeros", "ones", "empty", "full", "arange", "linspace", "eye", "rand", "randn"),
    *("tensor", "as_tensor"),
)
"""Functions of ``torch`` that make tensors."""

READ_SHAPES = {getattr, "size", "dim", "ndimension", "numel", "nelement", "stride"}
"""Functions and methods of tensors whose result is the same for all images, unless a tensor."""


@torch.no_grad()
def trace_graph(network: nn.Module, input_shape: Sequence[int]) -> fx.Graph:
    """Follow a network's forward down to the layers of PyTorch.

    Each node has its ``meta["value"]``: the shape of a tensor, a list of such, or None. What is
    no tensor, or is the same for all images, is in ``meta["constant"]``. Whether a function
    multiplies matrices is in ``meta["multiplies"]``, and whether the forward goes on by the
    number that it puts out is in ``meta["decides"]``.

    Args:
        network: Is not changed.
        input_shape: ``(C, H, W)``.

    Raises:
        ConfigError: If the forward cannot be followed (the message names the module), or if the
            network fails.
    """
    try:
        network = copy.deepcopy(network).eval().requires_grad_(False)
    except Exception as error:  # of any kind: weights may be somebody's
        raise ConfigError(
            f"the network cannot be copied: {read_message(error)[:300]}. Let its weights be "
            "plain parameters: without weight_norm, spectral_norm or masks"
        ) from None
    images = torch.randn(BATCH, *input_shape)
    try:
        wanted = _compute(network, images.clone())  # which a forward may change
    except Exception as error:  # of any kind: it is somebody's forward
        shape = "x".join(map(str, input_shape))
        raise ConfigError(
            f"the network fails on an input of {shape}: {read_message(error)[:300]}"
        ) from None
    tracer = _Tracer(network, images)
    try:
        with torch.random.fork_rng(devices=[]), _followed(tracer):
            torch.manual_seed(0)
            graph = tracer.trace(network)
    except Exception as error:
        place = tracer.inside[-1] if tracer.inside else ""
        module = network.get_submodule(place)
        where = f"{place!r}, a {type(module).__name__}," if place else type(module).__name__
        raise ConfigError(
            f"the forward of {where} cannot be followed: {read_message(error)[:300]}. Let it "
            "compute the same for every input, without `if` and `for` over values"
        ) from None
    if not _are_alike(tracer.outputs, wanted):
        raise ConfigError(
            f"the forward of {type(network).__name__} computes something else when it is "
            "followed. Let it not ask for the type of what it computes, as in "
            "`isinstance(x, Tensor)`, and change no tensor that has two names"
        )
    return graph


def _compute(network: nn.Module, images: Tensor) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return network(images)


def _are_alike(found: Any, wanted: Any) -> bool:
    """Whether outputs have about the same numbers."""
    of_found, of_wanted = (
        [one for one in tree_leaves(output) if isinstance(one, Tensor)]
        for output in (found, wanted)
    )
    return len(of_found) == len(of_wanted) and all(
        one.shape == other.shape
        and torch.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True)
        for one, other in zip(of_found, of_wanted, strict=True)
    )


@contextmanager
def _followed(tracer: "_Tracer") -> Iterator[None]:
    """Let functions that make tensors of some size be followed, too."""
    before = {name: getattr(torch, name) for name in FACTORIES}

    def follow(function: Any) -> Any:
        def followed(*args: Any, **kwargs: Any) -> Any:
            if any(isinstance(one, _Value) for one in tree_leaves((args, kwargs))):
                return tracer.create_proxy("call_function", function, args, kwargs)
            return function(*args, **kwargs)

        return followed

    try:
        for name, function in before.items():
            setattr(torch, name, follow(function))
        yield
    finally:
        for name, function in before.items():
            setattr(torch, name, function)


class _Value(fx.Proxy):
    """Stands for what a forward computes, and knows what that is for some images.

    So a forward may decide by what is the same for all images, such as shapes.
    """

    def __init__(
        self, node: fx.Node, tracer: fx.Tracer, value: Any, fixed: bool, shape_fixed: bool
    ) -> None:
        super().__init__(node, tracer)
        self.value = value
        self.fixed = fixed
        """Whether it is the same for all images."""
        self.shape_fixed = shape_fixed

    def __getattr__(self, k: str) -> Any:
        found = getattr(self.value, k)
        if callable(found):
            return fx.proxy.Attribute(self, k)
        if isinstance(found, torch.dtype | torch.device):
            return found
        return self.tracer.create_proxy("call_function", getattr, (self, k), {})

    def __len__(self) -> int:
        return len(self.value)

    def __setitem__(self, index: Any, value: Any) -> None:
        if self.fixed and isinstance(value, _Value) and not value.fixed:
            raise TypeError("a tensor that is the same for all images gets values of images")
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __index__(self) -> int:
        return operator.index(self._decide())

    def __int__(self) -> int:
        return int(self._decide())

    def __float__(self) -> float:
        return float(self._decide())

    def _decide(self) -> Any:
        """What it is, for Python to go on with."""
        if not self.fixed:
            return super().__bool__()  # which is refused
        self.node.meta["decides"] = True
        return self.value


class _Tracer(fx.Tracer):
    """Computes a network while it follows its forward, and keeps shapes and constants."""

    proxy_buffer_attributes = True

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()
        self._images: Tensor | None = images
        # Tried here: while a network is followed, its modules do not compute.
        self._layers = {m for m in network.modules() if find_channel_axis(m) is not None}
        """Also of somebody's own: normalisations with an activation, convolutions that pad."""
        self._computes = False
        """Whether modules are called to compute, and not to be followed."""
        self._given: dict[fx.Node, Any] = {}
        """What the arguments of the latest node are."""
        self.outputs: Any = None
        self.inside: list[str] = []
        """Paths of the modules whose forward is followed, the innermost last."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """What is not followed further."""
        return m in self._layers or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._computes:
            return forward(*args, **kwargs)
        self.inside.append(self.path_of_module(m))
        found = super().call_module(m, forward, args, kwargs)
        self.inside.pop()  # not where it fails: the last one is to be named
        return found

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._computes:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        if isinstance(obj, _Value) and obj.fixed:
            obj.node.meta["decides"] = True
            return bool(obj.value)
        return super().to_bool(obj)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        return (obj[i] for i in range(len(obj)))  # type: ignore[index]

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, _Value):
            self._given[a.node] = a.value
        return super().create_arg(a)

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, target, *args, **kwargs)
        node.meta |= {"value": None, "multiplies": False, "decides": False}
        if kind == "output":
            self.outputs = fx.node.map_arg(node.args, self._given.get)
        if kind == "get_attr":
            with self._computing():
                self._note(node, operator.attrgetter(target)(self.root), fixed=True)
        return node

    def create_proxy(  # type: ignore[override]
        self, kind: str, target: Any, args: Any, kwargs: Any, **others: Any
    ) -> Any:
        self._given.clear()
        node = super().create_proxy(kind, target, args, kwargs, **others).node
        if kind == "placeholder":
            return self._take_input(node)
        given: list[_Value] = []

        def value(argument: Any) -> Any:
            if not isinstance(argument, _Value):
                return argument
            given.append(argument)
            return argument.value

        args, kwargs = fx.node.map_aggregate((args, kwargs), value)
        with self._computing(), _Operators() as operators:  # type: ignore[no-untyped-call]
            if kind == "get_attr":
                result = operator.attrgetter(target)(self.root)
            elif kind == "call_module":
                result = self.root.get_submodule(target)(*args, **kwargs)
            elif kind == "call_method":
                result = getattr(args[0], target)(*args[1:], **kwargs)
            else:
                result = target(*args, **kwargs)
        fixed = all(one.fixed for one in given)
        shape_fixed = fixed or (
            not operators.shape_of_values and all(one.shape_fixed for one in given)
        )
        if target in READ_SHAPES and not isinstance(result, Tensor):
            fixed = shape_fixed
        self._note(node, result, fixed)
        node.meta["multiplies"] = kind in FUNCTIONS and operators.multiply
        return _Value(node, self, result, fixed, shape_fixed)

    def _take_input(self, node: fx.Node) -> Any:
        """An argument of the network: the first has the images, others have their defaults."""
        images, self._images = self._images, None
        name = str(node.target)
        if images is None:
            return {} if name.startswith("**") else () if name.startswith("*") else node.args[0]
        value = [images] if name.startswith("*") else images
        self._note(node, value, fixed=False)
        return _Value(node, self, value, fixed=False, shape_fixed=True)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        self._computes = True
        try:
            yield
        finally:
            self._computes = False

    def _note(self, node: fx.Node, value: Any, fixed: bool) -> None:
        node.meta["value"] = _shape_of(value)
        if fixed or node.meta["value"] is None:
            node.meta["constant"] = value


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes of operators whether any has multiply-adds, or a shape that depends on values."""

    multiply = False
    shape_of_values = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        self.multiply = self.multiply or count_multiply_adds(func, args, kwargs, output) > 0
        # An index has a shape of values if it is a mask.
        masks = any(isinstance(a, Tensor) and a.dtype is torch.bool for a in tree_leaves(args))
        if torch.Tag.dynamic_output_shape in getattr(func, "tags", ()) and (
            masks or func is not torch.ops.aten.index.Tensor
        ):
            self.shape_of_values = True
        return output


def _shape_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, tuple | list) and any(isinstance(v, Tensor) for v in value):
        return [_shape_of(v) for v in value]
    return None
