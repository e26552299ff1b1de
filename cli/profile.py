"""``goldnas profile``: measure a device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from goldnas.cli.console import err, errors_shown, out
from goldnas.cli.options import (
    CellsOption,
    ChannelsOption,
    ClassesOption,
    InputOption,
    OperatorsOption,
    SpaceOption,
    space_from,
)
from goldnas.errors import ConfigError, MeasurementError

_PANEL = "Measuring"


def profile(
    table: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Latency table to write, like lut/cpu.json. What it holds already is kept, "
            "so an interrupted command can be run again.",
            rich_help_panel=_PANEL,
        ),
    ],
    device: Annotated[
        str, typer.Option(help="Device to measure: cpu.", rich_help_panel=_PANEL)
    ] = "cpu",
    batch: Annotated[
        int, typer.Option(min=1, help="Images per call.", rich_help_panel=_PANEL)
    ] = 1,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of the runtime.", rich_help_panel=_PANEL)
    ] = 1,
    space: SpaceOption = "gold",
    channels: ChannelsOption = 36,
    cells: CellsOption = 14,
    input_: InputOption = "3x32x32",
    classes: ClassesOption = 10,
    operators: OperatorsOption = "skip_connect,sep_conv_3x3",
) -> None:
    """Measure every operator of a search space on a device, into a latency table."""
    interrupted = f"interrupted; run the command again to go on: {table} keeps finished rows"
    with errors_shown(if_interrupted=lambda: interrupted):
        if device != "cpu":
            raise ConfigError(
                f"unknown --device {device!r}; this version of goldnas measures: cpu"
            )
        chosen = space_from(
            space,
            channels=channels,
            cells=cells,
            input_=input_,
            classes=classes,
            operators=operators,
        )
        # Imported here so that --help need not load torch.
        from goldnas.lut import Failed
        from goldnas.profiling import campaign
        from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend

        rows = chosen.rows()
        with _progress() as on_progress:
            filled = campaign.profile(
                rows, OnnxruntimeBackend(threads), table, batch=batch, on_progress=on_progress
            )
        lacking = filled.missing(rows)
        out.print(
            f"{table}: {len(rows) - len(lacking)} of the {len(rows)} rows of this space, "
            f"on {filled.conditions.cpu_model} with {filled.conditions.backend}",
            soft_wrap=True,
            highlight=False,
        )
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


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left on a terminal, a line per step elsewhere; both on stderr."""
    if not err.is_terminal:
        yield lambda done, total: err.print(f"measured {done} of {total} missing rows")
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    # Redrawn rarely, and averaged over minutes: rows come in chunks, and drawing on the
    # machine that is being measured disturbs it.
    with Progress(
        SpinnerColumn(),
        TextColumn("measuring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows, time left"),
        TimeRemainingColumn(),
        console=err,
        refresh_per_second=2,
        speed_estimate_period=600,
    ) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
