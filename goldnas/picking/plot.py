"""A plot of a pick: accuracy against latency of all measured networks."""

import numpy as np
from matplotlib.figure import Figure

from goldnas.lut.plot import COLOURS
from goldnas.lut.plot_panels import write_plainly
from goldnas.picking.pick import Picked
from goldnas.zoo.file import Measured


def draw_pick(found: Picked) -> Figure:
    """Draw every measured network; the front, the choice and the limit stand out.

    Each number format has a colour. A line joins the front; a circle is around the choice; the
    dotted line is the tightest limit of latency.
    """
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    precisions = dict.fromkeys(option.precision for option in found.options)
    for colour, precision in zip(COLOURS, precisions, strict=False):
        rows = [
            (row.latency_us / 1000, found.limits_us(row), option.percent)
            for option in found.options
            if option.precision == precision and isinstance(row := found.row(option), Measured)
        ]
        if rows:
            latencies, limits, percents = zip(*rows, strict=True)
            ends = np.array(limits) / 1000
            axes.errorbar(
                latencies,
                percents,
                xerr=np.abs(ends.T - latencies),
                fmt="o",
                markersize=4,
                color=colour,
                alpha=0.7,
                label=precision,
            )
    front = [(row, option) for option in found.front if (row := found.row(option))]
    places = [
        (row.latency_us / 1000, option.percent)
        for row, option in front
        if isinstance(row, Measured)
    ]
    if places:
        axes.plot(*zip(*places, strict=True), color=COLOURS[-1], linewidth=1, label="front")
    for (latency_ms, percent), (row, option) in zip(places, front, strict=False):
        if option == found.choice:
            axes.plot(
                latency_ms, percent, "o", markersize=12, fillstyle="none", color=COLOURS[-1]
            )
            axes.annotate(
                row.key.rpartition("/")[2],
                (latency_ms, percent),
                textcoords="offset points",
                xytext=(8, -12),
                fontsize=8,
            )
    if found.limits.latency_us is not None:
        axes.axvline(
            found.limits.latency_us / 1000, color=COLOURS[-1], linestyle=":", linewidth=1
        )
    axes.set_xscale("log")
    quantile = None if found.zoo.loop.is_hot else found.limits.quantile or "p50"
    axes.set_xlabel(f"{quantile or 'latency'}, ms")
    axes.set_ylabel("accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return write_plainly(figure)
