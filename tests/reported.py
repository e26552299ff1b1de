"""Folders of searches that never ran, for reports: small, of cells and of choices."""

from pathlib import Path
from typing import Any

from goldnas.searching.folder import SearchRun
from goldnas.spaces import GoldSpace, SearchSpace, make_space
from scripts import benchmark

CELLS = GoldSpace(cells=3, channels=4, input_shape=(1, 8, 8))
MOBILE: dict[str, Any] = {
    "width": 0.25,
    "stages": [[32, 2, 2]],
    "head": 16,
    "stem_stride": 1,
    "kernels": [3],
}


def made_up(path: Path, *, tables: bool = True, **settings: Any) -> SearchRun:
    """A search of cells, of six epochs."""
    return written(path, CELLS, tables, {"cells": 3, "channels": 4} | settings)


def made_up_chain(path: Path) -> SearchRun:
    """A search of the mobile space, without a latency table."""
    space = make_space("mobile", **MOBILE, input_shape=(1, 8, 8), classes=10)
    return written(path, space, False, {"settings": MOBILE})


def written(
    path: Path, space: SearchSpace, tables: bool, settings: dict[str, Any]
) -> SearchRun:
    script = benchmark("report_size")
    table = [script.made_up_table(path.parent / "device.json", space)] if tables else []
    run: SearchRun = script.made_up_run(path, space, epochs=6, tables=table, **settings)
    return run
