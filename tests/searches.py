"""Small searches, and when two of them are the same."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

import goldnas
from goldnas.searching.config import SearchConfig
from goldnas.searching.start import PreparedSearch, SearchLoop
from goldnas.searching.strategies import STRATEGIES
from nightly import EXAMPLES

SMALL: dict[str, Any] = {
    "cells": 2,
    "channels": 4,
    "budgets": ("100kFLOPs",),
    "epochs": 2,
    "batch_size": 256,
    "auxiliary_weight": 0.1,
    "train_device": "cpu",
}


LIKE_OTHERS = () if EXAMPLES else ("darts1", "random", "tpe")
"""Strategies that share most with another one, of which CI tries less."""


def settings_of(strategy: str) -> dict[str, Any]:
    """Of a search by a strategy that is over in seconds."""
    few = {"networks": 6} if STRATEGIES[strategy].networks is not None else {}
    one_cell = {"cells": 1, "budgets": ("45kFLOPs",), "epochs": 1, "batch_size": 320}
    return {"strategy": strategy, "auxiliary_weight": 0.0} | one_cell | few


class StoppedOnPurposeError(Exception):
    """Stands for whatever ends a process."""


def search(folder: Path, **settings: Any) -> goldnas.Run:
    """A small search, to its end."""
    return goldnas.search(out=folder, **SMALL | settings)


def stop_search(folder: Path, event: str, number: int, **settings: Any) -> None:
    """A small search that ends without notice when an event comes for the n-th time."""
    seen: list[str] = []

    def stop(happened: str, fields: dict[str, Any]) -> None:
        seen.append(happened)
        if seen.count(event) == number:
            raise StoppedOnPurposeError

    with pytest.raises(StoppedOnPurposeError):
        search(folder, on_event=stop, **settings)
    torch.manual_seed(123)  # whatever happens to the global state before it goes on


def make_loop(folder: Path, tables: Iterable[Any] = (), **settings: Any) -> SearchLoop:
    """The loop of a small search that has not begun, to look inside."""
    prepared = PreparedSearch(SearchConfig(**SMALL | settings), list(tables))
    prepared.check_feasible()
    return prepared.start(folder)


def weights_of(run: goldnas.Run) -> dict[str, torch.Tensor]:
    """Every weight of every network of a run, by network and name."""
    return {
        f"{network.fingerprint} {name}": value
        for network in run.front
        for name, value in network.build().state_dict().items()
    }


def assert_same_results(first: goldnas.Run, second: goldnas.Run) -> None:
    assert first.front.record == second.front.record
    mine, theirs = weights_of(first), weights_of(second)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
