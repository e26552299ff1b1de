r"""How often a limit is broken by who chooses by FLOPs, or by another device's times.

    python benchmarks/flops_budgets.py --tables i7.csv i9.csv \
        --accuracies results-imagenet.csv --own runs/ready_made --json docs/results/flops.json

timm publishes the tables (``benchmark-infer-*.csv``, one image at a time) and the accuracies.
``--own`` is the folder of ``benchmarks/ready_made.py``: what goldnas measured on this machine.
Takes seconds.

For each limit the chooser takes the most accurate network that is fast enough by the estimate.
FLOPs, and the other device's times, become milliseconds by the best single factor: the median
ratio over all networks of the same device. A chooser who has not measured the device does not
know that factor, so the figures flatter both.
"""

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from goldnas.files import write_atomic
from goldnas.zoo.file import Measured, load_zoo

LIMITS_MS = np.geomspace(4, 20, 7)

Numbers = npt.NDArray[np.float64]
Key = tuple[str, int]

TIMM_NAMES = {
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "mnasnet1_0": "mnasnet_100",
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "resnext50_32x4d": "resnext50_32x4d",
    "densenet121": "densenet121",
    "densenet169": "densenet169",
    "densenet201": "densenet201",
    "regnet_x_400mf": "regnetx_004",
    "regnet_x_800mf": "regnetx_008",
    "regnet_x_1_6gf": "regnetx_016",
    "regnet_x_3_2gf": "regnetx_032",
    "regnet_y_400mf": "regnety_004",
    "regnet_y_800mf": "regnety_008",
    "regnet_y_1_6gf": "regnety_016",
    "regnet_y_3_2gf": "regnety_032",
    "efficientnet_b0": "efficientnet_b0",
    "convnext_tiny": "convnext_tiny",
    "swin_t": "swin_tiny_patch4_window7_224",
    "vit_b_32": "vit_base_patch32_224",
}
"""What timm calls networks of torchvision that both build alike."""


@dataclass(frozen=True)
class Choices:
    """Networks of one device: true times in ms, estimates in ms, accuracies in percent."""

    device: str
    true_ms: Numbers
    estimates_ms: dict[str, Numbers]
    percent: Numbers

    def compare(self, limits_ms: Sequence[float] | Numbers) -> dict[str, Any]:
        """For each estimate: its error, and what became of each limit."""
        return {
            "device": self.device,
            "networks": len(self.true_ms),
            "limits_ms": [round(float(limit), 2) for limit in limits_ms],
            "by": {
                name: {
                    "mape_percent": round(mape(estimate, self.true_ms), 1),
                    **self._follow(estimate, limits_ms),
                }
                for name, estimate in self.estimates_ms.items()
            },
        }

    def _follow(
        self, estimate: Numbers, limits_ms: Sequence[float] | Numbers
    ) -> dict[str, list[float]]:
        """The true time of each choice, and how much less accurate it is than the optimum."""
        times, points = [], []
        for limit in limits_ms:
            chosen = self._choose(estimate, limit)
            optimum = self._choose(self.true_ms, limit)
            times.append(round(float(self.true_ms[chosen] / limit), 3))
            points.append(round(float(self.percent[optimum] - self.percent[chosen]), 1))
        return {"times_limit": times, "points_below_optimum": points}

    def _choose(self, ms: Numbers, limit_ms: float) -> int:
        """The most accurate network that is fast enough by some times; else the fastest."""
        fitting = np.flatnonzero(ms <= limit_ms)
        if not len(fitting):
            return int(np.argmin(ms))
        return int(max(fitting, key=lambda i: (self.percent[i], -ms[i])))


