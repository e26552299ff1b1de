"""Whether the search is worth its time: strategies at equal FLOPs, retrained alike.

    python benchmarks/search_quality.py --data data/cifar10.npz --out runs/quality [--jobs 2]

Each strategy searches the same space, on the same images, for as many epochs, under the same
budgets, with several seeds; every network found is then trained from scratch with one recipe,
by several seeds, and judged by the test accuracy of its last epoch. ``random`` draws one
network that costs what the others cost, and trains nothing to find it.

``--part ablations`` varies GOLD-NAS itself, ``--part pace`` gives it as many epochs as the
paper's pace takes, and ``--part latency`` varies its budget, all at the smallest level alone;
``--part warm`` compares training from scratch with training on from the weights of the search.

A job whose result is there is not run again, and an interrupted one goes on, so the command may
be repeated until it is through, and with more seeds. Prints the tables and writes every result
to --report.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from goldnas.resource_names import is_latency

Words = list[str]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Scale:
    """How large a benchmark is."""

    space: Words
    num_images: int | None
    """To train on; None for all."""
    side: int
    """Of an image, in pixels."""
    levels: tuple[str, ...]
    """Budgets."""
    epochs: int
    """Of a search."""
    search: Words
    recipe: str
    train: Words
    train_epochs: int


SCALES = {
    "laptop": Scale(
        space=["--cells", "5", "--channels", "8"],
        num_images=10_000,
        side=16,
        levels=("1.75MFLOPs", "2.3MFLOPs"),  # a fifth and a third of what can be pruned
        epochs=12,
        search=["--batch-size", "64", "--threads", "1", "--workers", "0"],
        recipe="short",
        train=["--threads", "1", "--workers", "0"],
        train_epochs=12,
    ),
    "gpu": Scale(
        space=["--cells", "14", "--channels", "36"],
        num_images=None,
        side=32,
        levels=("300MFLOPs", "500MFLOPs"),
        epochs=50,
        search=["--cutout", "16", "--autoaugment"],
        recipe="modern",
        train=[],
        train_epochs=100,
    ),
    "tiny": Scale(  # to try the script
        space=["--cells", "2", "--channels", "4"],
        num_images=1_000,
        side=8,
        levels=("70kFLOPs", "100kFLOPs"),
        epochs=2,
        search=["--batch-size", "64", "--threads", "1"],
        recipe="short",
        train=["--threads", "1"],
        train_epochs=2,
    ),
}

VARIANTS: dict[str, dict[str, Words]] = {
    "strategies": {
        "gold": [],
        "one-shot": ["--strategy", "one-shot"],
        "darts1": ["--strategy", "darts1"],
        "random": ["--strategy", "random", "--networks", "1"],
    },
    "ablations": {"gold": [], "two levels": ["--levels", "2"]},
    "pace": {"gold": [], "paper pace": ["--pace", "paper"]},
}
"""By part of the benchmark."""


@dataclass(frozen=True)
class Job:
    """One search, and the trainings of the network it ends with."""

    name: str
    options: Words
    budgets: tuple[str, ...]
    seed: int

    @property
    def folder(self) -> str:
        """Of the search."""
        words = [self.name, *self.budgets, f"s{self.seed}"]
        return "-".join(word.replace(" ", "").replace("=", "") for word in words)


class Benchmark:
    """Runs jobs in a folder, and reads what they left."""

    def __init__(
        self,
        scale: Scale,
        data: Path,
        out: Path,
        *,
        seeds: int,
        drawn: int,
        train_seeds: int,
        jobs: int,
    ) -> None:
        self.scale = scale
        self.data = data
        self.out = out
        self.seeds = seeds
        self.drawn = drawn
        self.train_seeds = train_seeds
        self.jobs = jobs

    def run(self, do: Callable[[Job], Result], jobs: Iterable[Job]) -> list[Result]:
        """Do all jobs, several at a time."""
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                return list(pool.map(do, jobs))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def search(self, job: Job, *more: str) -> Path:
        """Search, or go on, and return the folder."""
        folder = self.out / job.folder
        if not folder.exists():
            budgets = [word for budget in job.budgets for word in ("--budget", budget)]
            epochs = ["--epochs", str(self.scale.epochs)]
            if "paper" in job.options:
                epochs = ["--epochs", str(10 * self.scale.epochs)]
            elif "random" in job.options:
                epochs = []
            options = [*self.scale.space, *self.scale.search, *epochs, *budgets, *job.options]
            where = ["--data", self.data, "--seed", job.seed, "--out", folder]
            # Algorithm 1 has no deadline, and may end over its budget.
            self.goldnas("search", *options, *more, *where, may_fail="paper" in job.options)
        elif events(folder)[-1]["event"] != "end":
            self.goldnas("search", "--resume", folder, may_fail="paper" in job.options)
        return folder

    def train(self, folder: Path, seed: int, epochs: int | None = None, *more: str) -> Path:
        """Train the network that a search ended with; return the folder of the training."""
        scale = self.scale
        name = end_of(folder)["fingerprint"]
        epochs = epochs or scale.train_epochs
        kind = "warm" if "--warm" in more else "scratch"
        out = folder / "quality" / f"{kind}-e{epochs}-s{seed}"
        options = ["--recipe", scale.recipe, "--epochs", epochs, "--seed", seed, *scale.train]
        self.goldnas("train", folder, "--pick", name, *options, *more, "--out", out)
        return out

    def goldnas(self, *words: object, may_fail: bool = False) -> None:
        """Run a command; what it says goes to a log beside the results."""
        command = [sys.executable, "-m", "goldnas", *map(str, words)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"} if self.jobs > 1 else None
        with (self.out / "log.txt").open("a") as log:
            log.write(f"$ {' '.join(command[2:])}\n")
            log.flush()
            result = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        if result.returncode and not may_fail:
            sys.exit(f"{' '.join(command[2:])} failed: see {self.out / 'log.txt'}")


def events(folder: Path) -> list[dict[str, Any]]:
    """The log of a search."""
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def end_of(folder: Path) -> dict[str, Any]:
    """The network that a search ended with, as it recorded it."""
    networks = json.loads((folder / "front.json").read_text())["networks"]
    ends = [network for network in networks if "end" in network["reasons"]]
    (end,) = ends or networks  # one that was drawn is the only one
    return dict(end)


def search_seconds(folder: Path) -> float:
    """Of the epochs, each once; the smaller network below the budgets is not asked for."""
    epochs = {e["epoch"]: e["seconds"] for e in events(folder) if e["event"] == "epoch"}
    return sum(epochs.values())


def drops(folder: Path) -> dict[str, float]:
    """What accuracy the removal of operators cost, at most at once and on average.

    Of a search that cuts, the first cut is the one to the budgets. After a resumption the log
    holds some prunings twice.
    """
    found: dict[int, dict[str, Any]] = {}
    for event in events(folder):
        if event["event"] == "prune" or (event["event"] == "cut" and not found):
            found[event["step"]] = event
    each = [event["accuracy_before"] - event["accuracy_after"] for event in found.values()]
    return {"largest": max(each), "mean": statistics.fmean(each)} if each else {}


def mean_std(values: list[float]) -> str:
    """In per cent."""
    if len(values) < 2:
        return f"{100 * values[0]:.2f}"
    return f"{100 * statistics.fmean(values):.2f} ± {100 * statistics.stdev(values):.2f}"


def prepared(data: Path, out: Path, scale: Scale) -> Path:
    """The first images of a dataset, made smaller by means over squares."""
    path = out / "data.npz"
    if path.exists():
        return path
    with np.load(data) as arrays:
        parts = dict(arrays)
    if scale.num_images:
        parts["x_train"] = parts["x_train"][: scale.num_images]
        parts["y_train"] = parts["y_train"][: scale.num_images]
    for name in ("x_train", "x_test"):
        images = parts[name]
        factor = images.shape[1] // scale.side
        count, height, width, channels = images.shape
        squares = images.reshape(
            count, height // factor, factor, width // factor, factor, channels
        )
        parts[name] = squares.mean(axis=(2, 4)).round().astype(np.uint8)
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / "data.tmp.npz"
    np.savez(temporary, **parts)
    temporary.rename(path)
    return path


def test_accuracies(benchmark: Benchmark, folder: Path) -> list[float]:
    """Of the network that a search ended with, trained by every seed."""
    trained = [benchmark.train(folder, seed) for seed in range(benchmark.train_seeds)]
    return [json.loads((path / "result.json").read_text())["test_accuracy"] for path in trained]


def compared(
    benchmark: Benchmark, variants: dict[str, Words], levels: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Search and train every variant at every level with every seed."""

    def do(job: Job) -> dict[str, Any]:
        folder = benchmark.search(job)
        end = end_of(folder)
        return {
            "name": job.name,
            "level": job.budgets[0],
            "seed": job.seed,
            "fingerprint": end["fingerprint"],
            "resources": end["resources"],
            "search_accuracy": end["accuracy"],
            "search_s": search_seconds(folder),
            "drops": drops(folder),
            "test_accuracy": test_accuracies(benchmark, folder),
        }

    jobs = [
        Job(name, options, (level,), seed)
        for seed in range(max(benchmark.seeds, benchmark.drawn))
        for level in levels
        for name, options in variants.items()
        if seed < (benchmark.drawn if "random" in options else benchmark.seeds)
    ]
    return benchmark.run(do, jobs)


