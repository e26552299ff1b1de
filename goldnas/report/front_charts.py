"""The charts of the networks that a search recorded: how good they are, and what they cost."""

from collections.abc import Iterator, Sequence

from goldnas.metric import ACCURACY
from goldnas.report.drawing import COLOURS, Chart, draw, label_axes
from goldnas.resource_names import OPERATORS
from goldnas.resources import Budget
from goldnas.searching.front import FrontNetwork
from goldnas.units import choose_unit, list_units


def draw_fronts(networks: Sequence[FrontNetwork], budgets: Sequence[Budget]) -> Iterator[Chart]:
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
        scale, unit = choose_unit(list_units(resource), max(amounts[i] for i in shown))
        points = {i: (amounts[i] / scale, (merits[i] or 0.0) * percent) for i in shown}
        name = f"front-{number}"
        label = unit if resource in unit else f"{resource}, {unit}"
        with draw(name, f"{name_of} against {label}") as drawing:
            axes, groups = drawing.axes, {}
            xs, ys = _stairs([(x, sign * y) for x, y in points.values()])
            axes.plot(xs, [sign * y for y in ys], color=COLOURS["accent"], linewidth=1.2)
            limit = next((b.limit for b in budgets if b.resource == resource), None)
            if limit is not None:
                axes.axvline(limit / scale, color=COLOURS["warn"], dashes=(4, 3), linewidth=1)
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
                        markeredgecolor=COLOURS[colour],
                        markerfacecolor=COLOURS[fill],
                        gid=f"{name}-{group}",
                    )
                    groups[f"{name}-{group}"] = tuple(members)
            axes.margins(x=0.06, y=0.08)
            held_out = f"{name_of}{', %' if name_of == ACCURACY else ''}"
            label_axes(axes, label, f"{held_out} on held-out data" if known else "score")
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
