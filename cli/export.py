"""``goldnas export``: a network of a search as files, and whether it keeps its budgets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goldnas.cli.console import errors_shown, out, say, warn
from goldnas.errors import ConfigError, MeasurementError, NoisyMachineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goldnas.lut import LatencyTable
    from goldnas.network import CellNetwork
    from goldnas.verify import Promise


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a search: the --out of it.")],
    onnx_out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="ONNX file to write.")
    ],
    pick: Annotated[
        str,
        typer.Option(
            metavar="best|N|FINGERPRINT",
            help="Which network: the most accurate within all budgets; the N-th of the front, "
            "counted from 1, the cheapest; or the one with this fingerprint.",
        ),
    ] = "best",
    python_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.py",
            help="Also write plain PyTorch that imports torch alone, its weights beside it.",
        ),
    ] = None,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="Leave the batch open; it is 1 otherwise.")
    ] = False,
) -> None:
    """Export a network of a search, measure it here, and check every budget.

    The exit status is 3 if a budget is exceeded.
    """
    with errors_shown(if_interrupted=lambda: "interrupted; run the command again"):
        if python_out is not None and python_out.suffix != ".py":
            raise ConfigError(f"--python-out must end in .py, got {python_out}")
        if python_out is not None and onnx_out in (python_out, python_out.with_suffix(".pt")):
            raise ConfigError(f"--out {onnx_out} is also written by --python-out; rename one")
        # Imported here so that --help need not load torch.
        from goldnas.export import ARCHITECTURE, check_onnx, to_onnx
        from goldnas.files import check_writable, write_atomic
        from goldnas.python_source import python_source, weights_of
        from goldnas.resources import Latency
        from goldnas.search.run import SearchRun
        from goldnas.spaces import space_of
        from goldnas.verify import failed, verify, verify_line

        search = SearchRun.open(run)
        chosen = search.front().pick(pick)
        architecture = search.architecture(chosen)
        network = search.network(chosen)
        tables = search.tables
        for path in filter(None, (onnx_out, python_out)):
            check_writable(path)
        space = space_of(architecture)
        plan = space.plan(architecture)
        shape = (1, *space.input_shape)

        told = {ARCHITECTURE: architecture.to_json().decode()}
        model = to_onnx(network, shape, dynamic_batch=dynamic_batch, metadata=told)
        difference = check_onnx(model, network, (3, *shape[1:]) if dynamic_batch else shape)
        fixed = {} if dynamic_batch else {1: model}
        measured_us, unverified = _measure(network, space.input_shape, tables, fixed)
        promises = verify(
            network,
            tuple(plan.parts()),
            space.input_shape,
            budgets=search.budgets,
            latencies=[Latency(t, space) for t in tables],
            measured_us=measured_us,
            unverified=unverified,
        )
        files: dict[Path, bytes | str] = {onnx_out: model}
        if python_out is not None:
            files[python_out] = python_source(plan, name=chosen.fingerprint, gated=True)
            files[python_out.with_suffix(".pt")] = weights_of(network)
        for path, content in files.items():
            write_atomic(path, content)

        say(
            f"network {chosen.fingerprint}: {100 * chosen.accuracy:.2f} % of the held-out "
            f"pictures right\nwrote {', '.join(map(str, files))}; "
            f"onnxruntime and PyTorch differ by {difference:.1e} at most"
        )
        _print(promises)
        say(verify_line(promises))
        if failed(promises):
            raise typer.Exit(3)


def _measure(
    network: "CellNetwork",
    input_shape: tuple[int, int, int],
    tables: "Sequence[LatencyTable]",
    models: dict[int, bytes],
) -> tuple[dict[str, float], dict[str, str]]:
    """Microseconds on this machine by table; and why not, for tables of other machines.

    ``models`` holds what is exported already, by batch, and is added to.
    """
    from goldnas.export import to_onnx
    from goldnas.profiling.measuring import Estimate
    from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
    from goldnas.profiling.session import Session

    measured_us: dict[str, float] = {}
    unverified: dict[str, str] = {}
    for table in tables:
        theirs = table.conditions
        backend = OnnxruntimeBackend(theirs.threads, protocol=theirs.protocol)
        here = backend.conditions(batch=theirs.batch)
        if "unknown" in (theirs.cpu_model, here.cpu_model):
            unverified[table.name] = "the system does not tell which processor this is"
        elif theirs.cpu_model != here.cpu_model:
            unverified[table.name] = (
                f"the table is of {theirs.cpu_model}, this machine is {here.cpu_model}"
            )
        elif differences := theirs.differences(here):
            unverified[table.name] = (
                f"the table and this machine differ in {'; '.join(differences)}"
            )
        else:
            if theirs.batch not in models:
                models[theirs.batch] = to_onnx(network, (theirs.batch, *input_shape))
            estimate = Estimate({"network": 1.0})
            try:
                session = Session(backend, batch=theirs.batch, on_warning=warn)
                found = session.measure({"network": models[theirs.batch]}, [estimate])
                measured_us[table.name] = estimate.latency_us(found)
            except NoisyMachineError as error:
                unverified[table.name] = str(error)
            except MeasurementError as error:
                raise MeasurementError(
                    f"the network cannot be measured on this machine: {error}; "
                    "no file was written"
                ) from None
    return measured_us, unverified


def _print(promises: "Sequence[Promise]") -> None:
    from rich.table import Table
    from rich.text import Text

    from goldnas.resources import format_amount

    styles = {"PASS": "bold green", "FAIL": "bold red"}
    table = Table("resource")
    for header in ("budget", "predicted", "measured", "difference"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("")
    for promise in promises:
        limit = None if promise.budget is None else promise.budget.limit
        table.add_row(
            Text(promise.resource),
            *(
                "-" if amount is None else format_amount(promise.resource, amount)
                for amount in (limit, promise.predicted, promise.measured)
            ),
            "-" if promise.difference is None else f"{100 * promise.difference:+.1f} %",
            Text(promise.verdict, styles.get(promise.verdict, "")),
        )
    out.print(table)
    for name, reason in {p.resource: p.unverified for p in promises if p.unverified}.items():
        say(f"{name} not verified: {reason}")
