"""What a search finds, among networks whose true accuracies are known.

    python benchmarks/search_truth.py --data data/cifar10.npz --truth FILE.csv --out runs/truth

The space is that of NAS-Bench-201. A search sees a small network of it: 8 channels, one cell a
stage, 5,000 images of 16 pixels. What it finds is looked up in the CSV file (columns
``architecture``, the string of a cell, and an accuracy in percent), so nothing is trained.
Budgets are those of the whole network, 16 channels and five cells a stage: a search has the
same share of what the cells of its own network may cost.

Beside the strategies the table has a random network at 90 to 100 % of the budget, the mean of
the largest that fit, and the optimum. A search that is done is not run again, and one that was
interrupted goes on. Prints a table and writes every result to --report.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import goldnas
from goldnas.comparison.truth import Judge, Truth
from goldnas.resources import Flops, compute_costs
from goldnas.spaces import SearchSpace, make_space

SMALL = {"channels": 8, "cells": 1, "input_shape": (3, 16, 16), "affine": False}
BUDGETS = (None, 118e6, 55.03e6)
"""FLOPs of the whole network."""
NUM_IMAGES, SIDE = 5000, 16
STRATEGIES: dict[str, dict[str, Any]] = {
    "gold": {"epochs": 30, "batch_size": 128},
    "one-shot": {"epochs": 10, "batch_size": 128},
    "darts1": {"epochs": 10, "batch_size": 128},
    "darts2": {"epochs": 10, "batch_size": 128},
    "random": {"epochs": 10, "batch_size": 128, "networks": 100},
    "evolution": {"epochs": 10, "batch_size": 128, "networks": 200},
    "tpe": {"epochs": 10, "batch_size": 128, "networks": 200},
}


def prepare_data(path: Path) -> dict[str, np.ndarray]:
    """The first images of a dataset, made smaller by means over squares."""
    with np.load(path) as arrays:
        data = {name: arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    for part, count in (("train", NUM_IMAGES), ("test", 1000)):
        images = data[f"x_{part}"][:count]
        factor = images.shape[1] // SIDE
        squares = images.reshape(count, SIDE, factor, SIDE, factor, images.shape[3])
        data[f"x_{part}"] = squares.mean(axis=(2, 4)).round().astype(np.uint8)
        data[f"y_{part}"] = data[f"y_{part}"][:count].astype(np.int64)
    return data


def convert_budget(flops: float, whole: SearchSpace, small: SearchSpace) -> str:
    """The budget of a small network that leaves its cells the same share."""
    shares = []
    for space in (whole, small):
        costs = compute_costs(space, Flops(space.build_part))
        dearest = sum(max(costs.gates[list(group)]) for group in space.groups)
        shares.append((costs.fixed, dearest))
    (fixed, cells), (small_fixed, small_cells) = shares
    return f"{small_fixed + (flops - fixed) / cells * small_cells:.0f}FLOPs"


def run_search(
    name: str, budget: float | None, seed: int, data: dict[str, np.ndarray], out: Path
) -> dict[str, Any]:
    """One search, or what it came to before."""
    folder = out / f"{name}-{_told(budget)}-s{seed}"
    result = folder / "result.json"
    if result.exists():
        return dict(json.loads(result.read_text()))
    whole, small = make_space("nasbench201"), make_space("nasbench201", **SMALL)
    began = time.monotonic()
    if (folder / "config.json").exists():
        run = goldnas.load_run(folder, data=data).resume()
    else:
        budgets = [] if budget is None else [convert_budget(budget, whole, small)]
        run = goldnas.search(
            small,
            data=data,
            budgets=budgets,
            single=True,
            strategy=name,
            seed=seed,
            train_device="cpu",
            threads=1,
            workers=0,
            out=folder,
            **{"batch_size": 64} | STRATEGIES[name],
        )
    drops = [
        event["accuracy_before"] - event["accuracy_after"]
        for event in run.read_events()
        if event["event"] in ("prune", "cut")
    ]
    best = run.best.architecture
    same = whole.architecture(g for g in whole.gates if g.key in best.choices[g.place])
    costs = compute_costs(whole, Flops(whole.build_part))
    kept = np.array([g.key in best.choices[g.place] for g in whole.gates])
    found = {
        "strategy": name,
        "budget": budget,
        "seed": seed,
        "choices": {place: list(keys) for place, keys in same.choices.items()},
        "flops": costs.total(kept),
        "largest_drop": max(drops, default=None),
        "seconds": time.monotonic() - began,
    }
    result.write_text(json.dumps(found))
    return found


def judge_all(results: list[dict[str, Any]], truth: Truth) -> None:
    """Add to each result what the truth says of it."""
    whole = make_space("nasbench201")
    for result in results:
        budget = result["budget"]
        judge = Judge(truth, whole, [] if budget is None else [f"{budget:.0f}FLOPs"])
        chosen = (g for g in whole.gates if g.key in result["choices"][g.place])
        (judged,) = judge.place(whole.architecture(chosen)).values()
        result |= {
            "accuracy": judged.value,
            "rank": judged.rank,
            "percentile": judged.percentile,
            "regret": judged.regret,
        }


def list_references(truth: Truth) -> Iterator[dict[str, Any]]:
    """What is free: a random network of the cost, the largest that fit, the optimum."""
    whole = make_space("nasbench201")
    costs = compute_costs(whole, Flops(whole.build_part))
    flops = costs.fixed + truth.masks(whole) @ costs.gates
    figures = np.array([figures[0] for _, figures in truth.lines])
    for budget in BUDGETS:
        judge = Judge(truth, whole, [] if budget is None else [f"{budget:.0f}FLOPs"])
        most = flops[judge.within].max()
        yield {
            "budget": budget,
            "random": float(figures[judge.band].mean()),
            "largest": float(figures[judge.within & (flops == most)].mean()),
            "optimum": float(figures[judge.within].max()),
        }


def print_table(results: list[dict[str, Any]], references: list[dict[str, Any]]) -> None:
    """One row per strategy and budget."""
    columns = ("budget", "strategy", "searches", "true accuracy, %", "regret", "percentile")
    columns += ("budget used, %", "largest drop, points", "seconds")
    print(f"| {' | '.join(columns)} |")
    print("| --- " * len(columns) + "|")
    for reference in references:
        budget = reference["budget"]
        for name in dict.fromkeys(result["strategy"] for result in results):
            rows = [r for r in results if (r["strategy"], r["budget"]) == (name, budget)]
            if rows:
                used = [100 * r["flops"] / budget for r in rows] if budget else []
                drops = [100 * r["largest_drop"] for r in rows if r["largest_drop"] is not None]
                cells = [
                    _mean(r["accuracy"] for r in rows),
                    _mean(r["regret"] for r in rows),
                    _mean(r["percentile"] for r in rows),
                    _mean(used),
                    _mean(drops),
                    _mean(r["seconds"] for r in rows),
                ]
                print(f"| {_told(budget)} | {name} | {len(rows)} | {' | '.join(cells)} |")
        for name in ("random", "largest", "optimum"):
            regret = reference["optimum"] - reference[name]
            label = {"random": "(random of the cost)", "largest": "(largest that fit)"}
            print(
                f"| {_told(budget)} | {label.get(name, '(optimum)')} | | "
                f"{reference[name]:.2f} | {regret:.2f} | | | | |"
            )


def _told(budget: float | None) -> str:
    return "none" if budget is None else f"{budget / 1e6:g}M"


def _mean(values: Any) -> str:
    listed = list(values)
    if len(listed) < 2:
        return f"{listed[0]:.2f}" if listed else "-"
    return f"{statistics.fmean(listed):.2f} ± {statistics.stdev(listed):.2f}"


def main() -> None:
    """Search, look up, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="an .npz of CIFAR-10")
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of all searches")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, truth = prepare_data(arguments.data), Truth.read(arguments.truth)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in arguments.seeds:
        for budget in BUDGETS:
            for name in arguments.strategies:
                results.append(run_search(name, budget, seed, data, arguments.out))
                print(f"{name} {_told(budget)} seed {seed}: done", flush=True)
    judge_all(results, truth)
    references = list(list_references(truth))
    print_table(results, references)
    if arguments.report:
        content = {"searches": results, "references": references}
        arguments.report.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
