"""Small searches, and when two of them are the same."""

from pathlib import Path
from typing import Any

import torch

from goldnas.searching.config import SearchConfig
from goldnas.searching.folder import SearchRun
from goldnas.searching.start import PreparedSearch
from goldnas.searching.strategies.gold import GradualSearch

SMALL: dict[str, Any] = {
    "cells": 2,
    "channels": 4,
    "budgets": ("100kFLOPs",),
    "epochs": 3,
    "batch_size": 256,
    "auxiliary_weight": 0.1,
    "train_device": "cpu",
}


def started(folder: Path, **settings: Any) -> GradualSearch:
    prepared = PreparedSearch(SearchConfig(**(SMALL | settings)), [])
    prepared.check_feasible()
    return prepared.start(folder)


def weights_of(run: SearchRun) -> dict[str, torch.Tensor]:
    """Every weight of every network of a run, by network and name."""
    return {
        f"{network.fingerprint} {name}": value
        for network in run.front().networks
        for name, value in run.network(network).state_dict().items()
    }


def assert_same_results(first: SearchRun, second: SearchRun) -> None:
    assert first.front() == second.front()
    mine, theirs = weights_of(first), weights_of(second)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
