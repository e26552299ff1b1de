"""What searches find, among networks whose true figures are known.

    python benchmarks/search_truth.py --data data/cifar10.npz --truth FILE.csv --out runs/truth

A search sees little: a small network of the space, and 5,000 images of few pixels. What it
finds is looked up in the CSV file (columns ``architecture`` and a figure), so nothing is
trained. Without the file the table has what needs none: the use of the budget, the largest
drop of accuracy in one pruning, the seconds. --space takes any space of a function; of those
that are not in SIZES below, give --small, --side and --budgets.

Budgets are those of the whole network, whose operators cost other shares than those of a small
one. So a search is charged what each operator costs in the whole network, by a table in which
1 us stands for 1,000 FLOPs.

Beside the strategies there are rows of a random network at 90 to 100 % of the budget, of the
mean of the largest that fit, and of the optimum. A search that is done is not run again, and
one that was interrupted goes on. Prints a table and writes every result to --report.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import goldnas
from goldnas.comparison.history import count_seconds, list_drops
from goldnas.comparison.truth import Judge, Truth
from goldnas.lut.schema import Interpolated, make_unstated_conditions
from goldnas.resources import Costs, Flops, compute_costs
from goldnas.spaces import FUNCTIONS, SearchSpace, is_reference, make_space

FLOPS_PER_US = 1000
STRATEGIES: dict[str, dict[str, Any]] = {
    "gold": {"epochs": 120},
    "one-shot": {"epochs": 10},
    "darts1": {"epochs": 10},
    "darts2": {"epochs": 10},
    "random": {"epochs": 10, "networks": 100},
    "evolution": {"epochs": 10, "networks": 200},
    "tpe": {"epochs": 10, "networks": 200},
}


@dataclass(frozen=True)
class Sizes:
    """What a search sees of a space."""

    small: dict[str, Any]
    """Settings of the network that is searched; the others are those of the whole one."""
    side: int
    """Of its images, in pixels."""
    images: int = 5000
    epochs: int | None = None
    """Of every strategy, in place of its own."""


SIZES = {
    "nasbench201": Sizes({"channels": 8, "cells": 1, "affine": False}, 16),
    "nasbench-macro": Sizes({"channels": 8, "head": 64, "affine": False}, 32),
}
BUDGETS: dict[str, tuple[float | None, ...]] = {
    "nasbench201": (None, 118, 55.03),
    "nasbench-macro": (30, 40, 50, 60, 80),
}
"""MFLOPs of the whole network."""


@dataclass(frozen=True)
class Task:
    """The whole space, the small one that is searched, and its data."""

    whole: SearchSpace
    small: SearchSpace
    costs: Costs
    """FLOPs of the whole networks."""
    data: dict[str, np.ndarray]
    epochs: int | None

    @classmethod
    def prepare(cls, space: str, sizes: Sizes, path: Path) -> "Task":
        """Load the images, and make both spaces for them."""
        data = prepare_data(path, sizes)
        colours, classes = data["x_train"].shape[3], int(data["y_train"].max()) + 1
        whole = make_space(space, classes=classes)
        shape = (colours, sizes.side, sizes.side)
        small = make_space(space, classes=classes, input_shape=shape, **sizes.small)
        if [(g.place, g.key) for g in small.gates] != [(g.place, g.key) for g in whole.gates]:
            sys.exit(f"the small networks of {space} have other choices: {sizes.small}")
        return cls(
            whole, small, compute_costs(whole, Flops(whole.build_part)), data, sizes.epochs
        )

    def charge(self, path: Path) -> goldnas.LatencyTable:
        """A table by which a small network costs what the whole one does."""
        rows: dict[tuple[str, str], float] = {}
        groups = [(self.small.fixed_parts, self.costs.fixed)]
        groups += [
            (g.parts, c) for g, c in zip(self.small.gates, self.costs.gates, strict=True)
        ]
        for parts, flops in groups:
            for operator, site in parts:
                us = float(flops) / len(parts) / FLOPS_PER_US
                if not np.isclose(rows.setdefault((operator, str(site)), us), us):
                    sys.exit(f"{operator} at {site} costs more in one place than in another")
        table = goldnas.LatencyTable(
            make_unstated_conditions(
                "none", protocol="FLOPs", statistic="of the whole network"
            ),
            tuple(
                Interpolated(operator=operator, site=site, latency_us=us, source="FLOPs")
                for (operator, site), us in rows.items()
            ),
            path,
        )
        table.save()
        return table

    def encode(self, choices: dict[str, list[str]]) -> str:
        """The number of the candidate that is kept, for each choice."""
        keys: dict[str, list[str]] = {}
        for gate in self.whole.gates:
            keys.setdefault(gate.place, []).append(gate.key)
        return "".join(str(keys[place].index(choices[place][0])) for place in keys)


def prepare_data(path: Path, sizes: Sizes) -> dict[str, np.ndarray]:
    """The first images of a dataset, made smaller by means over squares."""
    with np.load(path) as arrays:
        data = {name: arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    for part, count in (("train", sizes.images), ("test", 1000)):
        images, side = data[f"x_{part}"][:count], sizes.side
        factor = images.shape[1] // side
        squares = images.reshape(len(images), side, factor, side, factor, images.shape[3])
        data[f"x_{part}"] = squares.mean(axis=(2, 4)).round().astype(np.uint8)
        data[f"y_{part}"] = data[f"y_{part}"][:count].astype(np.int64)
    return data


def run_search(
    task: Task, name: str, budget: float | None, seed: int, out: Path
) -> dict[str, Any]:
    """One search, or what it came to before."""
    folder = out / f"{name}-{_told(budget)}-s{seed}"
    result = folder / "result.json"
    if result.exists():
        return dict(json.loads(result.read_text()))
    if (folder / "config.json").exists():
        run = goldnas.load_run(folder, data=task.data).resume()
    else:
        settings = STRATEGIES[name] | ({"epochs": task.epochs} if task.epochs else {})
        limit = [] if budget is None else [f"{budget / FLOPS_PER_US!r}us"]
        run = goldnas.search(
            task.small,
            data=task.data,
            budgets=limit,
            tables=[task.charge(out / "flops.json")] if limit else [],
            single=True,
            strategy=name,
            seed=seed,
            train_device="cpu",
            threads=1,
            workers=0,
            batch_size=128,
            out=folder,
            **settings,
        )
    events = run.read_events()
    choices = run.best.architecture.choices
    kept = np.array([gate.key in choices[gate.place] for gate in task.whole.gates])
    found = {
        "strategy": name,
        "budget": budget,
        "seed": seed,
        "choices": {place: list(keys) for place, keys in choices.items()},
        "flops": task.costs.total(kept),
        "largest_drop": max(list_drops(events), default=None),
        "seconds": count_seconds(events),
    }
    result.write_text(json.dumps(found))
    return found


def judge_all(results: list[dict[str, Any]], truth: Truth, whole: SearchSpace) -> None:
    """Add to each result what the truth says of it; nothing where it is not known."""
    for result in results:
        judge = make_judge(truth, whole, result["budget"])
        chosen = (g for g in whole.gates if g.key in result["choices"][g.place])
        for judged in judge.place(whole.architecture(chosen)).values():
            result |= {
                "accuracy": judged.value,
                "rank": judged.rank,
                "percentile": judged.percentile,
                "regret": judged.regret,
            }


def make_judge(truth: Truth, whole: SearchSpace, budget: float | None) -> Judge:
    """Of whole networks within a budget."""
    return Judge(truth, whole, [] if budget is None else [f"{budget:.0f}FLOPs"])


def list_references(
    truth: Truth, whole: SearchSpace, budgets: Iterable[float | None]
) -> Iterator[dict[str, Any]]:
    """What is free: a random network of the cost, the largest that fit; and the optimum."""
    figures = truth.figures[:, 0]
    for budget in budgets:
        judge = make_judge(truth, whole, budget)
        flops = judge.amounts["FLOPs"]
        largest = judge.within & (flops == flops[judge.within].max())
        yield {
            "budget": budget,
            "random": float(figures[judge.band].mean()) if judge.band.any() else None,
            "largest": float(figures[largest].mean()),
            "optimum": float(figures[judge.within].max()),
        }


def print_table(
    results: list[dict[str, Any]], references: list[dict[str, Any]], figure: str | None
) -> None:
    """A row for each budget and strategy; with a truth, three more for each budget."""
    judged = (figure, "regret", "percentile") if figure else ()
    columns = ("budget", "strategy", "searches", *judged)
    columns += ("budget used, %", "largest drop, points", "seconds")
    print(f"| {' | '.join(columns)} |")
    print("| --- " * len(columns) + "|")
    for budget in dict.fromkeys(result["budget"] for result in results):
        for name in dict.fromkeys(result["strategy"] for result in results):
            rows = [r for r in results if (r["strategy"], r["budget"]) == (name, budget)]
            used = [100 * r["flops"] / budget for r in rows] if budget else []
            drops = [100 * r["largest_drop"] for r in rows if r["largest_drop"] is not None]
            known = ("accuracy", "regret", "percentile") if figure else ()
            cells = [_mean(r[key] for r in rows if r.get(key) is not None) for key in known]
            cells += [_mean(used), _mean(drops), _mean(r["seconds"] for r in rows)]
            print(f"| {_told(budget)} | {name} | {len(rows)} | {' | '.join(cells)} |")
        for reference in (r for r in references if r["budget"] == budget):
            for key, label in LABELS.items():
                value = reference[key]
                told = "-" if value is None else f"{value:.2f}"
                regret = "-" if value is None else f"{reference['optimum'] - value:.2f}"
                print(f"| {_told(budget)} | ({label}) | | {told} | {regret} | | | | |")


LABELS = {
    "random": "random of the cost",
    "largest": "largest that fit",
    "optimum": "optimum",
}


def _told(budget: float | None) -> str:
    return "none" if budget is None else f"{budget / 1e6:g}M"


def _mean(values: Iterable[float]) -> str:
    listed = list(values)
    if len(listed) < 2:
        return f"{listed[0]:.2f}" if listed else "-"
    return f"{statistics.fmean(listed):.2f} ± {statistics.stdev(listed):.2f}"


def _mflops(text: str) -> float | None:
    return None if text == "none" else float(text)


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, json.loads(value)


def check_settings(out: Path, settings: dict[str, Any]) -> None:
    """Keep what the searches of a folder have in common; end if it holds others."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "settings.json"
    if path.exists() and json.loads(path.read_text()) != settings:
        sys.exit(f"{out} holds searches with other settings ({path}); choose another --out")
    path.write_text(json.dumps(settings, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Search, look up, print."""
    spaces = sorted(name for name in FUNCTIONS if not is_reference(name))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="nasbench201", choices=spaces)
    parser.add_argument("--data", type=Path, required=True, help="an .npz of CIFAR-10")
    parser.add_argument("--truth", type=Path, help="CSV file; its first figure counts")
    parser.add_argument("--column", help="the figure that counts instead")
    parser.add_argument("--out", type=Path, required=True, help="folder of all searches")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--budgets", nargs="+", type=_mflops, metavar="MFLOPS", help="or none, for no budget"
    )
    parser.add_argument(
        "--small",
        nargs="*",
        type=_setting,
        metavar="NAME=VALUE",
        help="settings of the network that is searched",
    )
    parser.add_argument("--side", type=int, help="of its images, in pixels")
    parser.add_argument("--images", type=int, help="to search with")
    parser.add_argument("--epochs", type=int, help="of every strategy")
    parser.add_argument("--report", type=Path)
    given = parser.parse_args(arguments)

    changes = {name: getattr(given, name) for name in ("side", "images", "epochs")}
    changes |= {"small": None if given.small is None else dict(given.small)}
    usual = asdict(SIZES.get(given.space, Sizes({}, 32)))
    sizes = Sizes(**usual | {k: v for k, v in changes.items() if v is not None})
    mflops = given.budgets or BUDGETS.get(given.space, (None,))
    budgets = [None if one is None else 1e6 * one for one in mflops]
    torch.set_num_threads(1)
    truth = given.truth and Truth.read(given.truth, [given.column] if given.column else ())
    task = Task.prepare(given.space, sizes, given.data)
    references = list(list_references(truth, task.whole, budgets)) if truth else []
    check_settings(given.out, {"space": given.space, **asdict(sizes)})
    results = []
    for seed in given.seeds:
        for budget in budgets:
            for name in given.strategies:
                found = run_search(task, name, budget, seed, given.out)
                results.append(found)
                told = task.encode(found["choices"])
                print(f"{name} {_told(budget)} seed {seed}: {told}", flush=True)
    if truth:
        judge_all(results, truth, task.whole)
    print_table(results, references, truth.columns[0] if truth else None)
    if given.report:
        content = {"searches": results, "references": references}
        given.report.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
