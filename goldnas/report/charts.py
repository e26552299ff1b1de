"""The charts of a report: SVG by matplotlib, in the page's own colours and font.

A page is light or dark, so colours are names of its style sheet; text stays text. Points have
an ``id`` each group, by which the page's script finds them.
"""

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import blended_transform_factory

from goldnas.metric import ACCURACY
from goldnas.report.layout import SpaceLayout
from goldnas.report.timeline import Timeline
from goldnas.resources import OPERATORS, Budget
from goldnas.resources.budget import fitting_unit, units_of
from goldnas.searching.front import FrontNetwork

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KIND_COLOURS = 8
"""Of the style sheet, ``--k0`` and on; kinds beyond begin again."""

_WIDTH, _HEIGHT = 5.0, 3.1  # inches of 72 points: as wide as a phone
_LEFT, _RIGHT = 48 / 360, 0.975
# Colours that no eye sees: the page's own stand in for them.
_PAGE = {
    name: f"#0101{number:02x}"
    for number, name in enumerate(
        ["ink", "muted", "grid", "card", "accent", "warn"]
        + [f"k{i}" for i in range(KIND_COLOURS)]
    )
}
_STYLE = {
    "axes.edgecolor": _PAGE["grid"],
    "axes.labelcolor": _PAGE["muted"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "font.size": 10,
    "svg.fonttype": "none",
    "text.color": _PAGE["ink"],
    "text.parse_math": False,  # names of files may have dollar signs in them
    "xtick.color": _PAGE["grid"],
    "xtick.labelcolor": _PAGE["muted"],
    "ytick.color": _PAGE["grid"],
    "ytick.labelcolor": _PAGE["muted"],
}


@dataclass(frozen=True)
class Chart:
    """One chart of the page."""

    name: str
    """``front-0``, ``time-accuracy``: unique on the page."""
    title: str
    svg: str
    points: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Of each group of marks, by its ``id``, the networks in the order of the marks."""
    axis: tuple[float, float, float, float, float, float] | None = None
    """Left and right end in data and in the SVG's units, its top and bottom: where a cursor
    goes that all charts of the page share."""
    legend: tuple[tuple[str, str], ...] = ()
    """Colour and name of what it shows."""


def front_charts(
    networks: Sequence[FrontNetwork], budgets: Sequence[Budget]
) -> Iterator[Chart]:
    """Accuracy or metric, or the score where nothing was trained, against every resource.

    Args:
        networks: Of the front.
        budgets: Of the search.
    """
    figures = [network.figure for network in networks]
    known = next((figure for figure in figures if figure is not None), None)
    name_of, sign = (known.name, 1 if known.higher_is_better else -1) if known else ("score", 1)
    percent = 100 if name_of == ACCURACY else 1
    resources = [n for n in (networks[0].resources if networks else {}) if n != OPERATORS]
    for number, resource in enumerate(resources):
        merits = [
            (figure and figure.value) if known else network.score
            for network, figure in zip(networks, figures, strict=True)
        ]
        shown = [i for i, merit in enumerate(merits) if merit is not None]
        if not shown:
            return
        amounts = [network.resources[resource] for network in networks]
        scale, unit = fitting_unit(units_of(resource), max(amounts[i] for i in shown))
        points = {i: (amounts[i] / scale, (merits[i] or 0.0) * percent) for i in shown}
        name = f"front-{number}"
        label = unit if resource in unit else f"{resource}, {unit}"
        with _drawn(name, f"{name_of} against {label}") as drawing:
            axes, groups = drawing.axes, {}
            xs, ys = _stairs([(x, sign * y) for x, y in points.values()])
            axes.plot(xs, [sign * y for y in ys], color=_PAGE["accent"], linewidth=1.2)
            limit = next((b.limit for b in budgets if b.resource == resource), None)
            if limit is not None:
                axes.axvline(limit / scale, color=_PAGE["warn"], dashes=(4, 3), linewidth=1)
            for group, colour, fill in (
                ("over", "muted", "card"),
                ("dominated", "accent", "card"),
                ("kept", "accent", "accent"),
            ):
                members = [i for i in shown if _group(networks[i]) == group]
                if members:
                    axes.plot(
                        *zip(*(points[i] for i in members), strict=True),
                        linestyle="none",
                        marker="o",
                        markersize=6.5,
                        markeredgewidth=1.3,
                        markeredgecolor=_PAGE[colour],
                        markerfacecolor=_PAGE[fill],
                        gid=f"{name}-{group}",
                    )
                    groups[f"{name}-{group}"] = tuple(members)
            axes.margins(x=0.06, y=0.08)
            held_out = f"{name_of}{', %' if name_of == ACCURACY else ''}"
            _labelled(axes, label, f"{held_out} on held-out data" if known else "score")
        yield drawing.chart(points=groups)


def _group(network: FrontNetwork) -> str:
    if not network.meets_budgets:
        return "over"
    return "dominated" if network.dominated else "kept"


def _stairs(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """The line of the points that no other one beats in both."""
    xs: list[float] = []
    ys: list[float] = []
    for x, y in sorted(points, key=lambda p: (p[0], -p[1])):
        if not ys or y > ys[-1]:
            if ys:
                xs.append(x)
                ys.append(ys[-1])
            xs.append(x)
            ys.append(y)
    return xs, ys


def time_charts(
    timeline: Timeline, anatomy: SpaceLayout, budgets: Sequence[Budget], metric: str
) -> Iterator[Chart]:
    """How a search went: accuracy, operators, penalty, resources, over the epochs.

    Args:
        timeline: What its log says.
        anatomy: Of the space.
        budgets: Of the search.
        metric: Name of the figure that the log has.
    """
    moments = timeline.moments
    if not timeline.epochs_done and not timeline.gone:
        return
    over = [moment.epochs for moment in moments]
    whole = [m for m in moments if m.figure is not None and not m.went]
    percent = 100 if metric == ACCURACY else 1
    with _timed("time-accuracy", f"{metric} on held-out data", timeline) as drawing:
        drawing.axes.plot(
            [m.epochs for m in whole],
            [percent * (m.figure or 0) for m in whole],
            color=_PAGE["accent"],
            linewidth=1.6,
            marker="o" if len(whole) < 4 else None,
            markersize=4,
        )
        _labelled(drawing.axes, "epochs", "%" if metric == ACCURACY else metric)
    if whole:
        yield drawing.chart()
    if timeline.gone and anatomy.operators:
        yield _by_kind(timeline, anatomy)
        yield _by_part(timeline, anatomy)
    elif timeline.gone:
        with _timed("time-live", "operators that are left", timeline) as drawing:
            known = [(m.epochs, m.live) for m in moments if m.live is not None]
            drawing.axes.step(*zip(*known, strict=True), where="post", color=_PAGE["accent"])
            drawing.axes.set_ylim(bottom=0)
            _labelled(drawing.axes, "epochs", "operators")
        yield drawing.chart()
    limits = {b.resource: b.limit for b in budgets}
    if timeline.gone:
        with _timed(
            "time-resources", "resources, each against its budget", timeline
        ) as drawing:
            names = [name for name in limits if name in moments[0].resources]
            for number, name in enumerate(names):
                shares = [100 * m.resources[name] / limits[name] for m in moments]
                drawing.axes.step(
                    over, shares, where="post", color=_kind(number), linewidth=1.6
                )
            drawing.axes.axhline(100, color=_PAGE["warn"], dashes=(4, 3), linewidth=1)
            drawing.axes.set_ylim(bottom=0)
            _labelled(drawing.axes, "epochs", "% of the budget")
        yield drawing.chart(legend=_legend(names))
    if any(moment.penalty_weight for moment in moments):
        with _timed("time-penalty", "weight of the penalty, λ", timeline) as drawing:
            pressed = [(m.epochs, m.penalty_weight) for m in moments if not m.beyond]
            drawing.axes.plot(*zip(*pressed, strict=True), color=_PAGE["accent"], linewidth=1.6)
            drawing.axes.set_ylim(bottom=0)
            _labelled(drawing.axes, "epochs", "λ")
        yield drawing.chart()


def _by_kind(timeline: Timeline, anatomy: SpaceLayout) -> Chart:
    """How many operators of each kind are left, stacked."""
    gone, moments = timeline.gone, timeline.moments
    counts = [
        [
            sum(
                gone.get(o.name, len(moments)) > now
                for o in anatomy.operators
                if o.kind == kind
            )
            for now in range(len(moments))
        ]
        for kind in anatomy.kinds
    ]
    with _timed("time-kinds", "operators that are left, by kind", timeline) as drawing:
        drawing.axes.stackplot(
            _twice([m.epochs for m in moments])[1:],
            *(_twice(series)[:-1] for series in counts),
            colors=[_kind(number) for number in range(len(counts))],
            linewidth=0,
        )
        drawing.axes.set_ylim(bottom=0)
        _labelled(drawing.axes, "epochs", "operators")
    return drawing.chart(legend=_legend(anatomy.kinds))


def _twice(values: Sequence[float]) -> list[float]:
    """Each value twice: steps, as a line has them."""
    return [value for value in values for _ in range(2)]


def _by_part(timeline: Timeline, anatomy: SpaceLayout) -> Chart:
    """What share of the operators of each cell, or choice, is left: a band for each."""
    gone, moments = timeline.gone, timeline.moments
    end = moments[-1].epochs
    parts = anatomy.parts
    height = max(_HEIGHT, 0.13 * len(parts) + 0.7)
    title = f"share of operators that are left, by {'cell' if anatomy.cells else 'choice'}"
    with _timed("time-parts", title, timeline, height=height) as drawing:
        axes = drawing.axes
        for row, part in enumerate(parts):
            members = [o.name for o in anatomy.operators if o.part == part]
            falls = sorted(moments[gone[name]].epochs for name in members if name in gone)
            began, left = moments[0].epochs, len(members)
            for fall in [*dict.fromkeys(falls), end]:
                if fall > began:
                    axes.broken_barh(
                        [(began, fall - began)],
                        (row - 0.42, 0.84),
                        facecolor=_PAGE["accent"],
                        alpha=left / len(members),
                        linewidth=0,
                    )
                left -= falls.count(fall)
                began = fall
        labels = [p.removeprefix("cell") if anatomy.cells else p for p in parts]
        every = -(-len(parts) // 45)
        axes.set_yticks(range(0, len(parts), every), labels[::every], fontsize=8)
        axes.set_ylim(len(parts) - 0.4, -0.6)
        _labelled(axes, "epochs", "cell" if anatomy.cells else "", rows=True)
    return drawing.chart(legend=(("accent", "all"), ("faint", "few")))


def tried_chart(timeline: Timeline) -> Chart | None:
    """The scores of the networks that a strategy which samples has tried."""
    scores = [(one.number, one.score) for one in timeline.tried if one.score is not None]
    if not scores:
        return None
    best: list[float] = []
    for _, score in scores:
        best.append(max(score, best[-1]) if best else score)
    numbers = [number for number, _ in scores]
    with _drawn("tried", "score of each network that was tried") as drawing:
        drawing.axes.plot(
            *zip(*scores, strict=True),
            linestyle="none",
            marker="o",
            markersize=3.5,
            markeredgewidth=0,
            color=_PAGE["muted"],
        )
        drawing.axes.step(numbers, best, where="post", color=_PAGE["accent"], linewidth=1.6)
        _labelled(drawing.axes, "networks tried", "score")
    return drawing.chart(legend=(("muted", "each"), ("accent", "the best so far")))


# -- drawing -----------------------------------------------------------------------------------


class _Drawing:
    """One figure while it is drawn, and the chart that it becomes."""

    def __init__(self, name: str, title: str, height: float) -> None:
        self.name, self.title = name, title
        self.figure = Figure(figsize=(_WIDTH, height))
        self.axes: Axes = self.figure.add_axes(
            (_LEFT, 0.5 / height, _RIGHT - _LEFT, 1 - 0.62 / height)
        )
        self.svg = ""
        self.over_epochs = False

    def chart(self, **changes: Any) -> Chart:
        axis = None
        if self.over_epochs:
            left, right = self.axes.get_xlim()
            height = self.figure.get_figheight() * 72
            box = self.axes.get_position()
            axis = (
                *(left, right, box.x0 * _WIDTH * 72, box.x1 * _WIDTH * 72),
                *((1 - box.y1) * height, (1 - box.y0) * height),
            )
        return Chart(self.name, self.title, self.svg, axis=axis, **changes)


@contextmanager
def page_style(name: str) -> Iterator[None]:
    """Draw for a page, where no two names are equal."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):  # type: ignore[dict-item]
        yield


@contextmanager
def _drawn(name: str, title: str, height: float = _HEIGHT) -> Iterator[_Drawing]:
    with page_style(name):
        drawing = _Drawing(name, title, height)
        yield drawing
        drawing.svg = inline(drawing.figure, title)


@contextmanager
def _timed(
    name: str, title: str, timeline: Timeline, height: float = _HEIGHT
) -> Iterator[_Drawing]:
    """As :func:`_drawn`, with the epochs from left to right."""
    with _drawn(name, title, height) as drawing:
        drawing.over_epochs = True
        end = timeline.moments[-1].epochs
        drawing.axes.set_xlim(0, end or 1)
        if timeline.trained_until < end:
            drawing.axes.axvline(
                timeline.trained_until, color=_PAGE["grid"], dashes=(2, 2), linewidth=1
            )
        yield drawing


def _labelled(axes: "Axes", x: str, y: str, *, rows: bool = False) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    # At the edge, however wide the numbers are.
    at_edge = blended_transform_factory(axes.figure.transFigure, axes.transAxes)
    axes.yaxis.set_label_coords(9 / 360, 0.5, transform=at_edge)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if not rows:
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(axis="y", color=_PAGE["grid"], linewidth=0.7)
        axes.set_axisbelow(True)


def _kind(number: int) -> str:
    return _PAGE[f"k{number % KIND_COLOURS}"]


def _legend(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    return tuple((f"k{i % KIND_COLOURS}", name) for i, name in enumerate(names))


_HEAD = re.compile(r"^.*?(?=<svg)", re.S)
_METADATA = re.compile(r"<metadata>.*?</metadata>|<style type=.*?</style>", re.S)
_OWN_ID = re.compile(r' id="[A-Za-z][\w.]*_\d+"')
_COLOUR = re.compile(r"(fill|stroke): (#[0-9a-f]{6})(?=[;\"])")


def inline(figure: Figure, title: str, colours: Mapping[str, str] | None = None) -> str:
    """The figure as part of a page: no head, no size of its own, colours by name.

    Args:
        figure: Drawn in :func:`page_style`.
        title: What it shows, for those who do not see it.
        colours: Further ones, as the figure has them, and their names in the style sheet.
    """
    content = io.StringIO()
    nothing: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(content, format="svg", metadata=nothing, transparent=True)
    svg = _METADATA.sub("", _HEAD.sub("", content.getvalue(), count=1))
    head, _, rest = svg.partition(">")
    head = re.sub(r' (width|height|version|xmlns(:xlink)?)="[^"]*"', "", head)
    head += f' role="group" aria-label="{escape(title)}"'
    names = {colour: name for name, colour in _PAGE.items()} | dict(colours or {})

    def named(match: re.Match[str]) -> str:
        name = names.get(match[2])
        return f"{match[1]}: var(--{name})" if name else match[0]

    return _COLOUR.sub(named, _OWN_ID.sub("", f"{head}>{rest}"))
