"""``goldnas profile``: measure a device."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goldnas.cli.console import errors_shown
from goldnas.cli.options import (
    CellsOption,
    ChannelsOption,
    ClassesOption,
    CoresOption,
    DeviceOption,
    InputOption,
    OperatorsOption,
    PrecisionOption,
    ProviderOption,
    ProviderOptionsOption,
    PythonOption,
    SpaceOption,
    ThreadsOption,
    backend_from,
    space_from,
)
from goldnas.errors import ConfigError

if TYPE_CHECKING:
    from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
    from goldnas.spaces import GoldSpace

_PANEL = "Measuring"
_MODEL_PANEL = "A whole model"


def profile(
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
    threads: ThreadsOption = 1,
    cores: CoresOption = "",
    provider: ProviderOption = "cpu",
    provider_option: ProviderOptionsOption = None,
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
        int, typer.Option(min=1, help="Images per call.", rich_help_panel=_PANEL)
    ] = 1,
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
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object, all nodes in it.",
            rich_help_panel=_MODEL_PANEL,
        ),
    ] = False,
    space: SpaceOption = "gold",
    channels: ChannelsOption = 36,
    cells: CellsOption = 14,
    input_: InputOption = "3x32x32",
    classes: ClassesOption = 10,
    operators: OperatorsOption = "skip_connect,sep_conv_3x3",
) -> None:
    """Measure every operator of a search space on a device, into a latency table.

    Each operator is measured within small networks, in rounds over all of them, until its
    time is known to 1 %. Then random networks of the space are measured whole, and the rows
    are fitted to them. With --model, any ONNX file is measured instead.
    """

    def backend() -> "OnnxruntimeBackend":
        return backend_from(
            device,
            python=python,
            threads=threads,
            cores=cores,
            provider=provider,
            provider_options=provider_option or (),
            precision=precision,
            target_percent=target,
        )

    def chosen() -> "GoldSpace":
        return space_from(
            space,
            channels=channels,
            cells=cells,
            input_=input_,
            classes=classes,
            operators=operators,
        )

    of_one_device = {
        **{"--device": device != "cpu", "--python": python, "--cores": cores},
        **{"--provider": provider != "cpu", "--provider-option": provider_option},
        **{"--threads": threads != 1, "--precision": precision != "fp32"},
        **{"--batch": batch != 1, "--strict": strict},
    }
    of_models = {"--shape": shape, "--latency-lut": latency_lut, "--json": json}
    of_tables = {"--transfer": transfer, "--samples": samples}
    interrupted = "interrupted; run the command again to go on"
    if table is not None and not devices:
        interrupted += f": {table}.visits keeps what is done"
    with errors_shown(if_interrupted=lambda: interrupted):
        if samples is not None and transfer is None:
            raise ConfigError("--samples goes with --transfer TABLE, which is not given")
        if calibrate == 1:
            raise ConfigError("--calibrate 1: a fit needs 2 networks or more; 0 for none")
        if model is not None:
            refuse(
                "--model",
                of_tables | {"--out": table, "--bundle": bundle, "--devices": devices},
            )
            from goldnas.cli.profile_model import profile_model

            profile_model(
                model,
                backend(),
                batch=None if batch == 1 else batch,
                shapes=shape or (),
                tables=latency_lut or (),
                json=json,
            )
            return
        refuse("anything but --model", of_models)
        if bundle is not None:
            where = {"--device": device != "cpu", "--python": python, "--target": target != 1}
            refuse("--bundle", of_tables | where | {"--out": table, "--devices": devices})
            from goldnas.cli.profile_bundle import profile_bundle

            profile_bundle(
                bundle, backend(), chosen(), batch=batch, networks=calibrate, strict=strict
            )
        elif table is None:
            raise ConfigError(
                "give --out FILE for a latency table, --model FILE.onnx, or --bundle FILE.zip"
            )
        elif devices is not None:
            refuse(f"--devices; {devices} says it of each device", of_one_device)
            refuse("--devices", of_tables)
            from goldnas.cli.profile_fleet import profile_fleet

            common = {
                **{"--space": space, "--channels": channels, "--cells": cells},
                **{"--input": input_, "--classes": classes, "--operators": operators},
                **{"--calibrate": calibrate, "--target": target},
            }
            profile_fleet(devices, table, [str(part) for o in common.items() for part in o])
        else:
            from goldnas.cli.profile_table import profile_table

            profile_table(
                table,
                backend(),
                chosen(),
                batch=batch,
                networks=calibrate,
                transfer=transfer,
                samples=samples or 10,
                strict=strict,
            )


def refuse(with_what: str, options: Mapping[str, object]) -> None:
    """Refuse options that would have no effect.

    Raises:
        ConfigError: If one of them is given.
    """
    for option, given in options.items():
        if given:
            raise ConfigError(f"{option} does not go with {with_what}: leave it out")
