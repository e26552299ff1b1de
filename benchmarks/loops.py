"""What a loop makes of latencies, and whether tables predict it for fresh networks.

    python benchmarks/loops.py --out build/loops

It profiles a small space on this machine: hot, and then in each loop. Then it calls fresh
random networks hot and in each loop, in a program of a few lines that knows onnxruntime and not
goldnas. It prints, by loop and quantile, the ratio to the same quantile of hot calls, and how
the predictions of the tables compare: the error of p50, and the share of networks for which the
predicted p90 and p99 hold.

A machine that changes its speed between a table and the calls spoils any prediction. To tell
this apart, the program also calls the networks that the table was fitted to, in one shuffled
order with the fresh ones: a short series of calls of every network, again and again, half of it
before goldnas calls the networks and half of it after. So there are three errors:

- raw: the table as it is;
- at its speed: the table times one factor for each loop, by which the networks of the table
  were slower in this program than in the table. The fresh networks have no part in it;
- same minutes: factor, offset and margin from what this program found for the networks of the
  table, with the same fit and the same hot predictions.

The scatter is the standard deviation of the logarithm of measured over predicted: what no
common factor can mend.

By default it takes 26 minutes on a laptop, most of it idle gaps. So 5 and 15 calls a second
have too few calls for p99 (299). With --full each network is called 304 times in each loop,
which takes almost two hours. Run an interrupted command again to go on: --out keeps the tables
and each half. result.json is written at the end.
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
import numpy.typing as npt

import goldnas
from goldnas.architecture import Architecture
from goldnas.exporting.onnx import to_onnx
from goldnas.lut import QUANTILES, Loop
from goldnas.lut.fit.loop import fit_quantile
from goldnas.lut.loop import QuantileName
from goldnas.profiling.calls import CALLS_NEEDED
from goldnas.profiling.loop_calibration import draw_loop_networks
from goldnas.resources import HOT, Latency
from goldnas.resources.costs import sum_costs
from goldnas.spaces import SearchSpace, make_space
from goldnas.spaces.sampling import draw_architectures

Values = npt.NDArray[np.float64]

LOOPS = {"paced:5/s": (30, 5), "paced:15/s": (40, 10), "paced:60/s": (304, 19)}
LOOPS |= {"loaded:1": (304, 19)}
"""By loop, the calls of each network, and how many of them follow each other."""

HALVES = ("before", "after")
"""Of the calls: goldnas calls the networks of the table between them."""

PLAIN = """
import json, random, subprocess, sys, time
import numpy as np, onnxruntime as ort
told = json.loads(sys.argv[1])
busy = "import numpy as np\\na = np.ones((300, 300), 'f')\\nwhile True: a @ a"
options = ort.SessionOptions()
options.intra_op_num_threads = 1
sessions = {}
for name, path in told["models"].items():
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    sessions[name] = session, {image.name: np.random.rand(*image.shape).astype("f")}

def call(name):
    session, inputs = sessions[name]
    began = time.perf_counter()
    session.run(None, inputs)
    return 1e6 * (time.perf_counter() - began)

def call_hot(name):
    end = time.perf_counter() + told["hot_s"]
    call(name)
    calls_us = [call(name)]
    while time.perf_counter() < end:
        calls_us.append(call(name))
    return calls_us

def call_in_loop(name):
    calls_us, due = [], time.perf_counter()
    for number in range(told["series"] + 1):
        if told["rate_hz"]:
            due = max(due + 1 / told["rate_hz"], time.perf_counter())
            time.sleep(max(0, due - time.perf_counter()))
        calls_us.append(call(name))
    return calls_us[1:]

found = []
order = random.Random(told["seed"])
for number in range(told["rounds"]):
    names = order.sample(list(sessions), len(sessions))
    hot = {name: call_hot(name) for name in names} if told["neighbours"] else {}
    beside = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(told["neighbours"])]
    try:
        time.sleep(0.5 if beside else 0)
        for name in names:
            before = hot.get(name) or call_hot(name)
            found.append({"network": name, "hot_us": before, "calls_us": call_in_loop(name)})
    finally:
        for process in beside:
            process.kill()
            process.wait()
    print(f"  round {number + 1} of {told['rounds']}", file=sys.stderr, flush=True)
