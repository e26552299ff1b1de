"""``goldnas export``: a found or trained network as files, and whether it keeps its budgets."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goldnas.cli.console import errors_shown, out, say, warn
from goldnas.cli.export_source import (
    CALIBRATION_IMAGES,
    Pictures,
    engines_for,
    pictures_of,
    source_of,
    tables_for,
)
from goldnas.cli.options import DeviceOption, PerfTestOption, PythonOption
from goldnas.errors import ConfigError, GoldnasError, MeasurementError, NoisyMachineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goldnas.lut import Conditions, LatencyTable
    from goldnas.network import CellNetwork
    from goldnas.profiling.gpu_backend import GpuBackend
    from goldnas.profiling.host import Host
    from goldnas.search.run import SearchRun
    from goldnas.verify import Promise

TRIED_IMAGES = 16
"""Random images that an engine's outputs are compared on."""

AGREEING_REFUSES, AGREEING_WARNS = 0.5, 0.9
"""Share of pictures that an int8 engine is to classify as PyTorch does."""

MUCH = 0.01
"""Share of the held-out pictures that a network may lose in int8 without a warning."""


def export(
    run: Annotated[
        Path, typer.Argument(help="Folder of a search, the --out of it, or of a training.")
    ],
    onnx_out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="ONNX file to write.")
    ],
    pick: Annotated[
        str,
        typer.Option(
            metavar="best|N|FINGERPRINT",
            help="Which network of a search: the most accurate within all budgets; the N-th of "
            "the front, counted from 1, the cheapest; or the one with this fingerprint.",
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
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            metavar="fp32|fp16|bf16|int8",
            help="Number format of the ONNX file; its inputs and outputs stay fp32. For int8, "
            f"{CALIBRATION_IMAGES} training pictures of the search, drawn by its seed, say "
            "which range each tensor has, and the held-out pictures what it costs in accuracy.",
        ),
    ] = "fp32",
    latency_lut: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Latency table to verify besides those of the search, for example one of "
            "the same device in int8. Repeat.",
        ),
    ] = None,
    engine: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.engine",
            help="Also build the engine that --backend runs on this machine's GPU, run it, and "
            "compare its outputs with PyTorch's.",
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(metavar="tensorrt|tensorrt-rtx", help="What --engine is built with."),
    ] = "tensorrt",
    device: DeviceOption = "cpu",
    python: PythonOption = None,
    perf_test: PerfTestOption = None,
) -> None:
    """Export a network of a search or a training, measure it, and check every budget.

    Budgets and tables are those of the search, also for a training in its folder. A latency is
    verified if the table is of this machine, its GPU or the --device, and of the same
    --precision. What was measured is kept in the search's folder, for goldnas compare. The exit
    status is 3 if a budget is exceeded.
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
        from goldnas.precision import PRECISIONS, at_precision

        if precision not in PRECISIONS:
            raise ConfigError(
                f"unknown --precision {precision!r}; known: {', '.join(PRECISIONS)}"
            )
        # Imported here so that --help need not load torch.
        from goldnas.export import ARCHITECTURE, check_onnx, to_onnx
        from goldnas.files import check_writable, write_atomic
        from goldnas.profiling.host import host_of
        from goldnas.python_source import python_source, weights_of
        from goldnas.resources import Latency
        from goldnas.spaces import space_of
        from goldnas.verify import failed, verify, verify_line

        host = host_of(device, python, perf_test)
        source = source_of(run, pick)
        search, architecture, network = source.search, source.architecture, source.network
        tables = tables_for(search, latency_lut or [])
        for path in filter(None, (onnx_out, python_out, engine)):
            check_writable(path)
        # Before the network is exported: whether there is a GPU at all.
        gpu = _gpu(backend, precision, tables, search) if engine is not None else None
        space = space_of(architecture)
        plan = space.plan(architecture)
        shape = (1, *space.input_shape)
        pictures = pictures_of(source) if precision == "int8" else None

        told = {ARCHITECTURE: architecture.to_json().decode()}
        exact = to_onnx(network, shape, dynamic_batch=dynamic_batch, metadata=told)
        tried = (3, *shape[1:]) if dynamic_batch else shape
        difference = check_onnx(exact, network, tried)
        notes = [f"onnxruntime and PyTorch differ by {difference:.1e} at most"]
        model = at_precision(
            exact, precision, images=pictures.calibration if pictures else None
        )
        if precision != "fp32":
            notes[0] += " in fp32"
            notes.append(
                _compared(exact, model, pictures)
                if pictures
                else _differs(model, network, tried, precision)
            )
        deployed = b""
        if gpu is not None:
            deployed, note = _deployed(
                gpu, model, network, space.input_shape, precision, pictures
            )
            notes.append(note)
            notes += _of_other_engines(backend, precision, tables)
        measured_us, unverified = _measure(
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
        promises = verify(
            network,
            tuple(plan.parts()),
            space.input_shape,
            budgets=search.budgets if search is not None else (),
            latencies=[Latency(t, space) for t in tables],
            measured_us=measured_us,
            unverified=unverified,
        )
        files: dict[Path, bytes | str] = {onnx_out: model}
        if python_out is not None:
            files[python_out] = python_source(plan, name=source.fingerprint, gated=source.gated)
            files[python_out.with_suffix(".pt")] = weights_of(network)
        if engine is not None:
            files[engine] = deployed
        for path, content in files.items():
            write_atomic(path, content)

        say(
            f"network {source.fingerprint}: {source.accuracy}\n"
            f"wrote {', '.join(map(str, files))}; " + "\n".join(notes)
        )
        _print(promises)
        if source.search is not None:
            _keep(source.search, source.fingerprint, promises, tables, precision)
        say(verify_line(promises))
        if failed(promises):
            raise typer.Exit(3)


def _compared(exact: bytes, model: bytes, pictures: Pictures) -> str:
    """What int8 changes in predictions; by outputs, a right network may be far off."""
    from goldnas.training.evaluate import onnx_predictions

    labels = pictures.held_out.labels
    before, after = (
        onnx_predictions(network, pictures.held_out, pictures.normalisation)
        for network in (exact, model)
    )
    agreeing = float((before == after).double().mean())
    was, now = (float((found == labels).double().mean()) for found in (before, after))
    if was - now > MUCH:
        warn(
            f"int8 costs {100 * (was - now):.2f} points of accuracy. --precision fp16 costs "
            "next to none, where the device has it"
        )
    return (
        f"int8: {100 * now:.2f} % of the held-out pictures right, {100 * (now - was):+.2f} "
        f"points from {100 * was:.2f} % in fp32; {100 * agreeing:.2f} % classified as in fp32"
    )


def _differs(
    model: bytes, network: "CellNetwork", shape: tuple[int, ...], precision: str
) -> str:
    """How far the outputs in half precision are from PyTorch's in single precision.

    Raises:
        ExportError: If it is more than rounding.
    """
    from goldnas.export import NoKernelError, check_onnx

    try:
        difference = check_onnx(model, network, shape, precision=precision)
    except NoKernelError as error:
        warn(f"the network was not tried in {precision} on this machine: {error}")
        return f"{precision}: not tried"
    return f"{precision}: they differ by {difference:.1e} at most"


def _gpu(
    backend: str,
    precision: str,
    tables: "Sequence[LatencyTable]",
    search: "SearchRun | None",
) -> "GpuBackend":
    """What builds engines and runs them: as the first table of the backend was measured.

    So the engine that is stored is the one that is held against that table.

    Raises:
        MeasurementError: If there is no GPU, or the backend is not installed.
    """
    from goldnas.profiling.gpu_backend import GpuBackend

    fitting = _fitting(backend, precision, tables)
    if fitting:
        folder = engines_for(search, fitting[0])
        if folder is None:
            _warn_of_no_caches(fitting[0])
        gpu = GpuBackend.like(fitting[0].conditions, folder=folder, on_warning=warn)
    else:
        gpu = GpuBackend(backend, precision=precision, on_warning=warn)
    gpu.conditions(batch=1)
    return gpu


def _warn_of_no_caches(table: "LatencyTable") -> None:
    warn(
        f"the file that {table.path} was copied from is gone, and the folder engines beside "
        "it: engines are built anew and not kept, perhaps of other tactics than those of the "
        f"table. Copy that folder to {table.path.with_name('engines')} to use it"
    )


def _fitting(
    backend: str, precision: str, tables: "Sequence[LatencyTable]"
) -> "list[LatencyTable]":
    """The tables that an engine can be held against."""
    return [
        table
        for table in tables
        if table.conditions.backend.split(" ")[0] == backend
        and table.conditions.gpu is not None
        and table.conditions.precision == precision
    ]


def _of_other_engines(
    backend: str, precision: str, tables: "Sequence[LatencyTable]"
) -> list[str]:
    """What the latencies below do not say of the engine that is stored."""
    fitting = _fitting(backend, precision, tables)
    if not fitting:
        return [
            f"the engine's latency is not compared: no table is of {backend} in {precision}. "
            f"goldnas profile --backend {backend} makes one, --latency-lut names it"
        ]
    of_batches = [t for t in fitting if t.conditions.batch != 1]
    return [
        f"the engine is of a batch of 1, and the table {table.name} of "
        f"{table.conditions.batch}: another engine is measured for it"
        for table in of_batches
    ]


def _deployed(
    gpu: "GpuBackend",
    model: bytes,
    network: "CellNetwork",
    input_shape: tuple[int, int, int],
    precision: str,
    pictures: Pictures | None,
) -> tuple[bytes, str]:
    """The engine of a network, and how its outputs compare with PyTorch's.

    Of int8 they are compared by the class that they say: by value, a right network may be far
    off.

    Raises:
        ExportError: If they differ by more than rounding, or in int8 say another class of most
            pictures.
        MeasurementError: If the engine cannot be built or does not run.
    """
    import copy

    import torch

    from goldnas.errors import ExportError
    from goldnas.export import check_outputs

    if pictures is None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn((TRIED_IMAGES, *input_shape), generator=generator)
    else:
        first = torch.arange(min(CALIBRATION_IMAGES, len(pictures.held_out)))
        images = pictures.normalisation.apply(pictures.held_out.images[first])
    with closing(gpu):
        found = gpu.run(model, images.numpy())
    actual = torch.from_numpy(found.outputs)
    with torch.no_grad():
        expected = copy.deepcopy(network).eval().cpu()(images)
    if pictures is not None:
        if not bool(actual.isfinite().all()):
            raise ExportError("the int8 engine puts out what is no number; do not deploy it")
        agreeing = float((actual.argmax(1) == expected.argmax(1)).double().mean())
        told = (
            f"the int8 engine classifies {100 * agreeing:.1f} % of {len(images)} held-out "
            "pictures as PyTorch does in fp32"
        )
        if agreeing < AGREEING_REFUSES:
            raise ExportError(f"{told}; do not deploy it. --precision fp16 is closer")
        if agreeing < AGREEING_WARNS:
            warn(f"{told}. --precision fp16 is closer")
        return found.engine, (
            f"engine: {100 * agreeing:.1f} % of {len(images)} held-out pictures are classified "
            "as by PyTorch in fp32"
        )
    difference = check_outputs(actual, expected, precision=precision)
    return found.engine, f"engine: it and PyTorch differ by {difference:.1e} at most"


def _measure(
    network: "CellNetwork",
    input_shape: tuple[int, int, int],
    precision: str,
    tables: "Sequence[LatencyTable]",
    models: dict[int, bytes],
    host: "Host",
    search: "SearchRun | None" = None,
    gpu: "GpuBackend | None" = None,
) -> tuple[dict[str, float], dict[str, str]]:
    """Microseconds on a machine by table; and why not, for tables of other machines.

    ``models`` holds what is exported already, by batch, and is added to. ``search`` has some of
    the tables. ``gpu`` measures for those whose conditions it has.
    """
    from msgspec.structs import replace

    from goldnas.export import to_onnx
    from goldnas.profiling.backends import backend_like, forget_engines
    from goldnas.profiling.measuring import Estimate
    from goldnas.profiling.session import Session

    measured_us: dict[str, float] = {}
    unverified: dict[str, str] = {}
    for table in tables:
        theirs = table.conditions
        if theirs.precision not in (precision, "unknown"):
            unverified[table.name] = (
                f"the table is of {theirs.precision}, the network is {precision}"
            )
            continue
        same = replace(theirs, precision=precision)
        if theirs.gpu is not None and host.is_remote:
            unverified[table.name] = f"the table is of a GPU, and {host.name} is measured"
            continue
        folder = engines_for(search, table)
        try:
            backend = backend_like(same, host=host, folder=folder, on_warning=warn)
            if (
                gpu is not None
                and theirs.gpu is not None
                and not theirs.differences(gpu.conditions(batch=theirs.batch))
            ):
                backend = gpu
        except ConfigError as error:  # such as an imported table's, of a device of its own kind
            unverified[table.name] = str(error)
            continue
        with closing(backend):
            try:
                here = backend.conditions(batch=theirs.batch)
            except MeasurementError as error:
                unverified[table.name] = str(error)
                continue
            if reason := _unlike(theirs, here, host.name):
                unverified[table.name] = reason
                continue
            if theirs.gpu is not None and folder is None and backend is not gpu:
                _warn_of_no_caches(table)
            if theirs.batch not in models:
                models[theirs.batch] = to_onnx(network, (theirs.batch, *input_shape))
            estimate = Estimate({"network": 1.0})
            try:
                session = Session(backend, batch=theirs.batch, on_warning=warn)
                found = session.measure({"network": models[theirs.batch]}, [estimate])
                measured_us[table.name] = estimate.latency_us(found)
                if backend is not gpu:
                    forget_engines(backend)
            except NoisyMachineError as error:
                unverified[table.name] = str(error)
            except MeasurementError as error:
                raise MeasurementError(
                    f"the network cannot be measured on {host.name}: {error}; "
                    "no file was written"
                ) from None
    return measured_us, unverified


def _unlike(theirs: "Conditions", here: "Conditions", name: str) -> str:
    """Why what is measured here says nothing of a table; empty if it does."""
    if "unknown" in (theirs.machine, here.machine):
        return "the system does not tell which processor this is"
    if theirs.machine != here.machine:
        return f"the table is of {theirs.machine}, {name} is {here.machine}"
    if differences := theirs.differences(here):
        return f"the table and {name} differ in {'; '.join(differences)}"
    return ""


def _keep(
    search: "SearchRun",
    fingerprint: str,
    promises: "Sequence[Promise]",
    tables: "Sequence[LatencyTable]",
    precision: str,
) -> None:
    """Keep what was measured in the search's folder, for goldnas compare."""
    import datetime

    from goldnas.search.measured import Measurement, keep_measured

    machines = {f"latency@{table.name}": table.conditions.machine for table in tables}
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    kept = {
        promise.resource.removeprefix("latency@"): Measurement(
            predicted_us=promise.predicted,
            measured_us=promise.measured,
            precision=precision,
            machine=machines[promise.resource],
            measured_at=now,
        )
        for promise in promises
        if promise.resource in machines and promise.measured is not None
    }
    try:
        if kept:
            keep_measured(search.path, fingerprint, kept)
    except GoldnasError as error:  # the export is there, whatever became of this
        warn(f"what was measured is not kept: {error}")


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
