"""``goldnas lut plot``: a latency table as a plot or a page."""

from pathlib import Path
from typing import Annotated

import typer

from goldnas.cli.console import errors_shown, say
from goldnas.cli.drawing import PLOTS, check_drawing, write_drawing
from goldnas.cli.options import ForceOption, TableArgument

KINDS = (*PLOTS, ".html")


def plot(
    file: TableArgument,
    plot: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="PLOT",
            help="File to write: .svg, .png, .pdf or .html. In .html, each mark has a label.",
        ),
    ],
    force: ForceOption = False,
) -> None:
    """Draw a latency table: rows with their intervals, and predicted against measured networks.

    Examples:
        goldnas lut plot lut/cpu.json --out cpu.svg
        goldnas lut plot lut/cpu.json --out cpu.html
    """
    with errors_shown():
        check_drawing(plot, KINDS, command="lut plot", force=force)
        from goldnas.lut import LatencyTable
        from goldnas.lut.plot import plot as draw
        from goldnas.report.tables import make_table_page

        table = LatencyTable.load(file)
        write_drawing(
            plot, lambda: draw(table), lambda: make_table_page(table), command="lut plot"
        )
    say(f"wrote {plot}")
