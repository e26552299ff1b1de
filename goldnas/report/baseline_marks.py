"""Ready-made networks, and networks trained alike, in the charts of the front."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from goldnas.comparison.quantities import Sample
from goldnas.comparison.runs import ComparedRun
from goldnas.report.drawing import COLOURS
from goldnas.searching.baselines import Baseline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FAR = 3
"""Times what the search's own networks cost: beyond that a mark is left out of a chart."""

_FOOT = 0.03
"""Where marks stand whose accuracy nobody knows, as a share of the height."""


@dataclass(frozen=True)
class Mark:
    """A network in a chart."""

    name: str
    """What is written beside it; empty of one of the search."""
    resources: Mapping[str, float]
    test: float | None
    """Its mean on the test set after its trainings, as people read it; None without any."""


def list_shown(run: ComparedRun) -> list[Baseline]:
    """The best few ready-made networks, and those that were trained."""
    if run.baselines is None:
        return []
    best = run.baselines.shown
    return [b for b in run.baselines.within if b in best or run.find_results(b.fingerprint)]


def list_marks(run: ComparedRun) -> list[Mark]:
    """The ready-made networks, and beside them the networks of the search that were trained."""
    shown = list_shown(run)
    marks = [Mark(b.network, b.resources, _test(run, b.fingerprint)) for b in shown]
    if shown:
        found = [Mark("", n.resources, _test(run, n.fingerprint)) for n in run.networks]
        marks += [mark for mark in found if mark.test is not None]
    return marks


def _test(run: ComparedRun, fingerprint: str) -> float | None:
    values = tuple(result.test.value for result in run.find_results(fingerprint))
    return run.metric.scale * Sample(values).mean if values else None


def draw_marks(
    axes: "Axes", marks: Sequence[Mark], resource: str, scale: float, most: float
) -> None:
    """Draw the marks of networks with a known amount of a resource.

    A network that was not trained on this data has a cost but no accuracy: its mark is at the
    foot of the chart. Networks that cost far more than those of the search are left out: else
    the others would shrink to one point. The table has them.

    Args:
        axes: Axes of a chart.
        marks: Marks to draw.
        resource: Resource on the horizontal axis.
        scale: Scale of its unit.
        most: The largest amount of the search's own networks, or their budget.
    """
    colour, place = COLOURS["k3"], axes.get_xaxis_transform()
    style: Any = {"linestyle": "none", "markersize": 7, "color": colour}
    near = [mark for mark in marks if mark.resources.get(resource, math.inf) <= _FAR * most]
    for mark in near:
        x = mark.resources[resource] / scale
        if mark.test is None:
            axes.plot(x, _FOOT, transform=place, marker="^", fillstyle="none", **style)
        else:
            axes.plot(x, mark.test, marker="^" if mark.name else "s", **style)
    middle = sum(axes.get_xlim()) / 2
    for mark in near:
        x = mark.resources[resource] / scale
        left = x <= middle
        axes.annotate(
            mark.name.rpartition("/")[2],
            (x, _FOOT if mark.test is None else mark.test),
            xycoords=place if mark.test is None else "data",
            xytext=(5 if left else -5, 4),
            textcoords="offset points",
            ha="left" if left else "right",
            fontsize=8,
            color=colour,
        )
