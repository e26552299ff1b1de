"""The parts of a network with choices, found by computing the network once.

goldnas counts and measures *parts*. A part is a candidate of a choice, or a fixed part: a
largest module without a choice inside that maps one tensor to one. A candidate with its own
choices is made of parts, like a network. Sums, concatenations and other functions between
modules cost no multiply-adds; a function that does is an error. Tracing also records which part
reads the output of which.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from goldnas.choice import Choice, Width, Zero, has_choice
from goldnas.errors import ConfigError, name_type, read_message
from goldnas.multiply_adds import has_formula, is_free, name_operator
from goldnas.site import Shapes
from goldnas.spaces.wiring import INPUT, Node

_BATCH = 2
"""Two, so that what is not computed image by image shows."""

_FREE = (nn.Identity, nn.Flatten, nn.Unflatten, nn.modules.dropout._DropoutNd)
"""Fixed parts that compute nothing where a network is deployed."""


@dataclass
class Trace:
    """The parts of a network, by the paths of their modules."""

    fixed: list[tuple[str, Shapes]] = field(default_factory=list)
    """In the order in which they are called, repeats included."""
    fixed_nodes: list[int] = field(default_factory=list)
    """The node of each of those."""
    passing: dict[str, Shapes] = field(default_factory=dict)
    """Modules that compute nothing where a network is deployed."""
    choices: dict[str, Shapes] = field(default_factory=dict)
    """In the order in which they are registered."""
    changed: set[str] = field(default_factory=set)
    """The choices of which an input or the output is changed in place afterwards."""
    nodes: list[Node] = field(default_factory=lambda: [Node("", (), frozenset())])
    """The input, then parts in the order in which they are called."""
    output: frozenset[int] = frozenset()
    """The nodes that the network puts out."""
    output_shape: tuple[int, ...] = ()
    """Shape of the network's output, without the batch."""


def trace_network(network: nn.Module, input_shape: tuple[int, ...]) -> Trace:
    """Compute a network once, on zeros, in evaluation mode, and record its parts.

    Raises:
        ConfigError: If the network breaks a rule of spaces. The message names the module.
    """
    places = [name for name, m in network.named_modules() if isinstance(m, Choice)]
    if not places:
        raise ConfigError(
            "its network has no Choice: put goldnas.Choice({...}) where a search should choose"
        )
    if "" in places:
        raise ConfigError("its network is a Choice itself; return a module that contains it")
    for path, weight in network.named_parameters():
        if is_lazy(weight):
            owner = type(network.get_submodule(path.rpartition(".")[0])).__name__
            raise ConfigError(
                f"weight {path!r} has no shape until {owner} computes, so it cannot be "
                f"counted: write {owner.removeprefix('Lazy')}, with the sizes of its input"
            )
        if not weight.is_floating_point():
            raise ConfigError(
                f"weight {path!r} is of {weight.dtype}, but searches learn real numbers: keep "
                "real and imaginary parts, and join them with torch.view_as_complex"
            )
    tracer = _Tracer(network, places)
    images = torch.zeros(_BATCH, *input_shape)
    tracer.marks.mark(images, frozenset([INPUT]))
    with torch.no_grad(), tracer, _Computed(tracer.computed):
        output = network.eval()(images)
    network.train()
    if not isinstance(output, Tensor) or output.dim() < 2 or len(output) != _BATCH:
        raise ConfigError(
            f"its network puts out {_described(output)}; it must be one tensor with a row for "
            "each image"
        )
    tracer.result.output = tracer.marks.find(output)
    tracer.result.output_shape = tuple(output.shape[1:])
    _check_calls(network, tracer.result, tracer.calls)
    return tracer.result


