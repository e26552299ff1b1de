"""The charts of a search's course, over its epochs or the networks that it tried."""

from collections.abc import Iterator, Sequence

from goldnas.metric import MetricKind
from goldnas.report.drawing import (
    CHART_HEIGHT,
    COLOURS,
    Chart,
    draw,
    draw_over_epochs,
    label_axes,
    list_legend,
    pick_colour,
)
from goldnas.report.layout import SpaceLayout
from goldnas.report.timeline import Timeline
from goldnas.resources import Budget


def draw_course(
    timeline: Timeline, layout: SpaceLayout, budgets: Sequence[Budget], metric: MetricKind
) -> Iterator[Chart]:
    """Draw accuracy, operators, resources and penalty over the epochs, if the log has them.

    Args:
        timeline: The log of the search.
        layout: Layout of the space.
        budgets: Budgets of the search.
        metric: Metric of the log.
    """
    if not timeline.epochs_done and not timeline.gone:
        return
    if any(moment.figure is not None and not moment.went for moment in timeline.moments):
        yield _draw_metric(timeline, metric)
    if timeline.gone and layout.operators:
        yield _draw_kinds(timeline, layout)
        yield _draw_parts(timeline, layout)
    elif timeline.gone:
        yield _draw_count(timeline)
    if timeline.gone:
        yield _draw_resources(timeline, budgets)
    if any(moment.penalty_weight for moment in timeline.moments):
        yield _draw_penalty(timeline)


def _draw_metric(timeline: Timeline, metric: MetricKind) -> Chart:
    """The super-network on all held-out data, after each epoch."""
    whole = [m for m in timeline.moments if m.figure is not None and not m.went]
    with draw_over_epochs(
        "time-accuracy", f"{metric.name} on held-out data", timeline
    ) as drawing:
        drawing.axes.plot(
            [m.epochs for m in whole],
            [metric.scale * (m.figure or 0) for m in whole],
            color=COLOURS["accent"],
            linewidth=1.6,
            marker="o" if len(whole) < 4 else None,
            markersize=4,
        )
        label_axes(drawing.axes, "epochs", metric.label)
    return drawing.make_chart()


def _draw_kinds(timeline: Timeline, layout: SpaceLayout) -> Chart:
    """How many operators of each kind are left, stacked."""
    gone, moments = timeline.gone, timeline.moments
    counts = [
        [
            sum(
                gone.get(o.name, len(moments)) > now for o in layout.operators if o.kind == kind
            )
            for now in range(len(moments))
        ]
        for kind in layout.kinds
    ]
    title = "operators that are left, by kind"
    with draw_over_epochs("time-kinds", title, timeline) as drawing:
        drawing.axes.stackplot(
            _twice([m.epochs for m in moments])[1:],
            *(_twice(series)[:-1] for series in counts),
            colors=[pick_colour(number) for number in range(len(counts))],
            linewidth=0,
        )
        drawing.axes.set_ylim(bottom=0)
        label_axes(drawing.axes, "epochs", "operators")
    return drawing.make_chart(legend=list_legend(layout.kinds))


def _twice(values: Sequence[float]) -> list[float]:
    """Each value twice: steps, as a line has them."""
    return [value for value in values for _ in range(2)]


def _draw_parts(timeline: Timeline, layout: SpaceLayout) -> Chart:
    """What share of the operators of each cell, or choice, is left: a band for each."""
    gone, moments = timeline.gone, timeline.moments
    end = moments[-1].epochs
    parts = layout.parts
    height = max(CHART_HEIGHT, 0.13 * len(parts) + 0.7)
    title = f"share of operators that are left, by {'cell' if layout.cells else 'choice'}"
    with draw_over_epochs("time-parts", title, timeline, height=height) as drawing:
        axes = drawing.axes
        for row, part in enumerate(parts):
            members = [o.name for o in layout.operators if o.part == part]
            falls = sorted(moments[gone[name]].epochs for name in members if name in gone)
            began, left = moments[0].epochs, len(members)
            for fall in [*dict.fromkeys(falls), end]:
                if fall > began:
                    axes.broken_barh(
                        [(began, fall - began)],
                        (row - 0.42, 0.84),
                        facecolor=COLOURS["accent"],
                        alpha=left / len(members),
                        linewidth=0,
                    )
                left -= falls.count(fall)
                began = fall
        labels = [p.removeprefix("cell") if layout.cells else p for p in parts]
        every = -(-len(parts) // 45)
        axes.set_yticks(range(0, len(parts), every), labels[::every], fontsize=8)
        axes.set_ylim(len(parts) - 0.4, -0.6)
        label_axes(axes, "epochs", "cell" if layout.cells else "", rows=True)
    return drawing.make_chart(legend=(("accent", "all"), ("faint", "few")))


def _draw_count(timeline: Timeline) -> Chart:
    """How many operators are left, where the space is not at hand."""
    known = [(m.epochs, m.live) for m in timeline.moments if m.live is not None]
    with draw_over_epochs("time-live", "operators that are left", timeline) as drawing:
        drawing.axes.step(*zip(*known, strict=True), where="post", color=COLOURS["accent"])
        drawing.axes.set_ylim(bottom=0)
        label_axes(drawing.axes, "epochs", "operators")
    return drawing.make_chart()


def _draw_resources(timeline: Timeline, budgets: Sequence[Budget]) -> Chart:
    """Each budgeted resource as a share of its budget."""
    moments = timeline.moments
    epochs = [moment.epochs for moment in moments]
    known = {b.resource: b.limit for b in budgets if b.resource in moments[0].resources}
    title = "resources, each against its budget"
    with draw_over_epochs("time-resources", title, timeline) as drawing:
        for number, (name, limit) in enumerate(known.items()):
            shares = [100 * moment.resources[name] / limit for moment in moments]
            drawing.axes.step(
                epochs, shares, where="post", color=pick_colour(number), linewidth=1.6
            )
        drawing.axes.axhline(100, color=COLOURS["warn"], dashes=(4, 3), linewidth=1)
        drawing.axes.set_ylim(bottom=0)
        label_axes(drawing.axes, "epochs", "% of the budget")
    return drawing.make_chart(legend=list_legend(known))


def _draw_penalty(timeline: Timeline) -> Chart:
    weights = [(m.epochs, m.penalty_weight) for m in timeline.moments if not m.beyond]
    with draw_over_epochs("time-penalty", "weight of the penalty, λ", timeline) as drawing:
        drawing.axes.plot(*zip(*weights, strict=True), color=COLOURS["accent"], linewidth=1.6)
        drawing.axes.set_ylim(bottom=0)
        label_axes(drawing.axes, "epochs", "λ")
    return drawing.make_chart()


def draw_tried(timeline: Timeline) -> Chart | None:
    """Draw the scores of the networks that a strategy which samples has tried."""
    scores = [(one.number, one.score) for one in timeline.tried if one.score is not None]
    if not scores:
        return None
    best: list[float] = []
    for _, score in scores:
        best.append(max(score, best[-1]) if best else score)
    numbers = [number for number, _ in scores]
    with draw("tried", "score of each network that was tried") as drawing:
        drawing.axes.plot(
            *zip(*scores, strict=True),
            linestyle="none",
            marker="o",
            markersize=3.5,
            markeredgewidth=0,
            color=COLOURS["muted"],
        )
        drawing.axes.step(numbers, best, where="post", color=COLOURS["accent"], linewidth=1.6)
        label_axes(drawing.axes, "networks tried", "score")
    return drawing.make_chart(legend=(("muted", "each"), ("accent", "the best so far")))