print(json.dumps(found))
"""

HOT_S = 0.3
"""Of hot calls of each network beside each loop."""


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
    print("hot table", file=sys.stderr, flush=True)
    hot = goldnas.profile(space, out=out / "hot.json")
    of_table = {a.fingerprint: a for a in draw_loop_networks(space)}
    drawn = draw_architectures(space, arguments.networks + len(of_table), seed=7)
    fresh = {a.fingerprint: a for a in drawn if a.fingerprint not in of_table}
    fresh = dict(list(fresh.items())[: arguments.networks])
    models = export(space, {**of_table, **fresh}, out)
    rows, rounds, following = [], {}, {}
    for loop in arguments.loops:
        calls, series = LOOPS[loop]
        calls = arguments.calls or (max(calls, 304) if arguments.full else calls)
        found = {"before": call_plainly(models, out, loop, "before", calls, series)}
        print(f"{loop}: table", file=sys.stderr, flush=True)
        table = make_table(hot, space, out, loop, calls)
        found["after"] = call_plainly(models, out, loop, "after", calls, series)
        series_found = [*found["before"], *found["after"]]
        rounds[loop] = find_speeds(series_found, len(models))
        following[loop] = find_following(series_found)
        rows += compare(loop, series_found, table, space, of_table, fresh)
    result = {
        "machine": hot.conditions.machine,
        "runtime": hot.conditions.backend,
        "networks": {"of the table": len(of_table), "fresh": len(fresh)},
        "seconds": round(time.time() - began),
        "rows": rows,
        "speed_by_round": rounds,
        "follows_hot": following,
    }
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    show(rows)


def read_arguments() -> argparse.Namespace:
    """The options; those of an earlier run in the same folder have to be the same."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder, to go on in")
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--loops", nargs="+", choices=list(LOOPS), default=list(LOOPS))
    parser.add_argument("--full", action="store_true", help="304 calls in each loop")
    parser.add_argument("--calls", type=int, help="of each network, in each loop")
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument(
        "--operators", nargs="+", default=["skip_connect", "sep_conv_3x3", "max_pool_3x3"]
    )
    arguments = parser.parse_args()
    # Further loops may be added to a folder.
    told = {n: str(v) for n, v in vars(arguments).items() if n not in ("out", "loops")}
    arguments.out.mkdir(parents=True, exist_ok=True)
    options: Path = arguments.out / "options.json"
    if options.exists() and json.loads(options.read_text()) != told:
        parser.error(f"{arguments.out} has results with other options: choose another --out")
    options.write_text(json.dumps(told))
    return arguments


def export(
    space: SearchSpace, networks: Mapping[str, Architecture], out: Path
) -> dict[str, Path]:
    """ONNX files by fingerprint."""
    models = {name: out / f"{name}.onnx" for name in networks}
    for name, path in models.items():
        if not path.exists():
            content = to_onnx(space.build(networks[name]), (1, *space.input_shape))
            path.with_suffix(".part").write_bytes(content)
            path.with_suffix(".part").rename(path)
    return models


def make_table(
    hot: goldnas.LatencyTable, space: SearchSpace, out: Path, loop: str, calls: int
) -> goldnas.LatencyTable:
    """A table of a loop with the rows of the hot one, which are hot in all of them."""
    path = out / f"{in_a_name(loop)}.json"
    if not path.exists():
        conditions = msgspec.structs.replace(hot.conditions, loop=loop)
        dataclasses.replace(hot, conditions=conditions, path=path).save()
    return goldnas.profile(space, out=path, loop=loop, calls=calls)


def call_plainly(
    models: Mapping[str, Path], out: Path, loop: str, half: str, calls: int, series: int
) -> list[dict[str, Any]]:
    """Half of the calls of all networks, without goldnas: each series, in the order made."""
    kept = out / f"{in_a_name(loop)}-{half}.calls.json"
    if not kept.exists():
        print(f"{loop}: {half}", file=sys.stderr, flush=True)
        how = Loop.parse(loop)
        rounds = max(1, round(calls / len(HALVES) / series))
        told = {
            "models": {name: str(path.resolve()) for name, path in models.items()},
            **{"rate_hz": how.rate_hz, "neighbours": how.neighbours},
            **{"rounds": rounds, "series": series},
            **{"hot_s": HOT_S / rounds / len(HALVES), "seed": half},
        }
        # From a folder without goldnas, which is not on the path either.
        command = [sys.executable, "-I", "-c", PLAIN, json.dumps(told)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd="/")
        kept.with_suffix(".part").write_text(done.stdout)
        kept.with_suffix(".part").rename(kept)
    found: list[dict[str, Any]] = json.loads(kept.read_text())
    return found


def in_a_name(loop: str) -> str:
    """A loop as a part of a file's name."""
    return loop.replace(":", "-").replace("/", "-")


def join(series: list[dict[str, Any]], what: str) -> dict[str, Values]:
    """All calls of each network, hot or in the loop."""
    joined: dict[str, list[float]] = {}
    for one in series:
        joined.setdefault(one["network"], []).extend(one[what])
    return {name: np.array(calls_us) for name, calls_us in joined.items()}


def find_speeds(series: list[dict[str, Any]], together: int) -> list[float]:
    """How slow each round was for the median network, relative to all its calls."""
    usual = {name: np.median(calls) for name, calls in join(series, "calls_us").items()}
    rounds = [series[start : start + together] for start in range(0, len(series), together)]
    return [
        round(
            float(np.median([np.median(s["calls_us"]) / usual[s["network"]] for s in one])), 3
        )
        for one in rounds
    ]


