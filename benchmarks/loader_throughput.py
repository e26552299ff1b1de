"""Whether images are loaded as fast as a search trains on them.

    python benchmarks/loader_throughput.py --data data/cifar10.npz [--case 8,5,96] [--json FILE]

For each case (channels, cells, batch) it counts images per second of the loader alone, with a
crop and a mirror image, with Cutout too, and with AutoAugment too; of the step alone, on a
batch that is there already; and of both in one loop, as a search runs them. The super-network
is pruned to --share of its FLOPs: a step is fastest at the end of a search.
"""

import argparse
import json
import tempfile
import time
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from goldnas.resource_names import FLOPS
from goldnas.resources import Budget
from goldnas.searching.config import SearchConfig
from goldnas.searching.feasibility import Feasibility
from goldnas.searching.schedules import weakest_over
from goldnas.searching.setup import conditions_of
from goldnas.searching.start import PreparedSearch
from goldnas.searching.strategies.gold import GradualSearch

CASES = {"cpu": ["8,5,96", "8,8,96", "16,5,96", "16,8,96"], "cuda": ["36,14,96", "36,14,512"]}


def main() -> None:
    """Measure, print a table, and write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="CIFAR-10: an .npz, or cifar10")
    parser.add_argument("--device", choices=sorted(CASES), default="cpu")
    parser.add_argument("--case", action="append", help="channels,cells,batch; repeat")
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--cutout", type=int, default=16)
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    augmentations: dict[str, dict[str, Any]] = {
        "crop, mirror": {},
        "and Cutout": {"cutout": arguments.cutout},
        "and AutoAugment": {"cutout": arguments.cutout, "autoaugment": True},
    }
    results: dict[str, Any] = {"conditions": conditions_of(device), "share": arguments.share}
    print("| case | augmentation | workers | loader images/s | step images/s | both images/s |")
    print("| --- " * 6 + "|")
    for case in arguments.case or CASES[arguments.device]:
        channels, cells, batch = map(int, case.split(","))
        for name, settings in augmentations.items():
            config = SearchConfig(
                data=arguments.data,
                train_device=arguments.device,
                channels=channels,
                cells=cells,
                batch_size=batch,
                budgets=("10GFLOPs",),
                epochs=1000,
                **settings,
            )
            with tempfile.TemporaryDirectory() as folder:
                search = PreparedSearch(config, [], amp="auto").start(Path(folder) / "run")
                row = measure(search, arguments.share, arguments.batches)
            results[f"{case} {name}"] = row
            speeds = " | ".join(f"{row[of]:.0f}" for of in ("loader", "step", "both"))
            print(f"| {case} | {name} | {row['workers']} | {speeds} |", flush=True)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def prune(search: GradualSearch, share: float) -> None:
    """Remove operators at random, until a share of the FLOPs is left."""
    flops = search.feasibility.costs[FLOPS]
    limit = share * flops.total(search.active)
    goal = Feasibility(search.data.space, [flops], [Budget(FLOPS, limit, "share")])
    weights = np.random.default_rng(0).random(len(search.active))
    chosen = weakest_over(goal, {FLOPS: limit}, weights, search.active)
    search._forget(search.supernet.prune(chosen))


def measure(search: GradualSearch, share: float, batches: int) -> dict[str, Any]:
    """Images per second of the loader, the step, and both in one loop."""
    prune(search, share)
    loader, middle = search.data.loader, search.steps_per_epoch
    endless = chain.from_iterable(map(loader.epoch, count()))
    images, labels = next(endless)

    def rate(work: Any) -> float:
        """Images per second of a number of pieces of work, without the first three."""
        for _ in range(3):
            work()
        if search.device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(batches):
            work()
        if search.device.type == "cuda":
            torch.cuda.synchronize()
        return batches * len(labels) / (time.perf_counter() - began)

    return {
        "workers": loader.workers,
        "loader": rate(lambda: next(endless)),
        "step": rate(lambda: search._train_step(middle, images, labels)),
        "both": rate(lambda: search._train_step(middle, *next(endless))),
    }


if __name__ == "__main__":
    main()
