"""What the parts of a network add to its exported file, and to its activations.

A search needs it of every part, so nothing is exported here. The weights of the file are
counted. Its text (nodes, names, shapes) is bounded by the operations that PyTorch computes.
What a finished network needs is counted on its file, by :func:`count_file`.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from goldnas.choice import Choice
from goldnas.errors import ConfigError, read_message
from goldnas.exporting.fold import fold
from goldnas.exporting.onnx import describe_network, to_onnx
from goldnas.exporting.peak_memory import Step, find_peak, peak_activation_bytes
from goldnas.exporting.precision import to_precision
from goldnas.operators import Part, PartBuilder, build_operator
from goldnas.resource_names import BYTES, RAM, name_of_file, read_kind, read_precision
from goldnas.resources.costs import sum_costs
from goldnas.site import AnySite
from goldnas.spaces import SearchSpace

_WIDTH = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
"""Bytes of an element."""

_LAYERS = ("convolution", "native_batch_norm", "addmm", "_native_batch_norm")
"""Operations of torch whose nodes have many attributes or inputs."""

_ACTIVATIONS = ("relu", "hardtanh", "clamp")
"""Operations that kernels for integers compute with the layer before."""


def count_file(
    network: nn.Module,
    input_shape: tuple[int, ...],
    resources: Sequence[str],
    metadata: Mapping[str, str],
) -> dict[str, float]:
    """Count resources of the file that an export of a network writes.

    Args:
        network: The finished network, with its weights.
        input_shape: ``(C, H, W)``.
        resources: Names of resources; those that no file tells are left out.
        metadata: Of the file.

    Returns:
        Bytes, by resource.

    Raises:
        ExportError: If the network cannot be exported in one of the number formats.
    """
    precisions = {name: p for name in resources if (p := read_precision(name)) is not None}
    if not precisions:
        return {}
    exact = to_onnx(network, (1, *input_shape), metadata=metadata)
    files = {p: to_precision(exact, p) for p in set(precisions.values())}
    return {name: read_file(files[p], p)[name] for name, p in precisions.items()}


def read_file(model: bytes, precision: str) -> dict[str, float]:
    """The resources that an ONNX file in a number format tells, in bytes."""
    return {
        name_of_file(BYTES, precision): float(len(model)),
        name_of_file(RAM, precision): float(peak_activation_bytes(model)),
    }


@dataclass(frozen=True)
class _Traced:
    """A part, ready to be deployed: its weights, and what it computes."""

    weights: tuple[tuple[int, ...], ...]
    """Shapes."""
    names: int
    """Characters of the names of its weights."""
    operations: tuple[str, ...]
    steps: tuple[Step, ...]
    sizes: Mapping[Hashable, int]
    """Elements of each tensor that is no weight."""
    inputs: tuple[Hashable, ...]
    outputs: tuple[Hashable, ...]


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what a module computes, in order."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[str] = []
        self.steps: list[Step] = []
        self.sizes: dict[Hashable, int] = {}
        self._kept: list[Tensor] = []

    def name(self, tensor: Tensor) -> Hashable:
        """The memory of a tensor, which views share."""
        self._kept.append(tensor)  # else another may get its place
        address: int = tensor.untyped_storage()._cdata
        return address

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute it, and note it unless it only looks at the same memory."""
        output = func(*args, **(kwargs or {}))
        reads = [self.name(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        made = [t for t in tree_leaves(output) if isinstance(t, Tensor) and t.numel()]
        makes = [(self.name(t), t.numel()) for t in made]
        makes = [(name, size) for name, size in makes if name not in reads]
        self.sizes.update(makes)
        if makes:
            self.operations.append(func.overloadpacket.__name__)
            self.steps.append((reads, [name for name, _ in makes]))
        return output


@cache
def _trace(build: PartBuilder, operator: str, site: AnySite) -> _Traced:
    with torch.random.fork_rng(devices=[]):
        choice = Choice({"part": lambda: build(operator, site)})
    choice.gates = torch.ones(1)  # which some parts need a node of their own for
    part = fold(choice)
    tracer = _Tracer()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        inputs = [torch.zeros(1, *shape) for shape in site.input_shapes]
        try:
            with tracer:
                outputs = part(*inputs)
        except Exception as error:  # of the module, which may be anybody's
            raise ConfigError(
                f"cannot count what {operator} at {site} needs of an exported file: "
                f"{read_message(error)[:300]}. Rewrite it so that PyTorch can export it, or "
                "give no budget of bytes or ram"
            ) from None
        names = tuple(map(tracer.name, inputs))
        tracer.sizes |= {n: t.numel() for n, t in zip(names, inputs, strict=True)}
        made = tuple(tracer.name(t) for t in tree_leaves(outputs) if isinstance(t, Tensor))
    prefix = "operators.part."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in part.state_dict().items()
        if tensor.is_floating_point()
    }
    return _Traced(
        weights=tuple(tuple(t.shape) for t in weights.values()),
        names=sum(map(len, weights)),
        operations=tuple(tracer.operations),
        steps=tuple(tracer.steps),
        sizes=tracer.sizes,
        inputs=names,
        outputs=made,
    )


class FileBytes:
    """Bytes of an exported file, at most: its weights are counted, its text is bounded.

    Args:
        precision: Number format of the file.
        build: Builds the parts.
        path: Characters of the longest place of a part in the network.
        metadata: Bytes of the metadata of a file.
        cells: Sums of tensors that every network has besides its parts.
    """

    def __init__(
        self,
        precision: str,
        build: PartBuilder = build_operator,
        *,
        path: int = 0,
        metadata: int = 0,
        cells: int = 0,
    ) -> None:
        self.name = name_of_file(BYTES, precision)
        self._precision = precision
        self._build = build
        self._path = path
        self.overhead = (
            500.0 + metadata + cells * (self._node_bytes("cat") + 310 * (precision == "int8"))
        )

    def cost(self, operator: str, site: AnySite) -> float:
        """Bytes of one operator at one site, with the sum that takes its output."""
        part = _trace(self._build, operator, site)
        names = part.names + self._path * len(part.weights)
        weights = sum(self._weight_bytes(shape) for shape in part.weights)
        nodes = sum(map(self._node_bytes, (*part.operations, "add")))
        if self._precision == "int8":  # a node that rounds, and one that does the opposite
            nodes += 310 * (1 + len(_with_activations(part)[0]))
        return float(weights + nodes + self._uses_of_name * names)

    def of_parts(self, parts: Iterable[Part]) -> float:
        """Bytes of a network from its parts."""
        return sum_costs(self, parts)

    @property
    def _uses_of_name(self) -> int:
        """How often a file has the name of a weight."""
        return {"fp32": 3, "int8": 0}.get(self._precision, 2)

    def _weight_bytes(self, shape: tuple[int, ...]) -> int:
        """A tensor and its description, without its name."""
        elements = math.prod(shape)
        if self._precision != "int8":
            described = 45 if self._precision == "fp32" else 20
            return _WIDTH[self._precision] * elements + described
        # Scales and zero points are for each channel; what has one dimension stays fine.
        rounded = elements + 5 * shape[0] if len(shape) > 1 else 12 * elements
        return rounded + 270

    def _node_bytes(self, operation: str) -> int:
        """The node of an operation, and the description of what it puts out."""
        node = 190 if operation in _LAYERS else 80
        return node + (30 if self._precision == "fp32" else 0)


class PartPeak:
    """Peak activation memory of a part alone: a network with it needs as much, at least.

    Args:
        precision: Number format of the file.
        build: Builds the parts.
    """

    overhead = 0.0

    def __init__(self, precision: str, build: PartBuilder = build_operator) -> None:
        self.name = name_of_file(RAM, precision)
        self._precision = precision
        self._build = build

    def cost(self, operator: str, site: AnySite) -> float:
        """Bytes that the tensors of one operator at one site take at once, at most."""
        part = _trace(self._build, operator, site)
        in_integers = self._precision == "int8"
        steps, outputs = _with_activations(part) if in_integers else (part.steps, part.outputs)
        peak = find_peak(steps, part.sizes, part.inputs, outputs)
        return float(_WIDTH[self._precision] * peak)

    def of_parts(self, parts: Iterable[Part]) -> float:
        """What the largest of some parts needs."""
        return max((self.cost(*part) for part in parts), default=0.0)


def _with_activations(part: _Traced) -> tuple[tuple[Step, ...], tuple[Hashable, ...]]:
    """The steps of a part in integers, where a layer computes its activation, too."""
    read = [name for reads, _ in part.steps for name in reads]
    same: dict[Hashable, Hashable] = {}
    for operation, (reads, makes) in zip(part.operations, part.steps, strict=True):
        alone = len(makes) == 1 and reads[:1] and read.count(reads[0]) == 1
        if operation in _ACTIVATIONS and alone and reads[0] not in part.inputs:
            same[makes[0]] = same.get(reads[0], reads[0])
    steps = [
        ([same.get(n, n) for n in reads], [same.get(n, n) for n in makes])
        for reads, makes in part.steps
    ]
    left: tuple[Step, ...] = tuple(
        (reads, makes) for reads, makes in steps if not set(makes) <= set(reads)
    )
    return left, tuple(same.get(name, name) for name in part.outputs)


def resource_of_file(
    resource: str, space: SearchSpace, described: Mapping[str, Any]
) -> FileBytes | PartPeak:
    """What parts of a space add to a resource of a file, or need of it.

    Args:
        resource: ``bytes`` or ``ram``, in any number format.
        space: The space.
        described: What a file says of inputs and classes, as the conditions of a run have it.
    """
    precision = read_precision(resource)
    assert precision is not None
    if read_kind(resource) == RAM:
        return PartPeak(precision, space.build_part)
    places = [f"{block}.operators.{g.key}." for g in space.gates for block in g.blocks]
    everything = space.architecture(space.gates).to_json().decode()
    metadata = describe_network(everything, described)
    return FileBytes(
        precision,
        space.build_part,
        path=max(map(len, places), default=0),
        metadata=sum(map(len, metadata.values())),
        cells=len(space.cell_layout.reductions) if space.cell_layout else 0,
    )
