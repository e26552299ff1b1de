"""``goldnas lut``: latency tables as files."""

from typing import TYPE_CHECKING, TypeVar

import typer

from goldnas.cli.command import Command, Group
from goldnas.cli.console import as_text, errors_shown, out, print_json_file, say
from goldnas.cli.lut_files import diff, import_, lint, merge
from goldnas.cli.lut_fit import fit
from goldnas.cli.lut_networks import calibrate, check, predict
from goldnas.cli.lut_plot import plot
from goldnas.cli.options import JsonOption, TableArgument
from goldnas.cli.profile_table import describe_bare
from goldnas.cli.wording import in_options
from goldnas.errors import count_of
from goldnas.resource_names import ENERGY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.table import Table

    from goldnas.lut import (
        Conditions,
        Failed,
        Interpolated,
        InterpolatedEnergy,
        LatencyTable,
        Measured,
    )

_SHOWN = 500
"""Rows that are printed of one kind; --json has all."""
_LONGEST = 500
"""Characters of a text in a column."""
_Row = TypeVar("_Row")
_LOOK, _NETWORKS, _MAKE = "Show and check", "Whole networks", "Make and convert"

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="Show, check, compare and convert latency tables."
)


@app.command(cls=Command, rich_help_panel=_LOOK)
def show(file: TableArgument, as_json: JsonOption = False) -> None:
    """Print the conditions, the rows and the calibrations of a latency table.

    It prints the first 500 rows of each kind. With --json it prints the whole file, with its
    rows sorted.

    Examples:
        goldnas lut show lut/cpu.json
        goldnas lut show lut/cpu.json --json
    """
    from goldnas.lut import Failed, LatencyTable, Measured

    with errors_shown():
        table = LatencyTable.load(file)
    if as_json:
        print_json_file(table.to_json())
        return
    out.print(_facts(table.conditions))
    say(f"{table.path}: {count_of(len(table.rows), 'row')}")
    rows = table.sorted_rows()
    measured = [row for row in rows if isinstance(row, Measured)]
    interpolated = [row for row in rows if not isinstance(row, Measured | Failed)]
    failed = [row for row in rows if isinstance(row, Failed)]
    _print_part(measured, _measured)
    _print_part(interpolated, _interpolated)
    _print_part(failed, _failed)
    for part in (_calibrations(table), _loops(table), _campaigns(table)):
        if part.row_count:
            out.print(part)
    say(describe_bare(table))


def _show_cost(cost: float, unit: str) -> str:
    """A cost in a column: times to a tenth of a microsecond, energies to four digits."""
    return f"{cost:.1f}" if unit == "us" else f"{cost:.4g}"


def _print_part(rows: list[_Row], make: "Callable[[list[_Row]], Table]") -> None:
    if rows:
        out.print(make(rows[:_SHOWN]))
    if rows[_SHOWN:]:
        say(f"and {len(rows) - _SHOWN} more; --json has all")


