"""``import goldnas`` as a researcher meets it: the script of the page, every example, each refusal."""

import doctest
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import goldnas
from goldnas.errors import ConfigError, DataError, GoldnasError, RunError
from goldnas.spaces import FUNCTIONS

SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 256, "train_device": "cpu"}
PUBLIC = [name for name in goldnas.__all__ if name != "__version__"]


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, make_table: Callable[..., Any]
) -> tuple[Path, dict[str, Any]]:
    """What the examples begin with: a space, a table, a search, a training, an export."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        space = goldnas.space("gold", cells=1, channels=4, input_shape=(1, 8, 8))
        table = goldnas.profile(space, out="lut/cpu.json", networks=4, target_percent=1000)
        settings = SMALL | {"epochs": 4, "auxiliary_weight": 0.0}
        run = goldnas.search(
            space, budgets=["60kFLOPs"], tables=[table], out="runs/a", **settings
        )
        trained = goldnas.train(run.best, **SMALL | {"epochs": 2})
        goldnas.export(run.best, "net.onnx")
    names = {"space": space, "table": table, "run": run, "trained": trained}
    return folder, {"goldnas": goldnas, **names}


def examples() -> Iterator[doctest.DocTest]:
    """The example of every public function, class, method and property."""
    finder = doctest.DocTestFinder()
    for name in PUBLIC:
        found = getattr(goldnas, name)
        yield from (test for test in finder.find(found, name) if test.examples)


EXAMPLES = {test.name: test for test in examples()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_says_what_happens(
    place: tuple[Path, dict[str, Any]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, names = place
    monkeypatch.chdir(folder)
    EXAMPLES[name].globs = dict(names)
    said: list[str] = []
    doctest.DocTestRunner().run(EXAMPLES[name], out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_is_documented(name: str) -> None:
    """What it takes, what it returns, what it raises; verbs and nouns with an example."""
    found = getattr(goldnas, name)
    text = inspect.getdoc(found) or ""
    assert text
    if inspect.isfunction(found):
        assert name in EXAMPLES
        assert "Raises:" in text
        for parameter in inspect.signature(found).parameters:
            assert f"    {parameter}:" in text, parameter
