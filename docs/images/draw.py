"""Draw the plots of the concepts: python docs/images/draw.py.

They show a search that this script runs, seconds of the digits, and the
50 networks of ``docs/results/latency-accuracy.json``. Colours follow the page that shows them,
light or dark.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from goldnas.searching.config import SearchConfig
from goldnas.searching.front import Front
from goldnas.searching.schedules import LinearBudgetSchedule
from goldnas.searching.start import PreparedSearch
from goldnas.searching.strategies.gold import GradualSearch

HERE = Path(__file__).parent
BUDGET = "130kFLOPs"
EPOCHS = 20
NODE = (1, 3)  # cell and node whose gates are shown
GATE = "\u00d7 \u03c3(\u03b1)"
EVERY = 4  # steps between two points of a line

# A name of the style, what stands for it while matplotlib draws, and what it is in a light and
# in a dark page.
COLOURS = {
    "ink": ("#010100", "#1d2126", "#e8eaed"),
    "muted": ("#010101", "#5c646e", "#a3acb6"),
    "grid": ("#010102", "#d0d4d9", "#4a525b"),
    "blue": ("#010103", "#0072b2", "#66b8f0"),
    "orange": ("#010104", "#c25400", "#f08a3c"),
    "green": ("#010105", "#00875f", "#3fc796"),
    "pink": ("#010106", "#b5548f", "#e08fc0"),
}
INK, MUTED, GRID, BLUE, ORANGE, GREEN, PINK = (drawn for drawn, _, _ in COLOURS.values())
OPERATORS = {"sep_conv_3x3": BLUE, "skip_connect": ORANGE}
STYLE = {
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.facecolor": "none",
    "font.size": 10,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "goldnas",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.color": GRID,
    "ytick.labelcolor": MUTED,
}


@dataclass
class Course:
    """What a search did, moment by moment."""

    epochs: list[float]
    weights: list[np.ndarray]
    """K w~ of every gate, ``(G,)``, 0 where pruned."""
    flops: list[float]
    plan: list[float]
    nodes: list[object]
    """Of every gate, where it is summed."""
    operators: list[str]
    fixed_flops: float
    budget: float
    front: Front


def watched(folder: Path) -> Course:
    """Run the search, and write down its gates as it goes."""
    config = SearchConfig(
        cells=3,
        channels=4,
        budgets=(BUDGET,),
        epochs=EPOCHS,
        batch_size=64,
        train_device="cpu",
        threads=1,
        seed=0,
    )
    prepared = PreparedSearch(config, [])
    prepared.check_feasible()
    search = prepared.start(folder)
    assert isinstance(search, GradualSearch)
    assert isinstance(search.pace, LinearBudgetSchedule)
    pace, cost = search.pace, search.feasibility.costs["FLOPs"]
    gates = search.data.space.gates
    (budget,) = search.feasibility.budgets
    course = Course(
        epochs=[],
        weights=[],
        flops=[],
        plan=[],
        nodes=[gate.node_id for gate in gates],
        operators=[gate.operator for gate in gates],
        fixed_flops=cost.fixed,
        budget=budget.limit,
        front=Front(budgets={}),
    )

    def watch(event: str, fields: dict[str, object]) -> None:
        if event != "step" or search.step > EPOCHS * search.steps_per_epoch:
            return
        if search.step % EVERY:
            return
        course.epochs.append(search.step / search.steps_per_epoch)
        course.weights.append(search.supernet.relative_weights().detach().numpy().copy())
        course.flops.append(cost.total(search.active))
        full = pace.full["FLOPs"]
        allowed = pace.allowed(search.step)["FLOPs"] if search.step > pace.first else full
        course.plan.append(allowed)

    search.observer = watch
    course.front = search.search()
    return course


@contextmanager
def plot(name: str, width: float, height: float, panels: int = 1) -> Iterator[list[Axes]]:
    """Panels to draw on, side by side; then the file."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, panels, squeeze=False)[0]
        yield [*axes]
        path = HERE / f"{name}.svg"
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    path.write_text(dressed(path.read_text()))


