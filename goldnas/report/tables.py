"""Latency tables as one HTML file each, or two of them in one."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from goldnas.lut import LatencyTable
from goldnas.report.drawing import inline_svg, use_page_style
from goldnas.report.template import fill_template

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GREYS = {"#555555": "muted", "#cccccc": "grid"}
"""Greys of the plots of tables, which are drawn for paper."""


def make_table_page(table: LatencyTable) -> str:
    """A table: its rows with their intervals, and its predictions against networks.

    Raises:
        TableError: If no row has a latency.
    """
    from goldnas.lut.plot import label_marks, plot

    title, maker = f"Latency table {table.name}", "goldnas lut plot"
    return _page(title, maker, lambda: plot(table), label_marks(table), [table])


def make_diff_page(a: LatencyTable, b: LatencyTable) -> str:
    """Two tables side by side.

    Raises:
        TableError: If they have no row in common.
    """
    from goldnas.lut.plot_diff import label_marks, plot_diff

    title = f"Latency tables {a.name} and {b.name}"
    maker = "goldnas lut diff"
    return _page(title, maker, lambda: plot_diff(a, b), label_marks(a, b), [a, b])


def _page(
    title: str,
    maker: str,
    draw: "Callable[[], Figure]",
    tips: Mapping[str, Sequence[str]],
    tables: Sequence[LatencyTable],
) -> str:
    with use_page_style("table"):
        svg = inline_svg(draw(), title, {**_GREYS, "#000000": "ink"})
    conditions = [
        (table.name, f"{told.machine}, {told.backend}, threads {told.threads}, batch "
         f"{told.batch}, {told.precision}, {told.measured_on}")
        for table in tables
        for told in [table.conditions]
    ]  # fmt: skip
    return fill_template(
        "table.html",
        "table.js",
        maker=maker,
        data=tips,
        title=title,
        svg_text=svg,
        conditions=conditions,
    )
