"""``goldnas compare``: several searches side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goldnas.cli import completion
from goldnas.cli.console import (
    as_text,
    errors_shown,
    note,
    print_file,
    print_json,
    print_whole,
    say,
)
from goldnas.cli.drawing import PLOTS, check_drawing, write_drawing
from goldnas.cli.options import ForceOption, JsonOption, TrustOption
from goldnas.errors import ConfigError

if TYPE_CHECKING:
    from goldnas.comparison.formats import Grid
    from goldnas.comparison.rows import Comparison


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of searches on the same dataset."),
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="table|markdown|csv|latex",
            help="Format of the output. csv has the units of --json: shares, FLOPs, "
            "parameters, microseconds and seconds.",
            autocompletion=completion.OFFERS["format"],
        ),
    ] = "table",
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="PLOT",
            help="Also draw all fronts and all trained networks: .svg, .png or .pdf. With "
            "--truth, the drawing shows the found networks among all known networks.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="RESOURCE",
            help="Resource for the hypervolumes and the plot: FLOPs, params, "
            "latency@TABLE, bytes or ram. Default: the first that all searches have a "
            "budget for.",
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Known figures of the networks of the space: a column `architecture`, and "
            "a column for each figure, where higher is better. Shows how good the "
            "best network of each search really is, and its rank among all networks "
            "at 90 to 100 % of the budget.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="NAME",
            help="Figure of --truth to judge by. Default: all figures. Repeat for several.",
        ),
    ] = None,
    trust: TrustOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare searches: accuracy over seeds, resources, time, hypervolume.

    Searches that differ only in their seeds are one row, with mean and standard deviation. A
    row shows the most accurate network within the budgets of each search. If this network was
    trained in several ways, each way has a row. So has each other trained network. Test
    accuracies come from the last epoch of goldnas train, measured latencies from goldnas
    export.

    Examples:
        goldnas compare runs/a runs/b
        goldnas compare runs/a runs/b --format markdown --plot fronts.svg
        goldnas compare runs/a runs/b --budget FLOPs --json
        goldnas compare runs/a runs/b --truth truth.csv --plot truth.svg
    """
    with errors_shown():
        if plot is not None:
            check_drawing(plot, PLOTS, command="compare", force=force, setting="plot")
        from goldnas.comparison import formats, rows
        from goldnas.comparison.runs import read_runs
        from goldnas.comparison.truth import Truth

        if form not in ("table", *formats.FORMATS):
            raise ConfigError(
                f"unknown --format {form!r}; known: table, {', '.join(formats.FORMATS)}; for "
                "JSON give --json"
            )
        if as_json and form != "table":
            raise ConfigError(f"--json and --format {form} contradict; leave one of them out")
        if columns and truth is None:
            raise ConfigError(f"--column {columns[0]} needs --truth FILE.csv; give both")
        known = None if truth is None else Truth.read(truth, columns or ())
        comparison = rows.compare(read_runs(runs, known, trust=trust), budget, known)
        if plot is not None:
            _draw(comparison, plot)
        if as_json:
            print_json(formats.as_json(comparison))
        elif form == "table":
            _print(formats.make_grid(comparison))
        else:
            print_file(formats.FORMATS[form](comparison))
        if plot is not None:
            note(f"wrote {plot}")


def _print(shown: "Grid") -> None:
    from rich.table import Table

    table = Table()
    for number, header in enumerate(shown.header):
        table.add_column(as_text(header), justify="left" if number < shown.texts else "right")
    for cells in shown.rows:
        table.add_row(*map(as_text, cells))
    print_whole(table)
    for remark in shown.notes:
        say(f"- {remark}")


def _draw(comparison: "Comparison", plot_file: Path) -> None:
    from goldnas.comparison.plot import draw_comparison
    from goldnas.comparison.truth_plot import draw_truth

    draw = draw_comparison if comparison.truth is None else draw_truth
    write_drawing(plot_file, lambda: draw(comparison), command="compare")
