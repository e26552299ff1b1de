"""What a loop makes of latencies, and whether tables predict it for fresh networks.

    python benchmarks/loops.py --out build/loops
    python benchmarks/loops.py --out build/loops-full --full

It profiles a small space on this machine: hot, and then in each loop. Then it calls fresh
random networks hot and in each loop, in a program of a few lines that knows onnxruntime and not
goldnas. It prints, by loop and quantile, the ratio to the same quantile of hot calls, and how
the predictions of the tables compare: the error of p50, and the share of networks for which the
predicted p90 and p99 hold.

By default it takes about 14 minutes on a quiet laptop, most of it idle gaps. So 5 and 15 calls
a second have too few calls for p99 (299). With --full each network is called 300 times in each
loop, which takes two hours. Run an interrupted command again to go on: --out keeps the tables
and each network. result.json is written at the end.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import goldnas
from goldnas.exporting.onnx import to_onnx
from goldnas.lut import QUANTILES, Loop
from goldnas.profiling.calls import CALLS_NEEDED
from goldnas.resources import Latency
from goldnas.resources.costs import sum_costs
from goldnas.spaces import SearchSpace, make_space
from goldnas.spaces.sampling import draw_architectures

LOOPS = {"hot": 1000, "paced:5/s": 30, "paced:15/s": 60, "paced:60/s": 300, "loaded:1": 300}
"""By loop, the calls of each network."""

PLAIN = """
import subprocess, sys, time
import numpy as np, onnxruntime as ort
path, rate, neighbours, calls = sys.argv[1], *map(float, sys.argv[2:])
busy = "import numpy as np\\na = np.ones((300, 300), 'f')\\nwhile True: a @ a"
beside = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(int(neighbours))]
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
(image,) = session.get_inputs()
inputs = {image.name: np.random.rand(*image.shape).astype("f")}
time.sleep(1 if beside else 0)
due = time.perf_counter()
try:
    for call in range(int(calls) + 5):
        if rate:
            due = max(due + 1 / rate, time.perf_counter())
            time.sleep(max(0, due - time.perf_counter()))
        began = time.perf_counter()
        session.run(None, inputs)
        took = time.perf_counter() - began
        if call >= 5:
            print(1e6 * took)
finally:
    for process in beside:
        process.kill()
"""


def main() -> None:
    """Make the tables, call the networks, and compare."""
    arguments = read_arguments()
    out: Path = arguments.out
    space = make_space(
        "gold",
        cells=arguments.cells,
        channels=arguments.channels,
        input_shape=(3, arguments.size, arguments.size),
        classes=10,
    ).with_operators(arguments.operators)
    began = time.time()
    loops = [loop for loop in LOOPS if loop == "hot" or loop in arguments.loops]
    count = {loop: max(LOOPS[loop], 300 if arguments.full else 0) for loop in loops}
    tables = make_tables(space, out, {loop: count[loop] for loop in loops if loop != "hot"})
    networks = {a.fingerprint: a for a in draw_architectures(space, arguments.networks, seed=7)}
    called: dict[str, dict[str, dict[str, float]]] = {}
    for number, (name, architecture) in enumerate(networks.items(), 1):
        model = out / f"{name}.onnx"
        if not model.exists():
            model.write_bytes(to_onnx(space.build(architecture), (1, *space.input_shape)))
        called[name] = call_network(model, out / f"{name}.json", count)
        print(f"{number} of {len(networks)} networks", file=sys.stderr, flush=True)
    rows = []
    for loop in loops[1:]:
        for quantile in QUANTILES:
            if count[loop] < CALLS_NEEDED[quantile]:
                continue
            latency = Latency(tables[loop], space, quantile)
            predicted_us = {
                name: sum_costs(latency, space.plan(a).parts()) for name, a in networks.items()
            }
            row = compare(loop, quantile, called, predicted_us, tables[loop])
            rows.append({"calls": count[loop], **row})
    result = {
        "machine": tables["hot"].conditions.machine,
        "runtime": tables["hot"].conditions.backend,
        "networks": len(networks),
        "calls": count,
        "seconds": round(time.time() - began),
        "rows": rows,
        "called_us": called,
    }
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    show(rows)


def read_arguments() -> argparse.Namespace:
    """The options; those of an earlier run in the same folder have to be the same."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder, to go on in")
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--loops", nargs="+", default=list(LOOPS))
    parser.add_argument("--full", action="store_true", help="300 calls in each loop")
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument(
        "--operators", nargs="+", default=["skip_connect", "sep_conv_3x3", "max_pool_3x3"]
    )
    arguments = parser.parse_args()
    told = {name: str(value) for name, value in vars(arguments).items() if name != "out"}
    arguments.out.mkdir(parents=True, exist_ok=True)
    options: Path = arguments.out / "options.json"
    if options.exists() and json.loads(options.read_text()) != told:
        parser.error(f"{arguments.out} has results with other options: choose another --out")
    options.write_text(json.dumps(told))
    return arguments


