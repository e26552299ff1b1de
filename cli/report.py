"""``goldnas report``: a search as one page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.cli.console import errors_shown, say
from goldnas.cli.drawing import PAGES, check_drawing
from goldnas.cli.options import ForceOption, TrustOption
from goldnas.cli.wording import in_options, in_shell, option

if TYPE_CHECKING:
    from goldnas.report.search_call import SearchCall

REPORT = "report.html"
"""Its name in the folder of a search."""


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a search (its --out).")],
    page: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.html",
            help=f"HTML file to write. Default: {REPORT} in the folder.",
        ),
    ] = None,
    trust: TrustOption = False,
    force: ForceOption = False,
) -> None:
    """Write a report of a search: one page with front, cells, times and pruning.

    The page needs no other file, so you can mail and archive it. It can show a search that is
    still running. goldnas search writes a report when it ends. If the space has somebody
    else's code, the report shows only what the files say, unless you give --trust.

    Examples:
        goldnas report runs/a
        goldnas report runs/a --out report.html
    """
    with errors_shown():
        if page is not None:
            check_drawing(page, PAGES, command="report", force=force)
        written = write_report(run, page, trust=trust)
    say(f"wrote {written}")


def write_report(run: Path, page: Path | None = None, *, trust: bool = False) -> Path:
    """Write the report of a search; return where it is.

    Raises:
        RunError: If the folder is not of a search, or damaged.
        WriteError: If the disk refuses.
    """
    from goldnas.files import write_atomic
    from goldnas.report.page import make_report

    place = run / REPORT if page is None else page
    write_atomic(place, make_report(run, trust=trust, wording=word_search, message=in_options))
    return place


def word_search(call: "SearchCall") -> tuple[str, dict[str, Any]]:
    """The command for a search, and the settings of it that have no option."""
    from goldnas.cli.main import app

    verb = "search" if call.network is None else "shrink"
    parameters = typer.main.get_command(app).commands[verb].params  # type: ignore[attr-defined]
    options = {name for parameter in parameters for name in parameter.opts}
    left_out = {n: value for n, value in call.settings.items() if option(n) not in options}
    return in_shell(str(call.without(*left_out))), left_out