class _Marks:
    """The nodes that every tensor depends on, by the memory that it is in."""

    def __init__(self) -> None:
        self._nodes: dict[int, frozenset[int]] = {}
        self._held: list[Tensor] = []  # so that no memory is used twice
        self._anywhere: frozenset[int] = frozenset()
        """Of what has left the tensors, as a number that a forward decides by."""

    def find(self, values: object) -> frozenset[int]:
        """What the tensors among some values depend on."""
        found = (self._nodes.get(_memory(t), frozenset()) for t in _tensors(values))
        return self._anywhere.union(*found)

    def mark(self, values: object, nodes: frozenset[int]) -> None:
        """Let the tensors among some values depend on these nodes."""
        for tensor in _tensors(values):
            self._held.append(tensor)
            self._nodes[_memory(tensor)] = nodes

    def carry(self, func: Any, arguments: object, output: object) -> None:
        """Let what a function puts out, or changes, depend on what it reads."""
        nodes = self.find(arguments)
        if not nodes:
            return
        if not _tensors(output) and not func._schema.is_mutable:
            self._anywhere |= nodes
        changed = arguments if func._schema.is_mutable else ()
        for tensor in (*_tensors(output), *_tensors(changed)):
            self.mark(tensor, nodes | self.find(tensor))


def _tensors(values: object) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _Computed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells of every function of torch that is computed."""

    def __init__(self, told: Callable[[Any, object, object], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._told = told

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute it."""
        output = func(*args, **(kwargs or {}))
        self._told(func, (args, kwargs), output)
        return output


