"""Drawing charts for a page: SVG by matplotlib, in the page's own colours and font.

A page is light or dark, so colours are names of its style sheet; text stays text. Each group of
points has an ``id``, by which the page's script finds it.
"""

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import blended_transform_factory

from goldnas.errors import show_controls
from goldnas.lut.plot_panels import write_plainly
from goldnas.report.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KIND_COLOURS = 8
"""Of the style sheet, ``--k0`` and on; kinds beyond begin again."""

_WIDTH, CHART_HEIGHT = 5.0, 3.1  # inches of 72 points: as wide as a phone
_LEFT, _RIGHT = 48 / 360, 0.975
# Colours that no eye sees: the page's own stand in for them.
COLOURS = {
    name: f"#0101{number:02x}"
    for number, name in enumerate(
        ["ink", "muted", "grid", "card", "accent", "warn"]
        + [f"k{i}" for i in range(KIND_COLOURS)]
    )
}
_STYLE = {
    "axes.edgecolor": COLOURS["grid"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "font.size": 10,
    "svg.fonttype": "none",
    "text.color": COLOURS["ink"],
    "text.parse_math": False,  # names of files may have dollar signs in them
    "xtick.color": COLOURS["grid"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.color": COLOURS["grid"],
    "ytick.labelcolor": COLOURS["muted"],
}


@dataclass(frozen=True)
class Chart:
    """One chart of the page."""

    name: str
    """``front-0``, ``time-accuracy``: unique on the page."""
    title: str
    svg: str
    points: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """For each group of marks, by its ``id``, the networks in the order of the marks."""
    axis: tuple[float, float, float, float, float, float] | None = None
    """Left and right end in data and in the SVG's units, its top and bottom: where a cursor
    goes that all charts of the page share."""
    legend: tuple[tuple[str, str], ...] = ()
    """Colour and name of what it shows."""


class Drawing:
    """One figure while it is drawn, and the chart that it becomes."""

    def __init__(self, name: str, title: str, height: float) -> None:
        self.name, self.title = name, title
        self.figure = Figure(figsize=(_WIDTH, height))
        self.axes: Axes = self.figure.add_axes(
            (_LEFT, 0.5 / height, _RIGHT - _LEFT, 1 - 0.62 / height)
        )
        self.svg = ""
        self.over_epochs = False

    def make_chart(self, **changes: Any) -> Chart:
        """What it became; further fields of the chart by name."""
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
def use_page_style(name: str) -> Iterator[None]:
    """Draw for a page, where no two names are equal."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):  # type: ignore[dict-item]
        yield


@contextmanager
def draw(name: str, title: str, height: float = CHART_HEIGHT) -> Iterator[Drawing]:
    """Draw one figure, which is complete at the end of the block.

    Args:
        name: Name of the chart.
        title: Title of the chart.
        height: In inches.
    """
    with use_page_style(name):
        drawing = Drawing(name, title, height)
        yield drawing
        drawing.svg = inline_svg(drawing.figure, title)


@contextmanager
def draw_over_epochs(
    name: str, title: str, timeline: Timeline, height: float = CHART_HEIGHT
) -> Iterator[Drawing]:
    """As :func:`draw`, with the epochs from left to right."""
    with draw(name, title, height) as drawing:
        drawing.over_epochs = True
        end = timeline.moments[-1].epochs
        drawing.axes.set_xlim(0, end or 1)
        if timeline.trained_until < end:
            drawing.axes.axvline(
                timeline.trained_until, color=COLOURS["grid"], dashes=(2, 2), linewidth=1
            )
        yield drawing


def label_axes(axes: "Axes", x: str, y: str, *, rows: bool = False) -> None:
    """Name both axes, and set their ticks; those of rows are named already."""
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
        axes.grid(axis="y", color=COLOURS["grid"], linewidth=0.7)
        axes.set_axisbelow(True)


def pick_colour(number: int) -> str:
    """The colour of a kind of operators, by its number."""
    return COLOURS[f"k{number % KIND_COLOURS}"]


def list_legend(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The legend of kinds in the order of their numbers."""
    return tuple((f"k{i % KIND_COLOURS}", name) for i, name in enumerate(names))


_HEAD = re.compile(r"^.*?(?=<svg)", re.S)
_METADATA = re.compile(r"<metadata>.*?</metadata>|<style type=.*?</style>", re.S)
_OWN_ID = re.compile(r' id="[A-Za-z][\w.]*_\d+"')
_COLOUR = re.compile(r"(fill|stroke): (#[0-9a-f]{6})(?=[;\"])")


def inline_svg(figure: Figure, title: str, colours: Mapping[str, str] | None = None) -> str:
    """The figure as part of a page: no head, no size of its own, colours by name.

    Args:
        figure: Drawn in :func:`use_page_style`.
        title: Description for readers who do not see the chart.
        colours: Further ones, as the figure has them, and their names in the style sheet.
    """
    write_plainly(figure)
    content = io.StringIO()
    nothing: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(content, format="svg", metadata=nothing, transparent=True)
    svg = _METADATA.sub("", _HEAD.sub("", content.getvalue(), count=1))
    head, _, rest = svg.partition(">")
    head = re.sub(r' (width|height|version|xmlns(:xlink)?)="[^"]*"', "", head)
    head += f' role="group" aria-label="{escape(show_controls(title))}"'
    names = {colour: name for name, colour in COLOURS.items()} | dict(colours or {})

    def named(match: re.Match[str]) -> str:
        name = names.get(match[2])
        return f"{match[1]}: var(--{name})" if name else match[0]

    return _COLOUR.sub(named, _OWN_ID.sub("", f"{head}>{rest}"))
