"""Draw the plots of the concepts: python docs/images/draw.py.

They show a search that this script runs, seconds of the digits, the 50 networks of
``docs/results/latency-accuracy.json``, the layer of ``docs/results/shrink-latency.json``, and
the run of ``docs/results/verified.json``. Colours follow the page that shows them, light or
dark. To show another run, with what its export printed:

    goldnas export runs/a --out net.onnx > export.txt
    python docs/images/draw.py --run runs/a --printed export.txt --note "how it was run"
"""

import argparse
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from goldnas.searching.config import SearchConfig
from goldnas.searching.front import Front
from goldnas.searching.start import PreparedSearch
from goldnas.searching.strategies.gold_planned import ImportancePruning
from goldnas.supernet import SuperNet

HERE = Path(__file__).parent
VERIFIED = HERE.parent / "results" / "verified.json"
BUDGET = "130kFLOPs"
EPOCHS = 20
NODE = (1, 4)  # cell and node whose gates are shown
GATE = "\u00d7 \u03c3(\u03b1)"

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
INK, MUTED, GRID, BLUE, ORANGE, GREEN, PINK = (
    drawn for drawn, _, _ in COLOURS.values()
)
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
    """What a search did, step by step to its last epoch, and what it came to."""

    places: list[object]
    """Of every gate, the node that sums it."""
    operators: list[str]
    """Of every gate."""
    costs: np.ndarray
    """FLOPs of every gate, ``(G,)``."""
    fixed_flops: float
    budget: float
    epochs: list[float]
    gates: list[np.ndarray]
    """sigma(alpha), ``(G,)``, nan where removed."""
    flops: list[float]
    chosen_at: float
    """Epochs before the choice."""
    importance: np.ndarray
    """``(G,)``."""
    kept: np.ndarray
    """``(G,)``, what the choice left."""
    front: Front


def watched(folder: Path, epochs: int = EPOCHS) -> Course:
    """Run the search, and write down its gates as it goes."""
    config = SearchConfig(
        cells=3,
        channels=4,
        budgets=(BUDGET,),
        epochs=epochs,
        batch_size=64,
        train_device="cpu",
        threads=1,
        seed=0,
    )
    prepared = PreparedSearch(config, [])
    prepared.check_feasible()
    loop = prepared.start(folder)
    strategy, supernet = loop.strategy, loop.learner.module
    assert isinstance(strategy, ImportancePruning)
    assert isinstance(supernet, SuperNet)
    cost = prepared.feasibility.costs["FLOPs"]
    (budget,) = prepared.feasibility.budgets
    moments: list[float] = []
    gates: list[np.ndarray] = []
    flops: list[float] = []

    def watch(event: str, fields: dict[str, object]) -> None:
        if event not in ("start", "step") or loop.step > strategy.planned:
            return
        active = strategy.learner.mask
        moments.append(loop.step / loop.steps_per_epoch)
        gates.append(np.where(active, supernet.gates().detach().numpy(), np.nan))
        flops.append(cost.total(active))

    loop.events.observer = watch
    front = loop.train()
    assert strategy.removals is not None
    kept = np.ones(len(prepared.data.space.gates), dtype=bool)
    kept[[index for _, index in strategy.removals]] = False
    return Course(
        places=[gate.node_id for gate in prepared.data.space.gates],
        operators=[gate.operator for gate in prepared.data.space.gates],
        costs=cost.gates,
        fixed_flops=cost.fixed,
        budget=budget.limit,
        epochs=moments,
        gates=gates,
        flops=flops,
        chosen_at=strategy.first / loop.steps_per_epoch,
        importance=strategy.gates.importance(),
        kept=kept,
        front=front,
    )


