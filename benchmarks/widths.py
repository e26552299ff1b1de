"""Whether widths as a choice are worth it: `mobile` with widths, and without, at equal ms.

    python benchmarks/widths.py --data data/cifar10.npz --out runs/widths

The two spaces differ by the setting `widths` alone. Both are profiled on this machine into one
table, once. Both are searched under one budget in milliseconds on the same images, by the same
seeds; what is found is trained from scratch by one recipe. At the end all networks are
measured, one after another. The budget lies between the least and the most that a network
without widths needs.

A step whose result is there is not run again, and an interrupted one goes on: repeat the
command until it is through. Each arm runs on one thread. The machine must do nothing else while
the table and the networks are measured; --no-measure leaves out the networks. Prints a table,
and writes every figure as JSON to --report.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_quality import SCALES, end_of, events, prepared

import goldnas
from goldnas.comparison.history import count_seconds
from goldnas.files import write_atomic
from goldnas.lut import LatencyTable
from goldnas.resources import Latency, compute_costs

Words = list[str]

ARMS = {"without": [1], "with": [0.5, 0.75, 1]}
"""`widths` of each space."""


@dataclass(frozen=True)
class Size:
    """How large the comparison is."""

    images: str
    """A scale of benchmarks/search_quality.py, whose images these are."""
    space: dict[str, Any]
    epochs: int
    """Of a search."""
    train_epochs: int
    networks: int
    """Whole networks that the table is fitted to, of each space."""


SIZES = {
    "wide": Size(  # each share of a stage is a multiple of 16 channels
        images="laptop",
        space={
            "stem": 16,
            "stem_stride": 1,
            "first": 16,
            "stages": [[64, 2, 2], [128, 2, 2], [192, 2, 2]],
            "kernels": [3, 5],
            "expansions": [3, 6],
            "head": 256,
        },
        epochs=6,
        train_epochs=15,
        networks=20,
    ),
    "laptop": Size(
        images="laptop",
        space={
            "stem": 16,
            "first": 16,
            "stages": [[24, 2, 1], [40, 2, 2], [64, 2, 2]],
            "kernels": [3, 5],
            "expansions": [3, 6],
            "head": 128,
        },
        epochs=4,
        train_epochs=15,
        networks=20,
    ),
    "tiny": Size(  # to try the script
        images="tiny",
        space={
            "stem": 8,
            "stem_stride": 1,
            "first": 8,
            "stages": [[16, 2, 2], [32, 1, 2]],
            "kernels": [3],
            "expansions": [2, 3],
            "head": 16,
        },
        epochs=2,
        train_epochs=1,
        networks=4,
    ),
}


class Comparison:
    """The runs of one comparison, in a folder.

    Args:
        size: How large it is.
        data: The images.
        out: The folder.
        share: Where the budget lies between the least and the most, from 0 to 1.
    """

    def __init__(self, size: Size, data: Path, out: Path, share: float) -> None:
        self._size, self._data, self._out, self._share = size, data, out, share
        self._table = out / "cpu.json"

    def profile(self, side: int) -> str:
        """Measure both spaces, and return the budget."""
        for widths in ARMS.values():
            settings = [
                *self._settings(widths),
                "--input",
                f"3x{side}x{side}",
                "--classes",
                "10",
            ]
            networks = ["--networks", str(self._size.networks)]
            goldnas_command("profile", *settings, *networks, "--out", str(self._table))
        shape = {"input_shape": (3, side, side), "classes": 10}
        space = goldnas.space("mobile", **self._size.space, **shape)
        answer = goldnas.feasible(space, ["1000000ms"], [self._table], single=True)
        (limit,) = (one for one in answer.limits if one.resource.startswith("latency"))
        dearest = limit.smallest + self._share * (self._most_us(space) - limit.smallest)
        return f"{dearest / 1000:.4f}ms"

    def _most_us(self, space: Any) -> float:
        """Microseconds of the dearest network with one operator at each place."""
        costs = compute_costs(space, Latency(LatencyTable.load(self._table), space))
        return costs.fixed + sum(max(costs.gates[i] for i in group) for group in space.groups)

    def run(self, arm: str, seed: int, budget: str) -> None:
        """Search and train, as far as that is not done."""
        folder = self._out / f"{arm}-s{seed}"
        alone = ["--threads", "1", "--workers", "0"]
        if not folder.exists():
            settings = [*self._settings(ARMS[arm]), "--data", str(self._data), "--single"]
            settings += ["--latency-lut", str(self._table), "--budget", budget]
            settings += ["--epochs", str(self._size.epochs), "--batch-size", "64", *alone]
            goldnas_command("search", *settings, "--seed", str(seed), "--out", str(folder))
        elif events(folder)[-1]["event"] != "end":
            goldnas_command("search", "--resume", str(folder))
        epochs = ["--epochs", str(self._size.train_epochs), "--seed", str(seed), *alone]
        where = ["--pick", end_of(folder)["fingerprint"], "--recipe", "short"]
        where += ["--out", str(trained_in(folder))]
        if not (trained_in(folder) / "result.json").exists():
            goldnas_command("train", str(folder), *where, *epochs)

    def measure(self, arm: str, seed: int, budget: str) -> dict[str, Any]:
        """Export what was trained; what is there is only read."""
        folder = self._out / f"{arm}-s{seed}"
        result = self._out / f"{arm}-s{seed}.json"
        if result.exists():
            found: dict[str, Any] = json.loads(result.read_text())
            return found
        trained = trained_in(folder)
        files = ["--out", f"{folder}.onnx", "--force"]
        check = json.loads(goldnas_command("export", str(trained), *files, "--json"))
        found = {
            "arm": arm,
            "seed": seed,
            "budget": budget,
            "percent": 100 * json.loads((trained / "result.json").read_text())["test_accuracy"],
            "choices": json.loads((trained / "architecture.json").read_text())["choices"],
            "resources": check["resources"],
            "search_s": count_seconds(events(folder)),
        }
        write_atomic(result, json.dumps(found, indent=1) + "\n")
        return found

    def _settings(self, widths: list[float]) -> Words:
        settings = {**self._size.space, "widths": widths}
        pairs = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
        return ["--space", "mobile", *(word for pair in pairs for word in ("--set", pair))]


def trained_in(folder: Path) -> Path:
    """Where the network of a search is trained."""
    return folder / "trained" / "from-scratch"


def goldnas_command(*words: str) -> str:
    """Run a command and return what it prints; its progress goes to the terminal."""
    print("$ goldnas", *words, file=sys.stderr, flush=True)
    program = [sys.executable, "-m", "goldnas", *words]
    result = subprocess.run(program, stdout=subprocess.PIPE, text=True)
    if result.returncode not in (0, 3):  # 3 says that a budget was broken: it is reported
        print(result.stdout, file=sys.stderr, flush=True)
        sys.exit(result.returncode)
    return result.stdout


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="CIFAR-10 as an .npz")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--size", choices=SIZES, default="laptop")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--no-measure", action="store_true", help="only search and train")
    parser.add_argument("--share", type=float, default=0.35, help="of the way to the dearest")
    parser.add_argument("--report", type=Path, help="file for the figures as JSON")
    arguments = parser.parse_args()
    size, out = SIZES[arguments.size], arguments.out
    scale = SCALES[size.images]
    data = prepared(arguments.data, out, scale)
    comparison = Comparison(size, data, out, arguments.share)
    budget = comparison.profile(scale.side)
    runs = [(arm, seed) for seed in arguments.seeds for arm in ARMS]
    for arm, seed in runs:
        comparison.run(arm, seed, budget)
    if arguments.no_measure:
        return
    results = [comparison.measure(arm, seed, budget) for arm, seed in runs]
    show(results, budget)
    if arguments.report:
        machine = {"machine": platform.processor() or platform.machine()}
        report = {**machine, "size": arguments.size, "budget": budget, "runs": results}
        write_atomic(arguments.report, json.dumps(report, indent=1) + "\n")


def show(results: list[dict[str, Any]], budget: str) -> None:
    """Print what was found."""
    print(f"\nwithin {budget}, one thread; accuracy on the test set after the last epoch\n")
    print("| widths | seed | accuracy % | predicted ms | measured ms | MFLOPs | search, s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for one in results:
        amounts = {r["resource"].partition("@")[0]: r for r in one["resources"]}
        latency, flops = amounts["latency"], amounts["FLOPs"]["measured"]
        times = [latency["predicted"], latency["measured"]]
        ms = ["-" if us is None else f"{us / 1000:.3f}" for us in times]
        print(
            f"| {one['arm']} | {one['seed']} | {one['percent']:.2f} | {ms[0]} | {ms[1]} "
            f"| {flops / 1e6:.2f} | {one['search_s']:.0f} |"
        )
    for arm in ARMS:
        percents = [one["percent"] for one in results if one["arm"] == arm]
        spread = statistics.stdev(percents) if len(percents) > 1 else 0.0
        print(f"{arm} widths: {statistics.mean(percents):.2f} % (deviation {spread:.2f})")


if __name__ == "__main__":
    main()
