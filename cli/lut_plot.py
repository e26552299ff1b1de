"""``goldnas lut plot``: a latency table as a picture or a page."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goldnas.cli.console import errors_shown, say
from goldnas.cli.options import NamedTableArgument
from goldnas.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (".svg", ".png", ".pdf", ".html")


def plot(
    file: NamedTableArgument,
    picture: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="PICTURE",
            help="File to write: .svg, .png, .pdf, or .html, where each mark says what it is.",
        ),
    ],
) -> None:
    """Draw a latency table: rows with their intervals, predictions against networks.

    Examples:
        goldnas lut plot lut/cpu.json --out cpu.svg
        goldnas lut plot lut/cpu.json --out cpu.html
    """
    with errors_shown():
        check_kind(picture)
        from goldnas.lut import LatencyTable
        from goldnas.lut.plot import plot as draw
        from goldnas.report.tables import table_page

        table = LatencyTable.load(file)
        write_picture(picture, lambda: draw(table), lambda: table_page(table))
    say(f"wrote {picture}")


def check_kind(picture: Path) -> None:
    """Refuse a file that is not named as a picture.

    Raises:
        ConfigError: Listing how pictures are named.
    """
    if picture.suffix.lower() not in KINDS:
        raise ConfigError(f"--out {picture}: end it in {', '.join(KINDS)}")


def write_picture(
    picture: Path, figure: "Callable[[], Figure]", page: Callable[[], str]
) -> None:
    """Write what was drawn, as the name of the file says.

    Raises:
        WriteError: If the disk refuses.
    """
    import io

    from goldnas.files import write_atomic

    if picture.suffix.lower() == ".html":
        write_atomic(picture, page())
        return
    content = io.BytesIO()
    figure().savefig(content, format=picture.suffix[1:].lower(), dpi=150)
    write_atomic(picture, content.getvalue())
