"""Folders of searches that never ran, written as a search, a training and an export do."""

import datetime
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from goldnas.files import write_atomic
from goldnas.lut import LatencyTable
from goldnas.searching.config import SearchConfig
from goldnas.searching.folder import SearchRun
from goldnas.searching.front import Front, FrontNetwork
from goldnas.searching.measured import Measurement, keep_measured
from goldnas.training.config import TrainConfig
from goldnas.training.recipes import RECIPES
from goldnas.training.result import TrainResult

CONDITIONS = {"goldnas": "0.1.0", "device": "cpu", "threads": 2, "ranks": 1}


def network(fingerprint: str, accuracy: float, flops: float, **changes: Any) -> FrontNetwork:
    """One network of a front; 100 FLOPs for each parameter."""
    return FrontNetwork(
        **{
            "fingerprint": fingerprint,
            "accuracy": accuracy,
            "resources": {"FLOPs": flops, "params": flops / 100},
            "epoch": 2,
            "step": 30,
            "reasons": ("end",),
            "meets_budgets": True,
        }
        | changes
    )


def log_of(*, seconds: float = 90.0, drops: Iterable[float] = (0.02, 0.01)) -> list[Any]:
    """The lines of an uninterrupted search, which began at time 1000."""
    cuts = [
        {"event": "prune", "step": 10 + i, "accuracy_before": 0.9, "accuracy_after": 0.9 - drop}
        for i, drop in enumerate(drops)
    ]
    lines = [{"event": "start", "step": 0}, *cuts, {"event": "end", "epoch": 3}]
    times = [1000.0 + seconds * i / (len(lines) - 1) for i in range(len(lines))]
    return [{"time": time, **line} for time, line in zip(times, lines, strict=True)]


def searched(
    path: Path,
    networks: Iterable[FrontNetwork],
    *,
    events: list[Any] | None = None,
    conditions: dict[str, Any] | None = None,
    tables: Iterable[LatencyTable] = (),
    **settings: Any,
) -> SearchRun:
    """Write the folder of a search."""
    tables = list(tables)
    config = SearchConfig(
        **{"budgets": ("1MFLOPs",), "tables": tuple(t.name for t in tables)} | settings
    )
    run = SearchRun.create(path, config, CONDITIONS | (conditions or {}), tables)
    front = Front(budgets={budget.resource: budget.limit for budget in run.budgets})
    for one in networks:
        front = front.with_network(one)
    if front.networks:
        run.save_front(front)
    lines = log_of() if events is None else events
    (path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def trained(
    run: SearchRun,
    fingerprint: str,
    test_accuracy: float,
    *,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write the folder of a training that is done."""
    result = TrainResult(
        **{
            "fingerprint": fingerprint,
            "recipe": "short",
            "epochs": 15,
            "seed": seed,
            "warm": False,
            "validation_accuracy": None,
            "test_accuracy": test_accuracy,
            "resources": {"FLOPs": 1e6, "params": 1e4},
            "images": 1000,
            "seconds": 60.0,
        }
        | changes
    )
    name = f"{fingerprint}-{result.recipe}-e{result.epochs}-s{seed}"
    folder = run.path / "trained" / (f"{name}-warm" if result.warm else name)
    write_atomic(folder / "result.json", msgspec.json.encode(result))
    config = TrainConfig(
        **msgspec.structs.asdict(RECIPES["short"])
        | {"recipe": result.recipe, "epochs": result.epochs, "seed": seed, "warm": result.warm}
        | {"data": "digits", "crop_padding": 0, "flip": False}
        | (settings or {})
    )
    (folder / "config.json").write_bytes(msgspec.json.encode(config))
    (folder / "architecture.json").write_text("{}")
    return folder


def measured(run: SearchRun, fingerprint: str, table: str, us: float, **changes: Any) -> None:
    """Keep a measurement, as an export does."""
    measurement = Measurement(
        **{
            "predicted_us": us / 2,
            "measured_us": us,
            "precision": "fp32",
            "machine": "made up",
            "measured_at": datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC),
        }
        | changes
    )
    keep_measured(run.path, fingerprint, {table: measurement})
