"""``goldnas export``: a found or trained network as files, and whether it keeps its budgets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.cli import completion
from goldnas.cli.console import errors_shown, out, print_json, say
from goldnas.cli.device_options import DeviceOption, PerfTestOption, PythonOption
from goldnas.cli.export_latency import gpu_for, keep, measure, of_other_engines
from goldnas.cli.export_outputs import compared, deployed, differs
from goldnas.cli.export_source import (
    CALIBRATION_IMAGES,
    int8_data_of,
    source_of,
    tables_for,
)
from goldnas.cli.options import JsonOption, OfFileOption
from goldnas.errors import ConfigError, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goldnas.exporting.budget_check import BudgetCheck

_NETWORK, _FILES, _DEVICE = "Network", "Files", "Device"


def export(
    run: Annotated[
        Path, typer.Argument(help="Folder of a search, the --out of it, or of a training.")
    ],
    onnx_out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE", help="ONNX file to write.", rich_help_panel=_FILES
        ),
    ],
    pick: Annotated[
        str,
        typer.Option(
            metavar="best|N|FINGERPRINT",
            help="Which network of a search: the most accurate within all budgets; the N-th of "
            "the front, counted from 1, the cheapest; or the one with this fingerprint.",
            autocompletion=completion.networks_of_run,
            rich_help_panel=_NETWORK,
        ),
    ] = "best",
    python_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.py",
            help="Also write plain PyTorch that imports torch alone, its weights beside it.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    dynamic_batch: Annotated[
        bool,
        typer.Option(
            "--dynamic-batch",
            help="Leave the batch open; it is 1 otherwise.",
            rich_help_panel=_FILES,
        ),
    ] = False,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            metavar="fp32|fp16|bf16|int8",
            help="Number format of the ONNX file; its inputs and outputs stay fp32. For int8, "
            f"{CALIBRATION_IMAGES} training images of the search, drawn by its seed, say "
            "which range each tensor has, and the held-out images what it costs in accuracy, "
            "or in the metric of the task.",
            autocompletion=completion.offering(completion.precisions),
            rich_help_panel=_FILES,
        ),
    ] = "fp32",
    latency_lut: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Latency table to verify besides those of the search, for example one of "
            "the same device in int8. Repeat.",
            autocompletion=completion.offering(completion.tables),
            rich_help_panel=_DEVICE,
        ),
    ] = None,
    engine: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.engine",
            help="Also build the engine that --backend runs on this machine's GPU, run it, and "
            "compare its outputs with PyTorch's.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            metavar="tensorrt|tensorrt-rtx",
            help="What --engine is built with.",
            autocompletion=completion.offering(lambda: ["tensorrt", "tensorrt-rtx"]),
            rich_help_panel=_FILES,
        ),
    ] = "tensorrt",
    device: DeviceOption = "cpu",
    python: PythonOption = None,
    perf_test: PerfTestOption = None,
    space_: OfFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export a network of a search or a training, measure it, and check every budget.

    Budgets and tables are those of the search, also for a training in its folder. A latency is
    verified if the table is of this machine, its GPU or the --device, and of the same
    --precision. What was measured is kept in the search's folder, for goldnas compare. The exit
    status is 3 if a budget is exceeded.

    Examples:
        goldnas export runs/a --out net.onnx
        goldnas export runs/a/trained/best --out net.onnx --python-out net.py
        goldnas export runs/a --pick 2 --out net.onnx --precision int8 --dynamic-batch
    """
    with errors_shown(if_interrupted=lambda: "interrupted; run the command again"):
        if python_out is not None and python_out.suffix != ".py":
            raise ConfigError(f"--python-out must end in .py, got {python_out}")
        if python_out is not None and onnx_out in (python_out, python_out.with_suffix(".pt")):
            raise ConfigError(f"--out {onnx_out} is also written by --python-out; rename one")
        if backend not in ("tensorrt", "tensorrt-rtx"):
            raise ConfigError(
                f"--backend {backend} builds no engine; tensorrt, tensorrt-rtx do"
            )
        if engine is None and backend != "tensorrt":
            raise ConfigError("--backend goes with --engine FILE, which is not given")
        if engine is not None and dynamic_batch:
            raise ConfigError("--engine is of one batch: leave out --dynamic-batch")
        if engine is not None and engine in (onnx_out, python_out):
            raise ConfigError(f"--engine {engine} is written by another option; rename one")
        from goldnas.exporting.precision import PRECISIONS, at_precision

        if precision not in PRECISIONS:
            raise ConfigError(
                f"unknown --precision {precision!r}; known: {', '.join(PRECISIONS)}"
            )
        # Imported here so that --help need not load torch.
        from goldnas.exporting.budget_check import failed, verify, verify_line
        from goldnas.exporting.onnx import check_onnx, to_onnx
        from goldnas.exporting.python_source import python_source, weights_of
        from goldnas.files import check_writable, write_atomic
        from goldnas.profiling.host import host_of
        from goldnas.resources import Latency
        from goldnas.spaces import space_of
        from goldnas.spaces.plan import NetworkPlan

        host = host_of(device, python, perf_test)
        source = source_of(run, pick, space_ or "")
        search, architecture, network = source.search, source.architecture, source.network
        if engine is not None and precision == "int8" and source.config.task is not None:
            raise ConfigError(
                "--engine in int8 is compared with PyTorch by the classes that both find, and "
                f"task {source.config.task} has none; take --precision fp16"
            )
        tables = tables_for(search, latency_lut or [])
        for path in filter(None, (onnx_out, python_out, engine)):
            check_writable(path)
        # Before the network is exported: whether there is a GPU at all.
        gpu = gpu_for(backend, precision, tables, search) if engine is not None else None
        space = space_of(architecture)
        plan = space.plan(architecture)
        if python_out is not None and not isinstance(plan, NetworkPlan):
            raise ConfigError(
                f"--python-out writes networks of cells, and {space.name} is a function that "
                "has its own source; leave it out"
            )
        shape = (1, *space.input_shape)
        int8_data = int8_data_of(source) if precision == "int8" else None

        exact = to_onnx(network, shape, dynamic_batch=dynamic_batch, metadata=source.told())
        tried = (3, *shape[1:]) if dynamic_batch else shape
        difference = check_onnx(exact, network, tried)
        notes = [f"onnxruntime and PyTorch differ by {difference:.1e} at most"]
        model = at_precision(
            exact, precision, images=int8_data.calibration if int8_data else None
        )
        if precision != "fp32":
            notes[0] += " in fp32"
            notes.append(
                compared(exact, model, int8_data)
                if int8_data
                else differs(model, network, tried, precision)
            )
        built = b""
        if gpu is not None:
            built, note = deployed(gpu, model, network, space.input_shape, precision, int8_data)
            notes.append(note)
            notes += of_other_engines(backend, precision, tables)
        measured_us, unverified = measure(
            network,
            space.input_shape,
            precision,
            tables,
            {} if dynamic_batch else {1: model},
            host,
            search,
            gpu,
        )
        if gpu is not None:
            gpu.forget_engines()
        checks = verify(
            network,
            tuple(plan.parts()),
            space.input_shape,
            build=space.build_part,
            budgets=search.budgets if search is not None else (),
            latencies=[Latency(t, space) for t in tables],
            measured_us=measured_us,
            unverified=unverified,
        )
        files: dict[Path, bytes | str] = {onnx_out: model}
        if python_out is not None:
            assert isinstance(plan, NetworkPlan)  # refused above
            files[python_out] = python_source(plan, name=source.fingerprint, gated=source.gated)
            files[python_out.with_suffix(".pt")] = weights_of(network)
        if engine is not None:
            files[engine] = built
        for path, content in files.items():
            write_atomic(path, content)

        say(
            f"network {source.fingerprint}: {source.figure}\n"
            f"wrote {', '.join(map(str, files))}; " + "\n".join(notes)
        )
        if as_json:
            print_json(_plain(source.fingerprint, precision, list(files), checks))
        else:
            _print(checks)
        if source.search is not None:
            keep(source.search, source.fingerprint, checks, tables, precision)
        say(verify_line(checks))
        if failed(checks):
            raise typer.Exit(Status.OVER_BUDGET)


