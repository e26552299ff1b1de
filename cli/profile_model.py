"""``goldnas profile --model``: any ONNX file, and which of its nodes take the time."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas.cli.console import out, print_json, say, warn
from goldnas.cli.progress import visits_shown
from goldnas.errors import ConfigError

if TYPE_CHECKING:
    from goldnas.lut import Conditions, LatencyTable
    from goldnas.profiling.backend import MeasurementBackend
    from goldnas.profiling.whole_model import ModelLatency, OnnxFile

_LISTED = 20
"""Nodes that are printed; --json has all."""


def profile_model(
    path: Path,
    backend: "Callable[[str], MeasurementBackend]",
    *,
    precision: str,
    batch: int | None,
    shapes: Sequence[str],
    tables: Sequence[str],
    space: str,
    as_json: bool,
) -> None:
    """Measure an ONNX file, and print what it takes, by node and against predictions."""
    from goldnas.lut import LatencyTable
    from goldnas.profiling.session import Session
    from goldnas.profiling.whole_model import measure_model, read_onnx
    from goldnas.spaces import import_space

    import_space(space)
    luts = [LatencyTable.load(table) for table in tables]
    file = read_onnx(path, batch=batch, shapes=dict(map(_shape, shapes)))
    # What is not fp32 says so, and stays as it is.
    number_format = file.precision if precision == "fp32" else precision
    with visits_shown() as on_progress:
        session = Session(
            backend(number_format),
            batch=file.batch,
            on_progress=on_progress,
            on_warning=warn,
        )
        predictions = [_prediction(file, lut, session.conditions) for lut in luts]
        found = measure_model(session, file.model)
    for prediction in predictions:
        prediction["difference_percent"] = 100 * (
            found.latency_us / prediction["latency_us"] - 1
        )
    if as_json:
        content = {
            "model": str(path),
            "architecture": file.architecture and file.architecture.fingerprint,
            "conditions": session.conditions,
            "latency_us": found.latency_us,
            "interval_us": found.interval_us,
            "outside_us": found.outside_us,
            "profiling_us": found.profiling_us,
            "nodes": found.nodes,
            "predictions": predictions,
        }
        print_json(content)
        return
    _print(file, found, session.conditions, predictions)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``input=1x3x224x224`` as name and sizes; names may hold ``=``."""
    name, equals, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split("x"))
    except ValueError:
        shape = ()
    if not (equals and name and shape and min(shape) > 0):
        raise ConfigError(f"--shape {text!r}: give a name and sizes, as in input=1x3x224x224")
    return name, shape


def _prediction(
    file: "OnnxFile", table: "LatencyTable", conditions: "Conditions"
) -> dict[str, Any]:
    """What a table says of the network that the file holds.

    Raises:
        ConfigError: If it holds none of goldnas.
        TableError: If the table lacks a row.
    """
    from goldnas.resources import Latency
    from goldnas.resources.costs import total_cost
    from goldnas.spaces import space_of

    if file.architecture is None:
        raise ConfigError(
            f"{file.path} was not exported by this version of goldnas, so it does not say "
            "which operators it was built from. Leave out --latency-lut, or export it anew"
        )
    space = space_of(file.architecture)
    latency_us = total_cost(Latency(table, space), space.plan(file.architecture).parts())
    return {
        "table": table.name,
        "latency_us": latency_us,
        "other_conditions": table.conditions.differences(conditions),
    }


def _print(
    file: "OnnxFile",
    found: "ModelLatency",
    conditions: "Conditions",
    predictions: Sequence[dict[str, Any]],
) -> None:
    from collections import Counter

    from rich.table import Table
    from rich.text import Text

    def share(us: float) -> str:
        return f"{100 * us / found.latency_us:.1f} %"

    counts = Counter(node.operator for node in found.nodes)
    sums: Counter[str] = Counter()
    for node in found.nodes:
        sums[node.operator] += node.latency_us  # type: ignore[assignment]  # floats add as well
    by_operator = Table("operator", title="by operator")
    for header in ("nodes", "us", "share"):
        by_operator.add_column(header, justify="right", no_wrap=True)
    for name, us in sums.most_common():
        by_operator.add_row(Text(name), str(counts[name]), f"{us:.1f}", share(us))
    if found.outside_us >= 0.05:
        outside = (f"{found.outside_us:.1f}", share(found.outside_us))
        by_operator.add_row("between nodes", "", *outside)
    out.print(by_operator)

    longest = sorted(found.nodes, key=lambda node: -node.latency_us)[:_LISTED]
    shown = f"the {len(longest)} longest of {len(found.nodes)} nodes"
    by_node = Table("node", "operator", "output", title=shown)
    for header in ("us", "share"):
        by_node.add_column(header, justify="right", no_wrap=True)
    for node in longest:
        texts = (Text(node.node), Text(node.operator), Text(node.output))
        by_node.add_row(*texts, f"{node.latency_us:.1f}", share(node.latency_us))
    out.print(by_node)

    others = Counter(node.provider for node in found.nodes)
    wanted = conditions.backend_options["provider"]
    elsewhere = sum(count for provider, count in others.items() if provider != wanted)
    if elsewhere:
        warn(f"{elsewhere} of {len(found.nodes)} nodes do not run on {wanted}")
    say(
        f"{file.path}: {found.latency_us / 1000:.4g} ms "
        f"+-{100 * found.interval_us / found.latency_us:.1f} % on {conditions.machine} with "
        f"{conditions.backend}, threads {conditions.threads}, batch {conditions.batch}"
    )
    for prediction in predictions:
        say(
            f"{prediction['table']} predicts {prediction['latency_us'] / 1000:.4g} ms; "
            f"measured is {prediction['difference_percent']:+.1f} %"
        )
        for difference in prediction["other_conditions"]:
            warn(f"{prediction['table']} is of other conditions: {difference}")
    if file.architecture is not None and not predictions:
        say(
            f"it is network {file.architecture.fingerprint} of space "
            f"{file.architecture.space}; --latency-lut TABLE compares with a prediction"
        )
