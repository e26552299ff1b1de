"""``goldnas lut plot``: a latency table as a plot or a page."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goldnas.cli.console import errors_shown, say
from goldnas.cli.options import TableArgument
from goldnas.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (".svg", ".png", ".pdf", ".html")


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
) -> None:
    """Draw a latency table: rows with their intervals, and predicted against measured networks.

    Examples:
        goldnas lut plot lut/cpu.json --out cpu.svg
        goldnas lut plot lut/cpu.json --out cpu.html
    """
    with errors_shown():
        check_kind(plot)
        from goldnas.lut import LatencyTable
        from goldnas.lut.plot import plot as draw
        from goldnas.report.tables import make_table_page

        table = LatencyTable.load(file)
        write_plot(plot, lambda: draw(table), lambda: make_table_page(table))
    say(f"wrote {plot}")


def check_kind(plot: Path) -> None:
    """Refuse a file that is not named as a plot.

    Raises:
        ConfigError: Listing how plots are named.
    """
    if plot.suffix.lower() not in KINDS:
        raise ConfigError(f"--out {plot}: end it in {', '.join(KINDS)}")


def write_plot(plot: Path, figure: "Callable[[], Figure]", page: Callable[[], str]) -> None:
    """Write what was drawn, as the name of the file says.

    Raises:
        WriteError: If the disk refuses.
    """
    import io

    from goldnas.files import write_atomic

    if plot.suffix.lower() == ".html":
        write_atomic(plot, page())
        return
    content = io.BytesIO()
    figure().savefig(content, format=plot.suffix[1:].lower(), dpi=150)
    write_atomic(plot, content.getvalue())