def find_following(series: list[dict[str, Any]]) -> float:
    """How far calls in the loop follow the hot calls before them: 1 if both are slow alike.

    The slope of the logarithm of a series' median against that of its hot calls' p10, each
    relative to the same network's other series.
    """
    hot: dict[str, list[float]] = {}
    called: dict[str, list[float]] = {}
    for one in series:
        hot.setdefault(one["network"], []).append(np.log(np.quantile(one["hot_us"], 0.1)))
        called.setdefault(one["network"], []).append(np.log(np.median(one["calls_us"])))
    x, y = (np.array([np.array(v) - np.mean(v) for v in d.values()]) for d in (hot, called))
    return round(float((x * y).sum() / (x * x).sum()), 3)


def compare(
    loop: str,
    series: list[dict[str, Any]],
    table: goldnas.LatencyTable,
    space: SearchSpace,
    of_table: Mapping[str, Architecture],
    fresh: Mapping[str, Architecture],
) -> list[dict[str, Any]]:
    """The rows of one loop."""
    calls_us, hot_calls_us = join(series, "calls_us"), join(series, "hot_us")
    fitted = table.last_calibration.loop  # type: ignore[union-attr]
    assert fitted
    in_table = {n.fingerprint: n.quantiles for n in fitted.networks}
    known = [name for name in of_table if name in in_table]

    def predict(latency: Latency, name: str) -> float:
        architecture = (of_table | dict(fresh))[name]
        return sum_costs(latency, space.plan(architecture).parts())

    hot = Latency(table, space, HOT)
    hot_us = {name: predict(hot, name) for name in calls_us}
    speed = float(
        np.median([np.median(calls_us[n]) / in_table[n]["p50"].latency_us for n in known])
    )
    rows = []
    for quantile, share in QUANTILES.items():
        if quantile not in fitted.quantiles or len(calls_us[known[0]]) < CALLS_NEEDED[quantile]:
            continue
        measured_us = {name: float(np.quantile(us, share)) for name, us in calls_us.items()}
        measured = np.array([measured_us[name] for name in fresh])
        to_hot = measured / [np.quantile(hot_calls_us[name], share) for name in fresh]
        latency = Latency(table, space, quantile)
        predicted = np.array([predict(latency, name) for name in fresh])
        anew = fit_quantile(
            quantile, [hot_us[name] for name in known], [measured_us[name] for name in known]
        )
        in_same_minutes = np.array([anew.predict_us(hot_us[name]) for name in fresh])
        fit = fitted.quantiles[quantile]
        low, middle, high = np.quantile(to_hot, [0.05, 0.5, 0.95])
        rows.append(
            {
                "loop": loop,
                "quantile": quantile,
                "calls": len(calls_us[known[0]]),
                "ratio_p5": round(float(low), 3),
                "ratio_median": round(float(middle), 3),
                "ratio_p95": round(float(high), 3),
                "offset_us": round(fit.offset_us, 1),
                "factor": round(fit.factor, 4),
                "margin_percent": round(fit.margin_percent, 1),
                "slowdown": round(fitted.slowdown, 3),
                "drift_percent": round(fitted.drift_percent, 2),
                "fit_error_percent": round(fit.error_percent, 2),
                "speed": round(speed, 3),
                "raw": judge(quantile, measured, predicted),
                "at_its_speed": judge(quantile, measured, speed * predicted),
                "same_minutes": judge(quantile, measured, in_same_minutes),
                "same_minutes_margin_percent": round(anew.margin_percent, 1),
                "scatter_percent": round(100 * float(np.log(measured / predicted).std()), 2),
                "fresh": {
                    name: {
                        "hot_p10_us": round(float(np.quantile(hot_calls_us[name], 0.1)), 1),
                        "predicted_hot_us": round(hot_us[name], 1),
                        "measured_us": round(measured_us[name], 1),
                        "predicted_us": round(float(us), 1),
                    }
                    for name, us in zip(fresh, predicted, strict=True)
                },
            }
        )
    return rows


def judge(quantile: QuantileName, measured: Values, predicted: Values) -> dict[str, float]:
    """How predictions compare: the error of what is expected, or how often a bound holds."""
    if quantile == "p50":
        error = np.abs(predicted / measured - 1).mean()
        return {"error_percent": round(100 * float(error), 2)}
    return {"holds_percent": round(100 * float((measured <= predicted).mean()), 1)}


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows."""
    print(
        f"{'loop':12}{'':5}{'calls':>6}  {'ratio to hot (5-95 %)':>23}{'margin %':>10}"
        f"{'speed':>7}{'scatter %':>11}   p50: error %, else: holds %\n"
        f"{'':76}{'raw':>9}{'at its speed':>14}{'same minutes':>14}"
    )
    for row in rows:
        ratio = f"{row['ratio_median']:.2f} ({row['ratio_p5']:.2f}-{row['ratio_p95']:.2f})"
        raw, at_its_speed, same_minutes = (
            next(iter(row[how].values())) for how in ("raw", "at_its_speed", "same_minutes")
        )
        print(
            f"{row['loop']:12}{row['quantile']:5}{row['calls']:6}  {ratio:>23}"
            f"{row['margin_percent']:10.1f}{row['speed']:7.2f}{row['scatter_percent']:11.1f}"
            f"{raw:9.1f}{at_its_speed:14.1f}{same_minutes:14.1f}"
        )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
