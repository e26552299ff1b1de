"""A plot of two tables side by side: the rows that both have, and their ratios."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from goldnas.errors import TableError
from goldnas.lut.diff import diff
from goldnas.lut.plot import COLOURS, group_rows, scale_log
from goldnas.lut.schema import Interpolated, Measured
from goldnas.lut.table import LatencyTable

_INCHES_PER_ROW = 0.2
_Pair = tuple[Measured | Interpolated, Measured | Interpolated]


def plot_diff(a: LatencyTable, b: LatencyTable) -> Figure:
    """Draw two tables.

    On the left are the latencies of both, a panel for each operator, with their 95 %
    intervals; on the right, row by row, b over a, and grey where the intervals meet.

    Raises:
        TableError: If they have no row in common.
    """
    pairs = _pairs(a, b)
    if not pairs:
        raise TableError(
            f"{a.path} and {b.path} have no row in common, so there is nothing to draw; "
            "see which rows each has"
        )
    differing = {difference.row for difference in diff(a, b).differing}
    lengths = [len(group) + 1.5 for group in pairs.values()]
    figure = Figure(
        figsize=(11, max(3.0, _INCHES_PER_ROW * sum(lengths) + 1.5)), layout="constrained"
    )
    figure.suptitle(f"a: {_describe_table(a)}\nb: {_describe_table(b)}", fontsize=10)
    panels = figure.subplots(
        len(pairs),
        2,
        sharex="col",
        squeeze=False,
        gridspec_kw={"height_ratios": lengths, "width_ratios": (3, 2)},
    )
    for number, (operator, group) in enumerate(pairs.items()):
        places = np.arange(len(group))
        times, ratios = panels[number]
        for side, (colour, shift) in enumerate(zip(COLOURS, (-0.14, 0.14), strict=False)):
            rows = [pair[side] for pair in group]
            bars = times.errorbar(
                [row.latency_us for row in rows],
                places + shift,
                xerr=[row.interval_us if isinstance(row, Measured) else 0.0 for row in rows],
                fmt="os"[side],
                color=colour,
                markersize=4,
                capsize=2,
            )
            bars.lines[0].set_gid(f"{'ab'[side]}-{number}")
        for place, (first, second) in zip(places, group, strict=True):
            if first.latency_us > 0:
                colour = COLOURS[2] if first.key in differing else COLOURS[-1]
                ratios.plot(second.latency_us / first.latency_us, place, "D", color=colour,
                            markersize=4)  # fmt: skip
        ratios.axvline(1, color=COLOURS[-1], linewidth=0.8)
        for axes in (times, ratios):
            axes.set_ylim(len(group) - 0.25, -0.75)
            axes.grid(axis="x", alpha=0.3)
        times.set_yticks(places, [row.site or row.operator for row, _ in group], fontsize=7)
        ratios.set_yticks(places, [])
        if min(row.latency_us for pair in group for row in pair) > 0:
            scale_log(times)
        times.set_title(operator, fontsize=9, loc="left")
    panels[-1, 0].set_xlabel("latency, us")
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
    return figure


def label_marks(a: LatencyTable, b: LatencyTable) -> dict[str, list[str]]:
    """What the marks of :func:`plot_diff` stand for, by the ``id`` that they have in SVG."""
    texts: dict[str, list[str]] = {}
    for number, group in enumerate(_pairs(a, b).values()):
        for side in "ab":
            texts[f"{side}-{number}"] = [
                f"{first.key}\n{first.latency_us:.4g} us in a, {second.latency_us:.4g} us in b"
                for first, second in group
            ]
    return texts


def _describe_table(table: LatencyTable) -> str:
    conditions = table.conditions
    return (
        f"{table.name}, {conditions.machine}, {conditions.backend}, {conditions.precision}, "
        f"batch {conditions.batch}"
    )


def _pairs(a: LatencyTable, b: LatencyTable) -> dict[str, list[_Pair]]:
    """The rows that both have a latency of, by operator, the fastest of a first."""
    others = {row.key: row for rows in group_rows(b).values() for row in rows}
    pairs = {
        operator: [(row, others[row.key]) for row in rows if row.key in others]
        for operator, rows in group_rows(a).items()
    }
    return {operator: group for operator, group in pairs.items() if group}
