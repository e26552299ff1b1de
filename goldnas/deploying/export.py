"""The export of a network: files, comparison with PyTorch, measurement and budget checks."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldnas.deploying.config import ExportConfig
from goldnas.deploying.latency import (
    choose_gpu,
    describe_other_engines,
    keep_measurements,
    measure_latencies,
)
from goldnas.deploying.outputs import compare_engine, compare_half, compare_int8
from goldnas.deploying.runtimes import RuntimeLatency, choose_runtimes, measure_runtimes
from goldnas.deploying.smaller import suggest_smaller
from goldnas.deploying.source import Source, draw_int8_data
from goldnas.errors import ConfigError
from goldnas.exporting.budget_check import (
    BudgetCheck,
    check_budgets,
    check_file,
    describe_far_off,
    is_over_budget,
    summary_line,
)
from goldnas.exporting.onnx import check_onnx, to_onnx
from goldnas.exporting.precision import to_precision
from goldnas.exporting.python_source import pack_weights, to_python
from goldnas.files import check_replaceable, check_writable, write_atomic
from goldnas.lut import LatencyTable
from goldnas.profiling.gpu_backend import GpuBackend
from goldnas.profiling.host import find_host
from goldnas.reference import import_function
from goldnas.resource_names import is_latency, read_table
from goldnas.resources import Budget, Latency, list_predicted, parse_budgets
from goldnas.spaces import SearchSpace, find_space
from goldnas.spaces.plan import NetworkPlan
from goldnas.spaces.shrunk import ShrunkSpace
from goldnas.spaces.zoo import ZooSpace
from goldnas.trust import allow


@dataclass(frozen=True)
class Exported:
    """An export: its files, and a comparison of predictions, measurements and budgets.

    Example:
        >>> result = goldnas.export(run.best, "example.onnx")
        >>> result.passed, result.failed
        (True, False)
        >>> result.summary  # doctest: +ELLIPSIS
        'verify: PASS ...'
    """

    fingerprint: str
    figure: str
    """The accuracy of the network, or the metric of its task, as text."""
    precision: str
    files: tuple[Path, ...]
    notes: tuple[str, ...]
    """Comparisons of the outputs with PyTorch's, as text."""
    checks: tuple[BudgetCheck, ...]
    """Latencies first, then FLOPs and parameters, then bytes and peak memory where a budget is
    of them; one check for each budget of a resource, or one for a resource without a budget."""
    runtimes: tuple[RuntimeLatency, ...] = ()
    """The network in the runtimes of ``runtime``, the fastest first."""
    pipeline: str | None = None
    """The function that returns what was timed with each call; None if nothing."""

    @property
    def passed(self) -> bool:
        """Whether every budget was verified and holds."""
        return all(check.verdict == "PASS" for check in self.checks if check.budget)

    @property
    def failed(self) -> bool:
        """Whether a budget is exceeded. A budget that was not verified does not count."""
        return is_over_budget(self.checks)

    @property
    def summary(self) -> str:
        """The result in one line, ``verify: PASS  0.412 ms measured, ...``."""
        return summary_line(self.checks)


