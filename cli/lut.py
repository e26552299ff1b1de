"""``goldnas lut``: latency tables as files."""

from typing import TYPE_CHECKING

import typer

from goldnas.cli.command import Command
from goldnas.cli.console import errors_shown, out
from goldnas.cli.lut_files import diff, import_, lint, merge
from goldnas.cli.lut_fit import fit
from goldnas.cli.lut_networks import calibrate, check, predict
from goldnas.cli.lut_plot import plot
from goldnas.cli.options import JsonOption, TableArgument
from goldnas.cli.wording import in_options
from goldnas.errors import count_of

if TYPE_CHECKING:
    from rich.table import Table

    from goldnas.lut import Conditions, LatencyTable

_LOOK, _NETWORKS, _MAKE = "Look and check", "Against whole networks", "Make and convert"

app = typer.Typer(no_args_is_help=True, help="Look at latency tables, check and convert them.")


@app.command(cls=Command, rich_help_panel=_LOOK)
def show(file: TableArgument, as_json: JsonOption = False) -> None:
    """Print the conditions, the rows and the calibrations of a latency table.

    With --json it prints the file with its rows sorted.

    Examples:
        goldnas lut show lut/cpu.json
        goldnas lut show lut/cpu.json --json
    """
    from goldnas.lut import LatencyTable

    with errors_shown():
        table = LatencyTable.load(file)
    if as_json:
        typer.echo(table.to_json(), nl=False)
        return
    out.print(_facts(table.conditions))
    for part in (*_rows(table), _calibrations(table), _campaigns(table)):
        if part.row_count:
            out.print(part)


def _facts(conditions: "Conditions") -> "Table":
    from rich.table import Table
    from rich.text import Text

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
        "protocol": f"{protocol.name}: {protocol.statistic}{target}",
        "measured on": str(conditions.measured_on),
    }.items():
        facts.add_row(Text(name, "bold"), Text(value))
    return facts


def _gpu(conditions: "Conditions") -> dict[str, str]:
    if conditions.gpu is None:
        return {}
    gpu = conditions.gpu
    told = f"compute capability {gpu.compute_capability}, {gpu.memory_mib} MiB"
    return {"GPU": f"{told}, driver {gpu.driver}, in a machine with {conditions.cpu_model}"}


def _rows(table: "LatencyTable") -> "tuple[Table, Table, Table]":
    from rich.table import Table
    from rich.text import Text

    from goldnas.lut import Interpolated, Measured

    measured = Table(
        "operator", "site", title=f"{table.path}: {count_of(len(table.rows), 'row')}"
    )
    for header in ("latency\nus", "+-\n%", "isolated\nus"):
        measured.add_column(header, justify="right", no_wrap=True)
    measured.add_column("method", no_wrap=True)
    interpolated = Table("operator", "site", title="interpolated")
    interpolated.add_column("latency\nus", justify="right", no_wrap=True)
    interpolated.add_column("source")
    failed = Table("operator", "site", "error", title="failed", style="red")
    for row in table.sorted_rows():
        place = (Text(row.operator), Text(row.site))
        if isinstance(row, Measured):
            measured.add_row(
                *place,
                f"{row.latency_us:.1f}",
                Text(
                    f"{100 * row.interval_us / row.latency_us:.1f}",
                    "" if row.converged else "yellow",
                ),
                f"{row.isolated_us:.1f}",
                ", ".join(
                    [
                        row.method,
                        *([] if row.converged else ["not converged"]),
                        *(["launch-bound"] if row.launch_bound else []),
                        *(f"{n} nodes on {other}" for other, n in row.elsewhere.items()),
                    ]
                ),
            )
        elif isinstance(row, Interpolated):
            interpolated.add_row(*place, f"{row.latency_us:.1f}", Text(row.source))
        else:
            failed.add_row(*place, Text(in_options(row.error)), style="red")
    return measured, interpolated, failed


def _calibrations(table: "LatencyTable") -> "Table":
    from rich.table import Table
    from rich.text import Text

    part = Table("space", title="calibrations")
    for header in (
        "networks",
        "error\n%",
        "within\n5 %",
        "within\n10 %",
        "Spearman",
        "noise\n%",
        "intercept\nus",
    ):
        part.add_column(header, justify="right", no_wrap=True)
    for calibration in table.calibrations:
        accuracy, noise_percent = calibration.accuracy, calibration.noise_floor_percent
        part.add_row(
            Text(calibration.space_and_settings),
            str(accuracy.networks),
            f"{accuracy.mape_percent:.2f}",
            f"{accuracy.within_5_percent:.0f}",
            f"{accuracy.within_10_percent:.0f}",
            "-" if accuracy.spearman is None else f"{accuracy.spearman:.3f}",
            "-" if noise_percent is None else f"{noise_percent:.2f}",
            f"{calibration.intercept_us:.1f}",
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
