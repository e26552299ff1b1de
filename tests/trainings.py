"""Small trainings, and when two of them are the same."""

from pathlib import Path
from typing import Any

import torch

from goldnas.searching.folder import SearchRun
from goldnas.searching.targets import target_of_run
from goldnas.training.folder import TrainingFolder
from goldnas.training.result import TrainResult
from goldnas.training.start import NetworkLoop, prepare, resolve_config
from goldnas.training.target import target_of_file

SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 256, "train_device": "cpu"}


def prepared(
    run: str | Path,
    folder: str | Path,
    recipe: str = "short",
    *,
    warm: bool = False,
    **given: Any,
) -> NetworkLoop:
    """A training of the best network of a search, which is not done."""
    opened = SearchRun.open(Path(run))
    target = target_of_run(opened, opened.front().pick("best"), warm=warm)
    loop = prepare(target, resolve_config(target, recipe, **SMALL | given), Path(folder))
    assert not isinstance(loop, TrainResult)
    loop.run.release()  # as if the process had ended, whenever it does
    return loop


def fine_tuned(
    folder: str | Path,
    network: str,
    data: str,
    weights: str | None,
    recipe: str = "fine-tune",
    **given: Any,
) -> NetworkLoop:
    """A training of a ready-made network, which is not done."""
    target = target_of_file(network, data=data, weights=weights)
    loop = prepare(target, resolve_config(target, recipe, **SMALL | given), Path(folder))
    assert not isinstance(loop, TrainResult)
    loop.run.release()
    return loop


def result_of(folder: str | Path) -> TrainResult:
    result = TrainingFolder.open(Path(folder)).result()
    assert result is not None
    return result


def assert_same_training(first: str | Path, second: str | Path) -> None:
    """The same bits, but for the time that it took."""
    mine, theirs = (
        torch.load(Path(folder) / "weights.pt", weights_only=True) for folder in (first, second)
    )
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    results = [result_of(folder) for folder in (first, second)]
    one, other = ({**_fields(result), "seconds": 0} for result in results)
    assert one == other


def _fields(result: TrainResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in result.__struct_fields__}