def _cut(text: str) -> str:
    """A text as far as a column shows it; --json has all."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _facts(conditions: "Conditions") -> "Table":
    from rich.table import Table

    protocol = conditions.protocol
    target = f", to {protocol.target_percent:g} %" if protocol.target_percent else ""
    facts = Table.grid(padding=(0, 2))
    for name, value in {
        "device": f"{conditions.device}: {conditions.machine}",
        "system": f"{conditions.architecture}, {conditions.os}",
        **_gpu(conditions),
        "backend": conditions.backend,
        "options": ", ".join(f"{k} {v}" for k, v in conditions.backend_options.items()),
        "setting": f"threads {conditions.threads}, batch {conditions.batch}, "
        f"{conditions.precision}",
        **(
            {"quantity": conditions.kind}
            if conditions.kind == ENERGY
            else {"loop": str(conditions.called)}
        ),
        "protocol": f"{protocol.name}: {protocol.statistic}{target}",
        "measured on": str(conditions.measured_on),
    }.items():
        facts.add_row(as_text(name, "bold"), as_text(value))
    return facts


def _gpu(conditions: "Conditions") -> dict[str, str]:
    if conditions.gpu is None:
        return {}
    gpu = conditions.gpu
    told = f"compute capability {gpu.compute_capability}, {gpu.memory_mib} MiB"
    return {"GPU": f"{told}, driver {gpu.driver}, in a machine with {conditions.cpu_model}"}


def _measured(rows: "Iterable[Measured]") -> "Table":
    from rich.table import Table

    part = Table("operator", "site", title="measured")
    for header in ("latency\nus", "+-\n%", "isolated\nus"):
        part.add_column(header, justify="right", no_wrap=True)
    part.add_column("method", no_wrap=True)
    for row in rows:
        part.add_row(
            as_text(_cut(row.operator)),
            as_text(row.site),
            f"{row.latency_us:.1f}",
            as_text(
                f"{100 * row.interval_us / row.latency_us:.1f}",
                "" if row.converged else "yellow",
            ),
            f"{row.isolated_us:.1f}",
            as_text(
                ", ".join(
                    [
                        row.method,
                        *([] if row.converged else ["not converged"]),
                        *(["launch-bound"] if row.launch_bound else []),
                        *(f"{n} nodes on {other}" for other, n in row.elsewhere.items()),
                    ]
                )
            ),
        )
    return part


def _interpolated(rows: "Sequence[Interpolated | InterpolatedEnergy]") -> "Table":
    from rich.table import Table

    from goldnas.units import name_base_unit

    part = Table("operator", "site", title="interpolated")
    unit = name_base_unit(rows[0].kind)
    part.add_column(f"{rows[0].kind}\n{unit}", justify="right", no_wrap=True)
    part.add_column("source")
    for row in rows:
        part.add_row(
            as_text(_cut(row.operator)),
            as_text(row.site),
            _show_cost(row.cost, unit),
            as_text(_cut(row.source)),
        )
    return part


def _failed(rows: "Iterable[Failed]") -> "Table":
    from rich.table import Table

    part = Table("operator", "site", "error", title="failed", style="red")
    for row in rows:
        error = as_text(_cut(in_options(row.error)))
        part.add_row(as_text(_cut(row.operator)), as_text(row.site), error, style="red")
    return part


def _calibrations(table: "LatencyTable") -> "Table":
    from rich.table import Table

    part = Table("space", title="calibrations")
    for header in (
        "networks",
        "error\n%",
        "within\n5 %",
        "within\n10 %",
        "Spearman",
        "noise\n%",
        f"intercept\n{table.unit}",
    ):
        part.add_column(header, justify="right", no_wrap=True)
    for calibration in table.calibrations:
        accuracy, noise_percent = calibration.accuracy, calibration.noise_floor_percent
        part.add_row(
            as_text(calibration.space_and_settings),
            str(accuracy.networks),
            f"{accuracy.mape_percent:.2f}",
            f"{accuracy.within_5_percent:.0f}",
            f"{accuracy.within_10_percent:.0f}",
            "-" if accuracy.spearman is None else f"{accuracy.spearman:.3f}",
            "-" if noise_percent is None else f"{noise_percent:.2f}",
            _show_cost(calibration.intercept, table.unit),
        )
    return part


def _loops(table: "LatencyTable") -> "Table":
    from rich.table import Table

    from goldnas.lut import EnergyCalibration

    title = f"from hot latencies to calls in the loop {table.conditions.called}"
    part = Table("space", "quantile", title=title)
    for header in (
        *("networks", "calls", "slowdown", "drift\n%"),
        *("offset\nus", "factor", "margin\n%", "error\n%"),
    ):
        part.add_column(header, justify="right", no_wrap=True)
    for calibration in table.calibrations:
        if isinstance(calibration, EnergyCalibration) or not (loop := calibration.loop):
            continue
        for name, fitted in loop.quantiles.items():
            part.add_row(
                as_text(calibration.space_and_settings),
                name,
                str(len(loop.networks)),
                str(min(network.calls for network in loop.networks)),
                f"{loop.slowdown:.2f}",
                f"{loop.drift_percent:.1f}",
                f"{fitted.offset_us:.1f}",
                f"{fitted.factor:.3f}",
                f"{fitted.margin_percent:.1f}",
                f"{fitted.error_percent:.1f}",
            )
    return part


def _campaigns(table: "LatencyTable") -> "Table":
    from rich.table import Table

    part = Table("measured on", title="campaigns")
    for header in ("rows", "networks", "seconds", "A/A\n%", "drift\n%"):
        part.add_column(header, justify="right", no_wrap=True)
    for campaign in table.campaigns:
        part.add_row(
            str(campaign.measured_on),
            str(campaign.rows),
            str(campaign.networks),
            f"{campaign.seconds:.0f}",
            f"{campaign.aa_percent:.1f}",
            f"{campaign.drift_percent:.1f}",
        )
    return part


app.command(cls=Command, rich_help_panel=_LOOK)(plot)
app.command(cls=Command, rich_help_panel=_LOOK)(lint)
app.command(cls=Command, rich_help_panel=_LOOK)(diff)
app.command(cls=Command, rich_help_panel=_NETWORKS)(predict)
app.command(cls=Command, rich_help_panel=_NETWORKS)(check)
app.command(cls=Command, rich_help_panel=_NETWORKS)(calibrate)
app.command(cls=Command, rich_help_panel=_MAKE)(merge)
app.command("import", cls=Command, rich_help_panel=_MAKE)(import_)
app.command(cls=Command, rich_help_panel=_MAKE)(fit)