@contextmanager
def plot(
    name: str, width: float, height: float, panels: int = 1
) -> Iterator[list[Axes]]:
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
    svg = re.sub(
        r"(font(?:-family)?: [^;\"]*)'DejaVu Sans'[^;\"]*", r"\1sans-serif", svg
    )
    svg = re.sub(r"'DejaVu Sans Mono'[^;\"]*", "ui-monospace,monospace", svg)
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
    # A tenth of a point is fine enough for places, and not for the figures of a text.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d)\d+", r"\1", tag[0]), svg)
    return re.sub(r"\s+", " ", svg).strip() + "\n"


def draw_gates(course: Course) -> None:
    """An edge with its gates, and the gates of one node through a search."""
    with plot("gates", 9.0, 3.3, 2) as (edge, node):
        _draw_node(edge)
        epochs, gates = np.array(course.epochs), np.array(course.gates)
        of_node = [
            gate for gate, place in enumerate(course.places) if place == NODE
        ]
        going = [gate for gate in of_node if not course.kept[gate]]
        for gate in going:
            fading = (epochs >= course.chosen_at) & ~np.isnan(gates[:, gate])
            colour = OPERATORS[course.operators[gate]]
            node.plot(
                epochs[fading], gates[fading, gate], color=colour, linewidth=1.4
            )
            end = np.flatnonzero(fading)[-1]
            node.plot(
                epochs[end],
                gates[end, gate],
                "x",
                color=INK,
                clip_on=False,
                zorder=3,
            )
        # All gates before the choice, and then those that stay, are one line.
        staying = next(gate for gate in of_node if course.kept[gate])
        node.plot(epochs, gates[:, staying], color=INK, linewidth=1.4)
        node.text(0.3, 0.51, f"all {len(of_node)} are equal")
        stay = f"{len(of_node) - len(going)} stay"
        node.text(epochs[-1], 0.51, stay, horizontalalignment="right")
        _mark_choice(node, course)
        node.set_title("the gates \u03c3(\u03b1) of one node, until removed (x)")
        node.set_xlabel("epochs")
        node.set_xlim(0, epochs[-1])
        node.set_ylim(0, 0.6)


def _mark_choice(axes: Axes, course: Course) -> None:
    """A line where the search chooses what will be left."""
    axes.axvline(course.chosen_at, color=GREEN, dashes=(1, 2), linewidth=1.2)
    at = (course.chosen_at - 0.3, 0.04)
    across = axes.get_xaxis_transform()
    axes.text(
        *at,
        "the choice",
        color=GREEN,
        transform=across,
        horizontalalignment="right",
    )


def _draw_node(axes: Axes) -> None:
    """Two states, the operators between them and a node, and their gates."""
    axes.set_title("a node sums its operators, each scaled by its gate")
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 6)
    axes.axis("off")
    circle = {
        "boxstyle": "circle,pad=0.35",
        "facecolor": "none",
        "edgecolor": MUTED,
    }
    for y, state in ((4.6, "x₀"), (1.4, "x₁")):
        axes.text(0.7, y, state, ha="center", va="center", bbox=circle)
        for shift, (operator, colour) in zip(
            (0.75, -0.75), OPERATORS.items(), strict=True
        ):
            box = {
                "boxstyle": "round,pad=0.35",
                "facecolor": "none",
                "edgecolor": colour,
            }
            axes.text(
                3.6,
                y + shift,
                operator,
                ha="center",
                va="center",
                bbox=box,
                fontsize=9,
            )
            axes.text(6.4, y + shift, GATE, ha="center", va="center", color=colour)
            arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.1}
            axes.annotate("", (2.1, y + shift), (1.2, y), arrowprops=arrow)
            axes.annotate("", (5.6, y + shift), (5.1, y + shift), arrowprops=arrow)
            end = (8.75, 3 + shift / 4 + (y - 3) / 5)
            axes.annotate("", end, (7.2, y + shift), arrowprops=arrow)
    axes.text(9.3, 3, "Σ", ha="center", va="center", fontsize=13, bbox=circle)


