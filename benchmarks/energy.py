"""A simulated table of energies: imported, fitted from whole networks, and searched with.

    python benchmarks/energy.py [--out energy.json] [--networks 60] [--epochs 4]

Nothing here is measured: goldnas reads no power sensor. A device is simulated whose operators
take a time, and an energy:

    energy = static power x time + energy per multiply-add x multiply-adds
             + energy per byte x bytes moved

The energies per operation are those of M. Horowitz, "Computing's energy problem (and what we
can do about it)", ISSCC 2014, figure 1.1.9, for 45 nm: 0.9 pJ for a sum and 3.7 pJ for a
product of two 32-bit floats, and 100 pJ for 64 bits from a cache of 1 MB. The static power and
the times are made up. Every network takes a time and an energy besides its operators, which
only a fit to whole networks can find.

The script writes the times and the energies as CSV files, and ``goldnas lut import`` reads
them. ``goldnas lut fit`` then makes another table from the energies of networks, measured with
an error of 2 %. Both tables predict 50 networks that were not used. Three searches follow:
under an energy, under a time, and under both.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import goldnas
from goldnas.architecture import Architecture
from goldnas.lut import format_row_key
from goldnas.lut.accuracy import compute_accuracy
from goldnas.resources import Flops, Parameters
from goldnas.site import AnySite
from goldnas.spaces import SearchSpace
from goldnas.spaces.sampling import draw_architectures

PJ_PER_MAC = 0.9 + 3.7
PJ_PER_BYTE = 100 / 8
STATIC_W = 0.05
"""Of a small device; made up, as are the times."""
MACS_PER_US, BYTES_PER_US, CALL_US = 2_000.0, 4_000.0, 1.0
NETWORK_US = 20.0
"""What every network takes besides its operators; in that time, static power is spent."""
NOISE = 0.02
FRESH = 50
SEED = 46_000
SPACE: dict[str, Any] = {"cells": 3, "channels": 8}

Costs = dict[str, tuple[float, float]]
"""Microseconds and microjoules by row."""


def simulate(space: SearchSpace) -> Costs:
    """What each row of a space takes on the simulated device."""
    flops, parameters = Flops(space.build_part), Parameters(space.build_part)
    costs = {}
    for operator, site in space.rows():
        macs = flops.cost(operator, site)
        moved = 4 * (_count(site) + parameters.cost(operator, site))
        us = CALL_US + macs / MACS_PER_US + moved / BYTES_PER_US
        uj = STATIC_W * us + 1e-6 * (PJ_PER_MAC * macs + PJ_PER_BYTE * moved)
        costs[format_row_key(operator, site)] = us, uj
    return costs


def _count(site: AnySite) -> int:
    """Numbers that go in and out, for one image."""
    return int(np.prod(site.input_shape) + np.prod(site.output_shape))


def count_rows(space: SearchSpace, network: Architecture) -> Counter[str]:
    """How often a network has each row."""
    return Counter(format_row_key(*part) for part in space.plan(network).parts())


def true_uj(costs: Costs, rows: Mapping[str, int]) -> float:
    """The energy of a network on the simulated device."""
    return STATIC_W * NETWORK_US + sum(n * costs[key][1] for key, n in rows.items())


def write_rows(path: Path, space: SearchSpace, costs: Costs, column: str, which: int) -> None:
    """A CSV file for ``goldnas lut import``."""
    scale = 1e-3 if column == "latency_ms" else 1.0
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["operator", "site", column])
        for operator, site in space.rows():
            value = scale * costs[format_row_key(operator, site)][which]
            writer.writerow([operator, site, f"{value:.6g}"])


def write_networks(
    path: Path, networks: Sequence[Counter[str]], costs: Costs, random: np.random.Generator
) -> None:
    """A CSV file for ``goldnas lut fit``: energies with noise, and counts of rows."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["energy_uJ", *costs])
        for rows in networks:
            uj = true_uj(costs, rows) * (1 + NOISE * random.normal())
            writer.writerow([f"{uj:.6g}", *(rows[key] for key in costs)])


