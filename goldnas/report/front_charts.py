"""The charts of a search's recorded networks: metric against cost."""

from collections.abc import Iterator, Mapping, Sequence

from goldnas.metric import MetricKind
from goldnas.report.baseline_marks import Mark, draw_marks
from goldnas.report.drawing import COLOURS, Chart, draw, label_axes
from goldnas.resource_names import OPERATORS
from goldnas.resources import Budget
from goldnas.searching.front import FrontNetwork
from goldnas.units import choose_unit, list_units, name_axis

_SCORE = MetricKind("score")
"""What a search without training ranks networks by."""

_MARKS = {
    "over": ("muted", "card"),
    "dominated": ("accent", "card"),
    "kept": ("accent", "accent"),
}
"""The colours of the edge and of the inside of a mark, by the group of its network."""


def draw_fronts(
    networks: Sequence[FrontNetwork], budgets: Sequence[Budget], marks: Sequence[Mark] = ()
) -> Iterator[Chart]:
    """Draw the metric, or the score if nothing was trained, against every resource.

    Args:
        networks: Networks of the front.
        budgets: Budgets of the search.
        marks: Further marks for charts of the metric.
    """
    kind = next((n.figure.kind for n in networks if n.figure is not None), _SCORE)
    values = [network.score if kind is _SCORE else _value(network) for network in networks]
    known = {
        network: kind.scale * value for network, value in enumerate(values) if value is not None
    }
    if not known:
        return
    limits = {budget.resource: budget.limit for budget in budgets}
    resources = [name for name in networks[0].resources if name != OPERATORS]
    for number, resource in enumerate(resources):
        name = f"front-{number}"
        shown = () if kind is _SCORE else marks
        yield _draw_front(name, networks, known, kind, resource, limits.get(resource), shown)


def _value(network: FrontNetwork) -> float | None:
    return None if network.figure is None else network.figure.value


def _draw_front(
    name: str,
    networks: Sequence[FrontNetwork],
    values: Mapping[int, float],
    kind: MetricKind,
    resource: str,
    limit: float | None,
    marks: Sequence[Mark],
) -> Chart:
    """Draw the networks that have a value, by their number, against one resource."""
    amounts = {number: networks[number].resources[resource] for number in values}
    scale, unit = choose_unit(list_units(resource), max(amounts.values()))
    points = {number: (amounts[number] / scale, value) for number, value in values.items()}
    label = name_axis(resource, unit)
    groups: dict[str, tuple[int, ...]] = {}
    with draw(name, f"{kind.name} against {label}") as drawing:
        axes, sign = drawing.axes, 1 if kind.higher_is_better else -1
        xs, ys = _stairs([(x, sign * y) for x, y in points.values()])
        axes.plot(xs, [sign * y for y in ys], color=COLOURS["accent"], linewidth=1.2)
        if limit is not None:
            axes.axvline(limit / scale, color=COLOURS["warn"], dashes=(4, 3), linewidth=1)
        for group, (edge, inside) in _MARKS.items():
            members = [number for number in values if _group(networks[number]) == group]
            if members:
                axes.plot(
                    *zip(*(points[number] for number in members), strict=True),
                    linestyle="none",
                    marker="o",
                    markersize=6.5,
                    markeredgewidth=1.3,
                    markeredgecolor=COLOURS[edge],
                    markerfacecolor=COLOURS[inside],
                    gid=f"{name}-{group}",
                )
                groups[f"{name}-{group}"] = tuple(members)
        draw_marks(axes, marks, resource, scale, max([*amounts.values(), limit or 0.0]))
        axes.margins(x=0.06, y=0.08)
        label_axes(axes, label, "score" if kind is _SCORE else f"{kind.axis} on held-out data")
    return drawing.make_chart(points=groups)


def _group(network: FrontNetwork) -> str:
    if not network.meets_budgets:
        return "over"
    return "dominated" if network.dominated else "kept"


def _stairs(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """The line of the points that no other point beats in both."""
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
