"""A plot of a comparison: the front of every search, and the networks that were trained."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from goldnas.comparison.quantities import Sample
from goldnas.comparison.rows import Comparison, Row
from goldnas.comparison.runs import ComparedRun
from goldnas.lut.plot import COLOURS
from goldnas.lut.plot_panels import write_plainly
from goldnas.units import choose_unit, list_units, name_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKS = "osD^vP*X"


def draw_comparison(comparison: Comparison) -> Figure:
    """Draw accuracy, or the metric of a task, against the resource of a comparison.

    Hollow marks are the networks of each search, by their metric on held-out data with the
    shared weights of the search. A line joins the networks that no other network of the search
    beats in both. Filled marks are the trained networks of each row, by their metric on the
    test set, with standard deviations as bars. Each strategy has a colour, each training a
    mark; dotted lines are budgets.
    """
    resource = comparison.resource
    amounts = [n.resources[resource] for run in comparison.runs for n in run.networks]
    scale, unit = choose_unit(list_units(resource), max(amounts, default=1.0))
    strategies = dict.fromkeys(row.strategy for row in comparison.rows)
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(strategies)}
    trainings = dict.fromkeys(str(row.training) for row in comparison.rows if row.training)
    marks = {name: _MARKS[i % len(_MARKS)] for i, name in enumerate(trainings)}

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for run in comparison.runs:
        _draw_front(axes, run, resource, scale, colours[run.config.strategy])
    for limit in {run.budgets[resource] for run in comparison.runs if resource in run.budgets}:
        axes.axvline(limit / scale, color=COLOURS[-1], linestyle=":", linewidth=1)
    for row in comparison.rows:
        if row.training is not None:
            mark = marks[str(row.training)]
            _draw_trained(axes, row, resource, scale, colours[row.strategy], mark)
    axes.set_xlabel(name_axis(resource, unit))
    axes.set_ylabel(comparison.metric.axis)
    searches = "1 search" if len(comparison.runs) == 1 else f"{len(comparison.runs)} searches"
    axes.set_title(f"{comparison.data}, {searches}", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(handles=_legend(colours, marks), fontsize=8)
    return write_plainly(figure)


def find_front(run: ComparedRun, resource: str) -> list[tuple[float, float]]:
    """Amount and metric of the networks that no other network of the search beats in both."""
    sign = 1 if run.metric.higher_is_better else -1
    found: list[tuple[float, float]] = []
    for amount, value in sorted(_points(run, resource), key=lambda p: (p[0], -sign * p[1])):
        if not found or sign * value > sign * found[-1][1]:
            found.append((amount, value))
    return found


def _points(run: ComparedRun, resource: str) -> list[tuple[float, float]]:
    return [
        (n.resources[resource], n.figure.value) for n in run.networks if n.figure is not None
    ]


def _draw_front(
    axes: "Axes", run: ComparedRun, resource: str, scale: float, colour: str
) -> None:
    hollow: Any = {"markersize": 4, "fillstyle": "none", "linestyle": "none", "marker": "o"}
    for points, style in (
        (_points(run, resource), hollow),
        (find_front(run, resource), {"linewidth": 1}),
    ):
        axes.plot(
            [amount / scale for amount, _ in points],
            [run.metric.scale * value for _, value in points],
            color=colour,
            alpha=0.6,
            **style,
        )


def _draw_trained(
    axes: "Axes", row: Row, resource: str, scale: float, colour: str, mark: str
) -> None:
    run = row.entries[0].run
    tested = row.cells[f"test_{run.metric.key}"]
    trained = [entry.resources[resource] for entry in row.entries if entry.results]
    if not isinstance(tested, Sample):
        return
    amount = Sample(tuple(value / scale for value in trained))
    if row.ready_made:
        axes.annotate(
            row.network,
            (amount.mean, run.metric.scale * tested.mean),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=7,
        )
    axes.errorbar(
        amount.mean,
        run.metric.scale * tested.mean,
        xerr=amount.std,
        yerr=None if tested.std is None else run.metric.scale * tested.std,
        fmt=mark,
        color=colour,
        markersize=7,
        capsize=3,
    )


def _legend(colours: Mapping[str, str], marks: Mapping[str, str]) -> list[Line2D]:
    grey = COLOURS[-1]
    front = Line2D([], [], color=grey, marker="o", markersize=4, fillstyle="none", linewidth=1)
    front.set_label("held-out images, shared weights")
    trained = [
        Line2D([], [], color=grey, marker=mark, linestyle="none", label=f"test set, {name}")
        for name, mark in marks.items()
    ]
    strategies = [
        Line2D([], [], color=colour, linewidth=3, label=name)
        for name, colour in colours.items()
    ]
    return [*strategies, front, *trained]
