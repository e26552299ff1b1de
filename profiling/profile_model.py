"""Measuring an ONNX file, and comparing it with the predictions of latency tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from goldnas.errors import ConfigError, MeasurementError
from goldnas.lut import Conditions, LatencyTable
from goldnas.profiling.calls import LoopTimes, describe_lacking, measure_calls
from goldnas.profiling.config import ModelConfig
from goldnas.profiling.input_values import ModelInput
from goldnas.profiling.onnx_file import Form, OnnxFile, read_onnx
from goldnas.profiling.rejections import explain_rejection
from goldnas.profiling.session import Session
from goldnas.profiling.whole_model import ModelLatency, RejectedModelError, measure_model
from goldnas.reference import import_function
from goldnas.resources import Latency
from goldnas.resources.costs import sum_costs
from goldnas.spaces import find_space
from goldnas.trust import allow

_RUNNING = "Error in execution"
"""In what onnxruntime says of a model that it took, and that failed when it ran."""


@dataclass(frozen=True)
class ModelPrediction:
    """A table's prediction for a measured model."""

    table: str
    latency_us: float
    other_conditions: list[str]
    """Conditions of the table that differ from those of the model's measurement."""
    difference_percent: float
    """Deviation of the measured latency from the predicted one; in a loop, of p50."""


@dataclass(frozen=True)
class ModelProfile:
    """A model, its latency, and the predictions."""

    file: OnnxFile
    inputs: tuple[ModelInput, ...]
    """What it ran on."""
    conditions: Conditions
    latency: ModelLatency
    """Hot, whatever the loop of the conditions is."""
    loop: LoopTimes | None
    """Single calls in the loop of the conditions; None if that is hot."""
    pipeline: str | None
    """The function that returns what was timed with each of these calls; None if nothing."""
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
        on_progress: Called with the numbers of visits done and of all visits.
        on_warning: Called with a warning if something may spoil the measurements.

    Raises:
        ConfigError: If the file is no model, a shape is open, a value does not fit, or the
            pipeline cannot be imported.
        MeasurementError: If the runtime rejects the model, the pipeline fails, or the machine
            is too noisy.
        TableError: If a table cannot be read, or lacks a row of the network.
    """
    if config.pipeline is not None:
        if tables:
            raise ConfigError(
                "`tables` predict a network alone, and `pipeline` is timed with it: leave out "
                "one of them"
            )
        allow(config.pipeline)  # the user names it
        import_function(config.pipeline, "a pipeline", "two functions, before and after")
    file = read_onnx(path, batch=config.batch, shapes=config.shapes, values=config.values)
    if file.deciding:
        on_warning(_describe_deciding(file))
    # What is not fp32 says so, and stays as it is.
    precision = file.precision if config.precision == "fp32" else config.precision
    session = Session(
        config.make_backend(precision=precision, on_warning=on_warning),
        batch=file.batch,
        on_progress=on_progress,
        on_warning=on_warning,
    )
    predicted_us = {table.name: _predict_us(file, table) for table in tables}
    if config.pipeline is not None:
        _try_pipeline(session, file)
    latency, form = _measure(session, file)
    loop = None
    if not session.conditions.called.is_hot:
        loop = measure_calls(session, form.model, calls=config.calls)
        if lacking := describe_lacking(loop):
            on_warning(lacking)
    measured_us = loop.quantiles["p50"].latency_us if loop else latency.latency_us
    if form.note:
        on_warning(form.note)
    if latency.varies:
        on_warning(
            f"{path} does not run the same nodes in each process: the list includes nodes that "
            "only some processes ran"
        )
    return ModelProfile(
        file=file,
        inputs=form.inputs,
        conditions=session.conditions,
        latency=latency,
        loop=loop,
        pipeline=config.pipeline,
        predictions=tuple(
            ModelPrediction(
                table=table.name,
                latency_us=predicted_us[table.name],
                other_conditions=table.conditions.differences(session.conditions),
                difference_percent=100 * (measured_us / predicted_us[table.name] - 1),
            )
            for table in tables
        ),
    )


def _try_pipeline(session: Session, file: OnnxFile) -> None:
    """Call a model once between the functions of its pipeline, before minutes are spent.

    Raises:
        MeasurementError: If no form of the model can be called so; with the reason of the
            first.
    """
    errors = []
    for form in file.forms():
        error = session.try_call(form.model)
        if not error:
            return
        errors.append(error)
    raise MeasurementError(explain_rejection(errors[0]))


def _measure(session: Session, file: OnnxFile) -> tuple[ModelLatency, Form]:
    """Measure a model in the first form that the runtime takes.

    Raises:
        MeasurementError: As for :func:`measure_model`, of the first form.
    """
    rejected: RejectedModelError | None = None
    for form in file.forms():
        try:
            return measure_model(session, form.model), form
        except RejectedModelError as error:
            rejected = rejected or error
    assert rejected is not None  # there is a form
    raise RejectedModelError(f"{rejected}{describe_made_up(file, str(rejected))}") from None


def describe_made_up(file: OnnxFile, error: str) -> str:
    """What to do about a model that fails where it runs: its inputs may be at fault."""
    made_up = [f"{one.name!r} is {one.filled}" for one in file.inputs if one.is_made_up]
    if not made_up or _RUNNING not in error:
        return ""
    return (
        f". It ran on made-up inputs: {', '.join(made_up)}. Give the values of a real call "
        "with `values`"
    )


def _describe_deciding(file: OnnxFile) -> str:
    """The warning that what runs depends on inputs that were made up."""
    filled = {entry.name: entry for entry in file.inputs}
    told = [
        f"{name!r} is {filled[name].filled} ({node})" for name, node in file.deciding.items()
    ]
    name = next(iter(file.deciding))
    example = {name: "image.npy" if filled[name].filled == "random" else 10}
    return (
        f"the work of {file.path} depends on made-up inputs: {', '.join(told)}. Give the "
        f"values of a real call, as in `values={example}`"
    )


def _predict_us(file: OnnxFile, table: LatencyTable) -> float:
    """What a table says of the network that the file holds.

    Raises:
        ConfigError: If it holds none of goldnas.
        TableError: If the table lacks a row.
    """
    if file.architecture is None:
        raise ConfigError(
            f"{file.path} was not exported by this version of goldnas, so it does not list its "
            "operators. Leave out `tables`, or export the network again"
        )
    space = find_space(file.architecture)
    return sum_costs(Latency(table, space), space.plan(file.architecture).parts())
