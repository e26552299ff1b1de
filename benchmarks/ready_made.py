"""Whether ``goldnas pick`` finds what measuring everything finds, and in how much less time.

    python benchmarks/ready_made.py --out runs/ready_made

Measures every network of NETWORKS at three sizes once, into ``all.json`` in --out. Then it
picks from nothing for ten limits, spread over the latencies that were found. Prints each answer
beside the true optimum, the share of the time, and what a choice by FLOPs would have taken. At
last it measures twenty of the networks again, and those of 224 pixels in int8. Its figures go
to ``result.json``. Interrupted, it goes on. Takes an hour on an idle processor.
"""

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import goldnas
from goldnas.files import write_atomic
from goldnas.picking.pick import Picked
from goldnas.zoo.file import Measured, Zoo, load_zoo

NETWORKS = (
    *("alexnet", "squeezenet*", "mobilenet*", "mnasnet*", "shufflenet*", "googlenet"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "resnext50*"),
    *("inception_v3", "densenet121"),
    *("densenet169", "densenet201", "regnet_?_400mf", "regnet_?_800mf", "regnet_?_1_6gf"),
    *("regnet_?_3_2gf", "efficientnet_b[0-5]", "efficientnet_v2_s", "convnext_tiny"),
    *("swin_t", "vit_b_32"),
)
SIZES = (160, 192, 224)
LIMITS = 10
AGAIN = 20


def main() -> None:
    """Measure what is not measured yet, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--limits", type=int, default=LIMITS)
    parser.add_argument("--again", type=int, default=AGAIN)
    parser.add_argument("--int8", nargs="*", default=["*"], help="of the networks, at 224")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    of_all = {"networks": arguments.networks, "size": arguments.sizes}

    path = arguments.out / "result.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def keep(**more: Any) -> None:
        result.update(more)
        write_atomic(path, json.dumps(result, indent=1))

    began = time.monotonic()
    found = measure(arguments.out / "all.json", exhaustive=True, **of_all)
    seconds = result.get("exhaustive_s", 0.0) + time.monotonic() - began
    if "exhaustive_s" not in result or time.monotonic() - began > 60:
        keep(exhaustive_s=seconds, networks=len(found.options))
    truth = {row.key: row for _, row in found.zoo.measured()}
    print(
        f"{len(truth)} networks measured in {result['exhaustive_s'] / 60:.1f} min", flush=True
    )

    quantiles = np.quantile(
        [row.latency_us for row in truth.values()], np.linspace(0.1, 0.9, arguments.limits)
    )
    for limit_us in quantiles:
        limit = f"{limit_us / 1000:.3g}ms"
        if any(one["limit"] == limit for one in result.get("picks", ())):
            continue
        for old in arguments.out.glob("picked*"):
            old.unlink()
        picked = measure(arguments.out / "picked.json", budgets=[limit], **of_all)
        keep(picks=[*result.get("picks", ()), compare(picked, truth, limit)])
    for one in result["picks"]:
        print(json.dumps(one), flush=True)

    rows = sorted(truth.values(), key=lambda row: row.latency_us)
    chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, arguments.again).astype(int)]
    if "again_percent" not in result:
        again = measure_again(arguments.out / "again.json", chosen)
        differences = [abs(100 * (again[r.key] / r.latency_us - 1)) for r in chosen]
        keep(again_percent=differences)
    differences = result["again_percent"]
    print(
        f"{len(differences)} networks again: median {np.median(differences):.2f} %, 95th "
        f"percentile {np.quantile(differences, 0.95):.2f} %"
    )
    if arguments.int8:
        names = [n for n in arguments.int8 if n != "*"] or arguments.networks
        of_int8 = {"networks": names, "size": arguments.sizes[-1:]}
        measure(arguments.out / "all.json", precision="int8", exhaustive=True, **of_int8)
        print_int8(load_zoo(arguments.out / "all.json"), keep)


def measure(out: Path, **settings: Any) -> Picked:
    """What a pick finds."""
    return goldnas.pick(
        out=out,
        on_row=lambda precision, row: print(" ", precision, row.key, flush=True),
        **settings,
    )


def compare(picked: Picked, truth: dict[str, Measured], limit: str) -> dict[str, Any]:
    """A pick beside the optimum, by what was measured of everything."""
    limit_us = picked.limits.latency_us
    assert limit_us is not None
    fitting = [row for row in truth.values() if row.latency_us <= limit_us]
    best = max(fitting, key=lambda row: (row.accuracy.percent, -row.latency_us))
    choice = picked.choice
    chosen = None if choice is None else truth[choice.candidate.key]
    near = [
        row
        for row in truth.values()
        if row.accuracy.percent > best.accuracy.percent and row.shortest_us <= limit_us
    ]
    by_flops = choose_by_flops(truth.values(), limit_us)
    return {
        "limit": limit,
        "optimum": best.key,
        "optimum_percent": best.accuracy.percent,
        "choice": None if chosen is None else chosen.key,
        "choice_percent": None if chosen is None else chosen.accuracy.percent,
        "choice_ms": None if chosen is None else chosen.latency_us / 1000,
        "right": chosen is not None
        and (chosen.key == best.key or chosen in near or is_in_noise(best, picked, limit_us)),
        "same": chosen is not None and chosen.key == best.key,
        "measured": len(picked.options) - picked.unmeasured.total,
        "seconds": round(picked.seconds, 1),
        "by_flops": by_flops.key,
        "by_flops_times_limit": round(by_flops.latency_us / limit_us, 2),
    }


def choose_by_flops(rows: Iterable[Measured], limit_us: float) -> Measured:
    """The most accurate network that keeps a limit if time were proportional to FLOPs.

    The factor is the median over all networks, which who chooses by FLOPs does not know.
    """
    counted = [(row, row.flops) for row in rows if row.flops]
    factor = float(np.median([row.latency_us / flops for row, flops in counted]))
    fitting = [row for row, flops in counted if factor * flops <= limit_us]
    smallest, _ = min(counted, key=lambda one: one[1])
    return max(fitting, key=lambda row: row.accuracy.percent, default=smallest)


def is_in_noise(best: Measured, picked: Picked, limit_us: float) -> bool:
    """Whether the optimum was measured as over the limit, by less than its interval."""
    row = picked.zoo.rows("fp32").get(best.key)
    return isinstance(row, Measured) and row.shortest_us <= limit_us < row.latency_us


def measure_again(out: Path, rows: list[Measured]) -> dict[str, float]:
    """The latencies in microseconds of some networks, measured anew."""
    found: dict[str, float] = {}
    for row in rows:
        name = row.network.rpartition("/")[2]
        picked = measure(out, networks=[name], size=[row.image_size], exhaustive=True)
        found |= {one.key: one.latency_us for _, one in picked.zoo.measured()}
    return found


def print_int8(zoo: Zoo, keep: Any) -> None:
    """In how many networks int8 is slower."""
    exact, int8 = zoo.rows("fp32"), zoo.rows("int8")
    ratios = {
        key: row.latency_us / other.latency_us
        for key, row in int8.items()
        if isinstance(row, Measured) and isinstance(other := exact.get(key), Measured)
    }
    slower = [key for key, ratio in ratios.items() if ratio > 1]
    keep(int8_ratios=ratios)
    if ratios:
        print(
            f"int8 is slower in {len(slower)} of {len(ratios)} networks; its time is "
            f"{min(ratios.values()):.2f} to {max(ratios.values()):.2f} of fp32's, median "
            f"{np.median(list(ratios.values())):.2f}"
        )


if __name__ == "__main__":
    main()