def export_network(
    source: Source,
    config: ExportConfig,
    tables: Sequence[LatencyTable],
    *,
    on_warning: Callable[[str], None],
) -> Exported:
    """Export a network, measure it, check every budget, and write the files.

    Args:
        source: The network.
        config: Which files to write, and where to measure.
        tables: Latency tables of the devices. A latency is verified if its table has the
            measured device and the same precision.
        on_warning: Called with each problem that does not stop the export.

    Raises:
        ConfigError: If the network cannot be written as the settings say, or other files have
            these names.
        ExportError: If the exported network computes something else.
        MeasurementError: If a device cannot measure.
        WriteError: If the disk refuses.
    """
    _check_task(source, config)
    if config.pipeline is not None:
        _check_pipeline(config.pipeline, tables)
    budgets = parse_budgets(config.budgets, tables, precision=config.precision)
    replaced: list[Budget] = []
    if source.search is not None:
        if config.pipeline is not None:
            replaced = _find_replaced(source.search.budgets, budgets)
        budgets += [budget for budget in source.search.budgets if budget not in replaced]
    host = find_host(config.device, config.python, config.perf_test)
    for path in filter(None, (config.out, config.python_out, config.engine)):
        check_writable(path)
    # Before the network is exported: whether there is a GPU at all.
    gpu = None
    if config.engine is not None:
        gpu = choose_gpu(config, tables, source.search, on_warning)
    runtimes = [] if config.runtime is None else choose_runtimes(config.runtime)
    space = find_space(source.architecture)
    plan = space.plan(source.architecture)
    _check_python_out(config, plan, space)
    python = _write_python(source, config, plan)
    _check_replaceable(source, config, python)
    predicted = list_predicted(tables, space, budgets)

    files, notes = _export(source, config, space, gpu, on_warning)
    if gpu is not None:
        notes += describe_other_engines(config, tables)
    models = {} if config.dynamic_batch else {1: files[config.out]}
    measured, unverified = measure_latencies(
        source, space, config, tables, models, host, gpu, on_warning
    )
    if gpu is not None:
        gpu.forget_engines()
    notes += [f"budget {b.text} of the search is of the network alone" for b in replaced]
    if config.pipeline is not None:
        alone = "the prediction is of the network alone"
        unverified = {name: f"{why}; {alone}" for name, why in unverified.items()}
    together = f", each with {config.pipeline}" if config.pipeline is not None else ""
    notes += [
        f"{one.name} is {one.explanation}{together * (one.table.name in measured)}"
        for one in predicted
    ]
    found = {
        one.name: measured[one.table.name].find(one.quantile)
        for one in predicted
        if isinstance(one, Latency) and one.table.name in measured
    }
    around_us = {
        one.name: us
        for one in predicted
        if isinstance(one, Latency)
        and one.table.name in measured
        and (us := measured[one.table.name].find_around(one.quantile)) is not None
    }
    in_runtimes = measure_runtimes(
        source.network,
        files[config.out],
        space.input_shape,
        runtimes,
        tables,
        precision=config.precision,
        on_warning=on_warning,
    )
    parts = tuple(plan.parts())
    checks = check_budgets(
        source.network,
        parts,
        space.input_shape,
        build=space.build_part,
        budgets=budgets,
        predicted=predicted,
        measured_us={name: latency_us for name, (latency_us, _) in found.items()},
        limits_us={name: limits for name, (_, limits) in found.items() if limits},
        around_us=around_us,
        unverified=unverified,
    )
    checks += check_file(
        files[config.out],
        config.precision,
        space,
        parts,
        budgets,
        source.folder.conditions,
        source.promised,
    )
    files |= python
    written = _write(files, config)
    # Comparisons are of networks alone.
    if source.search is not None and config.pipeline is None:
        keep_measurements(source, checks, tables, config.precision, on_warning)
    told = describe_far_off(checks)
    if source.search is not None and source.search.has_front and config.pipeline is None:
        told = told or suggest_smaller(source.search.front(), checks)
    for text in told:
        on_warning(text)
    return Exported(
        fingerprint=source.fingerprint,
        figure=source.figure,
        precision=config.precision,
        files=written,
        notes=tuple(notes),
        checks=tuple(checks),
        runtimes=in_runtimes,
        pipeline=config.pipeline,
    )


def _find_replaced(found: Sequence[Budget], given: Sequence[Budget]) -> list[Budget]:
    """The latency budgets of a search for tables that an export has budgets of its own for."""
    tables = {read_table(budget.resource) for budget in given if is_latency(budget.resource)}
    return [b for b in found if is_latency(b.resource) and read_table(b.resource) in tables]


