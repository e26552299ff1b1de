"""How rows of tables are arranged in plots: those of an operator in a panel, or in a line."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from goldnas.errors import in_one_line, show_controls
from goldnas.lut.schema import Valued

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_ROWS = 500
_MOST_OPERATORS = 200
_Item = TypeVar("_Item")
"""A row, or the two of a pair of tables."""


@dataclass(frozen=True)
class Group(Generic[_Item]):
    """The rows of one operator."""

    number: int
    """Over all panels."""
    items: Sequence[_Item]
    places: npt.NDArray[np.float64]
    """``(len(items),)``, from the top."""


@dataclass(frozen=True)
class Panel(Generic[_Item]):
    """What shares a panel of a plot."""

    title: str
    names: Sequence[str]
    """Of the places, from the top."""
    groups: Sequence[Group[_Item]]

    @property
    def in_lines(self) -> bool:
        """Whether an operator is a line of dots: there is no room for more of each row."""
        return len(self.names) < sum(len(group.items) for group in self.groups)

    @property
    def length(self) -> float:
        """In places."""
        return len(self.names) + 1.5

    def name_places(self, axes: "Axes", *, is_log: bool) -> None:
        """Write the names at the places, and the title."""
        names = [in_one_line(name) for name in self.names]
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_ylim(len(names) - 0.25, -0.75)
        axes.set_title(in_one_line(self.title), fontsize=9, loc="left")
        axes.grid(axis="x", alpha=0.3)
        if is_log:  # in plain numbers: 20, not 2 times a power of ten
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(LogFormatter())
            axes.xaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))


def write_plainly(figure: Figure) -> Figure:
    """Let no text of a figure be a formula: names may have dollar signs in them, and worse."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        text.set_text(show_controls(text.get_text()))
    return figure


def arrange(
    by_operator: Mapping[str, Sequence[_Item]],
    row_of: Callable[[_Item], Valued],
) -> list[Panel[_Item]]:
    """A panel for each operator, with a place for each row.

    Of more than 500 rows, one panel for all, with a line for each of the 200 operators that are
    slowest by their median row.
    """
    if sum(map(len, by_operator.values())) <= _MOST_ROWS:
        return [
            Panel(
                operator,
                [row_of(item).site or row_of(item).operator for item in items],
                [Group(number, items, np.arange(len(items), dtype=float))],
            )
            for number, (operator, items) in enumerate(by_operator.items())
        ]

    lines: dict[str, list[_Item]] = {}
    for items in by_operator.values():
        for item in items:
            lines.setdefault(row_of(item).operator, []).append(item)

    def median(operator: str) -> float:
        return statistics.median(row_of(item).cost for item in lines[operator])

    slowest = sorted(lines, key=median, reverse=True)[:_MOST_OPERATORS]
    some = len(slowest) < len(lines)
    title = f"the {len(slowest)} slowest of {len(lines)} operators, " if some else ""
    groups = [
        Group(number, lines[name], np.full(len(lines[name]), number, dtype=float))
        for number, name in enumerate(slowest)
    ]
    return [Panel(f"{title}a dot for each row", slowest, groups)]
