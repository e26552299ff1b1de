"""Data and tasks of one's own: what is learnt from them, and one line for each mistake."""

import json
import os
import random
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import goldnas
import own_data
from compared import network, searched
from goldnas.comparison.rows import compare
from goldnas.comparison.runs import read_runs
from goldnas.data.augmentation import Augmentation
from goldnas.data.datasets import load_dataset
from goldnas.data.examples import Normalisation, split_validation
from goldnas.data.given import name_data
from goldnas.data.loader import TrainingLoader
from goldnas.errors import ConfigError, DataError, StoppedError
from goldnas.searching.config import SearchConfig
from goldnas.searching.folder import SearchRun
from goldnas.searching.start import PreparedSearch
from goldnas.searching.targets import target_of_run
from goldnas.training.evaluate import score
from goldnas.training.recipes import RECIPES
from goldnas.training.start import resolve_config
from searches import assert_same_results
from workplace import Case, assert_refused, invoke
from workplace import goldnas as run_goldnas

NONE = Normalisation((), ())
CPU = torch.device("cpu")
RMSE: dict[str, Any] = {
    "data": "own_data:levels",
    "task": "own_data:regression",
    "space": "own_data:level_net",
    "budgets": ("150params",),
    "single": True,
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 0.02,
    "train_device": "cpu",
}


def search(folder: Path, **settings: Any) -> goldnas.Run:
    return goldnas.search(out=folder, **RMSE | settings)


# -- data --------------------------------------------------------------------------------------


def test_shape_and_classes_are_those_of_the_items() -> None:
    data = load_dataset("own_data:bumps")
    assert data.train.input_shape == (2, 16)
    assert (data.train.num_classes, len(data.train), len(data.test)) == (4, 40, 10)
    inputs, labels = data.train.batch(torch.tensor([5, 2]), NONE)
    assert torch.equal(inputs, own_data.bumps()[0].tensors[0][[5, 2]])  # type: ignore[attr-defined]
    assert labels.tolist() == [1, 2]


def test_a_part_is_held_out_of_every_class() -> None:
    rest, held_out = split_validation(load_dataset("own_data:bumps").train, 0.25, 0)
    assert sorted(held_out.labels.tolist()) == [*[0] * 2, *[1] * 2, *[2] * 2, *[3] * 2]
    assert not set(rest.indices.tolist()) & set(held_out.indices.tolist())


class Items(torch.utils.data.Dataset):
    """Items that a function makes."""

    def __init__(self, make: Any, count: int = 12, **told: Any) -> None:
        self.make, self.count = make, count
        vars(self).update(told)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if index >= 12:
            raise IndexError("there are 12")
        return self.make(index)