def print_compared(results: list[dict[str, Any]]) -> None:
    """One row per variant and level. The deviation is that of searches, not of trainings."""
    print(
        "| level | strategy | searches | test error, % | FLOPs | search, s "
        "| largest drop, points |"
    )
    print("| --- " * 7 + "|")
    for level in dict.fromkeys(result["level"] for result in results):
        for name in dict.fromkeys(result["name"] for result in results):
            rows = [r for r in results if (r["name"], r["level"]) == (name, level)]
            if not rows:
                continue
            errors = [1 - statistics.fmean(row["test_accuracy"]) for row in rows]
            flops = statistics.fmean(row["resources"]["FLOPs"] for row in rows)
            largest = [row["drops"]["largest"] for row in rows if row["drops"]]
            print(
                f"| {level} | {name} | {len(rows)} | {mean_std(errors)} | {flops:,.0f} "
                f"| {statistics.fmean(row['search_s'] for row in rows):.0f} "
                f"| {mean_std(largest) if largest else '-'} |"
            )


def differences(results: list[dict[str, Any]], to: str) -> Iterator[dict[str, Any]]:
    """Of mean test errors from those of one variant, with their standard error.

    Searches are the samples: the trainings of one network are averaged first.
    """
    for level in dict.fromkeys(result["level"] for result in results):
        errors: dict[str, list[float]] = {}
        for row in results:
            if row["level"] == level:
                error = 1 - statistics.fmean(row["test_accuracy"])
                errors.setdefault(row["name"], []).append(error)
        ours = errors[to]
        for name, theirs in errors.items():
            if name != to:
                spread = [
                    statistics.variance(e) / len(e) if len(e) > 1 else math.nan
                    for e in (ours, theirs)
                ]
                yield {
                    "level": level,
                    "name": name,
                    "difference": statistics.fmean(theirs) - statistics.fmean(ours),
                    "standard_error": math.sqrt(sum(spread)),
                }


