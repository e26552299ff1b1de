"""A search as one HTML file that loads nothing else: no script, font or image."""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from goldnas.errors import count_of
from goldnas.report.baseline_marks import list_marks, list_shown
from goldnas.report.content import Content
from goldnas.report.course_charts import draw_course, draw_tried
from goldnas.report.drawing import Chart
from goldnas.report.front_charts import draw_fronts
from goldnas.report.search_call import SearchCall, write_call
from goldnas.report.template import fill_template
from goldnas.resource_names import OPERATORS, name_latency
from goldnas.resources import Budget
from goldnas.searching.front import FrontNetwork
from goldnas.spaces.space import CellLayout
from goldnas.units import format_amount

Wording = Callable[[SearchCall], tuple[str, Mapping[str, Any]]]
"""The text that repeats a search, and the settings that the text cannot give."""


def make_report(
    path: Path,
    *,
    trust: bool = False,
    wording: Wording = lambda call: (str(call), {}),
    message: Callable[[str], str] = str,
) -> str:
    """The report of the search in a folder.

    Args:
        path: Path of the folder.
        trust: Whether the code of its space may run, whoever made the folder.
        wording: Writes the call that repeats the search; by default in Python.
        message: Writes the reason for a missing section; by default as in errors.

    Raises:
        RunError: If the path is not the folder of a search, or the folder is damaged.
    """
    content = Content.read(path, trust=trust)
    network = content.run.environment.get("network")
    told = network if isinstance(network, str) else None
    command, without_options = wording(write_call(content.run.config, path, told))
    charts = {
        "front": list(draw_fronts(content.networks, content.budgets, list_marks(content.run))),
        "time": list(
            draw_course(content.timeline, content.layout, content.budgets, content.metric)
        ),
        "tried": [chart for chart in [draw_tried(content.timeline)] if chart is not None],
    }
    return fill_template(
        "search.html",
        "report.js",
        maker="goldnas report",
        data=_data(content, [chart for of in charts.values() for chart in of]),
        charts=charts,
        content=content,
        name=path.resolve().name,
        best=_facts_of_best(content),
        merit=_merit(content.run.best) if content.run.best else "",
        measured=list(_measured(content)),
        baselines=list(_baselines(content)),
        command=command,
        without_options=without_options,
        message=message,
        amount=format_amount,
        duration=format_duration,
    )


def format_duration(seconds: float) -> str:
    """``1:02:03``: hours, minutes, seconds."""
    return str(timedelta(seconds=round(seconds)))


# -- what the script needs -----------------------------------------------------------------


def _data(content: Content, charts: list[Chart]) -> dict[str, Any]:
    layout, gone = content.layout, content.timeline.gone
    kinds, parts = layout.kinds, layout.parts
    return {
        "networks": [
            _network(content, network, layout.mark_kept(architecture))
            for network, architecture in zip(
                content.networks, content.architectures, strict=True
            )
        ],
        "metric": content.metric.name,
        "best": next(
            (i for i, n in enumerate(content.networks) if n == content.run.best), None
        ),
        "kinds": kinds,
        "parts": parts,
        "operators": [
            [o.place, kinds.index(o.kind), parts.index(o.part), o.site]
            for o in layout.operators
        ],
        "groups": layout.groups,
        "cells": layout.cells and _drawn_cells(layout.cells),
        "costs": [
            {
                "table": costs.table,
                "kind": costs.kind,
                "operators": [_shortened(cost) for cost in costs.operators],
                "fixed": [[name, count, _shortened(cost)] for name, count, cost in costs.fixed],
            }
            for costs in layout.costs
        ],
        "gone": [gone.get(o.name) for o in layout.operators],
        "moments": [
            {
                "x": round(moment.epochs, 4),
                "text": _told(content, moment_number),
                "beyond": moment.beyond,
            }
            for moment_number, moment in enumerate(content.timeline.moments)
        ],
        "charts": {
            chart.name: {
                "points": chart.points,
                "axis": chart.axis and [round(v, 3) for v in chart.axis],
            }
            for chart in charts
        },
    }


def _shortened(cost: float) -> float:
    """A cost with as many digits as a page can show."""
    return float(f"{cost:.7g}")