def _plain(
    fingerprint: str, precision: str, files: "Sequence[Path]", checks: "Sequence[BudgetCheck]"
) -> dict[str, Any]:
    """An export as JSON, in FLOPs, parameters and microseconds."""
    return {
        "network": fingerprint,
        "precision": precision,
        "files": files,
        "resources": [
            {
                "resource": check.resource,
                "budget": None if check.budget is None else check.budget.limit,
                "predicted": check.predicted,
                "measured": check.measured,
                "verdict": check.verdict or None,
                "unverified": check.unverified or None,
            }
            for check in checks
        ],
    }


def _print(checks: "Sequence[BudgetCheck]") -> None:
    from rich.table import Table
    from rich.text import Text

    from goldnas.units import format_amount

    styles = {"PASS": "bold green", "FAIL": "bold red"}
    table = Table("resource")
    for header in ("budget", "predicted", "measured", "difference"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("")
    for check in checks:
        limit = None if check.budget is None else check.budget.limit
        table.add_row(
            Text(check.resource),
            *(
                "-" if amount is None else format_amount(check.resource, amount)
                for amount in (limit, check.predicted, check.measured)
            ),
            "-" if check.difference is None else f"{100 * check.difference:+.1f} %",
            Text(check.verdict, styles.get(check.verdict, "")),
        )
    out.print(table)
    for name, reason in {p.resource: p.unverified for p in checks if p.unverified}.items():
        say(f"{name} not verified: {reason}")
