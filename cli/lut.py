"""``goldnas lut``: look at latency tables."""

from typing import Annotated

import typer

from goldnas.cli.console import errors_shown, out

app = typer.Typer(no_args_is_help=True, help="Look at latency tables.")


@app.callback()
def main() -> None:
    """Keep ``show`` a sub-command though it is the only one."""


@app.command()
def show(
    file: Annotated[
        str,
        typer.Argument(help="Latency table: a path, or the name of one that goldnas ships."),
    ],
    json: Annotated[
        bool, typer.Option("--json", help="Print the file's JSON, sorted.")
    ] = False,
) -> None:
    """Print the conditions and the rows of a latency table."""
    from rich.table import Table
    from rich.text import Text

    from goldnas.lut import LatencyTable, Measured

    with errors_shown():
        table = LatencyTable.load(file)
    if json:
        typer.echo(table.to_json(), nl=False)
        return

    conditions = table.conditions
    facts = Table.grid(padding=(0, 2))
    for name, value in {
        "device": f"{conditions.device}: {conditions.cpu_model}",
        "system": f"{conditions.architecture}, {conditions.os}",
        "backend": conditions.backend,
        "options": ", ".join(f"{k} {v}" for k, v in conditions.backend_options.items()),
        "setting": f"threads {conditions.threads}, batch {conditions.batch}, "
        f"{conditions.precision}",
        "protocol": f"{conditions.protocol.name}: {conditions.protocol.statistic}",
        "measured on": str(conditions.measured_on),
    }.items():
        facts.add_row(Text(name, "bold"), Text(value))

    rows = Table("operator", "site", title=f"{table.path}: {len(table.rows)} rows")
    for header in ("latency\nus", "median\nus", "spread\n%", "timed\ncalls"):
        rows.add_column(header, justify="right", no_wrap=True)
    failed = Table("operator", "site", "error", title="failed", style="red")
    for row in table.sorted_rows():
        place = (Text(row.operator), Text(row.site))
        if isinstance(row, Measured):
            numbers = (
                f"{row.latency_us:.1f}",
                f"{row.median_us:.1f}",
                f"{100 * row.spread:.1f}",
            )
            rows.add_row(*place, *numbers, str(row.count))
        else:
            failed.add_row(*place, Text(row.error), style="red")
    out.print(facts)
    if rows.row_count:
        out.print(rows)
    if failed.row_count:
        out.print(failed)
