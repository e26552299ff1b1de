"""Whether a search needs more memory the longer it runs.

    python benchmarks/search_memory.py [--size least|tiny|paper] [--epochs 300] [--json FILE]

Searches random images for many short epochs, operator by operator, and reads the resident
memory of the process after each epoch and each pruning. Prints the memory at five moments and
its slope: a line fitted to the second half of the epochs, and to that of the prunings.

least    2 cells of 4 channels, images of 1x8x8: what the tests run
tiny     14 cells of 2 channels, images of 1x8x8: 392 operators, as in the paper
paper    14 cells of 36 channels, images of 3x32x32
"""

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import goldnas

SIZES: dict[str, dict[str, Any]] = {
    "least": {
        "cells": 2,
        "channels": 4,
        "shape": (8, 8),
        "batch_size": 4,
        "budget": "60kFLOPs",
    },
    "tiny": {
        "cells": 14,
        "channels": 2,
        "shape": (8, 8),
        "batch_size": 8,
        "budget": "36kFLOPs",
    },
    "paper": {
        "cells": 14,
        "channels": 36,
        "shape": (32, 32, 3),
        "batch_size": 2,
        "budget": "170MFLOPs",
    },
}
STEPS_PER_EPOCH, CLASSES = 3, 4


def main() -> None:
    """Search, and print how memory went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), arguments.epochs, **SIZES[arguments.size])
    print("| after each | count | MiB, first to last | MiB each, second half |")
    print("| --- | --- | --- | --- |")
    for event, mib in measured.items():
        moments = ", ".join(
            f"{mib[i]:.0f}" for i in np.linspace(0, len(mib) - 1, 5).astype(int)
        )
        print(f"| {event} | {len(mib)} | {moments} | {slope(mib):.3f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps({arguments.size: measured}, indent=1) + "\n")


def measure(
    folder: Path,
    epochs: int,
    *,
    cells: int,
    channels: int,
    shape: tuple[int, ...],
    batch_size: int,
    budget: str,
) -> dict[str, list[float]]:
    """Resident memory in MiB after each epoch and each pruning of a search."""
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, images in (("train", 2 * batch_size * STEPS_PER_EPOCH), ("test", 8)):
        arrays[f"x_{part}"] = random.integers(256, size=(images, *shape), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(images) % CLASSES
    np.savez(folder / "data.npz", **arrays)
    torch.set_num_threads(1)
    measured: dict[str, list[float]] = {"epoch": [], "prune": []}

    def observe(event: str, fields: dict[str, Any]) -> None:
        if event in measured:
            measured[event].append(resident_mib())
            if event == "epoch" and len(measured["epoch"]) % 25 == 0:
                print(f"epoch {len(measured['epoch'])}: {resident_mib():.0f} MiB", flush=True)

    goldnas.search(
        data=str(folder / "data.npz"),
        out=folder / "run",
        on_event=observe,
        cells=cells,
        channels=channels,
        budgets=[budget],
        epochs=epochs,
        batch_size=batch_size,
        validation_fraction=0.5,
        n0=1,
        train_device="cpu",
    )
    return measured


def resident_mib() -> float:
    """Memory of this process, as Linux counts it."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) / 1024


def slope(mib: list[float]) -> float:
    """MiB that each of the second half adds, by a fitted line."""
    half = mib[len(mib) // 2 :]
    return (
        float(np.polyfit(np.arange(len(half)), half, 1)[0]) if len(half) > 1 else float("nan")
    )


if __name__ == "__main__":
    main()