def make_tables(
    space: SearchSpace, out: Path, calls: Mapping[str, int]
) -> dict[str, goldnas.LatencyTable]:
    """A hot table, and one of each loop with the same rows, which are hot in all of them."""
    hot = goldnas.profile(space, out=out / "hot.json")
    tables = {"hot": hot}
    for loop, count in calls.items():
        path = out / f"{loop.replace(':', '-').replace('/', '-')}.json"
        if not path.exists():
            conditions = msgspec.structs.replace(hot.conditions, loop=loop)
            dataclasses.replace(hot, conditions=conditions, path=path).save()
        tables[loop] = goldnas.profile(space, out=path, loop=loop, calls=count)
    return tables


def call_network(
    model: Path, kept: Path, calls: Mapping[str, int]
) -> dict[str, dict[str, float]]:
    """Quantiles of the calls of a network in each loop, without goldnas."""
    found: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else {}
    for loop, count in calls.items():
        if loop in found:
            continue
        how = Loop.parse(loop)
        # From a folder without goldnas, which is not on the path either.
        words = [model.resolve(), how.rate_hz or 0, how.neighbours, count]
        command = [sys.executable, "-I", "-c", PLAIN, *map(str, words)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
        times_us = np.array([float(line) for line in done.stdout.split()])
        found[loop] = {name: float(np.quantile(times_us, q)) for name, q in QUANTILES.items()}
        kept.write_text(json.dumps(found))
    return found


def compare(
    loop: str,
    quantile: str,
    called: Mapping[str, Mapping[str, Mapping[str, float]]],
    predicted_us: Mapping[str, float],
    table: goldnas.LatencyTable,
) -> dict[str, Any]:
    """One row of the result."""
    measured = np.array([one[loop][quantile] for one in called.values()])
    hot = np.array([one["hot"][quantile] for one in called.values()])
    predicted = np.array([predicted_us[name] for name in called])
    low, middle, high = np.quantile(measured / hot, [0.05, 0.5, 0.95])
    fit = table.last_calibration.loop.quantiles[quantile]  # type: ignore[union-attr,index]
    return {
        "loop": loop,
        "quantile": quantile,
        "ratio_p5": round(float(low), 3),
        "ratio_median": round(float(middle), 3),
        "ratio_p95": round(float(high), 3),
        "offset_us": round(fit.offset_us, 1),
        "factor": round(fit.factor, 4),
        "margin_percent": round(fit.margin_percent, 1),
        "fit_error_percent": round(fit.error_percent, 2),
        "error_percent": round(100 * float(np.abs(predicted / measured - 1).mean()), 2),
        "holds_percent": round(100 * float((measured <= predicted).mean()), 1),
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows."""
    header = (
        f"{'loop':12}{'':5}{'calls':>6}  {'ratio to hot (5-95 %)':>24}{'factor':>9}"
        f"{'offset us':>11}{'margin %':>10}{'error %':>9}{'holds %':>9}"
    )
    print(header)
    for row in rows:
        ratio = f"{row['ratio_median']:.2f} ({row['ratio_p5']:.2f}-{row['ratio_p95']:.2f})"
        bound = row["quantile"] != "p50"
        print(
            f"{row['loop']:12}{row['quantile']:5}{row['calls']:6}  {ratio:>24}"
            f"{row['factor']:9.3f}{row['offset_us']:11.1f}{row['margin_percent']:10.1f}"
            f"{row['error_percent']:9.2f}{row['holds_percent'] if bound else '-':>9}"
        )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
