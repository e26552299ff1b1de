"""``goldnas profile``: measure a device."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goldnas.cli import config_file
from goldnas.cli.console import errors_shown, print_json
from goldnas.cli.device_options import (
    BackendOption,
    CoresOption,
    DeviceOption,
    PerfTestOption,
    PrecisionOption,
    ProviderOption,
    ProviderOptionsOption,
    PythonOption,
    ThreadsOption,
    backend_from,
    gpu_backend_from,
    gpu_backend_name,
)
from goldnas.cli.options import (
    CellsOption,
    ChannelsOption,
    ClassesOption,
    InputOption,
    JsonOption,
    OperatorsOption,
    SetOption,
    SpaceOption,
    space_from,
)
from goldnas.errors import ConfigError

if TYPE_CHECKING:
    from goldnas.profiling.backend import MeasurementBackend
    from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
    from goldnas.spaces import SearchSpace

_PANEL = "Measuring"
_MODEL_PANEL = "A whole model"


# Parameters that go together.
_HOW = ("threads", "cores", "provider", "provider_option", "precision")
_WHERE = ("device", "backend", "python", "perf_test")
_OF_A_PROCESSOR = ("threads", "cores", "provider", "python", "perf_test")
_OF_A_SPACE = ("space", "channels", "cells", "input_", "classes", "operators", "set_")
_OF_A_MODEL = ("model", "shape", "latency_lut", "space")


def batches_of(text: str) -> tuple[int, ...]:
    """Numbers of images, separated by commas.

    Raises:
        typer.BadParameter: If it is anything else.
    """
    numbers = [number.strip() for number in text.split(",")]
    if not all(n.isascii() and n.isdigit() and int(n) > 0 for n in numbers):
        raise typer.BadParameter(f"give numbers from 1, as in 1,8,64; got {text!r}")
    if len(set(map(int, numbers))) < len(numbers):
        raise typer.BadParameter(f"one of them is there twice: {text!r}")
    return tuple(map(int, numbers))


def _checked_batches(text: str) -> str:
    batches_of(text)
    return text


def profile(
    ctx: typer.Context,
    table: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Latency table to write, like lut/cpu.json. What it holds already is kept, "
            "so an interrupted command can be run again.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    device: DeviceOption = "cpu",
    python: PythonOption = None,
    perf_test: PerfTestOption = None,
    threads: ThreadsOption = 1,
    cores: CoresOption = "",
    provider: ProviderOption = "cpu",
    provider_option: ProviderOptionsOption = None,
    backend: BackendOption = None,
    precision: PrecisionOption = "fp32",
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Fail rows of which the provider leaves a node to another one.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
    devices: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Several devices at once: a table of the file for each, with device, python, "
            "threads, cores, provider and so on. --out is then a folder.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.zip",
            help="Measure nothing here: write a file that measures on a device that it is "
            "carried to. goldnas lut import makes the table of what comes back.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    batch: Annotated[
        str,
        typer.Option(
            metavar="N,...",
            callback=_checked_batches,
            help="Images per call. Of several there is a table each: --out lut/t4.json with "
            "--batch 1,64 writes lut/t4-b1.json and lut/t4-b64.json.",
            rich_help_panel=_PANEL,
        ),
    ] = "1",
    calibrate: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Random whole networks to measure besides, to which the rows are fitted; "
            "0 for none.",
            rich_help_panel=_PANEL,
        ),
    ] = 20,
    transfer: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE",
            help="Another device's table of the space: measure only --samples networks here, "
            "and fit its rows to them.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=2, help="Networks that --transfer measures: 10.", rich_help_panel=_PANEL
        ),
    ] = None,
    target: Annotated[
        float,
        typer.Option(
            min=0.1,
            metavar="PERCENT",
            help="Measuring a row ends when its 95 % interval is this narrow, to either side, "
            "or after 24 processes.",
            rich_help_panel=_PANEL,
        ),
    ] = 1.0,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.onnx",
            help="Measure this model instead of operators, and print where its time goes.",
            rich_help_panel=_MODEL_PANEL,
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT=1x3x224x224",
            help="Shape of an input that the model leaves open. Repeat.",
            rich_help_panel=_MODEL_PANEL,
        ),
    ] = None,
    latency_lut: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TABLE",
            help="Compare with what a latency table predicts, if goldnas exported the model. "
            "Repeat.",
            rich_help_panel=_MODEL_PANEL,
        ),
    ] = None,
    as_json: JsonOption = False,
    space: SpaceOption = "gold",
    channels: ChannelsOption = None,
    cells: CellsOption = None,
    input_: InputOption = None,
    classes: ClassesOption = None,
    operators: OperatorsOption = None,
    set_: SetOption = None,
) -> None:
    """Measure every operator of a search space on a device, into a latency table.

    Each operator is measured within small networks, in rounds over all of them, until its
    time is known to 1 %. Then random networks of the space are measured whole, and the rows
    are fitted to them. With --model, any ONNX file is measured instead.

    Examples:
        goldnas profile --cells 14 --channels 36 --input 3x32x32 --out lut/cpu.json
        goldnas profile --device cuda --batch 1,64 --precision fp16 --out lut/t4.json
        goldnas profile --device ssh://pi@raspberry --threads 4 --out lut/pi5.json
        goldnas profile --model net.onnx --latency-lut lut/cpu.json
    """

    def measuring(number_format: str = precision) -> "MeasurementBackend":
        if gpu is None:
            return on_a_processor(number_format)
        from goldnas.profiling.gpu_backend import locate_engines

        return gpu_backend_from(
            gpu,
            options=provider_option or (),
            precision=number_format,
            target_percent=target,
            folder=table and locate_engines(table),
        )

    def on_a_processor(number_format: str = precision) -> "OnnxruntimeBackend":
        return backend_from(
            device,
            python=python,
            perf_test=perf_test,
            threads=threads,
            cores=cores,
            provider=provider,
            provider_options=provider_option or (),
            precision=number_format,
            target_percent=target,
        )

    def chosen() -> "SearchSpace":
        return space_from(
            space,
            channels=channels,
            cells=cells,
            input_=input_,
            classes=classes,
            operators=operators,
            settings=set_ or (),
        )

    interrupted = "interrupted; run the command again to go on"
    if table is not None and not devices and len(batches_of(batch)) == 1:
        interrupted += f": {table}.visits keeps what is done"
    with errors_shown(if_interrupted=lambda: interrupted):
        gpu = gpu_backend_name(device if _is_given(ctx, "device") else None, backend)
        if gpu is not None:
            others = [name for name in ctx.params if name not in _OF_A_PROCESSOR]
            allow(ctx, f"--backend {gpu}", *others)
        batches = batches_of(batch)
        if len(batches) > 1 and table is None:
            raise ConfigError(f"--batch {batch}: several go with --out alone, a table each")
        if samples is not None and transfer is None:
            raise ConfigError("--samples goes with --transfer TABLE, which is not given")
        if calibrate == 1:
            raise ConfigError("--calibrate 1: a fit needs 2 networks or more; 0 for none")
        if model is not None:
            where = ("device", "backend", "python")  # perf_test does not tell of nodes
            allow(ctx, "--model", *_OF_A_MODEL, *_HOW, *where, "batch", "target")
            from goldnas.cli.profile_model import profile_model

            profile_model(
                model,
                measuring,
                precision=precision,
                batch=None if batches == (1,) else batches[0],
                shapes=shape or (),
                tables=latency_lut or (),
                space=space,
                as_json=as_json,
            )
        elif bundle is not None:
            allow(
                ctx, "--bundle", "bundle", *_HOW, *_OF_A_SPACE, "batch", "calibrate", "strict"
            )
            from goldnas.cli.profile_bundle import profile_bundle

            profile_bundle(
                bundle,
                on_a_processor(),
                chosen(),
                batch=batches[0],
                networks=calibrate,
                strict=strict,
                as_json=as_json,
            )
        elif table is None:
            raise ConfigError(
                "give --out FILE for a latency table, --model FILE.onnx, or --bundle FILE.zip"
            )
        elif devices is not None:
            allow(
                ctx,
                f"--devices ({devices} says what is of one device)",
                *("devices", "table", "calibrate", "target", *_OF_A_SPACE),
            )
            from goldnas.cli.profile_fleet import profile_fleet

            common = {
                **{"--space": space, "--channels": channels, "--cells": cells},
                **{"--input": input_, "--classes": classes, "--operators": operators},
                **{"--calibrate": calibrate, "--target": target},
            }
            given = [o for o in common.items() if o[1] is not None]
            given += [("--set", text) for text in set_ or ()]
            words = [str(part) for option in given for part in option]
            profile_fleet(devices, table, words, as_json=as_json)
        else:
            of_a_table = ("table", "batch", "target", *_WHERE, *_HOW, *_OF_A_SPACE)
            if transfer is not None:
                allow(ctx, "--transfer", *of_a_table, "transfer", "samples")
            else:
                allow(ctx, "a latency table", *of_a_table, "calibrate", "strict")
            from goldnas.cli.profile_table import profile_table

            measured = [
                profile_table(
                    out,
                    measuring(),
                    chosen(),
                    batch=images,
                    networks=calibrate,
                    transfer=transfer,
                    samples=samples or 10,
                    strict=strict,
                )
                for images, out in tables_of(table, batches).items()
            ]
            if as_json:
                print_json({"tables": measured})


def tables_of(out: Path, batches: Sequence[int]) -> dict[int, Path]:
    """The table of each batch: the file itself, or of several ``t4-b64.json`` beside it."""
    if len(batches) == 1:
        return {batches[0]: out}
    return {batch: out.with_stem(f"{out.stem}-b{batch}") for batch in batches}


def allow(ctx: typer.Context, what: str, *names: str) -> None:
    """Refuse options that would have no effect.

    Args:
        ctx: Of the command.
        what: They would have none on.
        names: Of the parameters that do have one.

    Raises:
        ConfigError: If another one is given.
    """
    for parameter in config_file.parameters(ctx):
        if _is_given(ctx, parameter.name) and parameter.name not in (*names, "as_json"):
            raise ConfigError(f"{parameter.opts[0]} does not go with {what}: leave it out")


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
