"""An ONNX file measured as it is, and held against what latency tables say of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from goldnas.errors import ConfigError
from goldnas.lut import Conditions, LatencyTable
from goldnas.profiling.config import ModelConfig
from goldnas.profiling.session import Session
from goldnas.profiling.whole_model import ModelLatency, OnnxFile, measure_model, read_onnx
from goldnas.resources import Latency
from goldnas.resources.costs import sum_costs
from goldnas.spaces import find_space


@dataclass(frozen=True)
class ModelPrediction:
    """What a table says of a model that was measured."""

    table: str
    latency_us: float
    other_conditions: list[str]
    """What the table was measured under, and the model was not."""
    difference_percent: float
    """Of the measured latency from the predicted one."""


@dataclass(frozen=True)
class ModelProfile:
    """A model, what it takes, and what was predicted."""

    file: OnnxFile
    conditions: Conditions
    latency: ModelLatency
    predictions: tuple[ModelPrediction, ...]


def profile_model(
    path: Path,
    config: ModelConfig,
    tables: Sequence[LatencyTable],
    *,
    on_progress: Callable[[int, int], None],
    on_warning: Callable[[str], None],
) -> ModelProfile:
    """Measure an ONNX file and its nodes.

    Args:
        path: The file.
        config: The device, and how it measures.
        tables: To compare with, if goldnas exported the model.
        on_progress: Told how many visits are done, of how many.
        on_warning: Told what may spoil the measurements.

    Raises:
        ConfigError: If the file is no model, or a shape is open.
        MeasurementError: If the runtime rejects the model, or the machine is too noisy.
        TableError: If a table cannot be read, or lacks a row of the network.
    """
    file = read_onnx(path, batch=config.batch, shapes=config.shapes)
    # What is not fp32 says so, and stays as it is.
    precision = file.precision if config.precision == "fp32" else config.precision
    session = Session(
        config.make_backend(precision=precision, on_warning=on_warning),
        batch=file.batch,
        on_progress=on_progress,
        on_warning=on_warning,
    )
    predicted_us = {table.name: _predict_us(file, table) for table in tables}
    latency = measure_model(session, file.model)
    return ModelProfile(
        file=file,
        conditions=session.conditions,
        latency=latency,
        predictions=tuple(
            ModelPrediction(
                table=table.name,
                latency_us=predicted_us[table.name],
                other_conditions=table.conditions.differences(session.conditions),
                difference_percent=100 * (latency.latency_us / predicted_us[table.name] - 1),
            )
            for table in tables
        ),
    )


def _predict_us(file: OnnxFile, table: LatencyTable) -> float:
    """What a table says of the network that the file holds.

    Raises:
        ConfigError: If it holds none of goldnas.
        TableError: If the table lacks a row.
    """
    if file.architecture is None:
        raise ConfigError(
            f"{file.path} was not exported by this version of goldnas, so it does not say "
            "which operators it was built from. Leave out `tables`, or export it anew"
        )
    space = find_space(file.architecture)
    return sum_costs(Latency(table, space), space.plan(file.architecture).parts())
