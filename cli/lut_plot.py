"""``goldnas lut plot``: a latency table as a picture."""

from pathlib import Path
from typing import Annotated

import typer

from goldnas.cli.console import errors_shown, say
from goldnas.cli.options import NamedTableArgument
from goldnas.errors import ConfigError

_KINDS = (".svg", ".png", ".pdf")


def plot(
    file: NamedTableArgument,
    picture: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="PICTURE", help="File to write: .svg, .png or .pdf."
        ),
    ],
) -> None:
    """Draw a latency table: rows with their intervals, predictions against networks."""
    with errors_shown():
        if picture.suffix.lower() not in _KINDS:
            raise ConfigError(f"--out {picture}: end it in {', '.join(_KINDS)}")
        import io

        from goldnas.files import write_atomic
        from goldnas.lut import LatencyTable
        from goldnas.lut.plot import plot as draw

        content = io.BytesIO()
        figure = draw(LatencyTable.load(file))
        figure.savefig(content, format=picture.suffix[1:].lower(), dpi=150)
        write_atomic(picture, content.getvalue())
    say(f"wrote {picture}")