def latency_terms(benchmark: Benchmark, table: Path) -> list[dict[str, Any]]:
    """Networks searched under a latency against those searched under FLOPs, at equal ms."""
    scale, lut = benchmark.scale, ["--latency-lut", str(table)]

    def pair(job: Job) -> list[dict[str, Any]]:
        by_flops = benchmark.search(job)
        spent = end_of(by_flops)["resources"]
        limit_us = next(spent[name] for name in spent if is_latency(name))
        budget = f"{limit_us / 1000:.4f}ms"
        by_latency = benchmark.search(Job(f"at {job.budgets[0]}", lut, (budget,), job.seed))
        return [
            {
                "budget": name,
                "level": job.budgets[0],
                "seed": job.seed,
                "resources": end_of(folder)["resources"],
                "test_accuracy": test_accuracies(benchmark, folder),
            }
            for name, folder in (("FLOPs", by_flops), ("latency", by_latency))
        ]

    jobs = [
        Job("flops", lut, (level,), seed)
        for seed in range(benchmark.seeds)
        for level in scale.levels[:1]
    ]
    return [row for rows in benchmark.run(pair, jobs) for row in rows]


def print_latency_terms(results: list[dict[str, Any]]) -> None:
    """One row per level and kind of budget."""
    print("| level | budget in | searches | test error, % | FLOPs | predicted us |")
    print("| --- " * 6 + "|")
    for level in dict.fromkeys(result["level"] for result in results):
        for budget in ("FLOPs", "latency"):
            rows = [r for r in results if (r["budget"], r["level"]) == (budget, level)]
            errors = [1 - statistics.fmean(row["test_accuracy"]) for row in rows]
            flops = statistics.fmean(row["resources"]["FLOPs"] for row in rows)
            latency = statistics.fmean(
                next(v for k, v in row["resources"].items() if is_latency(k)) for row in rows
            )
            print(
                f"| {level} | {budget} | {len(rows)} | {mean_std(errors)} | {flops:,.0f} "
                f"| {latency:.1f} |"
            )