def draw_pruning(course: Course) -> None:
    """What was chosen by which importance, and FLOPs that fall to the budget."""
    with plot("pruning", 9.0, 3.3, 2) as (worth, falling):
        order = np.argsort(-course.importance)
        heights = course.importance[order] / course.importance.mean()
        kept, free = course.kept[order], course.costs[order] == 0
        for which, fill, edge, label in (
            (kept, BLUE, BLUE, "stays"),
            (~kept & ~free, MUTED, MUTED, "goes"),
            (~kept & free, "none", MUTED, "goes, and costs no FLOPs"),
        ):
            at = np.flatnonzero(which)
            worth.bar(at, heights[at], 0.6, color=fill, edgecolor=edge, label=label)
        worth.legend(loc="upper right")
        worth.set_title("importance when chosen, relative to the mean")
        worth.set_xlabel(f"the {len(order)} operators")
        worth.set_xticks([])
        worth.margins(x=0.01)
        falling.plot(course.epochs, np.array(course.flops) / 1e3, color=BLUE)
        for amount, colour, text, label in (
            (course.flops[0], None, BLUE, "what is left"),
            (course.budget, ORANGE, ORANGE, "budget"),
            (course.fixed_flops, GRID, MUTED, "what every network has"),
        ):
            if colour is not None:
                falling.axhline(amount / 1e3, color=colour, dashes=(4, 3))
            falling.text(0.3, amount / 1e3 + 4, label, color=text)
        _mark_choice(falling, course)
        falling.set_title("kFLOPs")
        falling.set_xlabel("epochs")
        falling.set_xlim(0, course.epochs[-1])
        falling.set_ylim(0, 1.12 * course.flops[0] / 1e3)


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
            "on the front": (
                BLUE,
                BLUE,
                lambda n: n.meets_budgets and not n.dominated,
            ),
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
        axes.axvline(
            course.budget / 1e3, color=ORANGE, dashes=(4, 3), label="budget"
        )
        axes.legend(loc="upper center", fontsize=9)
        axes.set_title("one search, all its networks")
        axes.set_xlabel("kFLOPs")
        axes.set_ylabel("accuracy on held-out images, %")


def keep_verified(run: Path, printed: Path, note: str) -> None:
    """Write down what the picture of a run shows: its networks, and the check of its export.

    Args:
        run: Folder of a search with one budget, in milliseconds.
        printed: What ``goldnas export`` printed.
        note: The commands, the machine, and what else a reader should know.
    """
    front = json.loads((run / "front.json").read_text())
    text = printed.read_text()
    fingerprint = re.search(r"^network (\w+)", text, re.MULTILINE)
    verify = re.search(
        r"^verify: .*(?: )([\d.]+) (us|ms) measured.*$", text, re.MULTILINE
    )
    if fingerprint is None or verify is None:
        raise SystemExit(
            f"{printed} has no line of a network or no line `verify:` of a latency"
        )
    ((latency, budget_us),) = front["budgets"].items()
    kept = {
        "note": note,
        "latency": latency,
        "budget_us": budget_us,
        "exported": fingerprint[1],
        "measured_us": float(verify[1]) * {"us": 1, "ms": 1e3}[verify[2]],
        "printed": verify[0],
        "networks": [
            {
                name: network[name]
                for name in ("fingerprint", "accuracy", "resources", "reasons")
            }
            | {name: network[name] for name in ("meets_budgets", "dominated")}
            for network in front["networks"]
        ],
    }
    VERIFIED.write_text(json.dumps(kept, indent=1) + "\n")


