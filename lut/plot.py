"""Plots of a table: its rows with their intervals, and its predictions against networks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from goldnas.errors import TableError, in_one_line
from goldnas.lut.fit import count_parts, fit_additive
from goldnas.lut.plot_panels import Group, Panel, arrange, write_plainly
from goldnas.lut.schema import AnyCalibration, AnyNetwork, Failed, Measured, Valued
from goldnas.lut.table import LatencyTable
from goldnas.units import format_amount, list_units, name_axis, name_base_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
"""Told apart also by the colour-blind: Okabe and Ito, "Color Universal Design", 2008."""
_INCHES_PER_ROW = 0.18
_HOLLOW: Any = {"markersize": 4, "fillstyle": "none"}


def plot(table: LatencyTable) -> Figure:
    """Draw a table.

    On the left are the rows, with a panel for each operator and the fastest row on top. Each
    row shows its value with the 95 % interval and, if measured, the isolated time. A table
    of more than 500 rows shows a line for each of the 200 slowest operators instead, with a
    dot for each row. On the right are the networks of each calibration: the measurement
    against the prediction of a fit without the network.

    Raises:
        TableError: If no row has a latency.
    """
    arranged = _arrange(table)
    drawn = [calibration for calibration in table.calibrations if calibration.networks]

    lengths = [panel.length for panel in arranged]
    height = max(4.5 * len(drawn), _INCHES_PER_ROW * sum(lengths) + 1.5, 3.0)
    figure = Figure(figsize=(12 if drawn else 7, height), layout="constrained")
    figure.suptitle(
        in_one_line(
            f"{table.name}: {table.conditions.machine}, {table.conditions.backend}, threads "
            f"{table.conditions.threads}, batch {table.conditions.batch}, "
            f"{table.conditions.precision}, {table.conditions.measured_on}"
        )
    )
    left, *right = figure.subfigures(1, 2 if drawn else 1, squeeze=False)[0]
    panels = left.subplots(
        len(lengths), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": lengths}
    )
    for axes, panel in zip(panels[:, 0], arranged, strict=True):
        for group in panel.groups:
            (_draw_line if panel.in_lines else _draw_rows)(axes, group)
        rows = [row for group in panel.groups for row in group.items]
        panel.name_places(axes, is_log=min(row.cost for row in rows) > 0)
    panels[-1, 0].set_xlabel(name_axis(table.kind, table.unit))
    if not arranged[0].in_lines:
        in_network = Line2D([], [], marker="o", color="#555555", markersize=4, linestyle="none")
        alone = Line2D([], [], marker="o", color="#555555", linestyle="none", **_HOLLOW)
        left.legend(
            [in_network, alone],
            ["in a network, with its 95 % interval", "as a model of its own"],
            loc="outside lower center",
            ncols=2,
            fontsize=8,
        )
    for side in right:
        networks = side.subplots(len(drawn), 1, squeeze=False)
        for number, (axes, calibration) in enumerate(zip(networks[:, 0], drawn, strict=True)):
            _draw_networks(axes, calibration, mark_id=f"networks-{number}")
    return write_plainly(figure)


def label_marks(table: LatencyTable) -> dict[str, list[str]]:
    """A text for each mark of :func:`plot`, by its ``id`` in an SVG file."""
    texts: dict[str, list[str]] = {}
    for group in (group for panel in _arrange(table) for group in panel.groups):
        texts[_mark_id(group)] = [_describe(row) for row in group.items]
    for number, calibration in enumerate(c for c in table.calibrations if c.networks):
        networks: Sequence[AnyNetwork] = calibration.networks
        texts[f"networks-{number}"] = [
            f"network {network.fingerprint[:8]}\n{format_amount(table.kind, network.cost)} "
            f"measured, {format_amount(table.kind, predicted)} predicted "
            f"({100 * (predicted / network.cost - 1):+.1f} %)"
            for network, predicted in zip(networks, _held_out(calibration), strict=True)
        ]
    return texts


def _describe(row: Valued) -> str:
    if not isinstance(row, Measured):
        unit = name_base_unit(row.kind)
        return f"{row.key}\n{row.cost:.4g} {unit}, not measured: {row.source}"
    return (
        f"{row.key}\n{row.cost:.4g} us +- {row.interval_us:.2g}\n"
        f"{row.isolated_us:.4g} us as a model of its own"
    )


def group_rows(table: LatencyTable) -> dict[str, list[Valued]]:
    """The rows that have a value, the cheapest of each operator first.

    Raises:
        TableError: If there is none.
    """
    rows = [row for row in table.rows if not isinstance(row, Failed)]
    if not rows:
        raise TableError(
            f"{table.path} has no row with a {table.kind}, so there is nothing to draw"
        )
    by_operator: dict[str, list[Valued]] = {}
    for row in sorted(rows, key=lambda row: (row.operator, row.cost)):
        by_operator.setdefault(row.operator if row.site else "", []).append(row)
    return by_operator


def _arrange(table: LatencyTable) -> list[Panel[Valued]]:
    return arrange(group_rows(table), lambda row: row)


def _mark_id(group: Group[Valued]) -> str:
    return f"rows-{group.number}"


def _draw_rows(axes: "Axes", group: Group[Valued]) -> None:
    rows, colour = group.items, COLOURS[group.number % len(COLOURS)]
    intervals = [row.interval_us if isinstance(row, Measured) else 0.0 for row in rows]
    bars = axes.errorbar(
        [row.cost for row in rows],
        group.places,
        xerr=intervals,
        fmt="o",
        color=colour,
        markersize=4,
        capsize=2,
    )
    bars.lines[0].set_gid(_mark_id(group))
    isolated = [
        (row.isolated_us, place)
        for row, place in zip(rows, group.places, strict=True)
        if isinstance(row, Measured)
    ]
    if isolated:
        axes.plot(*zip(*isolated, strict=True), "o", color=colour, **_HOLLOW)


def _draw_line(axes: "Axes", group: Group[Valued]) -> None:
    (dots,) = axes.plot(
        [row.cost for row in group.items],
        group.places,
        "o",
        color=COLOURS[group.number % len(COLOURS)],
        markersize=3,
    )
    dots.set_gid(_mark_id(group))


def _held_out(calibration: AnyCalibration) -> npt.NDArray[np.float64]:
    """Each network's amount from a fit without this network, ``(N,)``, in the table's unit."""
    networks, costs = calibration.networks, calibration.prior
    measured = np.array([network.cost for network in networks])
    keys = list(dict.fromkeys([*costs, *(key for n in networks for key in n.parts)]))
    prior = np.array([costs.get(key, np.nan) for key in keys]) if costs else None
    return fit_additive(count_parts(networks, keys), measured, prior=prior).held_out


def _draw_networks(axes: "Axes", calibration: AnyCalibration, mark_id: str) -> None:
    networks = calibration.networks
    scale, unit = list_units(calibration.kind)[1]  # milliseconds or millijoules
    measured = np.array([network.cost for network in networks]) / scale
    predicted = _held_out(calibration) / scale

    both = np.concatenate([measured, predicted])
    ends = np.array([0.95 * both.min(), 1.05 * both.max()])
    axes.fill_between(ends, 0.95 * ends, 1.05 * ends, color="#cccccc", alpha=0.5, label="5 %")
    axes.plot(ends, ends, color="#555555", linewidth=0.8)
    intervals = np.array([network.interval or 0.0 for network in networks]) / scale
    bars = axes.errorbar(
        predicted,
        measured,
        yerr=intervals,
        fmt="o",
        color=COLOURS[0],
        markersize=4,
        capsize=2,
        label=f"networks, mean error {calibration.accuracy.mape_percent:.2f} %",
    )
    bars.lines[0].set_gid(mark_id)
    axes.set_title(calibration.space_and_settings, fontsize=9, loc="left", wrap=True)
    axes.set_xlabel(f"predicted by a fit without the network, {unit}")
    axes.set_ylabel(f"measured, {unit}")
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