def warm_starts(benchmark: Benchmark) -> list[dict[str, Any]]:
    """GOLD-NAS's networks trained on from their weights, and from scratch, for fewer epochs."""
    scale = benchmark.scale

    def do(job: Job) -> list[dict[str, Any]]:
        folder, rows = benchmark.search(job), []
        for share in (0.1, 0.3, 1.0):
            epochs = max(1, round(share * scale.train_epochs))
            for kind in ([], ["--warm"]):
                out = benchmark.train(folder, 0, epochs, *kind)
                result = json.loads((out / "result.json").read_text())
                rows.append(
                    {
                        "level": job.budgets[0],
                        "seed": job.seed,
                        "epochs": epochs,
                        "warm": bool(kind),
                        "test_accuracy": result["test_accuracy"],
                    }
                )
        return rows

    jobs = [
        Job("gold", [], (level,), seed)
        for seed in range(benchmark.seeds)
        for level in scale.levels
    ]
    return [row for rows in benchmark.run(do, jobs) for row in rows]


def print_warm_starts(results: list[dict[str, Any]]) -> None:
    """One row per level and number of epochs."""
    print("| level | epochs | from scratch: test error, % | warm: test error, % |")
    print("| --- " * 4 + "|")
    for level in dict.fromkeys(result["level"] for result in results):
        for epochs in sorted({result["epochs"] for result in results}):
            cells = []
            for warm in (False, True):
                same = [
                    1 - r["test_accuracy"]
                    for r in results
                    if (r["level"], r["epochs"], r["warm"]) == (level, epochs, warm)
                ]
                cells.append(mean_std(same))
            print(f"| {level} | {epochs} | {cells[0]} | {cells[1]} |")


def main() -> None:
    """Run what is missing of a part, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as an .npz")
    parser.add_argument("--out", type=Path, required=True, help="folder of all searches")
    parser.add_argument("--scale", choices=SCALES, default="laptop")
    parser.add_argument("--part", choices=(*VARIANTS, "latency", "warm"), default="strategies")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each kind")
    parser.add_argument(
        "--drawn",
        type=int,
        help="random networks, which take no search; as --seeds unless given",
    )
    parser.add_argument("--train-seeds", type=int, default=1, help="trainings of each network")
    parser.add_argument("--train-epochs", type=int, help="of a training, if not as the scale's")
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time")
    parser.add_argument("--lut", type=Path, help="latency table, for --part latency")
    parser.add_argument("--report", type=Path, help="folder for the results as JSON")
    arguments = parser.parse_args()
    scale = SCALES[arguments.scale]
    if arguments.train_epochs:
        scale = replace(scale, train_epochs=arguments.train_epochs)
    data = prepared(arguments.data, arguments.out, scale)
    benchmark = Benchmark(
        scale,
        data,
        arguments.out,
        seeds=arguments.seeds,
        drawn=arguments.seeds if arguments.drawn is None else arguments.drawn,
        train_seeds=arguments.train_seeds,
        jobs=arguments.jobs,
    )
    began = time.monotonic()
    report: dict[str, Any]
    if arguments.part in VARIANTS:
        levels = scale.levels if arguments.part == "strategies" else scale.levels[:1]
        results = compared(benchmark, VARIANTS[arguments.part], levels)
        print_compared(results)
        against_gold = list(differences(results, "gold"))
        for row in against_gold:
            print(
                f"{row['level']}: {row['name']} errs {100 * row['difference']:+.2f} points "
                f"more than gold, standard error {100 * row['standard_error']:.2f}"
            )
        report = {"results": results, "against_gold": against_gold}
    elif arguments.part == "latency":
        if arguments.lut is None:
            parser.error("--part latency needs --lut, from goldnas profile")
        results = latency_terms(benchmark, arguments.lut)
        print_latency_terms(results)
        report = {"results": results}
    else:
        results = warm_starts(benchmark)
        print_warm_starts(results)
        report = {"results": results}
    print(f"{(time.monotonic() - began) / 60:.0f} minutes")
    if arguments.report:
        arguments.report.mkdir(parents=True, exist_ok=True)
        conditions = {
            "machine": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "jobs": arguments.jobs,
            "train_epochs": scale.train_epochs,
        }
        longer = f"-{scale.train_epochs}epochs" if arguments.train_epochs else ""
        path = arguments.report / f"quality-{arguments.scale}-{arguments.part}{longer}.json"
        path.write_text(json.dumps({"conditions": conditions, **report}, indent=2) + "\n")


if __name__ == "__main__":
    main()
