"""Any ONNX model as it is: how long it takes, and which of its nodes take it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnxruntime.tools.onnx_model_utils import (
    make_input_shape_fixed,
    remove_invalid_dim_values,
)

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError, MeasurementError
from goldnas.exporting.onnx import ARCHITECTURE
from goldnas.exporting.precision import read_precision
from goldnas.profiling.backend import Failure, NodeTime
from goldnas.profiling.measuring import Estimate
from goldnas.profiling.session import Session

_PROFILES = 3
"""Processes that profile the nodes; of each node the fastest counts."""


@dataclass(frozen=True)
class OnnxFile:
    """A model whose shapes are fixed."""

    path: Path
    model: bytes
    batch: int
    precision: str
    """Number format: of models of others, fp32 unless they hold quantised tensors."""
    architecture: Architecture | None
    """What goldnas exported; None for models of others."""


def read_onnx(
    path: Path, *, batch: int | None = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> OnnxFile:
    """Read a model, with weights that lie beside it, and fix the shapes of its inputs.

    Args:
        path: The file.
        batch: First size of inputs that leave it open; 1 if not given.
        shapes: Of whole inputs, by name.

    Raises:
        ConfigError: If the file is no model, or an input's shape is still open or another.
    """
    try:
        model = onnx.load(path, format="protobuf")  # whatever its name ends in
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror or error}. Give the path of an ONNX file"
        ) from None
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise ConfigError(
            f"{path} is no ONNX model: {error}. Copy or export it again, it may be cut off"
        ) from None
    graph = model.graph
    remove_invalid_dim_values(graph)  # -1 for an open size
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [entry for entry in graph.input if entry.name not in weights]
    if not inputs and not graph.node:
        raise ConfigError(f"{path} is no ONNX model: it has no node. Give an ONNX file")
    if unknown := (shapes or {}).keys() - {entry.name for entry in inputs}:
        raise ConfigError(
            f"`shapes` of {min(unknown)!r}: {path} has no such input, but "
            f"{', '.join(repr(entry.name) for entry in inputs)}"
        )
    for entry in inputs:
        _fix(path, graph, entry, batch, (shapes or {}).get(entry.name))
    sizes = [entry.type.tensor_type.shape.dim for entry in inputs]
    first = next((dims[0].dim_value for dims in sizes if dims), 1)
    try:
        fixed = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ConfigError(f"{path} is too large to be measured: {error}") from None
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    text = metadata.get(ARCHITECTURE)
    try:
        architecture = Architecture.from_json(text) if text is not None else None
    except ConfigError as error:
        raise ConfigError(
            f"{path} says that goldnas made it, but holds {error}. Export it again"
        ) from None
    return OnnxFile(path, fixed, first, read_precision(model), architecture)


def _fix(
    path: Path,
    graph: onnx.GraphProto,
    entry: onnx.ValueInfoProto,
    batch: int | None,
    shape: Sequence[int] | None,
) -> None:
    """Give one input a shape without open sizes."""
    dims = entry.type.tensor_type.shape.dim
    now = [dim.dim_value or dim.dim_param or "?" for dim in dims]
    shown = f"input {entry.name!r} of {path} is {'x'.join(map(str, now)) or 'a single number'}"
    if shape is None:
        shape = [dim.dim_value for dim in dims]
        if shape and not shape[0]:
            shape[0] = batch or 1
        elif shape and batch not in (None, shape[0]):
            raise ConfigError(f"{shown}: its batch is {shape[0]} and cannot be {batch}")
        if not all(shape):
            example = {entry.name: tuple(size or 64 for size in shape)}
            raise ConfigError(f"{shown}: say how large, as in `shapes={example}`")
    try:
        make_input_shape_fixed(graph, entry.name, list(shape))
    except ValueError:
        wanted = "x".join(map(str, shape))
        raise ConfigError(
            f"{shown}, and cannot be {wanted}. Choose another of `shapes`"
        ) from None


@dataclass(frozen=True)
class ModelLatency:
    """What a model takes, and its nodes."""

    latency_us: float
    interval_us: float
    """Half-width of the 95 % confidence interval."""
    nodes: tuple[NodeTime, ...]
    """In the order they run; they add up to ``latency_us`` less ``outside_us``."""
    outside_us: float
    """Spent between nodes."""
    profiling_us: float
    """Taken off each node: what it takes longer under the profiler."""


def measure_model(session: Session, model: bytes) -> ModelLatency:
    """Measure a model as any other, and profile its nodes.

    The runtime's profiler makes each node slower by about as much. What a node takes is
    therefore its time under the profiler less a constant, such that all of them add up to the
    latency that was measured without.

    Raises:
        MeasurementError: If the runtime rejects the model, or the machine is too noisy.
    """
    estimate = Estimate({"model": 1.0})
    results = session.measure({"model": model}, [estimate])
    if isinstance(results["model"], Failure):
        raise MeasurementError(results["model"].error)
    latency_us = estimate.latency_us(results)
    profiles: list[tuple[NodeTime, ...]] = []
    for _ in range(_PROFILES):
        profile = session.nodes({"model": model})["model"]
        if isinstance(profile, Failure):
            raise MeasurementError(profile.error)
        profiles.append(profile)
    nodes = [
        min(same, key=lambda node: node.latency_us) for same in zip(*profiles, strict=True)
    ]
    profiling_us = _excess([node.latency_us for node in nodes], latency_us)
    nodes = [replace(n, latency_us=max(0.0, n.latency_us - profiling_us)) for n in nodes]
    return ModelLatency(
        latency_us=latency_us,
        interval_us=estimate.interval_us(results),
        nodes=tuple(nodes),
        outside_us=max(0.0, latency_us - sum(node.latency_us for node in nodes)),
        profiling_us=profiling_us,
    )


def _excess(values: Sequence[float], total: float) -> float:
    """What to take off each value, down to 0 at most, so that they add up to no more."""
    largest = sorted(values, reverse=True)
    above = 0.0
    for count, value in enumerate(largest, start=1):
        above += value
        excess = (above - total) / count
        if count == len(largest) or excess >= largest[count]:
            return max(0.0, excess)
    return 0.0
