"""How large a report is, and how long it takes to open: of a long search, made up.

    python benchmarks/report_size.py --out report-size --epochs 300 --open

writes the folder of a search that never ran, with the log, the front and the architectures that
a search of so many epochs leaves, then its report. With ``--open`` a browser (Chromium, by
Playwright) opens it five times; the time is from the navigation to the end of the page's
script.
"""

import argparse
import json
import random
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from goldnas.lut import LatencyTable, Measured
from goldnas.lut.schema import make_unstated_conditions
from goldnas.resource_names import FLOPS
from goldnas.resources import Costs, Flops, Latency, Parameters, compute_costs
from goldnas.searching.config import SearchConfig
from goldnas.searching.folder import SearchRun
from goldnas.searching.front import Front, FrontNetwork
from goldnas.spaces import GoldSpace, SearchSpace

STEPS = 100
"""Of an epoch."""


def made_up_table(path: Path, space: SearchSpace) -> LatencyTable:
    """A table in which each row takes 1 us and 1 us per kFLOP."""
    flops = Flops(space.build_part)
    rows = []
    for operator, site in space.rows():
        latency_us = 1 + flops.cost(operator, site) / 1000
        rows.append(
            Measured(
                operator=operator,
                site=str(site),
                latency_us=latency_us,
                interval_us=latency_us / 100,
                converged=True,
                isolated_us=2 * latency_us,
                method="isolated",
                timings=(),
            )
        )
    told = make_unstated_conditions("made up", protocol="made up", statistic="none")
    return LatencyTable(told, tuple(rows), path)


def made_up_run(
    path: Path, space: SearchSpace, *, epochs: int, tables: list[LatencyTable], **settings: Any
) -> SearchRun:
    """Write the folder of a search that prunes at random, evenly, to half of the FLOPs."""
    costs = {
        cost.name: cost
        for cost in (
            compute_costs(space, Flops(space.build_part)),
            compute_costs(space, Parameters(space.build_part)),
            *(compute_costs(space, Latency(table, space)) for table in tables),
        )
    }
    everything = np.ones(len(space.gates), dtype=bool)
    limit = float(costs[FLOPS].fixed + 0.4 * costs[FLOPS].gates.sum())
    config = SearchConfig(
        **{
            "space": space.name,
            "epochs": epochs,
            "budgets": (f"{limit}FLOPs",),
            "tables": tuple(table.name for table in tables),
            "train_device": "cpu",
        }
        | settings
    )
    run = SearchRun.create(path, config, {"goldnas": "made up", "threads": 1}, tables)
    log: list[dict[str, Any]] = []
    front = Front(budgets={FLOPS: limit})

    def amounts(active: Any) -> dict[str, float]:
        return {name: cost.total(active) for name, cost in costs.items()}

    def tell(event: str, **fields: Any) -> None:
        log.append({"time": 1000.0 + len(log), "event": event, **fields})

    tell("start", epoch=0, step=0, ranks=1, resources=amounts(everything), memory_bytes=0)
    active = everything.copy()
    batches = _order(space, costs[FLOPS], limit)
    due = np.array_split(np.arange(len(batches)), max(1, epochs - epochs // 10))
    for epoch in range(epochs):
        accuracy = 0.95 - 0.6 / (epoch + 2)
        now = due[epoch - epochs // 10] if epoch >= epochs // 10 else []
        for number, batch in enumerate(now):
            active[batches[batch]] = False
            tell(
                "prune",
                epoch=epoch,
                step=epoch * STEPS + number + 1,
                operators=[space.gates[i].name for i in batches[batch]],
                relative_weights=[0.1] * len(batches[batch]),
                accuracy_before=accuracy,
                accuracy_after=accuracy - 0.01,
                penalty_weight=1e-5 * epoch,
                live_operators=int(active.sum()),
                resources=amounts(active),
            )
        if len(now):
            architecture = space.architecture(
                gate for gate, kept in zip(space.gates, active, strict=True) if kept
            )
            architecture.save(path / "architectures" / f"{architecture.fingerprint}.json")
            network = FrontNetwork(
                fingerprint=architecture.fingerprint,
                accuracy=accuracy,
                resources=amounts(active),
                epoch=epoch,
                step=(epoch + 1) * STEPS,
                reasons=("plateau",) if epoch < epochs - 1 else ("end",),
                meets_budgets=amounts(active)[FLOPS] <= limit,
            )
            front = front.with_network(network)
            tell("network", **msgspec.to_builtins(network))
        tell(
            "epoch",
            epoch=epoch,
            step=(epoch + 1) * STEPS,
            loss=2.0 / (epoch + 1),
            validation_accuracy=accuracy,
            learning_rate=0.05,
            penalty_weight=1e-5 * epoch,
            live_operators=int(active.sum()),
            resources=amounts(active),
            memory_bytes=0,
            peak_memory_bytes=None,
            seconds=10.0,
        )
    tell("end", epoch=epochs, networks=len(front.networks))
    run.save_front(front)
    (path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    return run


def _order(space: SearchSpace, flops: Costs, limit: float) -> list[list[int]]:
    """Which operators go, one at a time, until the budget holds: as many networks as can be."""
    left = np.ones(len(space.gates), dtype=bool)
    order: list[int] = []
    for index in random.Random(0).sample(range(len(left)), len(left)):
        last = any(index in g and sum(left[list(g)]) == 1 for g in space.groups)
        if not last and flops.total(left) > limit:
            left[index] = False
            order.append(index)
    return [[index] for index in order]


def opened_s(page: Path, times: int = 5) -> list[float]:
    """Seconds from the navigation to the end of the page's script, each in a new browser."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    seconds = []
    with sync_playwright() as playwright:
        for _ in range(times):
            browser = playwright.chromium.launch(
                executable_path=found, args=["--no-sandbox", "--disable-gpu"]
            )
            tab = browser.new_page()
            tab.goto(page.resolve().as_uri(), wait_until="load")
            lasted = tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
            seconds.append(float(lasted) / 1000)
            browser.close()
    return seconds


def main() -> None:
    """Make the folder, write the report, and say how large and how fast it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--cells", type=int, default=14)
    parser.add_argument("--channels", type=int, default=36)
    parser.add_argument("--open", action="store_true", help="open it in a browser, five times")
    options = parser.parse_args()
    from goldnas.cli.report import write_report

    space = GoldSpace(cells=options.cells, channels=options.channels)
    run = made_up_run(
        options.out,
        space,
        epochs=options.epochs,
        tables=[made_up_table(Path("device.json"), space)],
        cells=options.cells,
        channels=options.channels,
        operators=space.operators,
    )
    began = time.perf_counter()
    page = write_report(run.path)
    result: dict[str, Any] = {
        "epochs": options.epochs,
        "gates": len(space.gates),
        "networks": len(run.front().networks),
        "events": len(run.read_events()),
        "write_s": round(time.perf_counter() - began, 2),
        "bytes": page.stat().st_size,
    }
    if options.open:
        seconds = opened_s(page)
        result["open_s"] = [round(s, 3) for s in seconds]
        result["open_median_s"] = round(statistics.median(seconds), 3)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
