"""A plot of the results of searches among all networks with known figures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from goldnas.comparison.rows import Comparison
from goldnas.comparison.runs import ComparedRun
from goldnas.comparison.truth import BAND, Figures, Judge, Truth
from goldnas.errors import ConfigError
from goldnas.lut.plot import COLOURS
from goldnas.lut.plot_panels import write_plainly
from goldnas.units import choose_unit, list_units, name_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW = 1000
"""Networks that are drawn one by one; of more, a band says where they are."""
_FEWEST = 10
"""Networks that have quantiles."""
_STEPS = 200
"""Amounts, at most, that the band is computed at."""
_GREY, _MIDDLE, _LIGHT = COLOURS[-1], "#888888", "#cccccc"


def draw_truth(comparison: Comparison) -> Figure:
    """Draw the true figures of networks against the resource of a comparison.

    There is a panel for each figure and each space. Known networks are grey: up to a thousand
    as single marks, more as the median and the 10 to 90 % quantiles among the networks at 90 to
    100 % of each amount. The line above is the best network up to each amount; dotted lines are
    budgets. Filled marks are the best networks of the searches, and hollow marks the other
    recorded networks, in a colour for each strategy.

    Args:
        comparison: A comparison with a truth.

    Raises:
        ConfigError: If the comparison has no truth, or no search has recorded a network.
    """
    truth, spaces = comparison.truth, _group_by_space(comparison)
    if truth is None or not spaces:
        raise ConfigError(
            "no search has recorded a network yet, so there is no truth to draw; wait for the "
            "first"
        )
    strategies = dict.fromkeys(run.config.strategy for run in comparison.runs)
    colours = {name: COLOURS[i % (len(COLOURS) - 1)] for i, name in enumerate(strategies)}
    panels = [(judge, runs, column) for judge, runs in spaces for column in truth.columns]
    wide = min(2, len(panels))
    high = -(-len(panels) // wide)
    size = (8, 5.5) if len(panels) == 1 else (6 * wide, 4 * high + 1.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(high, wide, squeeze=False).flat
    for axes, (judge, runs, column) in zip(grid, panels, strict=False):
        _draw_panel(axes, judge, runs, column, comparison.resource, colours)
        if len(spaces) > 1:
            axes.set_title(judge.space.call, fontsize=7, wrap=True)
    for axes in grid[len(panels) :]:
        axes.remove()
    figure.suptitle(_write_title(comparison, truth), fontsize=9)
    handles = _legend(colours, band=len(truth.lines) > _FEW)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
    return write_plainly(figure)


def _group_by_space(comparison: Comparison) -> list[tuple[Judge, list[ComparedRun]]]:
    """Searches of which the known networks cost the same, and the judge of the first."""
    groups: dict[bytes, tuple[Judge, list[ComparedRun]]] = {}
    for run in comparison.runs:
        if run.judge is not None:
            amounts = run.judge.amounts[comparison.resource]
            groups.setdefault(amounts.tobytes(), (run.judge, []))[1].append(run)
    return list(groups.values())


def _draw_panel(
    axes: "Axes",
    judge: Judge,
    runs: Sequence[ComparedRun],
    column: str,
    resource: str,
    colours: Mapping[str, str],
) -> None:
    amounts = judge.amounts[resource]
    figures = judge.truth.figures[:, judge.truth.columns.index(column)]
    scale, unit = choose_unit(list_units(resource), float(amounts.max()))
    _draw_known(axes, amounts / scale, figures)
    for limit in {run.budgets[resource] for run in runs if resource in run.budgets}:
        axes.axvline(limit / scale, color=_GREY, linestyle=":", linewidth=1)
    shown = [
        value
        for run in runs
        for value in _draw_found(axes, run, column, resource, scale, colours)
    ]
    # Networks far cheaper than the budget may be far worse: the axis ends above them.
    bands = [figures[run.judge.band] for run in runs if run.judge is not None]
    shown += [float(np.quantile(band, 0.1)) for band in bands if len(band)]
    if shown and min(shown) < figures.max():
        lowest, highest = min(shown), float(figures.max())
        margin = 0.05 * (highest - lowest)
        axes.set_ylim(lowest - margin, highest + margin)
    axes.set_xlabel(name_axis(resource, unit))
    axes.set_ylabel(f"true {column}")
    axes.grid(alpha=0.3)


def _draw_known(axes: "Axes", amounts: Figures, figures: Figures) -> None:
    """All networks, or where they are, and the best."""
    order = np.argsort(amounts, kind="stable")
    best = np.maximum.accumulate(figures[order])
    axes.step(amounts[order], best, where="post", color=_GREY, linewidth=1)
    if len(amounts) <= _FEW:
        axes.plot(amounts, figures, ".", color=_LIGHT, markersize=5, zorder=1)
    else:
        at, (low, median, high) = find_band(amounts, figures)
        axes.fill_between(at, low, high, color=_LIGHT, alpha=0.5, linewidth=0)
        axes.plot(at, median, color=_MIDDLE, linewidth=1)


def find_band(amounts: Figures, figures: Figures) -> tuple[Figures, Figures]:
    """Quantiles of a figure among networks at 90 to 100 % of each amount.

    Args:
        amounts: ``(N,)``, of a resource.
        figures: ``(N,)``.

    Returns:
        The amounts ``(M,)``, and the 10, 50 and 90 % quantiles ``(3, M)`` there; NaN where few
        networks are.
    """
    at = np.unique(amounts)
    if len(at) > _STEPS:
        at = np.unique(np.quantile(amounts, np.linspace(0, 1, _STEPS), method="nearest"))
    quantiles = np.full((3, len(at)), np.nan)
    for number, amount in enumerate(at):
        near = figures[(amounts <= amount) & (amounts >= BAND * amount)]
        if len(near) >= _FEWEST:
            quantiles[:, number] = np.quantile(near, (0.1, 0.5, 0.9))
    return at, quantiles


def _draw_found(
    axes: "Axes",
    run: ComparedRun,
    column: str,
    resource: str,
    scale: float,
    colours: Mapping[str, str],
) -> Iterator[float]:
    """Draw the networks of a search that are known, and yield their figures."""
    colour = colours[run.config.strategy]
    best: Any = {"markersize": 8, "markeredgecolor": "white", "zorder": 4}
    other: Any = {"markersize": 4, "fillstyle": "none", "zorder": 3}
    for network in run.networks:
        judged = run.judged.get(network.fingerprint, {})
        if column in judged:
            amount, value = network.resources[resource] / scale, judged[column].value
            style = best if network == run.best else other
            axes.plot(amount, value, "o", color=colour, **style)
            yield value


def _write_title(comparison: Comparison, truth: Truth) -> str:
    searches = "1 search" if len(comparison.runs) == 1 else f"{len(comparison.runs)} searches"
    title = f"{comparison.data}, {searches}, {len(truth.lines):,} networks of {truth.path.name}"
    lacking = [r for r in comparison.runs if r.best and not r.judged.get(r.best.fingerprint)]
    if not lacking:
        return title
    return f"{title}\nthe best network of {len(lacking)} of them has no known truth"


def _legend(colours: Mapping[str, str], *, band: bool) -> list[Line2D | Patch]:
    """The legend of all panels: networks of searches, then known networks."""
    found: dict[str, Any] = {"marker": "o", "linestyle": "none"}
    near = f"of all networks at {100 * BAND:.0f} to 100 % of the cost"
    known: list[Line2D | Patch] = [
        Line2D(
            [],
            [],
            color=_LIGHT,
            marker=".",
            markersize=5,
            linestyle="none",
            label="known networks",
        )
    ]
    if band:
        known = [
            Line2D([], [], color=_MIDDLE, linewidth=1, label=f"median {near}"),
            Patch(color=_LIGHT, alpha=0.5, label="10 to 90 % of them"),
        ]
    return [
        *(
            Line2D([], [], color=colour, markersize=8, label=f"{name}, best", **found)
            for name, colour in colours.items()
        ),
        Line2D(
            [], [], color=_GREY, markersize=4, fillstyle="none", label="also recorded", **found
        ),
        *known,
        Line2D([], [], color=_GREY, linewidth=1, label="optimum up to the cost"),
        Line2D([], [], color=_GREY, linewidth=1, linestyle=":", label="budget"),
    ]
