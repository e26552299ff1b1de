"""A plot of two tables side by side: the rows that both have, and their ratios."""

from collections.abc import Set
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from goldnas.errors import TableError, in_one_line
from goldnas.lut.diff import diff
from goldnas.lut.plot import COLOURS, group_rows
from goldnas.lut.plot_panels import Group, arrange, write_plainly
from goldnas.lut.schema import Measured, Valued
from goldnas.lut.table import LatencyTable
from goldnas.units import name_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INCHES_PER_ROW = 0.2
_Pair = tuple[Valued, Valued]


def plot_diff(a: LatencyTable, b: LatencyTable) -> Figure:
    """Draw two tables.

    On the left are the values of both tables with their 95 % intervals, in a panel for each
    operator. On the right is the ratio of b to a for each row, in grey where the intervals
    overlap. Tables of more than 500 rows show a line for each of the 200 operators that are
    slowest in a.

    Raises:
        TableError: If the tables have no row in common.
    """
    pairs = _pairs(a, b)
    if not pairs:
        raise TableError(
            f"{a.path} and {b.path} have no row in common, so there is nothing to draw; "
            "give two tables of one space"
        )
    differing = {difference.row for difference in diff(a, b).differing}
    arranged = arrange(pairs, lambda pair: pair[0])
    lengths = [panel.length for panel in arranged]
    figure = Figure(
        figsize=(11, max(3.0, _INCHES_PER_ROW * sum(lengths) + 1.5)), layout="constrained"
    )
    figure.suptitle(f"a: {_describe_table(a)}\nb: {_describe_table(b)}", fontsize=10)
    panels = figure.subplots(
        len(lengths),
        2,
        sharex="col",
        squeeze=False,
        gridspec_kw={"height_ratios": lengths, "width_ratios": (3, 2)},
    )
    for (times, ratios), panel in zip(panels, arranged, strict=True):
        for group in panel.groups:
            _draw_times(times, group, with_intervals=not panel.in_lines)
            _draw_ratios(ratios, group, differing)
        rows = [row for group in panel.groups for pair in group.items for row in pair]
        panel.name_places(times, is_log=min(row.cost for row in rows) > 0)
        ratios.axvline(1, color=COLOURS[-1], linewidth=0.8)
        ratios.set_ylim(times.get_ylim())
        ratios.set_yticks(times.get_yticks(), [])
        ratios.grid(axis="x", alpha=0.3)
    panels[-1, 0].set_xlabel(name_axis(a.kind, a.unit))
    panels[-1, 1].set_xlabel("b over a")
    marks = [
        Line2D([], [], marker=marker, color=colour, linestyle="none", markersize=4, label=label)
        for marker, colour, label in (
            ("o", COLOURS[0], "a"),
            ("s", COLOURS[1], "b"),
            ("D", COLOURS[2], "differ beyond their intervals"),
            ("D", COLOURS[-1], "may be equal"),
        )
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=4, fontsize=8)
    return write_plainly(figure)


def _draw_times(axes: "Axes", group: Group[_Pair], *, with_intervals: bool) -> None:
    for side, (colour, shift) in enumerate(zip(COLOURS, (-0.14, 0.14), strict=False)):
        rows = [pair[side] for pair in group.items]
        intervals = [row.interval_us if isinstance(row, Measured) else 0.0 for row in rows]
        bars = axes.errorbar(
            [row.cost for row in rows],
            group.places + shift,
            xerr=intervals if with_intervals else None,
            fmt="os"[side],
            color=colour,
            markersize=4,
            capsize=2,
        )
        bars.lines[0].set_gid(f"{'ab'[side]}-{group.number}")


def _draw_ratios(axes: "Axes", group: Group[_Pair], differing: Set[str]) -> None:
    for colour, differs in ((COLOURS[2], True), (COLOURS[-1], False)):
        points = [
            (second.cost / first.cost, place)
            for (first, second), place in zip(group.items, group.places, strict=True)
            if first.cost > 0 and (first.key in differing) == differs
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "D", color=colour, markersize=4)


def label_marks(a: LatencyTable, b: LatencyTable) -> dict[str, list[str]]:
    """A text for each mark of :func:`plot_diff`, by its ``id`` in an SVG file."""
    texts: dict[str, list[str]] = {}
    arranged = arrange(_pairs(a, b), lambda pair: pair[0])
    for group in (group for panel in arranged for group in panel.groups):
        for side in "ab":
            texts[f"{side}-{group.number}"] = [
                f"{first.key}\n{first.cost:.4g} {a.unit} in a, {second.cost:.4g} {a.unit} in b"
                for first, second in group.items
            ]
    return texts


def _describe_table(table: LatencyTable) -> str:
    conditions = table.conditions
    return in_one_line(
        f"{table.name}, {conditions.machine}, {conditions.backend}, {conditions.precision}, "
        f"batch {conditions.batch}"
    )


def _pairs(a: LatencyTable, b: LatencyTable) -> dict[str, list[_Pair]]:
    """The rows that both have a value of, by operator, the cheapest of a first."""
    others = {row.key: row for rows in group_rows(b).values() for row in rows}
    pairs = {
        operator: [(row, others[row.key]) for row in rows if row.key in others]
        for operator, rows in group_rows(a).items()
    }
    return {operator: group for operator, group in pairs.items() if group}