def run_goldnas(*words: object) -> None:
    """Run a command as a user does."""
    command = [sys.executable, "-m", "goldnas", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def search(
    folder: Path,
    name: str,
    limits_by_table: dict[str, float],
    tables: Sequence[Path],
    epochs: int,
) -> dict[str, Any]:
    """A search under limits in microseconds and microjoules, and what its network takes."""
    budgets = [
        f"{limit:.6g}{'uJ' if 'energy' in table else 'us'}@{table}"
        for table, limit in limits_by_table.items()
    ]
    run = goldnas.search(
        "gold",
        budgets=budgets,
        tables=list(tables),
        data="digits",
        epochs=epochs,
        batch_size=256,
        train_device="cpu",
        out=folder / name,
        **SPACE,
    )
    resources = run.best.resources
    spent = {
        table: next(amount for key, amount in resources.items() if key.endswith(f"@{table}"))
        for table in limits_by_table
    }
    assert run.best.accuracy is not None
    return {
        "budgets": budgets,
        "resources": resources,
        "share_of_budget": {t: spent[t] / limit for t, limit in limits_by_table.items()},
        "kept": all(spent[t] <= limit for t, limit in limits_by_table.items()),
        "validation_accuracy": run.best.accuracy,
    }


def measure(folder: Path, *, networks: int, fresh: int, epochs: int) -> dict[str, Any]:
    """Everything, in a folder."""
    space = goldnas.space("gold", input_shape=(1, 8, 8), classes=10, **SPACE)
    costs, random = simulate(space), np.random.default_rng(SEED)
    write_rows(folder / "time.csv", space, costs, "latency_ms", 0)
    write_rows(folder / "energy.csv", space, costs, "energy_uJ", 1)
    for name in ("time", "energy"):
        run_goldnas(
            *("lut", "import", folder / f"{name}.csv", "--format", "csv"),
            *("--device", "simulated", "--out", folder / f"{name}.json"),
        )
    drawn = list(draw_architectures(space, networks + fresh, seed=SEED))
    chosen = random.permutation(len(drawn))
    counted = [count_rows(space, drawn[index]) for index in chosen]
    write_networks(folder / "networks.csv", counted[:networks], costs, random)
    run_goldnas(
        *("lut", "fit", "--networks", folder / "networks.csv"),
        *("--device", "simulated", "--out", folder / "energy_fitted.json"),
    )
    true = np.array([true_uj(costs, rows) for rows in counted[networks:]])
    unseen = [drawn[index] for index in chosen[networks:]]
    errors = {}
    for name in ("energy", "energy_fitted"):
        table = goldnas.LatencyTable.load(folder / f"{name}.json")
        predicted = np.array([table.predict_energy(network).energy_uj for network in unseen])
        errors[name] = compute_accuracy(predicted, true)
    tables = [folder / "time.json", folder / "energy_fitted.json"]
    reachable = {
        limit.resource.partition("@")[2]: (limit.smallest, limit.full)
        for limit in goldnas.feasible(space, [], tables).limits
        if "@" in limit.resource
    }
    limits = {t: low + 0.3 * (high - low) for t, (low, high) in reachable.items()}
    only = {name: {name: limits[name]} for name in limits}
    return {
        "rows": len(costs),
        "networks_fitted": networks,
        "noise_percent": 100 * NOISE,
        "networks_predicted": len(unseen),
        "errors": {
            name: {
                "mape_percent": found.mape_percent,
                "within_5_percent": found.within_5_percent,
                "spearman": found.spearman,
            }
            for name, found in errors.items()
        },
        "searches": {
            name: search(folder, f"run-{name}", wanted, tables, epochs)
            for name, wanted in {**only, "both": limits}.items()
        },
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=60, help="networks of the fit")
    parser.add_argument("--fresh", type=int, default=FRESH, help="networks that test it")
    parser.add_argument("--epochs", type=int, default=4, help="of each search")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            Path(folder),
            networks=arguments.networks,
            fresh=arguments.fresh,
            epochs=arguments.epochs,
        )
    print(f"{found['rows']} rows; errors on {found['networks_predicted']} networks not used:")
    print(f"{'table':16}{'MAPE %':>8}{'in 5 %':>8}{'Spearman':>10}")
    for name, error in found["errors"].items():
        print(
            f"{name:16}{error['mape_percent']:8.2f}{error['within_5_percent']:8.0f}"
            f"{error['spearman']:10.4f}"
        )
    for name, search_ in found["searches"].items():
        shares = ", ".join(f"{s:.1%} of {t}" for t, s in search_["share_of_budget"].items())
        print(
            f"search under {name}: {', '.join(search_['budgets'])}: "
            f"{'kept' if search_['kept'] else 'MISSED'}, {shares}; "
            f"accuracy {search_['validation_accuracy']:.1%}"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