def dressed(svg: str) -> str:
    """The page's colours and font in place of those that matplotlib drew with."""
    for name, (drawn, _, _) in COLOURS.items():
        svg = svg.replace(drawn, f"var(--{name})")
    svg = re.sub(r"(font(?:-family)?: [^;\"]*)'DejaVu Sans'[^;\"]*", r"\1sans-serif", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    light, dark = (
        ";".join(f"--{name}:{shades[which]}" for name, shades in COLOURS.items())
        for which in (1, 2)
    )
    style = (
        f"<style>:root{{color-scheme:light dark;{light}}}"
        f"@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
        "text{font-family:system-ui,sans-serif}</style>"
    )
    svg = re.sub(r"(<svg [^>]*>)", rf"\1{style}", svg, count=1)
    svg = re.sub(r"(\d\.\d)\d+", r"\1", svg)  # a tenth of a point is fine enough
    return re.sub(r"\s+", " ", svg).strip() + "\n"


def draw_gates(course: Course) -> None:
    """An edge with its gates, and the gates of one node through a search."""
    with plot("gates", 9.0, 3.3, 2) as (edge, node):
        _draw_node(edge)
        weights = np.array(course.weights)
        for gate, of in enumerate(course.nodes):
            if of != NODE:
                continue
            alive = weights[:, gate] > 0
            node.plot(
                np.array(course.epochs)[alive],
                weights[alive, gate],
                color=OPERATORS[course.operators[gate]],
                linewidth=1.4,
            )
            if not alive.all():
                last = np.flatnonzero(alive)[-1]
                node.plot(
                    course.epochs[last],
                    weights[last, gate],
                    marker="x",
                    color=INK,
                    markersize=6,
                )
        node.axhline(1, color=GRID, linewidth=0.8)
        node.set_title("the gates of one node, K w̃, until they are pruned (x)")
        node.set_xlabel("epochs")
        node.set_ylim(bottom=0)


def _draw_node(axes: Axes) -> None:
    """Two states, the operators between them and a node, and their gates."""
    axes.set_title("a node sums its operators, each scaled by its gate")
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 6)
    axes.axis("off")
    circle = {"boxstyle": "circle,pad=0.35", "facecolor": "none", "edgecolor": MUTED}
    for y, state in ((4.6, "x₀"), (1.4, "x₁")):
        axes.text(0.7, y, state, ha="center", va="center", bbox=circle)
        for shift, (operator, colour) in zip((0.75, -0.75), OPERATORS.items(), strict=True):
            box = {"boxstyle": "round,pad=0.35", "facecolor": "none", "edgecolor": colour}
            axes.text(3.6, y + shift, operator, ha="center", va="center", bbox=box, fontsize=9)
            axes.text(6.4, y + shift, GATE, ha="center", va="center", color=colour)
            arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.1}
            axes.annotate("", (2.1, y + shift), (1.2, y), arrowprops=arrow)
            axes.annotate("", (5.6, y + shift), (5.1, y + shift), arrowprops=arrow)
            end = (8.75, 3 + shift / 4 + (y - 3) / 5)
            axes.annotate("", end, (7.2, y + shift), arrowprops=arrow)
    axes.text(9.3, 3, "Σ", ha="center", va="center", fontsize=13, bbox=circle)


def draw_pruning(course: Course) -> None:
    """Operators that fade and go, and FLOPs that follow their plan."""
    with plot("pruning", 9.0, 3.3, 2) as (fading, falling):
        epochs, weights = np.array(course.epochs), np.array(course.weights)
        for gate in range(weights.shape[1]):
            alive = weights[:, gate] > 0
            stays = alive[-1]
            fading.plot(
                epochs[alive],
                weights[alive, gate],
                color=BLUE if stays else MUTED,
                linewidth=0.9 if stays else 0.6,
                alpha=0.9 if stays else 0.55,
            )
        fading.plot([], [], color=BLUE, label="stays")
        fading.plot([], [], color=MUTED, label="was pruned")
        fading.legend(loc="lower left")
        fading.set_title("every gate, relative to the mean of its node (K w̃)")
        fading.set_xlabel("epochs")
        fading.set_ylim(bottom=0)
        for amounts, colour, label in (
            (course.plan, GREEN, "plan"),
            (course.flops, BLUE, "network"),
        ):
            falling.plot(epochs, np.array(amounts) / 1e3, color=colour, label=label)
        falling.axhline(course.budget / 1e3, color=ORANGE, dashes=(4, 3), label="budget")
        falling.axhline(course.fixed_flops / 1e3, color=GRID, label="what every network has")
        falling.legend(loc="lower left", bbox_to_anchor=(0, 0.1))
        falling.set_title("kFLOPs")
        falling.set_xlabel("epochs")
        falling.set_ylim(bottom=0)


def draw_front(course: Course) -> None:
    """The networks that one search left."""
    with plot("front", 5.2, 3.3) as (axes,):
        groups = {
            "over the budget": (MUTED, "none", lambda n: not n.meets_budgets),
            "another one is better and cheaper": (
                BLUE,
                "none",
                lambda n: n.meets_budgets and n.dominated,
            ),
            "on the front": (BLUE, BLUE, lambda n: n.meets_budgets and not n.dominated),
        }
        for label, (colour, fill, belongs) in groups.items():
            points = [
                (n.resources["FLOPs"] / 1e3, 100 * (n.accuracy or 0))
                for n in course.front.networks
                if belongs(n)
            ]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    linestyle="none",
                    marker="o",
                    markeredgecolor=colour,
                    markerfacecolor=fill,
                    label=label,
                )
        axes.axvline(course.budget / 1e3, color=ORANGE, dashes=(4, 3), label="budget")
        axes.legend(loc="lower right", fontsize=9)
        axes.set_title("one search, all its networks")
        axes.set_xlabel("kFLOPs")
        axes.set_ylabel("accuracy on held-out images, %")


def draw_tables() -> None:
    """Predictions of whole networks: operators timed alone, and as goldnas measures them."""
    results = json.loads((HERE.parent / "results" / "latency-accuracy.json").read_text())
    first = results["repetitions"][0]
    measured = np.array(first["measured_us"])
    with plot("tables", 5.2, 3.3) as (axes,):
        for key, colour, label in (
            ("isolated sums", ORANGE, "operators timed alone, added up"),
            ("goldnas", BLUE, "table of goldnas"),
        ):
            off = 100 * (np.array(first["predicted_us"][key]) / measured - 1)
            axes.plot(measured / 1e3, off, "o", color=colour, markersize=4, label=label)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.legend(loc="center right")
        axes.set_title("predictions of 50 networks")
        axes.set_xlabel("measured, ms")
        axes.set_ylabel("off by, %")


def main() -> None:
    """Draw all of them."""
    draw_tables()
    with tempfile.TemporaryDirectory() as folder:
        course = watched(Path(folder) / "run")
    draw_gates(course)
    draw_pruning(course)
    draw_front(course)


if __name__ == "__main__":
    main()
