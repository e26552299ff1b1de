"""What GOLD's own space holds, and where the networks that are searched stand in it.

    python benchmarks/gold_truth.py --data data/cifar10.npz --out runs/gold-truth [--jobs 2]

Trains random networks of each level with one short recipe, and the networks that searches find
with the same. So a result is a percentile among the random networks of its cost. A second kind
of random network has the same convolutions and as few operators that cost nothing as its nodes
allow. The first random networks of each level, and all that were searched, are trained several
times: their spread says what a difference is worth.

A level is a budget: in FLOPs, or in milliseconds with --lut. Each training is a line of
OUT/networks.jsonl; what is there is not trained again, so the command may be interrupted,
repeated, and repeated with more networks. An earlier file may be put there first. Prints the
tables and writes them to --report.
"""

import argparse
import json
import math
import multiprocessing
import platform
import shutil
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from search_quality import SCALES, drops, end_of, mean_std, prepared, search_seconds

import goldnas
from goldnas.architecture import Architecture
from goldnas.lut import LatencyTable
from goldnas.searching.budgets import build_feasibility
from goldnas.searching.feasibility import Feasibility, Mask
from goldnas.searching.sampler import BudgetedSampler

SCALE = SCALES["laptop"]
CELLS, CHANNELS, SIDE = 5, 8, SCALE.side
ON_ONE_CORE: dict[str, Any] = {"threads": 1, "workers": 0, "train_device": "cpu"}
DRAW_SEED = 1000

RANDOM, FEW = "random", "random, few identities"


@dataclass(frozen=True)
class Settings:
    """Of all trainings and searches of a folder."""

    data: str
    out: str
    lut: str | None
    epochs: int
    search_epochs: int


@dataclass(frozen=True)
class Job:
    """One network of one level, and which trainings it gets."""

    kind: str
    """``RANDOM``, ``FEW``, or the strategy that searches for it."""
    level: str
    number: int
    """Of a random network, the draw; of a search, its seed."""
    trainings: int
    architecture: str = ""
    """As JSON, of a random network."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.kind}-{self.level}-{self.number}".replace(", ", "-").replace(" ", "-")


def draw(level: str, table: LatencyTable | None, count: int) -> Iterator[tuple[str, str]]:
    """Random networks that use 97 to 100 % of a level: as drawn, and with few identities."""
    space = goldnas.space("gold", cells=CELLS, channels=CHANNELS, input_shape=(3, SIDE, SIDE))
    feasibility = build_feasibility(space, [level], [table] if table else [])
    sampler = BudgetedSampler(feasibility, DRAW_SEED)
    for number in range(count):
        mask = sampler.draw()
        masks = mask, with_few_identities(mask, feasibility, number)
        networks = (
            space.architecture(space.gates[i] for i in np.flatnonzero(m)) for m in masks
        )
        drawn, few = (network.to_json().decode() for network in networks)
        yield drawn, few


def with_few_identities(mask: Mask, feasibility: Feasibility, seed: int) -> Mask:
    """Without the operators of no FLOPs, as far as no node is left empty."""
    kept = mask.copy()
    free = feasibility.costs["FLOPs"].gates == 0
    for gate in np.random.default_rng(seed).permutation(np.flatnonzero(mask & free)):
        kept[gate] = False
        kept[gate] = not all(kept[list(group)].any() for group in feasibility.space.groups)
    return kept


def search(job: Job, settings: Settings) -> tuple[str, dict[str, Any]]:
    """The architecture that a search ends with, and what is to be known of the search."""
    out = Path(settings.out) / "searches" / job.name
    if out.exists():
        run = goldnas.load_run(out)
        if not run.finished:
            run.resume(on_event=lambda *_: None)
    else:
        special: dict[str, Any] = {}
        if job.kind == "darts1":  # its gates move by what Adam lets them, whatever the loss
            steps = settings.search_epochs * -(-10_000 // 64)
            special = {"gate_learning_rate": 6 / steps}
        run = goldnas.search(
            "gold",
            data=settings.data,
            budgets=[job.level],
            tables=[settings.lut] if settings.lut else [],
            strategy=job.kind,
            cells=CELLS,
            channels=CHANNELS,
            seed=job.number,
            epochs=settings.search_epochs,
            batch_size=64,
            out=out,
            on_event=lambda *_: None,
            **special,
            **ON_ONE_CORE,
        )
    found = run.best
    said = {
        "search_s": search_seconds(out),
        "drops": drops(out),
        "search_accuracy": end_of(out)["accuracy"] if job.kind == "gold" else found.accuracy,
    }
    return found.architecture.to_json().decode(), said


def do(job: Job, settings: Settings, done: frozenset[int]) -> list[dict[str, Any]]:
    """Train the network of a job with the seeds that it lacks; a line of the file each."""
    torch.set_num_threads(1)
    text, said = (job.architecture, {}) if job.architecture else search(job, settings)
    architecture = Architecture.from_json(text)
    lines = []
    for training in range(job.trainings):
        if training in done:
            continue
        out = Path(settings.out) / "trainings" / f"{job.name}-{training}"
        shutil.rmtree(out, ignore_errors=True)
        began = time.monotonic()
        trained = goldnas.train(
            architecture,
            data=settings.data,
            recipe=SCALE.recipe,
            epochs=settings.epochs,
            # Each network has seeds of its own, so that no seed's luck is everybody's.
            seed=1000 * job.number + training,
            out=out,
            on_event=lambda *_: None,
            **ON_ONE_CORE,
        )
        lines.append(
            {
                "kind": job.kind,
                "level": job.level,
                "number": job.number,
                "training": training,
                "fingerprint": architecture.fingerprint,
                "test_accuracy": trained.accuracy,
                "seconds": round(time.monotonic() - began, 1),
                "resources": trained.resources,
                **said,
            }
        )
        shutil.rmtree(out)
    return lines


def report(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Per level: the spread of random networks, and where each kind stands among them."""
    levels = {}
    for level in dict.fromkeys(line["level"] for line in lines):
        by_kind: dict[str, dict[int, list[dict[str, Any]]]] = {}
        for line in lines:
            if line["level"] == level:
                by_kind.setdefault(line["kind"], {}).setdefault(line["number"], []).append(line)
        # Of a random network the first training counts: the more often trained, the narrower.
        first = [
            line["test_accuracy"]
            for trainings in by_kind.get(RANDOM, {}).values()
            for line in trainings
            if line["training"] == 0
        ]
        rows = {}
        for kind, networks in by_kind.items():
            means = [
                statistics.fmean(line["test_accuracy"] for line in trainings)
                for trainings in networks.values()
            ]
            if kind == RANDOM:
                means = first
            rows[kind] = {
                "networks": len(means),
                "accuracy": statistics.fmean(means),
                "deviation": statistics.stdev(means) if len(means) > 1 else None,
                "percentile": statistics.fmean(percentile(mean, first) for mean in means),
                "each": means,
            }
        repeated = [
            [line["test_accuracy"] for line in trainings]
            for networks in by_kind.values()
            for trainings in networks.values()
            if len(trainings) > 1
        ]
        again = (
            statistics.fmean(map(statistics.variance, repeated)) ** 0.5 if repeated else None
        )
        levels[level] = {"rows": rows, "between_trainings": again, "repeated": len(repeated)}
    return levels


