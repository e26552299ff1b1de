"""A table for a new device from another device's table and a few networks.

    python benchmarks/latency_transfer.py --openvino-python ENV/bin/python --out transfer.json

The table of one thread is carried to two threads, and, if --openvino-python names the
interpreter of an environment with onnxruntime-openvino, to OpenVINO. On each new device a
table is also measured fully, and fresh networks decide: how far off is the table that took 10
or 20 networks, and how far the one that took all rows and 20 networks? Beside them: the old
device's table as it is, and the same networks fitted without it.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from goldnas.lut import LatencyTable
from goldnas.lut.accuracy import compute_accuracy
from goldnas.lut.fit import count_parts, fit_additive
from goldnas.profiling.calibration import calibrate
from goldnas.profiling.fill import open_table
from goldnas.profiling.host import Host
from goldnas.profiling.networks import measure_networks
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.rows import measure_rows
from goldnas.profiling.session import Session
from goldnas.profiling.transfer import transfer_table
from goldnas.resources import Latency
from goldnas.resources.costs import sum_costs
from goldnas.spaces import GoldSpace
from goldnas.spaces.sampling import draw_architectures

SAMPLES = (10, 20)
FRESH_SEED = 2**32


def main() -> None:
    """Measure the old device, then each new one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=5)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--operators", default="skip_connect,sep_conv_3x3,max_pool_3x3")
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--openvino-python")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    space = GoldSpace(
        cells=arguments.cells,
        channels=arguments.channels,
        operators=tuple(arguments.operators.split(",")),
    )
    devices = {"2 threads": OnnxruntimeBackend(2)}
    if arguments.openvino_python:
        devices["OpenVINO, 1 thread"] = OnnxruntimeBackend(
            provider="OpenVINOExecutionProvider",
            provider_options={"device_type": "CPU", "num_of_threads": "1"},
            host=Host(python=arguments.openvino_python),
        )
    with tempfile.TemporaryDirectory() as folder:
        old, seconds = full_table(OnnxruntimeBackend(1), space, Path(folder, "old.json"))
        print(f"old device, 1 thread: {len(old.rows)} rows, calibrated, in {seconds:.0f} s")
        results = {
            name: compare(name, backend, space, old, Path(folder), arguments.networks)
            for name, backend in devices.items()
        }
    if arguments.out:
        record = {"space": space.call, "devices": results}
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


def full_table(
    backend: OnnxruntimeBackend, space: GoldSpace, path: Path
) -> tuple[LatencyTable, float]:
    """Measure all rows and 20 networks; with the seconds it took."""
    began = time.monotonic()
    session = Session(backend)
    table = measure_rows(session, open_table(path, session.conditions), space.rows())
    return calibrate(session, table, space, networks=20), time.monotonic() - began


def compare(
    name: str,
    backend: OnnxruntimeBackend,
    space: GoldSpace,
    old: LatencyTable,
    folder: Path,
    networks: int,
) -> dict[str, Any]:
    """Hold each way to a table of a new device against fresh networks on it."""
    fresh = list(draw_architectures(space, networks, seed=FRESH_SEED))
    measured = measure_networks(Session(backend), space, fresh)
    measured_us = np.array([network.latency_us for network in measured.networks])
    rows: dict[str, dict[str, Any]] = {}

    def add(method: str, seconds: float, predict: Callable[[], np.ndarray]) -> None:
        found = msgspec.to_builtins(compute_accuracy(predict(), measured_us))
        rows[method] = {"seconds": seconds, **found}

    def by_table(table: LatencyTable) -> Callable[[], np.ndarray]:
        latency = Latency(table, space)
        return lambda: np.array([sum_costs(latency, space.plan(a).parts()) for a in fresh])

    full, seconds = full_table(backend, space, folder / f"{name}.json")
    add("all rows and 20 networks", seconds, by_table(full))
    for samples in SAMPLES:
        began = time.monotonic()
        session = Session(backend)
        path = folder / f"{name} {samples}.json"
        table = open_table(path, session.conditions)
        table = transfer_table(session, table, space, old, networks=samples)
        add(f"old table and {samples} networks", time.monotonic() - began, by_table(table))
        known = table.calibrations[0].networks
        keys = list(table.calibrations[0].latencies_us)
        train_us = np.array([network.latency_us for network in known])
        fit = fit_additive(count_parts(known, keys), train_us)
        counts = count_parts(measured.networks, keys)
        add(f"{samples} networks alone", 0.0, lambda f=fit, c=counts: f.predict(c))
    add("old table as it is", 0.0, by_table(old))
    print(
        f"\n{name}: {networks} fresh networks of {measured_us.min():.0f} to "
        f"{measured_us.max():.0f} us; measured twice they differ by "
        f"{measured.noise_floor_percent:.2f} %"
    )
    print(f"{'':28}{'seconds':>8}{'MAPE %':>8}{'in 5 %':>8}{'in 10 %':>9}{'Spearman':>10}")
    for method, found in rows.items():
        print(
            f"{method:28}{found['seconds']:8.0f}{found['mape_percent']:8.2f}"
            f"{found['within_5_percent']:8.0f}{found['within_10_percent']:9.0f}"
            f"{found['spearman']:10.4f}",
            flush=True,
        )
    return {
        "noise_floor_percent": measured.noise_floor_percent,
        "measured_us": measured_us.tolist(),
        "methods": rows,
    }


if __name__ == "__main__":
    main()
