"""How well a table of a network's sizes predicts sizes that were not measured for it.

    python benchmarks/shrink_latency.py --out runs/shrink-latency

For each network: 32 sizes are measured for a table, as ``goldnas shrink`` does, then 30 others.
Their latencies are predicted by the table, and by FLOPs (a factor and an offset, fitted to the
same 32). Then one layer is measured at every width, to show how many channels this machine
computes at a time. Prints the tables and writes them to --report.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from goldnas.architecture import Architecture
from goldnas.exporting.narrowed import Narrowed
from goldnas.exporting.onnx import to_onnx
from goldnas.picking.config import WHOLE_NETWORKS
from goldnas.profiling.measuring import Estimate
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.profile_widths import profile_widths
from goldnas.profiling.session import Session
from goldnas.profiling.width_step import measure_step
from goldnas.searching.widths import build_widths
from goldnas.spaces import import_space
from goldnas.spaces.making import make_shrunk_space
from goldnas.spaces.zoo import describe_ready_made
from goldnas.trust import allow

NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {
    "shrink_networks:resnet": (16, {"blocks": 1}),
    "shrink_networks:mobilenet": (16, {"blocks": 1}),
    "zoo:resnet18": (64, {}),
    "zoo:mobilenet_v3_small": (64, {}),
}
"""Side of the images in pixels, and other settings."""

FRESH_SEED = 1_000


def describe(network: str, side: int, settings: dict[str, Any]) -> Architecture:
    """A whole network."""
    if network.startswith("zoo:"):
        return describe_ready_made(network, input_shape=(3, side, side), classes=10)
    allow(network)
    import_space(network)
    given = {"input_shape": [3, side, side], "classes": 10, **settings}
    return Architecture(space=network, settings=given, choices={})


def try_network(network: str, out: Path, step: int, fresh: int) -> dict[str, Any]:
    """Errors of predictions for one network, in per cent."""
    side, settings = NETWORKS[network]
    whole = describe(network, side, settings)
    space = make_shrunk_space(network=msgspec.json.decode(whole.to_json()), step=step)
    backend = OnnxruntimeBackend(protocol=WHOLE_NETWORKS, on_warning=print)
    began = time.monotonic()
    path = out / f"{network.replace(':', '-')}.json"
    table = profile_widths(space, path, backend, on_warning=print)
    seconds = time.monotonic() - began
    costs = build_widths(space, [], [table])
    sizes = {str(i): s for i, s in enumerate(space.draw(fresh, seed=FRESH_SEED))}
    narrowed = Narrowed(space, 1)
    session = Session(OnnxruntimeBackend(protocol=WHOLE_NETWORKS, on_warning=print))
    models = {name: narrowed.model(size) for name, size in sizes.items()}
    estimates = {name: Estimate({name: 1.0}) for name in models}
    results = session.measure(models, estimates.values())
    measured = np.array([estimates[name].latency_us(results) for name in sizes])
    totals = [costs.total(size) for size in sizes.values()]
    latency = next(name for name in costs.names if name.startswith("latency"))
    predicted = np.array([total[latency] for total in totals])
    calibration = table.calibrations[0]
    known_us = np.array([n.latency_us for n in calibration.networks])
    known = [
        sum(costs._prices["FLOPs"][part] * count for part, count in space.count(size).items())
        for size in [space.whole, *space.draw(len(known_us) - 1, seed=0)]
    ]
    rows = np.column_stack([np.ones(len(known_us)), known]) / known_us[:, None]
    line, *_ = np.linalg.lstsq(rows, np.ones(len(known_us)), rcond=None)
    by_flops = line[0] + line[1] * np.array([total["FLOPs"] for total in totals])
    return {
        "network": network,
        "side": side,
        "sizes": float(space.log10_size()),
        "seconds": seconds,
        "whole_ms": float(max(known_us)) / 1e3,
        "cross_validated_percent": calibration.accuracy.mape_percent,
        "noise_floor_percent": calibration.noise_floor_percent,
        "mape_percent": 100 * float(np.abs(predicted / measured - 1).mean()),
        "largest_percent": 100 * float(np.abs(predicted / measured - 1).max()),
        "flops_mape_percent": 100 * float(np.abs(by_flops / measured - 1).mean()),
        "measured_us": measured.round(2).tolist(),
        "predicted_us": predicted.round(2).tolist(),
    }


def try_widths(widths: range) -> dict[int, float]:
    """Microseconds of three convolutions, of which the middle one has each width."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = {
            str(w): to_onnx(
                nn.Sequential(
                    *(nn.Conv2d(64, w, 3, padding=1), nn.ReLU()),
                    *(nn.Conv2d(w, 64, 3, padding=1), nn.ReLU()),
                ),
                (1, 64, 16, 16),
            )
            for w in widths
        }
    session = Session(OnnxruntimeBackend(protocol=WHOLE_NETWORKS, on_warning=print))
    estimates = {name: Estimate({name: 1.0}) for name in models}
    results = session.measure(models, estimates.values())
    return {int(name): round(e.latency_us(results), 2) for name, e in estimates.items()}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--fresh", type=int, default=30, help="sizes that no table knows")
    parser.add_argument("--widths", type=int, nargs=2, default=[16, 64], help="of the layer")
    parser.add_argument("--report", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    step = measure_step(OnnxruntimeBackend(protocol=WHOLE_NETWORKS, on_warning=print))
    print(f"this machine computes {step} channels at a time")
    rows = [try_network(n, arguments.out, step, arguments.fresh) for n in arguments.networks]
    print("| network | whole, ms | table, % | largest, % | by FLOPs, % | noise, % | s |")
    print("|" + " --- |" * 7)
    for row in rows:
        print(
            f"| {row['network']} at {row['side']} px | {row['whole_ms']:.3f} "
            f"| {row['mape_percent']:.1f} | {row['largest_percent']:.1f} "
            f"| {row['flops_mape_percent']:.1f} | {row['noise_floor_percent']:.1f} "
            f"| {row['seconds']:.0f} |"
        )
    first, last = arguments.widths
    widths = try_widths(range(first, last + 1))
    print("width: us")
    print(", ".join(f"{width}: {us:.0f}" for width, us in widths.items()))
    if arguments.report:
        text = json.dumps(
            {
                "machine": platform.processor() or platform.machine(),
                "step": step,
                "networks": rows,
                "widths_us": widths,
                "mean_percent": statistics.fmean(row["mape_percent"] for row in rows),
            },
            indent=1,
        )
        arguments.report.write_text(text + "\n")


if __name__ == "__main__":
    main()
