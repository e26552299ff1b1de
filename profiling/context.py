"""The time that an operator adds to a network, from the times of a few small models.

The time of an operator as a model of its own includes the cost of a session, and of the change
to the runtime's layout of tensors and back. A network pays these only once. So goldnas times
each operator in two models that differ only by four more copies of the operator:

- *chain*, for an operator that keeps the shape: ``x + f(x)``, as a node of a cell would read
  it, two and six times in a row, behind a convolution that brings the tensor into the runtime's
  layout;
- *branches*, for an operator that changes the shape: one and five copies side by side, added.

Runtimes compute equal operators only once. Copies have their own weights. But if an operator
begins with something without weights (pooling, a slice), branches also need their own inputs:
a 1x1 convolution feeds each branch, and a chain measures the cost of this convolution, which is
subtracted. A leading ReLU stays shared, as operators that read one node share it in a network.

An operator of several inputs reads the last values of its chain. Each of its branches has one
such convolution per input.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import onnx

from goldnas.errors import MeasurementError
from goldnas.profiling.compose import Composition
from goldnas.site import AnySite

Make = Callable[[int], bytes]
"""From a number of operators to a model."""


@dataclass(frozen=True)
class RowModels:
    """The models that a row is computed from."""

    method: Literal["chain", "branches"]
    models: dict[str, bytes]
    """By label: ``chain of 6``; ``isolated`` is one of them."""
    terms: dict[str, float]
    """The row's latency: the sum of these factors times the models' latencies."""


def make_row_models(operator: onnx.ModelProto, site: AnySite, *, batch: int) -> RowModels:
    """Make the models for one operator at one site.

    Args:
        operator: Exported for the site and the batch.
        site: Where it sits.
        batch: Images per call.

    Raises:
        MeasurementError: If its inputs are of several shapes.
    """
    shape = (batch, *site.input_shape)
    channels, inputs = site.input_shape[0], len(site.input_shapes)
    if len(set(site.input_shapes)) > 1:
        raise MeasurementError(
            f"an operator at {site} cannot be measured: its inputs have several shapes. "
            "Bring them to one shape before the choice"
        )
    isolated = Composition(shape)
    models = {"isolated": isolated.to_onnx(isolated.apply(operator, *["input"] * inputs))}
    terms = {"isolated": 0.0}  # stands beside, and needs no interval of its own

    def slope(small: str, large: str, counts: tuple[int, int], make: Make, sign: int) -> None:
        few, many = counts
        models.update({small: make(few), large: make(many)})
        terms.update({small: -sign / (many - few), large: sign / (many - few)})

    def chain(count: int) -> bytes:
        composition = Composition(shape)
        values = [composition.convolve("input", channels, channels) for _ in range(inputs)]
        for _ in range(count):
            output = composition.apply(operator, *values[-inputs:])
            values.append(composition.add(output, values[-1]))
        return composition.to_onnx(values[-1])

    def branches(count: int) -> bytes:
        composition = Composition(shape)
        total = ""
        for _ in range(count):
            values = ["input"] * inputs
            if fed:
                values = [composition.convolve(v, channels, channels) for v in values]
            value = composition.apply(operator, *values)
            total = composition.add(total, value) if total else value
        return composition.to_onnx(total)

    def feeders(count: int) -> bytes:
        composition = Composition(shape)
        value = "input"
        for _ in range(count):
            value = composition.convolve(value, channels, channels)
        return composition.to_onnx(value)

    fed = inputs > 1 or _begins_without_weights(operator.graph)
    if _keeps_shape(operator.graph, shape):
        slope("chain of 2", "chain of 6", (2, 6), chain, 1)
        return RowModels("chain", models, terms)
    slope("1 branch", "5 branches", (1, 5), branches, 1)
    if fed:
        slope("feeder chain of 2", "feeder chain of 6", (2, 6), feeders, -inputs)
    return RowModels("branches", models, terms)


def _keeps_shape(graph: onnx.GraphProto, shape: tuple[int, ...]) -> bool:
    dims = graph.output[0].type.tensor_type.shape.dim
    return tuple(dim.dim_value for dim in dims) == shape


def _begins_without_weights(graph: onnx.GraphProto) -> bool:
    """Whether something besides ReLU comes before the first weights, from the input on."""
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) >= 2}
    fresh = {"input"}
    for node in graph.node:
        if not fresh & set(node.input) or weights & set(node.input):
            continue
        if node.op_type != "Relu":
            return True
        fresh |= set(node.output)
    return False