NUMBERS = np.arange(12 * 6, dtype=np.float32).reshape(12, 6)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "form",
    [
        lambda row: np.flip(row),
        lambda row: np.ascontiguousarray(row[::-1]).astype(">f4"),
        lambda row: row[::-1].astype(np.longdouble),
        lambda row: np.frombuffer(row[::-1].tobytes(), np.float32),
        lambda row: torch.tensor(row[::-1].copy(), requires_grad=True) * 1,
        lambda row: torch.tensor(row[::-1].copy()).double(),
    ],
    ids=["backwards", "other bytes", "long", "read-only", "gradient", "double"],
)
def test_numbers_in_any_form_are_the_same(form: Any, workers: int) -> None:
    pair = tuple(Items(lambda i: (form(NUMBERS[i]), np.uint8(i % 2))) for _ in range(2))
    data = load_dataset(name_data(pair)).train
    loader = TrainingLoader(
        data, Augmentation(crop_padding=0), NONE, batch_size=12, seed=0, workers=workers
    )
    ((inputs, _),) = loader.epoch(0)
    assert sorted(inputs.tolist()) == NUMBERS[:, ::-1].tolist()
    assert not inputs.requires_grad


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (Items(lambda i: (NUMBERS[i], np.str_("cat"))), "item 0 .* str_ for its target: .*<U3"),
        (Items(lambda i: (NUMBERS[i].astype(object), 0)), "for its input: it has object"),
        (Items(lambda i: (NUMBERS[i], i % 2), count=15), "item 12 .* there are 12"),
        (Items(lambda i: (NUMBERS[i], i % 2), count=15, targets=[0] * 12), "item 12 .* 12"),
    ],
)
def test_an_item_that_cannot_be_used_is_named_in_python(items: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(name_data((items, items)))


class Rows:
    """A column of a table whose rows begin elsewhere."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> int:
        raise KeyError(index)


def test_labels_that_cannot_be_told_are_read_from_the_items() -> None:
    items = Items(lambda i: (NUMBERS[i], i % 3), targets=Rows())
    assert load_dataset(name_data((items, items))).train.num_classes == 3


PICTURES = np.random.default_rng(0).integers(256, size=(12, 8, 8, 3), dtype=np.uint8)
KINDS = np.arange(12) % 2


def given(x_train: Any, x_test: Any, y: Any = KINDS, **more: Any) -> Any:
    arrays = {"x_train": x_train, "y_train": y, "x_test": x_test, "y_test": y} | more
    return load_dataset(name_data(arrays))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            (PICTURES, PICTURES, KINDS / 1),
            "`y_train` is float64 .* uint8 images need classes",
        ),
        ((PICTURES, PICTURES / 255), "`x_test` is float64 .* both parts as uint8"),
        ((PICTURES.astype(int), PICTURES.astype(int)), "`x_train` is int64 .* uint8"),
        ((PICTURES, PICTURES, np.array(["a", "b"])[KINDS]), "`y_train` .* number the classes"),
        (([[1.0], [1.0, 2.0]], PICTURES), "`x_train` is not an array of numbers"),
    ],
)
def test_arrays_that_do_not_go_together_are_named(arrays: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        given(*arrays)


def test_truths_are_two_classes() -> None:
    data = given(PICTURES, PICTURES[:0:-1], KINDS > 0, y_test=KINDS[:0:-1] > 0)
    assert (data.train.num_classes, data.train.labels.tolist()) == (2, KINDS.tolist())


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (PICTURES / 255, PICTURES / 255, "8x8x3, which a network reads as 8 channels"),
        (
            PICTURES.transpose(0, 3, 1, 2) / 255,
            PICTURES.transpose(0, 3, 1, 2) / 1,
            "go up to 1, ",
        ),
        (PICTURES, PICTURES[:3], "3 of the 3 test images .* are also training images"),
    ],
)
def test_what_is_more_often_a_mistake_is_warned_of(
    train: np.ndarray, test: np.ndarray, message: str
) -> None:
    with pytest.warns(goldnas.GoldnasWarning, match=message):
        given(train, test, y_test=KINDS[: len(test)])


def test_a_layout_is_kept_to_by_floats_too() -> None:
    data = given(PICTURES / 255, PICTURES / 255, layout="NHWC")
    assert data.train.input_shape == (3, 8, 8)


@pytest.mark.filterwarnings(  # PyTorch tells of it by a signal, too, which may find a finaliser
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_loading_process_that_dies_is_one_line() -> None:
    def die(index: int) -> Any:
        if index == 7 and torch.utils.data.get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return NUMBERS[index], index % 2

    data = load_dataset(name_data((Items(die), Items(die)))).train
    loader = TrainingLoader(data, Augmentation(), NONE, batch_size=4, seed=0, workers=1)
    with pytest.raises(DataError, match=r"process that loads data died: .* `workers=0`"):
        list(loader.epoch(0))


def test_targets_of_a_task_are_no_classes() -> None:
    data = load_dataset("own_data:levels", labelled=False).train
    assert data.num_classes is None
    assert data.batch(torch.arange(3), NONE)[1].shape == (3, 1)
    assert data.blank_targets(2).shape == (2, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_dataset_draws_follows_from_the_seed_alone(workers: int) -> None:
    data = load_dataset("own_data:changing").train

    def epoch(number: int, workers: int, seed: int = 3) -> torch.Tensor:
        settings: dict[str, Any] = {"batch_size": 8, "seed": seed, "workers": workers}
        loader = TrainingLoader(data, Augmentation(), NONE, **settings)
        return torch.cat([inputs for inputs, _ in loader.epoch(number)])

    first = epoch(0, 0)
    for draw in (np.random.rand, random.random, lambda: torch.rand(1)):
        draw()
    states = torch.get_rng_state(), np.random.get_state()[2], random.getstate()
    assert torch.equal(epoch(0, workers), first)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[2], random.getstate()) == states[1:]
    for other in (epoch(1, 0), epoch(0, 0, seed=4)):
        assert all((other[..., i] != first[..., i]).any() for i in range(3))


# -- tasks -------------------------------------------------------------------------------------


def test_a_metric_does_not_depend_on_how_items_are_divided() -> None:
    data = load_dataset("own_data:levels", labelled=False).train
    network, task = torch.nn.Linear(5, 1), own_data.regression()
    inputs, targets = data.batch(torch.arange(40), NONE)
    expected = (network(inputs) - targets).square().mean().sqrt().item()
    for size in (40, 7, 1):
        found = score(network, data, NONE, CPU, task, batch_size=size)
        assert found == pytest.approx(expected)


def test_a_search_descends_the_loss_and_ranks_by_the_metric(tmp_path: Path) -> None:
    run = search(tmp_path / "run")
    front, events = run.front.record, run.read_events()
    figures = [network.metric for network in front.networks]
    assert all(f.name == "RMSE" and not f.higher_is_better for f in figures)
    assert {network.accuracy for network in front.networks} == {None}
    within = [n for n in front.networks if n.meets_budgets and "beyond" not in n.reasons]
    assert front.pick("best").metric.value == min(n.metric.value for n in within)
    epochs = [e for e in events if e["event"] == "epoch"]
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    told = {(k, v) for e in events for k, v in e.items() if "accuracy" in k}
    assert told == {("accuracy", None)}
    (prune,) = [e for e in events if e["event"] == "prune"]
    assert front.networks[0].resources["operators"] == 1
    assert read_runs([run.path])[0].drops == [prune["metric_after"] - prune["metric_before"]]


def test_a_search_with_a_task_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    asked = iter([0] * 5 + [15])
    with pytest.raises(StoppedError, match="interrupted after step 6"):
        search(tmp_path / "b", stop_signal=lambda: next(asked))
    resumed = goldnas.load_run(tmp_path / "b").resume()
    assert_same_results(search(tmp_path / "a"), resumed)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_item_that_is_no_number_is_named(part: str, value: float) -> None:
    arrays = {
        f"{name}_{part}": torch.ones(10, 5) for name in "xy" for part in ("train", "test")
    }
    arrays[f"x_{part}"][7, 2] = value
    data = getattr(load_dataset(name_data(arrays), labelled=False), part)
    with pytest.raises(DataError, match=rf"item 7 of the {part}.* not a number"):
        data.batch(torch.arange(10), NONE)


class Immovable(torch.nn.Linear):
    """Stands for whatever fails once the folder is there."""

    def _apply(self, *_: object, **__: object) -> "Immovable":
        raise ValueError("stays where it is")


def test_a_search_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    def space() -> torch.nn.Module:
        kinds = {"a": torch.nn.Linear, "b": Immovable}
        candidates = {name: lambda kind=kind: kind(5, 1) for name, kind in kinds.items()}
        return torch.nn.Sequential(goldnas.Choice(candidates))

    with pytest.raises(ValueError, match="stays where it is"):
        search(tmp_path / "run", space=space, budgets=("10params",))
    assert list(tmp_path.iterdir()) == []


def test_sampled_networks_are_ranked_with_the_sign_of_the_metric(tmp_path: Path) -> None:
    run = search(tmp_path / "run", strategy="random", networks=2, epochs=1)
    scores = [e for e in run.read_events() if e["event"] == "score"]
    assert all(e["score"] < 0 for e in scores)
    assert run.best.record.score == max(e["score"] for e in scores)


def test_a_loss_that_is_large_from_the_start_is_no_divergence(tmp_path: Path) -> None:
    loop = PreparedSearch(SearchConfig(**RMSE), []).start(tmp_path / "run")
    loop.losses = [torch.tensor(1e6)]
    loop.check_sane()


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search, and a finished training of its network."""
    folder = tmp_path_factory.mktemp("regression") / "run"
    search(folder)
    code, stderr = run_goldnas(f"train {folder} --epochs 1 --batch-size 8 --train-device cpu")
    assert code == 0, stderr
    return folder


def test_the_figures_of_a_training_are_those_of_its_evaluation(regression: Path) -> None:
    (training,) = (regression / "trained").iterdir()
    result = json.loads((training / "result.json").read_bytes())
    assert result["test_accuracy"] is None
    code, stdout, stderr = invoke("evaluate", training, "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["networks"][0]["test_metric"] == result["test_metric"]
    code, stdout, stderr = invoke("evaluate", regression, "--json")
    assert code == 0, stderr
    assert {row["test_metric"]["name"] for row in json.loads(stdout)["networks"]} == {"RMSE"}


def test_int8_says_what_it_costs_in_the_metric(regression: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.onnx"
    code, stdout, stderr = invoke("export", regression, "--out", out, "--precision", "int8")
    assert code == 0, stderr
    assert "int8: RMSE 0." in stdout
    assert "on the held-out items, " in stdout


def test_lower_is_better_in_a_comparison(regression: Path) -> None:
    comparison = compare(read_runs([regression]))
    (row,) = comparison.rows
    assert comparison.reference is None
    assert {"validation_metric", "test_metric"} < row.cells.keys()
    assert not {"hypervolume", "test_accuracy"} & row.cells.keys()
    code, stdout, stderr = invoke("compare", regression, "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["metric"] == {"name": "RMSE", "higher_is_better": False}
    code, stdout, stderr = invoke("compare", regression)
    assert code == 0, stderr
    assert "RMSE: lower is better" in stdout
    assert "accurac" not in stdout


def test_searches_for_different_tasks_are_not_compared(
    regression: Path, tmp_path: Path
) -> None:
    searched(tmp_path / "other", [network("aaaaaaaa", 0.9, 1e6)], data="own_data:levels")
    code, stderr = run_goldnas(f"compare {tmp_path / 'other'} {regression}")
    assert code == 2
    assert "for classification and" in stderr
    assert "different tasks are not comparable" in stderr


def test_recipes_leave_out_what_is_for_images_and_classes(regression: Path) -> None:
    run = SearchRun.open(regression)
    target = target_of_run(run, run.front().pick("best"))
    assert RECIPES["modern"].label_smoothing > 0
    config = resolve_config(target, "modern")
    assert (config.augmentation, config.cutout, config.label_smoothing) == ("none", 0, 0)
    assert (config.crop_padding, config.flip) == (0, False)
    with pytest.raises(ConfigError, match="`label_smoothing` is for classification"):
        resolve_config(target, "short", label_smoothing=0.1)
    with pytest.raises(ConfigError, match="`cutout` changes images"):
        resolve_config(target, "short", cutout=2)


def test_a_task_may_make_something_else_of_labels(tmp_path: Path) -> None:
    """Data that goldnas reads itself has a task of its own, too, and its augmentation."""
    command = (
        "search --data digits --task own_data:top_two --cells 1 --channels 2 --epochs 1 "
        "--batch-size 512 --auxiliary-weight 0.4 --train-device cpu --budget 1MFLOPs --out"
    )
    code, stderr = run_goldnas(f"{command} {tmp_path / 'new'}")
    assert code == 0, stderr
    front = SearchRun.open(tmp_path / "new").front()
    assert {n.metric.name for n in front.networks} == {"top 2"}


# -- mistakes ----------------------------------------------------------------------------------

HERE = r"\(.*own_data.py, line \d+\)"
BASE = "search --epochs 1 --batch-size 8 --train-device cpu --single --out new"
ON_BUMPS = f"{BASE} --data own_data:bumps --space own_data:bump_net"
LEVELS = f"{BASE} --data own_data:levels --space own_data:level_net"

DATA = {
    "raises": f"own_data:raises fails: ValueError: no such file {HERE}",
    "returns_one": "own_data:returns_one returns a TensorDataset, .* two datasets, of training",
    "returns_three": "returns a tuple of 3, and must return two datasets",
    "a_stream": "the training data of own_data:a_stream is a _Stream, .* map-style dataset",
    "empty": "the training data of own_data:empty is empty",
    "no_pairs": "item 0 of the training data of .* is a Tensor, .* an input and a target",
    "labelled_by_name": "item 0 .* has a str for its target; a tensor is needed",
    "whole_numbers": r"has an input in torch.uint8 of shape \(2, 16\); .* floating point",
    "unlike_shapes": "item 7 of the training data of .* an input of 2x15, and item 0 has 2x16",
    "unlike_test": "inputs of the test data of .* are 1x8x8, and those of .* 2x16",
    "negative_label": "the training data of .* has the label -1; classes are counted from 0",
    "a_class_without_items": "has labels up to 2, but none of class 1; classes are counted",
    "one_class": "has items of 1 class",
    "label_out_of_range": "the test data of .* has the label 4; .* training data are 0 to 3",
    "levels": r"targets of the training data of .* of shape \(1,\) in floating .* a --task",
    "nothing": "own_data.py has no function 'nothing'",
    "LABELS": "own_data:LABELS is a Tensor; data is a function that returns two datasets",
}


@pytest.mark.parametrize("name", DATA)
def test_a_mistake_in_data_is_one_line(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    command = f"{BASE} --data own_data:{name} --space own_data:bump_net"
    assert_refused(Case(command, DATA[name]))


CASES = {
    "no module": Case(f"{BASE} --data nowhere:f", "no module 'nowhere' in .* folder"),
    "no name": Case(f"{BASE} --data own_data:", "unknown dataset 'own_data:'; .* a function"),
    "wrong channels": Case(
        f"{BASE} --data own_data:changing --space own_data:bump_net",
        "own_data:bump_net fails on an input of 1x3: .*channels",
    ),
    "channels of images": Case(
        f"{BASE} --data own_data:images --space own_data:bump_net",
        "own_data:bump_net fails on an input of 1x8x8: ",
    ),
    "other classes": Case(
        f"{BASE} --data own_data:images --space own_spaces:other_classes",
        "return 7 numbers, and own_data:images has 4 classes; let the function take",
    ),
    "an image for each class": Case(
        f"{BASE} --data own_data:images --space own_data:pixel_net",
        "return 4x8x8 numbers, .* 4 classes; .* or give the --task",
    ),
    "cells": Case(f"{BASE} --data own_data:bumps", "--input is channels, .* got .2, 16"),
    "flip": Case(
        f"{ON_BUMPS} --flip --cutout 2",
        "--flip, --cutout changes images .* own_data:bumps; leave it",
    ),
    "image size": Case(f"{ON_BUMPS} --image-size 8", "only folders of images and shards are"),
    "no task": Case(
        f"{LEVELS} --task regression", "'regression' is not the name of a task: write package"
    ),
    "not a task": Case(f"{LEVELS} --task own_data:no_task", "returns a str, .* a goldnas.Task"),
    "task raises": Case(
        f"{LEVELS} --task own_data:task_raises",
        f"own_data:task_raises fails: KeyError: 'loss' {HERE}",
    ),
    "accuracy": Case(f"{LEVELS} --task own_data:named_accuracy", "cannot be named 'accuracy'"),
    "loss fails": Case(
        f"{LEVELS} --task own_data:loss_fails",
        rf"loss of task 'RMSE' fails on \(2, 1\) and \(2, 1\): RuntimeError: .* {HERE}",
    ),
    "loss of each": Case(
        f"{LEVELS} --task own_data:loss_of_each",
        r"loss of task 'RMSE' is a tensor of \(2,\); it must be a scalar",
    ),
    "metric of all": Case(
        f"{LEVELS} --task own_data:metric_of_all",
        r"metric of task 'RMSE' is a tensor of \(\) .* a row for each item",
    ),
    "summary of many": Case(
        f"{LEVELS} --task own_data:summary_of_many",
        r"the summary of task 'RMSE' fails on \(3,\): ",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_with_data_or_task_is_refused(
    name: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(CASES[name])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken_item", "item 5 of the training data of .* cannot be read: OSError: no such"),
        ("other_targets", r"item \d+ of the training data .* has the label \d, and had \d "),
    ],
)
def test_an_item_that_fails_late_is_one_line(
    name: str, message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """Labels are told, so that items are read when their turn comes."""
    monkeypatch.chdir(tmp_path)
    code, stderr = run_goldnas(
        f"{BASE} --data own_data:{name} --space own_data:line_net --batch-size 9"
    )
    assert code == 2, stderr
    *told, error = stderr.splitlines()
    assert all(line.startswith("  saved ") for line in told)
    assert re.search(f"^error: .*{message}", error), stderr