def main() -> None:
    """Read what was given, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, nargs=2, required=True, help="of timm, CSV")
    parser.add_argument("--accuracies", type=Path, required=True, help="of timm, CSV")
    parser.add_argument("--own", type=Path, help="folder of benchmarks/ready_made.py")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()

    percent = read_accuracies(arguments.accuracies)
    tables = {path: read_table(path) for path in arguments.tables}
    found = [
        replay(path, tables[path], other, percent)
        for path, other in zip(tables, reversed(tables.values()), strict=True)
    ]
    if arguments.own:
        found += [beside_others(load_own(arguments.own), path, tables[path]) for path in tables]
        found.append(beside_pick(arguments.own))
    for one in found:
        show(one)
    if arguments.json:
        write_atomic(arguments.json, json.dumps(found, indent=1) + "\n")


def read_table(path: Path) -> dict[Key, tuple[float, float]]:
    """Milliseconds and giga-multiply-adds, by network and side of the images."""
    with path.open(newline="") as lines:
        return {
            (row["model"], int(row["infer_img_size"])): (
                float(row["infer_step_time"]),
                float(row["infer_gmacs"]),
            )
            for row in csv.DictReader(lines)
            if row["infer_batch_size"] == "1" and float(row["infer_gmacs"] or 0) > 0
        }


def read_accuracies(path: Path) -> dict[Key, float]:
    """The best published accuracy of a network for images of a size."""
    best: dict[Key, float] = defaultdict(float)
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            key = row["model"].partition(".")[0], int(row["img_size"])
            best[key] = max(best[key], float(row["top1"]))
    return dict(best)


def replay(
    path: Path,
    table: dict[Key, tuple[float, float]],
    other: dict[Key, tuple[float, float]],
    percent: dict[Key, float],
) -> dict[str, Any]:
    """Choices on the device of one public table."""
    keys = [key for key in table if key in other and key in percent]
    true_ms = np.array([table[key][0] for key in keys])
    work = {
        "FLOPs": np.array([table[key][1] for key in keys]),
        "the other device's times": np.array([other[key][0] for key in keys]),
    }
    accuracies = np.array([percent[key] for key in keys])
    return Choices(path.stem, true_ms, rescale(work, true_ms), accuracies).compare(LIMITS_MS)


def load_own(folder: Path) -> list[Measured]:
    """What goldnas measured of all networks, in fp32."""
    rows = load_zoo(folder / "all.json").rows("fp32").values()
    return [row for row in rows if isinstance(row, Measured) and row.flops]


def beside_others(
    rows: list[Measured], path: Path, table: dict[Key, tuple[float, float]]
) -> dict[str, Any]:
    """Choices on this machine, by a public table of another."""
    common = [
        (row, table[key])
        for row in rows
        if row.image_size == 224
        and (key := (TIMM_NAMES.get(row.network.rpartition("/")[2], ""), row.image_size))
        in table
    ]
    true_ms = np.array([row.latency_us / 1000 for row, _ in common])
    work = {
        "FLOPs": np.array([float(row.flops or 0) for row, _ in common]),
        f"times of {path.stem}": np.array([ms for _, (ms, _) in common]),
    }
    percent = np.array([row.accuracy.percent for row, _ in common])
    limits = np.geomspace(*np.quantile(true_ms, (0.1, 0.9)), len(LIMITS_MS))
    return Choices("this machine", true_ms, rescale(work, true_ms), percent).compare(limits)


def beside_pick(folder: Path) -> dict[str, Any]:
    """The limits of ``benchmarks/ready_made.py``: by FLOPs, and by ``goldnas pick``.

    True times are of the measurement of everything; pick measured on its own, at other times.
    The error of goldnas is between two measurements of one network.
    """
    result = json.loads((folder / "result.json").read_text())
    rows = load_own(folder)
    true_ms = np.array([row.latency_us / 1000 for row in rows])
    flops = rescale({"FLOPs": np.array([float(row.flops or 0) for row in rows])}, true_ms)
    limits_ms = [float(one["limit"].removesuffix("ms")) for one in result["picks"]]
    percent = np.array([row.accuracy.percent for row in rows])
    compared = Choices("this machine, all sizes", true_ms, flops, percent).compare(limits_ms)
    compared["by"]["goldnas pick"] = {
        "mape_percent": round(float(np.mean(result["again_percent"])), 1),
        "times_limit": [
            round(one["choice_ms"] / limit, 3)
            for one, limit in zip(result["picks"], limits_ms, strict=True)
        ],
        "points_below_optimum": [
            round(one["optimum_percent"] - one["choice_percent"], 1) for one in result["picks"]
        ],
    }
    return compared


def rescale(work: dict[str, Numbers], true_ms: Numbers) -> dict[str, Numbers]:
    """Estimates in ms: each amount times the median ratio."""
    return {name: amount * np.median(true_ms / amount) for name, amount in work.items()}


def mape(estimate: Numbers, true: Numbers) -> float:
    """Mean absolute error in percent of the true values."""
    return float(100 * np.mean(np.abs(estimate / true - 1)))


def show(one: dict[str, Any]) -> None:
    """Print a comparison."""
    print(f"\n{one['device']}, {one['networks']} networks, limits in ms: {one['limits_ms']}")
    for name, figures in one["by"].items():
        times, points = figures["times_limit"], figures["points_below_optimum"]
        print(
            f"  by {name}: error {figures['mape_percent']} %, over the limit in "
            f"{sum(t > 1 for t in times)} of {len(times)}\n    times the limit {times}\n"
            f"    points below the optimum {points}"
        )


if __name__ == "__main__":
    main()
