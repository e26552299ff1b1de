"""Whether a table made over ssh is that made on the spot, and what the way costs.

    python benchmarks/remote.py --device ssh://localhost --python ENV/bin/python

Profiles this machine through ``--device`` and directly, with the same interpreter; the address
has to lead back to this machine. All tables are made at once, one process of measurements of
each in turn, so that a machine whose speed changes within minutes changes it for all of them.
Prints how far rows and whole networks are apart, each way against the other and against
itself, and the seconds that each table took of the machine.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from goldnas.lut import LatencyTable, Measured
from goldnas.profiling.backend import Failure, Visit
from goldnas.profiling.fill import fill_table, open_table
from goldnas.profiling.host import find_host
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend, find_provider
from goldnas.profiling.session import Session
from goldnas.spaces import GoldSpace


class Relay:
    """Threads that work one at a time and pass the turn on."""

    def __init__(self, names: list[str]) -> None:
        self.seconds = dict.fromkeys(names, 0.0)
        self._waiting = list(names)
        self._began = time.monotonic()
        self._passed = threading.Condition()

    def take(self, name: str) -> None:
        """Wait for the turn."""
        with self._passed:
            self._passed.wait_for(lambda: self._waiting[0] == name)
            self._began = time.monotonic()

    def give(self, name: str, *, last: bool = False) -> None:
        """Pass the turn on, and come again after all others unless this was the last."""
        with self._passed:
            self.seconds[name] += time.monotonic() - self._began
            self._waiting.remove(name)
            if not last:
                self._waiting.append(name)
            self._passed.notify_all()


class InTurn(OnnxruntimeBackend):
    """Lets the others measure before each process."""

    relay: Relay
    name: str

    def visit(
        self, models: Mapping[str, bytes], *, seed: int
    ) -> dict[str, tuple[Visit, ...] | Failure]:
        """As ever, when it is its turn."""
        self.relay.give(self.name)
        self.relay.take(self.name)
        return super().visit(models, seed=seed)


def main() -> None:
    """Profile in turn, then compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--provider-option", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--cells", type=int, default=5)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--turns", type=int, default=2, help="tables of each way")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    space = GoldSpace(cells=arguments.cells, channels=arguments.channels)
    ways = {"here": "cpu", "there": arguments.device}
    names = [f"{way} {turn}" for turn in range(arguments.turns) for way in ways]
    relay = Relay(names)

    def table(name: str, out: Path) -> LatencyTable:
        relay.take(name)
        try:
            backend = InTurn(
                host=find_host(ways[name.split()[0]], arguments.python),
                provider=find_provider(arguments.provider),
                provider_options=dict(o.split("=", 1) for o in arguments.provider_option),
            )
            backend.relay, backend.name = relay, name
            session = Session(backend, on_warning=lambda text: print(f"{name}: {text}"))
            before = open_table(out, session.conditions)
            made = fill_table(session, before, space, networks=arguments.networks)
            backend.close()
            return made
        finally:
            relay.give(name, last=True)

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(names)) as pool:
        paths = [Path(folder, f"{name}.json") for name in names]
        tables = dict(zip(names, pool.map(table, names, paths), strict=True))
    for name, seconds in relay.seconds.items():
        print(f"{name}: {seconds:.0f} s")
    report = compared(tables)
    differences = tables["here 0"].conditions.differences(tables["there 0"].conditions)
    print(f"conditions that differ: {differences or 'none'}")
    if arguments.out:
        record = {"seconds": relay.seconds, "changes": report, "conditions": differences}
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


def compared(tables: dict[str, LatencyTable]) -> dict[str, Any]:
    """Print and return how far each two tables are apart."""
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
    return changes


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
