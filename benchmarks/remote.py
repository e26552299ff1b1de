"""Whether a table made over ssh is that made on the spot, and what the way costs.

    python benchmarks/remote.py --device ssh://localhost --python ENV/bin/python

Profiles this machine through ``--device`` and directly, in turn, with the same interpreter; the
address has to lead back to this machine. Prints how far rows and whole networks are apart, each
way against the other and against itself, and the seconds that each took.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np

from goldnas.lut import LatencyTable, Measured


def main() -> None:
    """Profile in turn, then compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--cells", type=int, default=5)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    program = Path(sys.executable).with_name("goldnas")
    options = ["--cells", str(arguments.cells), "--channels", str(arguments.channels)]
    options += ["--calibrate", str(arguments.networks), "--python", arguments.python]
    tables: dict[str, LatencyTable] = {}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.turns):
            for way, device in {"here": "cpu", "there": arguments.device}.items():
                name = f"{way} {turn}"
                path = Path(folder, f"{name}.json")
                began = time.monotonic()
                command = [program, "profile", "--device", device, *options, "--out", path]
                subprocess.run(command, check=True, capture_output=True)
                seconds[name] = time.monotonic() - began
                tables[name] = LatencyTable.load(path)
                print(f"{name}: {seconds[name]:.0f} s", flush=True)
    changes: dict[str, dict[str, float]] = {}
    print(f"\n{'rows that differ, %':24}{'median':>8}{'p95':>8}{'networks':>10}")
    for one, other in combinations(tables, 2):
        rows = row_changes(tables[one], tables[other])
        networks = network_changes(tables[one], tables[other])
        changes[f"{one}, {other}"] = {
            "median_percent": float(np.median(rows)),
            "p95_percent": float(np.quantile(rows, 0.95)),
            "networks_median_percent": float(np.median(networks)),
        }
        print(
            f"{one + ', ' + other:24}{np.median(rows):8.2f}{np.quantile(rows, 0.95):8.2f}"
            f"{np.median(networks):10.2f}"
        )
    differences = tables["here 0"].conditions.differences(tables["there 0"].conditions)
    print(f"conditions that differ: {differences or 'none'}")
    if arguments.out:
        record = {"seconds": seconds, "changes": changes, "conditions": differences}
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


def row_changes(one: LatencyTable, other: LatencyTable) -> list[float]:
    """How much each row differs, in percent."""
    return [
        100 * abs(b.latency_us / a.latency_us - 1)
        for a, b in zip(one.sorted_rows(), other.sorted_rows(), strict=True)
        if isinstance(a, Measured) and isinstance(b, Measured)
    ]


def network_changes(one: LatencyTable, other: LatencyTable) -> list[float]:
    """How much each network of the calibrations differs, in percent."""
    latencies_us = {n.fingerprint: n.latency_us for n in one.calibrations[0].networks}
    return [
        100 * abs(n.latency_us / latencies_us[n.fingerprint] - 1)
        for n in other.calibrations[0].networks
        if n.fingerprint in latencies_us
    ]


if __name__ == "__main__":
    main()
