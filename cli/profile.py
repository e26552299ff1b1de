"""``goldnas profile``: measure a device."""

from pathlib import Path
from typing import Annotated

import typer

from goldnas.cli.console import errors_shown, say, warn
from goldnas.cli.options import (
    CellsOption,
    ChannelsOption,
    ClassesOption,
    InputOption,
    OperatorsOption,
    SpaceOption,
    space_from,
)
from goldnas.cli.progress import visits_shown
from goldnas.errors import ConfigError, MeasurementError

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
    device: Annotated[
        str, typer.Option(help="Device to measure: cpu.", rich_help_panel=_PANEL)
    ] = "cpu",
    batch: Annotated[
        int, typer.Option(min=1, help="Images per call.", rich_help_panel=_PANEL)
    ] = 1,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of the runtime.", rich_help_panel=_PANEL)
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
        int,
        typer.Option(min=2, help="Networks that --transfer measures.", rich_help_panel=_PANEL),
    ] = 10,
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
    if table is None or model is not None:
        with errors_shown():
            if model is None:
                raise ConfigError("give --out FILE for a latency table, or --model FILE.onnx")
            if table is not None:
                raise ConfigError("--model makes no table: leave out --out, or use --json")
            _check_device(device)
            from goldnas.cli.profile_model import profile_model

            profile_model(
                model,
                threads=threads,
                batch=None if batch == 1 else batch,
                shapes=shape or (),
                tables=latency_lut or (),
                target_percent=target,
                json=json,
            )
        return
    journal = table.with_name(f"{table.name}.visits")
    interrupted = f"interrupted; run the command again to go on: {journal} keeps what is done"
    with errors_shown(if_interrupted=lambda: interrupted):
        if calibrate == 1:
            raise ConfigError("--calibrate 1: a fit needs 2 networks or more; 0 for none")
        for option, given in {
            "--shape": shape,
            "--latency-lut": latency_lut,
            "--json": json,
        }.items():
            if given:
                raise ConfigError(f"{option} goes with --model FILE.onnx, which is not given")
        _check_device(device)
        chosen = space_from(
            space,
            channels=channels,
            cells=cells,
            input_=input_,
            classes=classes,
            operators=operators,
        )
        # Imported here so that --help need not load torch.
        from msgspec.structs import replace

        from goldnas.lut import Failed, LatencyTable
        from goldnas.lut.lint import RULES
        from goldnas.lut.lint.calibrations import calibration_findings
        from goldnas.profiling.calibration import calibrate as fit_to_networks
        from goldnas.profiling.calibration import transfer as transferred
        from goldnas.profiling.campaign import open_table
        from goldnas.profiling.campaign import profile as measure_rows
        from goldnas.profiling.onnxruntime_backend import IN_CONTEXT, OnnxruntimeBackend
        from goldnas.profiling.session import Session

        rows = chosen.rows()
        with visits_shown() as on_progress:
            session = Session(
                OnnxruntimeBackend(
                    threads, protocol=replace(IN_CONTEXT, target_percent=target)
                ),
                batch=batch,
                journal=journal,
                on_progress=on_progress,
                on_warning=warn,
            )
            before = open_table(table, session.conditions)
            if transfer is not None:
                other = LatencyTable.load(transfer)
                filled = transferred(session, before, chosen, other, networks=samples)
            else:
                filled = measure_rows(session, before, rows)
            lacking = filled.missing(rows)
            if not lacking and transfer is None:
                filled = fit_to_networks(session, filled, chosen, networks=calibrate)
            if filled is not before or journal.exists():
                filled = session.finish(filled, before)
        say(
            f"{table}: {len(rows) - len(lacking)} of the {len(rows)} rows of this space, "
            f"on {filled.conditions.cpu_model} with {filled.conditions.backend}"
        )
        if fitted := filled.calibration_for(chosen.name, chosen.settings):
            say(
                f"fitted to {len(fitted.networks)} networks: off by "
                f"{fitted.accuracy.mape_percent:.1f} % on networks it has not seen; measured "
                f"twice they differ by {fitted.noise_floor_percent:.1f} %"
            )
            for finding in calibration_findings(fitted, filled.rows):
                warn(f"{finding.place}: {finding.found}. {RULES[finding.rule].advice}")
        if lacking:
            errors = {
                (r.operator, r.site): r.error for r in filled.rows if isinstance(r, Failed)
            }
            listed = "; ".join(
                f"{operator} at {site} ({errors[operator, str(site)]})"
                for operator, site in lacking
            )
            raise MeasurementError(
                f"{len(lacking)} of {len(rows)} rows could not be measured and are in {table} "
                f"as failed: {listed}. The same command tries them again; --operators without "
                "the operator leaves it out"
            )


def _check_device(device: str) -> None:
    if device != "cpu":
        raise ConfigError(f"unknown --device {device!r}; this version of goldnas measures: cpu")