def percentile(accuracy: float, others: list[float]) -> float:
    """The share of networks, in per cent, that are worse; an equal one is half. NaN of none."""
    worse = sum((other < accuracy) + 0.5 * (other == accuracy) for other in others)
    return 100 * worse / len(others) if others else math.nan


def print_report(levels: dict[str, Any]) -> None:
    """The tables."""
    for level, said in levels.items():
        print(f"\n{level}")
        if said["between_trainings"]:
            print(
                f"one network trained again: s.d. {100 * said['between_trainings']:.2f} points "
                f"({said['repeated']} networks)"
            )
        print("| kind | networks | test accuracy, % | percentile |\n|" + " --- |" * 4)
        for kind, row in said["rows"].items():
            print(
                f"| {kind} | {row['networks']} | {mean_std(row['each'])} "
                f"| {row['percentile']:.0f} |"
            )


def main() -> None:
    """Train what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as an .npz")
    parser.add_argument("--out", type=Path, required=True, help="folder of all that is done")
    parser.add_argument("--levels", nargs="+", default=list(SCALE.levels), help="budgets")
    parser.add_argument("--lut", type=Path, help="latency table, for levels in milliseconds")
    parser.add_argument("--networks", type=int, default=120, help="random ones of each level")
    parser.add_argument("--few", type=int, default=12, help="those with few identities")
    parser.add_argument("--repeated", type=int, default=12, help="random ones trained again")
    parser.add_argument("--strategies", nargs="*", default=[], help="that search, if any")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[40, 41, 42], help="of searches"
    )
    parser.add_argument("--trainings", type=int, default=3, help="of each that is repeated")
    parser.add_argument("--epochs", type=int, default=12, help="of a training")
    parser.add_argument("--search-epochs", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time, a core each")
    parser.add_argument("--report", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    out = arguments.out
    data = prepared(arguments.data, out, SCALE)
    settings = Settings(
        str(data),
        str(out),
        str(arguments.lut) if arguments.lut else None,
        arguments.epochs,
        arguments.search_epochs,
    )
    (kept := out / "settings.json").touch()
    of_training = {"epochs": arguments.epochs, "search_epochs": arguments.search_epochs}
    if (text := kept.read_text()) and json.loads(text) != of_training:
        parser.error(f"{out} holds trainings of {text}: take another --out")
    kept.write_text(json.dumps(of_training))
    path = out / "networks.jsonl"
    path.touch()
    lines = [json.loads(line) for line in path.read_text().splitlines()]

    jobs = []
    for kind in arguments.strategies:
        for seed in arguments.seeds:
            jobs += [Job(kind, level, seed, arguments.trainings) for level in arguments.levels]
    table = LatencyTable.load(arguments.lut) if arguments.lut else None
    for level in arguments.levels:
        for number, (drawn, few) in enumerate(draw(level, table, arguments.networks)):
            again = arguments.trainings if number < arguments.repeated else 1
            jobs.append(Job(RANDOM, level, number, again, drawn))
            if number < arguments.few:
                jobs.append(Job(FEW, level, number, 1, few))
    jobs.sort(key=lambda job: (bool(job.architecture), job.number))

    done: dict[tuple[str, str, int], set[int]] = {}
    for line in lines:
        key = line["kind"], line["level"], line["number"]
        done.setdefault(key, set()).add(line["training"])

    def lacks(job: Job) -> bool:
        return len(done.get((job.kind, job.level, job.number), ())) < job.trainings

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        waiting = [
            pool.submit(
                do, job, settings, frozenset(done.get((job.kind, job.level, job.number), ()))
            )
            for job in jobs
            if lacks(job)
        ]
        for future in as_completed(waiting):
            new = future.result()
            lines += new
            with path.open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in new)

    levels = report(lines)
    print_report(levels)
    if arguments.report:
        conditions = {
            "machine": platform.processor() or platform.machine(),
            "torch": str(torch.__version__),
            **{k: v for k, v in asdict(settings).items() if "epochs" in k},
        }
        text = json.dumps({"conditions": conditions, "levels": levels}, indent=2)
        arguments.report.write_text(text + "\n")


if __name__ == "__main__":
    main()