class _Tracer:
    """Notes the parts of a network while it computes, and what is computed between them."""

    def __init__(self, network: nn.Module, places: list[str]) -> None:
        self.result = Trace()
        self.calls: Counter[str] = Counter()
        """Number of calls of each choice and of each fixed part."""
        self.seen: dict[str, Shapes] = {}
        self.marks = _Marks()
        self._around: dict[str, list[tuple[Tensor, int]]] = {}
        """For each choice, its inputs and its output, each with its version at that time."""
        self._containers: list[str] = []
        """The modules around, from the outermost; each has a choice within."""
        self._part: str | None = None
        """The fixed part, or the choice, that is computing."""
        self._network, self._places = network, places
        self._undo: list[Callable[[], object]] = []

    def __enter__(self) -> "_Tracer":
        containers = {"", *(p[:i] for p in self._places for i, c in enumerate(p) if c == ".")}
        for path, module in self._network.named_modules():
            if path in self._places:
                assert isinstance(module, Choice)
                # Of one object only: a Choice elsewhere computes as ever.
                chosen = self._narrowed if isinstance(module, Width) else self._chosen
                module.forward = partial(chosen, path, module)  # type: ignore
                self._undo.append(partial(module.__dict__.pop, "forward"))
            elif path in containers:
                self._hook(module, partial(self._enter, path), self._leave)
            elif not self._is_in_candidate(path):
                self._hook(module, partial(self._begin, path), partial(self._end, path))
        return self

    def _is_in_candidate(self, path: str) -> bool:
        """Whether a module is of a candidate without choices, which is one part."""
        owner = find_owner(path, self._places)
        if owner is None:
            return False
        place, key = owner
        return not has_choice(self._network.get_submodule(f"{place}.operators.{key}"))

    def __exit__(self, *error: Any) -> None:
        for undo in self._undo:
            undo()
        self.result.choices = {p: self.seen[p] for p in self._places if p in self.seen}
        self.result.changed = {
            path
            for path, tensors in self._around.items()
            if any(tensor._version != version for tensor, version in tensors)
        }

    def _hook(self, module: nn.Module, before: Any, after: Any) -> None:
        self._undo += [
            module.register_forward_pre_hook(before, with_kwargs=True).remove,
            module.register_forward_hook(after).remove,
        ]

    # -- containers ---------------------------------------------------------------------------

    def _enter(self, path: str, *_: object) -> None:
        self._containers.append(path)

    def _leave(self, *_: object) -> None:
        self._containers.pop()

    def computed(self, func: Any, arguments: object, output: object) -> None:
        """Follow what is computed between modules; refuse multiply-adds, of no part."""
        if self._part is not None:
            return
        if has_formula(func) or not is_free(func):
            inside = "".join(self._containers[-1:])
            raise ConfigError(
                f"the forward of {repr(inside) if inside else 'its network'} computes "
                f"{name_operator(func)} between modules, which would be in no latency and no "
                "count; put it into a module of its own"
            )
        self.marks.carry(func, arguments, output)

    # -- fixed parts --------------------------------------------------------------------------

    def _begin(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        # One that takes several inputs is gone into.
        if self._part is None and not kwargs and len(args) == 1 and _is_batch(args[0]):
            self._part = path
            self._input_shape = tuple(args[0].shape[1:])
            self._reads = self.marks.find(args[0])

    def _end(self, path: str, module: nn.Module, args: Any, output: Any) -> None:
        if self._part != path:
            return
        self._part = None
        if not _is_batch(output):
            raise ConfigError(
                f"module {path!r} puts out {_described(output)}; a part of a network must map "
                "one tensor to one: put more of the network into one module"
            )
        shapes = Shapes(self._input_shape, tuple(output.shape[1:]))
        self.calls[path] += 1
        self._add_node(path, (), output)
        if isinstance(module, _FREE):
            self.result.passing[path] = shapes
        else:
            self.result.fixed.append((path, shapes))
            self.result.fixed_nodes.append(len(self.result.nodes) - 1)

    def _add_node(self, path: str, keys: tuple[str, ...], output: Tensor) -> None:
        """Note a node that reads what was noted last, and what it puts out."""
        self.result.nodes.append(Node(path, keys, self._reads))
        # Of memory that it shares with its input, as a view does, it is the last to write.
        nodes = self.marks.find(output) - self._reads | {len(self.result.nodes) - 1}
        self.marks.mark(output, nodes)

    # -- choices ------------------------------------------------------------------------------

    def _narrowed(self, path: str, width: Width, *inputs: Tensor, **named: Any) -> Tensor:
        """Let a tensor pass."""
        self._check_inputs(path, inputs, named)
        x, *others = inputs
        if others or x.shape[1] != width.widths[-1]:
            given = "+".join(map(_text, inputs))
            raise ConfigError(
                f"the Width at {path} is called with {given}, but its widths end at "
                f"{width.widths[-1]} channels; let the last be the channels of one tensor"
            )
        self.calls[path] += 1
        self._reads = self.marks.find(inputs)
        self._part = path
        output = x.clone()
        self._add_node(path, tuple(width.operators), output)
        self._part = None
        shape = tuple(x.shape[1:])
        self.seen[path] = Shapes(shape, shape)
        self._around[path] = [(tensor, tensor._version) for tensor in (x, output)]
        return output

    def _check_inputs(
        self, path: str, inputs: tuple[Tensor, ...], named: dict[str, Any]
    ) -> None:
        if named:
            raise ConfigError(
                f"the choice at {path} is called with {', '.join(named)} by name; a choice "
                "takes tensors by position: leave the names out"
            )
        for value in inputs or [None]:
            if not _is_batch(value):
                raise ConfigError(
                    f"the choice at {path} is called with {_described(value)}; each of its "
                    "inputs must be a tensor with a row for each image"
                )

    def _chosen(self, path: str, choice: Choice, *inputs: Tensor, **named: Any) -> Tensor:
        """Compute every candidate, and hold what they put out against each other."""
        self._check_inputs(path, inputs, named)
        self.calls[path] += 1
        reads = self.marks.find(inputs)
        outputs: dict[str, Tensor] = {}
        alike: list[str] = []  # candidates that are one part each
        versions = [x._version for x in inputs]
        given = "+".join(map(_text, inputs))
        for key, operator in choice.operators.items():
            if isinstance(operator, Zero):
                continue
            if not has_choice(operator):
                self._part = path
                alike.append(key)
            try:
                output = operator(*inputs)
            except ConfigError:
                raise
            except Exception as error:
                raise ConfigError(
                    f"candidate {key!r} of the choice at {path} fails on an input of "
                    f"{given}: {type(error).__name__}: {read_message(error)}"
                ) from error
            if [x._version for x in inputs] != versions:
                raise ConfigError(
                    f"candidate {key!r} of the choice at {path} changes its input in place, "
                    "but the others read this input, too: begin it without inplace=True"
                )
            if not _is_batch(output):
                raise ConfigError(
                    f"candidate {key!r} of the choice at {path} puts out "
                    f"{_described(output)}; it must be one tensor"
                )
            outputs[key] = output
            self._part = None
        if not outputs:
            raise ConfigError(
                f"the choice at {path} has no candidate besides a Zero, so nothing can pass "
                "it; add a candidate that computes"
            )
        ((usual, _),) = Counter(map(_text, outputs.values())).most_common(1)
        for key, output in outputs.items():
            if _text(output) != usual:
                raise ConfigError(
                    f"candidate {key!r} of the choice at {path} maps {given} to "
                    f"{_text(output)}, but the others map it to {usual}: give all candidates "
                    "of a choice one output shape"
                )
        nested = [(key, self.marks.find(outputs[key])) for key in outputs if key not in alike]
        self._part = path
        output = sum(outputs.values(), torch.zeros(()))
        for keys, read in [(tuple(alike), reads)] * bool(alike) + [
            ((k,), r) for k, r in nested
        ]:
            self._reads = read
            self._add_node(path, keys, output)
        first, *others = (tuple(x.shape[1:]) for x in inputs)
        self.seen[path] = Shapes(first, tuple(output.shape[1:]), tuple(others))
        self._part = None
        self._around[path] = [(tensor, tensor._version) for tensor in (*inputs, output)]
        return output


def find_owner(path: str, places: Collection[str]) -> tuple[str, str] | None:
    """The choice, and the key of its candidate, that a module is in; the innermost."""
    start = len(path)
    while (start := path.rfind(".operators.", 0, start)) >= 0:
        if path[:start] in places:
            return path[:start], path[start + len(".operators.") :].split(".")[0]
    return None


def _check_calls(network: nn.Module, result: Trace, calls: Counter[str]) -> None:
    """Refuse what would make the sum over parts another than the network."""
    owners: dict[int, str] = {}
    parts = {path: network.get_submodule(path) for path in calls}
    for path, module in network.named_modules():
        if isinstance(module, Choice) and calls[path] != 1:
            problem = f"calls {calls[path]} times" if calls[path] else "never calls"
            raise ConfigError(
                f"its forward {problem} the choice at {path}; call each choice once"
            )
    for path, module in parts.items():
        weights = list(module.parameters())
        if weights and calls[path] > 1:
            raise ConfigError(
                f"module {path!r} has weights and is called {calls[path]} times, but goldnas "
                "counts each part once: make a module for each call"
            )
        candidates = module.operators.items() if isinstance(module, Choice) else [("", module)]
        for key, part in candidates:
            if has_choice(part):
                continue  # its own parts are called
            name = f"{path}.{key}" if key else path
            for weight in part.parameters():
                other = owners.setdefault(id(weight), name)
                if other != name:
                    raise ConfigError(
                        f"{other} and {name} share weights, which would be counted twice; "
                        "give each its own"
                    )
    for name, weight in network.named_parameters():
        if id(weight) not in owners:
            raise ConfigError(
                f"weight {name!r} is in no module that the forward calls with one tensor, so "
                "goldnas would not count it; leave it out, or move it and its computation into "
                "a module of its own"
            )


def _is_batch(value: object) -> bool:
    return isinstance(value, Tensor) and value.dim() > 1 and len(value) == _BATCH


def _text(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape[1:]))


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {tuple(value.shape)} for {_BATCH} inputs"
    return name_type(value)