def _drawn_cells(layout: CellLayout) -> dict[str, Any]:
    """The cells to draw: all of them, or one of each kind if cells are shared."""
    cells = {f"cell{cell}": cell for cell in range(len(layout.reductions))}
    if layout.shared:
        kinds = {"normal": False, "reduce": True}
        present = {kind: value for kind, value in kinds.items() if value in layout.reductions}
        cells = {kind: layout.reductions.index(value) for kind, value in present.items()}
    return {
        "names": list(cells),
        "reductions": [layout.reductions[cell] for cell in cells.values()],
        "concat": [layout.concat[cell] for cell in cells.values()],
        "nodes": layout.nodes,
    }


def _network(content: Content, network: FrontNetwork, kept: str) -> dict[str, Any]:
    return {
        "id": network.fingerprint,
        "merit": _merit(network),
        "amounts": {
            name: format_amount(name, amount) for name, amount in network.resources.items()
        },
        "when": f"epoch {network.epoch + 1}: " * (network.step > 0)
        + ", ".join(network.reasons),
        "meets": network.meets_budgets,
        "dominated": network.dominated,
        "tested": _tested(content, network.fingerprint),
        "kept": kept,
    }


def _tested(content: Content, fingerprint: str) -> list[str]:
    return [
        f"{r.test.text} ({r.recipe}, {count_of(r.epochs, 'epoch')}, seed {r.seed})"
        for r in content.run.find_results(fingerprint)
    ]


def _merit(network: FrontNetwork) -> str:
    if network.figure is not None:
        return network.figure.text
    return "untrained" if network.score is None else f"score {network.score:.5g}"


def _told(content: Content, number: int) -> str:
    """One moment in one line."""
    moment = content.timeline.moments[number]
    limits = {budget.resource: budget.limit for budget in content.budgets}
    words = [f"epoch {moment.epochs:.4g}"]
    if moment.figure is not None:
        metric = content.metric.with_value(moment.figure)
        words.append(f"{metric.name} {metric.text}")
    if moment.live is not None:
        words.append(count_of(moment.live, "operator"))
    if moment.went:
        count = len(moment.went)
        what = moment.went[0] if count == 1 else f"{count} operators"
        words.append(f"{what} just removed")
    for name, amount in moment.resources.items():
        share = f" ({100 * amount / limits[name]:.0f} % of budget)" if name in limits else ""
        if name != OPERATORS:
            words.append(f"{name} {format_amount(name, amount)}{share}")
    if moment.penalty_weight:
        words.append(f"λ {moment.penalty_weight:.2g}")
    return " · ".join(words)


# -- what the template needs ---------------------------------------------------------------


def _facts_of_best(content: Content) -> list[dict[str, Any]]:
    """The amounts of the best network, each beside its budget."""
    best = content.run.best
    if best is None:
        return []
    limits: dict[str, Budget] = {b.resource: b for b in content.budgets}
    facts = []
    for name, amount in best.resources.items():
        budget = limits.get(name)
        if name == OPERATORS:
            continue
        share = None if budget is None else amount / budget.limit
        facts.append(
            {
                "name": name,
                "amount": format_amount(name, amount),
                "budget": "no budget"
                if budget is None
                else f"{100 * amount / budget.limit:.0f} % of "
                f"{format_amount(name, budget.limit)}",
                "share": share,
            }
        )
    return facts


def _measured(content: Content) -> Iterator[dict[str, str]]:
    """The measurements of goldnas export, network by network."""
    for network in content.networks:
        for table, measurement in content.run.measured[network.fingerprint].tables.items():
            error = measurement.predicted_us / measurement.measured_us - 1
            resource = name_latency(table)
            yield {
                "network": network.fingerprint,
                "table": table,
                "predicted": format_amount(resource, measurement.predicted_us),
                "measured": format_amount(resource, measurement.measured_us),
                "error": f"{100 * error:+.1f} %",
                "how": f"{measurement.precision} on {measurement.machine}, "
                f"{measurement.measured_at:%Y-%m-%d}",
            }


def _baselines(content: Content) -> Iterator[dict[str, str]]:
    """The best few ready-made networks, and all trained ones."""
    for one in list_shown(content.run):
        flops, params, latency = (format_amount(n, a) for n, a in one.resources.items())
        yield {
            "network": one.network,
            "measured": f"{latency} ({one.table})",
            "flops": flops,
            "params": params,
            "tested": ", ".join(_tested(content, one.fingerprint)) or "not trained",
            "elsewhere": one.told_accuracy,
        }