def _check_pipeline(name: str, tables: Sequence[LatencyTable]) -> None:
    """Import a pipeline that the user names, and refuse it if no table has a loop.

    Raises:
        ConfigError: If there is no such function, or no such table.
    """
    if all(table.conditions.called.is_hot for table in tables):
        named = ", ".join(table.name for table in tables)
        here = f"{named} is hot" if named else "there is no latency table"
        raise ConfigError(
            f"`pipeline` is timed in a loop, and {here}: "
            "give a table in `tables` that was measured in the loop of the product, as with "
            "`profile(space, loop='paced:15/s', out='paced.json')`"
        )
    allow(name)
    import_function(name, "a pipeline", "two functions, before and after")


def _check_task(source: Source, config: ExportConfig) -> None:
    int8_engine = config.engine is not None and config.precision == "int8"
    if int8_engine and source.config.task is not None:
        raise ConfigError(
            "goldnas compares an `engine` in int8 with PyTorch by their classes, but task "
            f"{source.config.task} has none; give `precision='fp16'`"
        )


def _check_python_out(config: ExportConfig, plan: Any, space: SearchSpace | ZooSpace) -> None:
    if config.python_out is not None and not isinstance(plan, NetworkPlan):
        what = f"{space.name} is a function with its own source"
        if isinstance(space, ZooSpace):
            what = f"{space.network} already has its own source"
        elif isinstance(space, ShrunkSpace):
            what = (
                "this is a shrunk network, which the source of the original does not describe"
            )
        raise ConfigError(f"`python_out` writes networks of cells, but {what}; leave it out")


def _write_python(source: Source, config: ExportConfig, plan: Any) -> dict[Path, bytes]:
    """The network as plain PyTorch and its weights, if the settings ask for them."""
    if config.python_out is None:
        return {}
    text = to_python(plan, name=source.fingerprint, gated=source.gated)
    weights = pack_weights(source.network)
    return {config.python_out: text.encode(), config.python_out.with_suffix(".pt"): weights}


def _check_replaceable(
    source: Source, config: ExportConfig, python: Mapping[Path, bytes]
) -> None:
    """Refuse to replace anything but an earlier export of the network.

    An ONNX file names its network. A file of source or weights must be unchanged: the source
    may have been edited, and the weights may have been trained further.

    Raises:
        ConfigError: If another file would be replaced; the message names it.
    """
    network = source.architecture.to_json()
    check_replaceable(config.out, force=config.force, mark=network)
    for path, content in python.items():
        same = path.is_file() and path.read_bytes() == content
        check_replaceable(path, force=config.force or same, setting="python_out")
    if config.engine is not None:
        check_replaceable(config.engine, force=config.force, setting="engine")


def _export(
    source: Source,
    config: ExportConfig,
    space: SearchSpace,
    gpu: GpuBackend | None,
    on_warning: Callable[[str], None],
) -> tuple[dict[Path, bytes], list[str]]:
    """The ONNX file, the engine if one is asked for, and notes on their outputs."""
    network, precision = source.network, config.precision
    shape = (1, *space.input_shape)
    int8_data = draw_int8_data(source) if precision == "int8" else None
    exact = to_onnx(
        network, shape, dynamic_batch=config.dynamic_batch, metadata=source.metadata()
    )
    tried = (3, *shape[1:]) if config.dynamic_batch else shape
    difference = check_onnx(exact, network, tried)
    notes = [f"onnxruntime and PyTorch differ by {difference:.1e} at most"]
    images = int8_data.calibration if int8_data else None
    model = to_precision(exact, precision, images=images)
    if precision != "fp32":
        notes[0] += " in fp32"
        notes.append(
            compare_int8(exact, model, int8_data, on_warning)
            if int8_data
            else compare_half(model, network, tried, precision, on_warning)
        )
    files = {config.out: model}
    if gpu is not None and config.engine is not None:
        with closing(gpu):
            engine, note = compare_engine(
                gpu, model, network, space.input_shape, precision, int8_data, on_warning
            )
        files[config.engine] = engine
        notes.append(note)
    return files, notes


def _write(files: Mapping[Path, bytes], config: ExportConfig) -> tuple[Path, ...]:
    """Write the files, the engine last."""
    order = sorted(files, key=lambda path: path == config.engine)
    for path in order:
        write_atomic(path, files[path])
    return tuple(order)