def draw_verified() -> None:
    """The networks of a run by their latency, and the check of the one that was exported."""
    kept = json.loads(VERIFIED.read_text())
    latency = kept["latency"]
    (chosen,) = (
        n for n in kept["networks"] if n["fingerprint"] == kept["exported"]
    )
    with plot("verified", 5.2, 4.1) as (axes,):
        for label, colour, fill, networks in (
            ("over the budget", MUTED, "none", _of(kept, meets=False)),
            ("within the budget", BLUE, BLUE, _of(kept, meets=True)),
        ):
            axes.plot(
                [n["resources"][latency] / 1e3 for n in networks],
                [100 * n["accuracy"] for n in networks],
                linestyle="none",
                marker="o",
                markeredgecolor=colour,
                markerfacecolor=fill,
                label=label,
            )
        style: dict[str, Any] = {
            "linestyle": "none",
            "marker": "D",
            "markersize": 7,
            "color": GREEN,
        }
        at = kept["measured_us"] / 1e3, 100 * chosen["accuracy"]
        axes.plot(*at, label="exported and measured", **style)
        axes.axvline(
            kept["budget_us"] / 1e3, color=ORANGE, dashes=(4, 3), label="budget"
        )
        axes.legend(loc="best", fontsize=9)
        axes.set_title("one search, all its networks")
        axes.set_xlabel("latency on this processor, ms")
        axes.set_ylabel("accuracy on held-out images, %")
        # The line is too long for a phone.
        text: dict[str, Any] = {
            "family": "monospace",
            "fontsize": 8.5,
            "transform": axes.transAxes,
        }
        first, rest = kept["printed"].split(" measured, ")
        verdict = first.split()[1]
        colour = {"PASS": GREEN, "FAIL": ORANGE}.get(verdict, MUTED)
        axes.text(
            0, -0.23, f"{first} measured,".replace("  ", " "), color=colour, **text
        )
        axes.text(0, -0.295, rest, color=INK, **text)


def _of(kept: dict[str, Any], *, meets: bool) -> list[dict[str, Any]]:
    """The networks of a run within its budget, or those over it."""
    return [n for n in kept["networks"] if n["meets_budgets"] is meets]


def draw_tables() -> None:
    """Predictions of whole networks: operators timed alone, and as goldnas measures them."""
    results = json.loads(
        (HERE.parent / "results" / "latency-accuracy.json").read_text()
    )
    first = results["repetitions"][0]
    measured = np.array(first["measured_us"])
    with plot("tables", 5.2, 3.3) as (axes,):
        for key, colour, label in (
            ("isolated sums", ORANGE, "operators timed alone, added up"),
            ("goldnas", BLUE, "table of goldnas"),
        ):
            off = 100 * (np.array(first["predicted_us"][key]) / measured - 1)
            axes.plot(
                measured / 1e3, off, "o", color=colour, markersize=4, label=label
            )
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.legend(loc="center right")
        axes.set_title("predictions of 50 networks")
        axes.set_xlabel("measured, ms")
        axes.set_ylabel("off by, %")


def draw_widths() -> None:
    """Latency of one layer at every width, by steps of one channel."""
    results = json.loads(
        (HERE.parent / "results" / "shrink-latency.json").read_text()
    )
    step = results["step"]
    widths = np.array([int(width) for width in results["widths_us"]])
    us = np.array(list(results["widths_us"].values()))
    whole = widths % step == 0
    with plot("widths", 5.2, 3.3) as (axes,):
        axes.plot(widths, us, color=MUTED, linewidth=1.2, label="every width")
        label = f"multiples of {step}"
        axes.plot(
            widths[whole], us[whole], "o", color=BLUE, markersize=6, label=label
        )
        axes.legend(loc="upper left")
        axes.set_title("latency of one layer, us")
        axes.set_xlabel("channels")
        axes.set_xticks(range(widths[0], widths[-1] + 1, step // 2))
        axes.set_ylim(0, 1.15 * us.max())


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="search to show from now on")
    parser.add_argument(
        "--printed", type=Path, help="what its goldnas export printed"
    )
    parser.add_argument("--note", default="", help="how it was run")
    given = parser.parse_args()
    if given.run is not None:
        keep_verified(given.run, given.printed, given.note)
        draw_verified()
        return
    draw_verified()
    draw_tables()
    draw_widths()
    with tempfile.TemporaryDirectory() as folder:
        course = watched(Path(folder) / "run")
    draw_gates(course)
    draw_pruning(course)
    draw_front(course)


if __name__ == "__main__":
    main()
