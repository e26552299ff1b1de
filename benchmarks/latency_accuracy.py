"""How well a latency table predicts networks that it has not seen.

    python benchmarks/latency_accuracy.py --out latency_accuracy.json

Builds a table with ``goldnas profile``, then draws fresh random networks of the space, spread
from nearly minimal to nearly full, predicts them, and measures them in shuffled rounds; all of
it as often as --repetitions says, each time with a new table. Beside the table's predictions:
sums of isolated times, a line through FLOPs, and the calibration without the rows as prior,
the last two fitted to the same networks as the table. Prints the errors, how far the same rows
and the same networks are apart when measured again, and writes every number to --out.

With --table, once or more, those are taken instead of making any, and the networks are measured
as the first of them was: ``benchmarks/gpu/profile.sh`` does so. Interrupted, it goes on.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from goldnas.lut import LatencyTable, Measured, parse_row_key
from goldnas.lut.accuracy import compute_accuracy
from goldnas.lut.fit import count_parts, fit_additive
from goldnas.profiling.calibration import rebuild_space
from goldnas.profiling.check import check_table
from goldnas.profiling.gpu_backend import forget_engines, locate_engines
from goldnas.profiling.host import Host
from goldnas.profiling.match_backend import match_backend
from goldnas.profiling.profile_space import profile_space
from goldnas.profiling.session import Session
from goldnas.resources import Flops
from goldnas.site import Site
from goldnas.spaces import GoldSpace

METHODS = ("goldnas", "isolated sums", "line through FLOPs", "calibrated, no prior")


def main() -> None:
    """Repeat, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=14)
    parser.add_argument("--channels", type=int, default=36)
    parser.add_argument("--operators", default="skip_connect,sep_conv_3x3")
    parser.add_argument("--networks", type=int, default=50)
    parser.add_argument("--calibrate", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tables", type=Path, help="folder to keep the tables in")
    parser.add_argument("--table", type=Path, action="append", help="made already; repeat")
    arguments = parser.parse_args()
    space = GoldSpace(
        cells=arguments.cells,
        channels=arguments.channels,
        operators=tuple(arguments.operators.split(",")),
    )
    tables: list[LatencyTable] = []
    repetitions: list[dict[str, Any]] = []
    sessions: list[Session] = []
    folder = arguments.tables or Path(tempfile.mkdtemp())
    if arguments.table:
        space = rebuild_space(checked(arguments.table).calibrations[-1])
    for repetition in range(len(arguments.table or ()) or arguments.repetitions):
        if arguments.table:
            table = LatencyTable.load(arguments.table[repetition])
            seconds = sum(campaign.seconds for campaign in table.campaigns)
        else:
            path = folder / f"table{repetition}.json"
            table, seconds = profile(space, arguments.calibrate, path)
        tables.append(table)
        seed = 100 + repetition
        sessions.append(session_of(table))
        repetitions.append(compare(sessions[-1], space, table, arguments.networks, seed))
        repetitions[-1] |= {"profile_seconds": seconds, "rows": len(table.rows), "seed": seed}
        show(repetition, repetitions[-1])
    changes = row_changes(tables)
    for (one, other), percent in changes.items():
        print(
            f"rows of tables {one} and {other}: median difference {np.median(percent):.2f} %, "
            f"95th percentile {np.quantile(percent, 0.95):.2f} %"
        )
    if arguments.out:
        result = {
            "space": space.call,
            "conditions": msgspec.to_builtins(tables[0].conditions),
            "campaigns": [msgspec.to_builtins(table.campaigns) for table in tables],
            "repetitions": repetitions,
            "row_changes_percent": {f"{a} {b}": p for (a, b), p in changes.items()},
        }
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    # Not before: whatever ends this early, the same command goes on from them.
    for session in sessions:
        session.journal.forget()
        forget_engines(session.backend)


def checked(paths: list[Path]) -> LatencyTable:
    """The first of tables that were made already, if they can be compared; else exit."""
    first, *others = [LatencyTable.load(path) for path in paths]
    for table in (first, *others):
        if not table.calibrations:
            sys.exit(
                f"{table.path} was never calibrated, so there is nothing to hold networks "
                "against: make it with goldnas profile --networks 20"
            )
        if differences := first.conditions.differences(table.conditions):
            sys.exit(
                f"{first.path} and {table.path} are of other conditions: "
                f"{'; '.join(differences)}"
            )
        if table.calibrations[-1].space_and_settings != (
            first.calibrations[-1].space_and_settings
        ):
            sys.exit(f"{first.path} and {table.path} are of other spaces")
    return first


def session_of(table: LatencyTable) -> Session:
    """What measures as a table was measured; exits if this is another device or runtime."""
    backend = match_backend(
        table.conditions,
        host=Host(),
        folder=locate_engines(table.path),
        on_warning=lambda text: print(f"warning: {text}", file=sys.stderr),
    )
    journal = table.path.with_suffix(".check.visits")
    session = Session(backend, batch=table.conditions.batch, journal=journal)
    if differences := table.conditions.differences(session.conditions):
        sys.exit(f"{table.path} was measured under other conditions: {'; '.join(differences)}")
    return session


def profile(space: GoldSpace, networks: int, path: Path) -> tuple[LatencyTable, float]:
    """Make a table as a user would; with the seconds it took."""
    path.unlink(missing_ok=True)
    began = time.monotonic()
    table = profile_space(space, path, networks=networks)
    return table, time.monotonic() - began


def compare(
    session: Session, space: GoldSpace, table: LatencyTable, networks: int, seed: int
) -> dict[str, Any]:
    """Measure fresh networks, and hold each method's predictions against them."""
    check = check_table(session, table, space, networks=networks, seed=seed)
    fresh = check.measured.networks
    fitted_to = table.calibrations[-1].networks
    keys = list(dict.fromkeys(key for n in (*fitted_to, *fresh) for key in n.parts))
    train, test = count_parts(fitted_to, keys), count_parts(fresh, keys)
    train_us = np.array([network.latency_us for network in fitted_to])
    test_us = np.array([network.latency_us for network in fresh])
    flops, isolated_us = np.zeros(len(keys)), np.zeros(len(keys))
    rows = {r.key: r for r in table.rows if isinstance(r, Measured)}
    for index, key in enumerate(keys):
        operator, site = parse_row_key(key)
        flops[index] = Flops().cost(operator, Site.parse(site))
        isolated_us[index] = rows[key].isolated_us
    slope, offset = np.polyfit(train @ flops, train_us, 1)
    predictions = {
        "goldnas": np.array([check.predicted_us[network.fingerprint] for network in fresh]),
        "isolated sums": test @ isolated_us,
        "line through FLOPs": slope * (test @ flops) + offset,
        "calibrated, no prior": fit_additive(train, train_us).predict(test),
    }
    session.backend.close()
    return {
        "noise_floor_percent": check.measured.noise_floor_percent,
        "measured_us": test_us.tolist(),
        "interval_us": [network.interval_us for network in fresh],
        "fingerprints": [network.fingerprint for network in fresh],
        "predicted_us": {method: p.tolist() for method, p in predictions.items()},
        "accuracy": {
            method: msgspec.to_builtins(compute_accuracy(predictions[method], test_us))
            for method in METHODS
        },
        "held_out": msgspec.to_builtins(table.calibrations[-1].accuracy),
    }


def show(repetition: int, result: dict[str, Any]) -> None:
    """Print one repetition."""
    measured_us = result["measured_us"]
    print(
        f"\nrepetition {repetition}: {result['rows']} rows, calibrated, in "
        f"{result['profile_seconds']:.0f} s; {len(measured_us)} fresh networks of "
        f"{min(measured_us):.0f} to {max(measured_us):.0f} us; measured twice they differ by "
        f"{result['noise_floor_percent']:.2f} %; the table states "
        f"{result['held_out']['mape_percent']:.2f} %"
    )
    print(f"{'':24}{'MAPE %':>8}{'in 5 %':>8}{'in 10 %':>9}{'Spearman':>10}")
    for method, found in result["accuracy"].items():
        print(
            f"{method:24}{found['mape_percent']:8.2f}{found['within_5_percent']:8.0f}"
            f"{found['within_10_percent']:9.0f}{found['spearman']:10.4f}",
            flush=True,
        )


def row_changes(tables: list[LatencyTable]) -> dict[tuple[int, int], list[float]]:
    """By pair of tables: how much each row differs, in percent."""
    changes: dict[tuple[int, int], list[float]] = {}
    for other in range(1, len(tables)):
        pairs = zip(tables[0].sorted_rows(), tables[other].sorted_rows(), strict=True)
        changes[0, other] = [
            100 * abs(b.latency_us / a.latency_us - 1)
            for a, b in pairs
            if isinstance(a, Measured) and isinstance(b, Measured)
        ]
    return changes


if __name__ == "__main__":
    main()
