"""Training as a user meets it: honest scores, resumable, repeatable, clear about mistakes."""

import contextlib
import importlib.util
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forked import Forked
from goldnas import ConfigError, train
from goldnas.architecture import Architecture
from goldnas.data.datasets import load_dataset
from goldnas.data.examples import Normalisation, split_validation
from goldnas.errors import StoppedError
from goldnas.searching.folder import SearchRun
from goldnas.spaces import find_space
from goldnas.training.config import TrainConfig
from goldnas.training.evaluate import onnx_predictions, score
from goldnas.training.folder import TrainingFolder
from goldnas.training.recipes import RECIPES
from goldnas.training.start import NetworkLoop
from nightly import at_night
from searches import StoppedOnPurposeError
from shrinkables import chain, one_weight, perceptron
from trainings import assert_same_training, prepared, result_of
from workplace import (
    LONG,
    Case,
    assert_refused,
    changed,
    goldnas,
    halved,
    invoke,
    on_disk,
    written,
)

CPU = torch.device("cpu")
SETTINGS = "--epochs 2 --batch-size 256 --train-device cpu"
TRAIN = f"train run {SETTINGS}"
GENOTYPE = """
Genotype(gene=[[('skip_connect', 0, 2), ('sep_conv_3x3', 1, 2)], [('sep_conv_3x3', 1, 2)]])
"""
ON_DIGITS = f"--data digits {SETTINGS} --out new"


def stop_at(training: NetworkLoop, step: int) -> None:
    def stop(event: str, fields: dict[str, Any]) -> None:
        if event == "step" and fields["step"] == step:
            raise StoppedOnPurposeError

    training.events.observer = stop


@pytest.fixture(scope="module")
def begun(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that ended without notice in its second epoch."""
    place = tmp_path_factory.mktemp("begun") / "place"
    shutil.copytree(template, place)
    with contextlib.chdir(place):
        training = prepared("run", "new", epochs=2)
        stop_at(training, 6)
        with pytest.raises(StoppedOnPurposeError):
            training.train()
    return place / "new"


def test_a_training_leaves_a_network_that_scores_what_its_result_says(workplace: Path) -> None:
    code, stdout, stderr = invoke(*TRAIN.split(), "--seed", "3")
    assert code == 0, stderr
    best = SearchRun.open(Path("run")).front().pick("best")
    (folder,) = Path("run/trained").iterdir()
    assert folder.name == f"{best.fingerprint}-short-e2-s3"
    result = result_of(folder)
    assert (result.fingerprint, result.epochs, result.seed) == (best.fingerprint, 2, 3)
    assert (result.recipe, result.warm) == ("short", False)
    # Exact, and what the search said of it.
    assert result.resources == best.resources
    assert f"{100 * result.test_accuracy:.2f} % on the test set after the last" in stdout
    assert str(folder) in stdout

    dataset = load_dataset("digits")
    train, held_out = split_validation(dataset.train, 0.1, 0)
    assert result.images == len(train)
    architecture = Architecture.load(folder / "architecture.json")
    network = find_space(architecture).build(architecture)
    network.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    normalisation = Normalisation.measure(train)
    assert score(network, dataset.test, normalisation, CPU) == result.test_accuracy
    assert score(network, held_out, normalisation, CPU) == result.validation_accuracy
    kept = TrainingFolder.open(folder)
    assert kept.conditions["inputs"] == normalisation.as_dict()
    assert score(kept.network(), dataset.test, normalisation, CPU) == result.test_accuracy
    events = [event["event"] for event in kept.read_events()]
    assert events == ["start", "epoch", "epoch", "end"]


def test_a_training_that_is_done_says_so_and_writes_nothing(workplace: Path) -> None:
    assert goldnas(TRAIN)[0] == 0
    before = on_disk()
    code, stdout, stderr = invoke(*TRAIN.split())
    assert code == 0
    assert stderr == ""
    assert stdout.startswith("trained already, with these settings\n")
    assert " % on the test set" in stdout
    assert on_disk() == before


@pytest.mark.parametrize(
    ("recipe", "saved"), [pytest.param("darts-cifar", True, marks=at_night), ("modern", False)]
)
def test_a_resumed_training_ends_in_the_same_bits(
    workplace: Path, recipe: str, saved: bool
) -> None:
    prepared("run", "whole", recipe).train()
    interrupted = prepared("run", "halves", recipe)
    if saved:  # in the middle of an epoch, as every ten minutes
        interrupted.stop_signal = lambda: signal.SIGINT * (interrupted.step == 7)
    else:
        stop_at(interrupted, 7)
    with pytest.raises(StoppedError if saved else StoppedOnPurposeError) as stopped:
        interrupted.train()
    if saved:
        assert stopped.value.status == 130  # type: ignore[union-attr]
    torch.manual_seed(123)  # whatever happened to the global state in between
    resumed = prepared("run", "halves", recipe, workers=1)
    resumed.train()
    assert_same_training("whole", "halves")


@at_night
def test_another_seed_gives_other_weights_on_the_same_images(workplace: Path) -> None:
    prepared("run", "a", epochs=1).train()
    prepared("run", "b", epochs=1, seed=1).train()
    first, second = (
        torch.load(f"{folder}/weights.pt", weights_only=True)["classifier.2.weight"]
        for folder in "ab"
    )
    assert not torch.equal(first, second)
    assert result_of("a").images == result_of("b").images
    splits = [TrainingFolder.open(Path(folder)).config.split_seed for folder in "ab"]
    assert splits == [0, 0]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_images_of_any_size(workplace: Path, recipe: str) -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (48, 20, 14, 3), np.uint8), np.arange(48) % 4
    train, test = {"x_train": images[:40]}, {"x_test": images[40:]}
    np.savez("d.npz", **train, y_train=labels[:40], **test, y_test=labels[40:])
    Path("mine.txt").write_text(GENOTYPE)
    command = (
        f"train mine.txt --data d.npz --channels 4 --recipe {recipe} --epochs 1 "
        "--batch-size 16 --train-device cpu --out new"
    )
    code, stdout, stderr = invoke(*command.split())
    assert code == 0, stderr
    reduced = "cutout 7 for small images, in place of 16" in stdout
    assert reduced == (recipe == "darts-cifar")
    config = TrainingFolder.open(Path("new")).config
    assert config.recipe == recipe
    assert config.cutout == (7 if recipe == "darts-cifar" else 0)
    assert config.amp == "off"
    assert result_of("new").images == 36


def test_settings_that_are_given_replace_those_of_the_recipe(workplace: Path) -> None:
    code, stderr = goldnas(
        f"{TRAIN} --recipe darts-cifar --learning-rate 0.1 --cutout 3 --drop-path 0.1 "
        "--auxiliary-weight 0 --label-smoothing 0.2 --validation-fraction 0 --threads 1 "
        "--workers 0 --amp bf16 --out new"
    )
    assert code == 0, stderr
    config = TrainingFolder.open(Path("new")).config
    assert (config.learning_rate, config.cutout, config.drop_path) == (0.1, 3, 0.1)
    assert (config.auxiliary_weight, config.label_smoothing) == (0.0, 0.2)
    assert (config.threads, config.workers, config.amp) == (1, 0, "bf16")
    # What was not given is the recipe's, or the search's.
    assert (config.weight_decay, config.gradient_clip, config.flip) == (3e-4, 5.0, False)
    result = result_of("new")
    assert result.validation_accuracy is None
    assert result.images == len(load_dataset("digits").train)


def rates(training: NetworkLoop) -> list[float]:
    return [training.learning_rate(step) for step in range(steps_of(training))]


def steps_of(training: NetworkLoop) -> int:
    return training.config.epochs * training.steps_per_epoch


def test_the_learning_rate_is_the_recipes(workplace: Path) -> None:
    cosine = rates(prepared("run", "a", "darts-cifar", epochs=600))
    assert cosine[0] == 0.025
    assert cosine[len(cosine) // 2] == pytest.approx(0.0125)
    assert 0 < cosine[-1] < 1e-6
    assert cosine == sorted(cosine, reverse=True)

    exponential = rates(prepared("run", "b", "darts-imagenet", epochs=3))
    per_epoch = len(exponential) // 3
    assert exponential[::per_epoch] == pytest.approx([0.1, 0.097, 0.1 * 0.97**2])
    assert exponential[per_epoch - 1] == 0.1

    warm = rates(prepared("run", "c", "modern", epochs=60))
    highest = warm.index(max(warm))
    assert 0 < warm[0] < 0.1 / 10
    assert highest == math.ceil(0.05 * len(warm))
    assert warm[: highest + 1] == sorted(warm[: highest + 1])
    assert warm[highest] == pytest.approx(0.1, rel=1e-3)
    assert warm[-1] < 1e-5


def test_the_test_set_is_read_after_the_last_epoch_alone(workplace: Path) -> None:
    training = prepared("run", "new")
    looked_at: list[int] = []
    score = training.scorer.score

    def watched(network: Any, images: Any) -> float:
        if images is training.data.test:
            looked_at.append(training.epoch)
        return score(network, images)

    training.scorer.score = watched  # type: ignore[method-assign]
    training.train()
    assert looked_at == [2]


def test_the_last_epoch_is_reported_however_good_an_earlier_one_was(workplace: Path) -> None:
    training = prepared("run", "new", epochs=3, batch_size=64)

    def spoil(event: str, fields: dict[str, Any]) -> None:
        if event == "step" and fields["step"] == steps_of(training):
            with torch.no_grad():
                training.learner.network.classifier[-1].weight.zero_()  # type: ignore[index]

    training.events.observer = spoil
    result = training.train()
    logged = [e["validation_accuracy"] for e in training.run.read_events() if "loss" in e]
    assert max(logged) > 0.5  # of ten classes
    assert result.validation_accuracy == logged[-1] < 0.2
    assert result.test_accuracy < 0.2


def test_a_nan_costs_a_return_to_the_last_checkpoint_at_half_the_rate(workplace: Path) -> None:
    training = prepared("run", "new")
    spoilt: list[int] = []

    def spoil(event: str, fields: dict[str, Any]) -> None:
        if event == "step" and fields["step"] == 7 and not spoilt:
            spoilt.append(7)
            with torch.no_grad():
                training.learner.network.classifier[-1].weight.fill_(float("nan"))  # type: ignore[index]

    training.events.observer = spoil
    result = training.train()
    (setback,) = (e for e in training.run.read_events() if e["event"] == "setback")
    assert setback["back_to_step"] == training.steps_per_epoch < 7
    assert training.checkpoints.setbacks == 1
    assert result.test_accuracy > 0


def test_the_network_of_a_function_is_trained_and_shrunk(workplace: Path) -> None:
    code, stderr = goldnas(f"train shrinkables:chain {ON_DIGITS}")
    assert code == 0, stderr
    settings = {"epochs": 2, "batch_size": 256, "train_device": "cpu"}
    again = train(chain, data="digits", out="again", on_event=lambda *_: None, **settings)
    assert_same_training("new", "again")
    assert again.architecture.space == "shrinkables:chain"
    code, stderr = goldnas(
        "shrink new --budget 100kFLOPs --step 4 --epochs 1 --train-device cpu --out small"
    )
    assert code == 0, stderr
    with pytest.raises(ConfigError, match="Identity is not a network to train"):
        train(torch.nn.Identity(), data="digits")  # type: ignore[arg-type]


def test_the_network_of_a_function_begins_with_weights_for_other_classes(
    workplace: Path,
) -> None:
    torch.save(chain((1, 8, 8), classes=7, width=8).state_dict(), "w.pt")
    words = "train shrinkables:chain --set width=8 --weights w.pt --data digits --epochs 1"
    words += " --batch-size 256 --train-device cpu --recipe fine-tune --body-rate 0 --out new"
    code, stderr = goldnas(words)
    assert code == 0, stderr
    assert "its classifier is new, for 10 classes" in stderr
    found = TrainingFolder.open(Path("new")).network().state_dict()
    first = torch.load("w.pt")
    same = {name for name, value in first.items() if torch.equal(value, found[name])}
    assert {name for name in first if name.endswith("0.weight")} <= same  # convolutions rest
    assert found["2.2.weight"].shape == (10, 8)


def test_a_file_of_weights_that_is_gone_is_told(workplace: Path) -> None:
    """Its training is found by the name of the file, if there is only one."""
    settings: dict[str, Any] = {"data": "digits", "epochs": 1, "batch_size": 256}
    settings |= {"train_device": "cpu", "weights": "w.pt"}
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(chain((1, 8, 8), classes=10).state_dict(), "w.pt")
        found.append(train(chain, on_event=lambda *_: None, **settings))
    first, second = sorted(found, key=lambda trained: trained.path)
    Path("w.pt").unlink()
    with pytest.raises(ConfigError, match=f"{first.path.name} and .*{second.path.name} began"):
        train(chain, **settings)
    told: list[str] = []
    again = train(
        chain, out=first.path, **settings, on_event=lambda _, fields: told.append(str(fields))
    )
    assert again.path == first.path
    assert "there is no file w.pt" in told[0]
    for wrong in ({"settings": "width=8"}, {"weights": {}}):
        with pytest.raises(ConfigError, match="must be a"):
            train(chain, **settings | wrong)


def test_a_training_that_diverges_again_and_again_ends_and_keeps_its_good_state(
    workplace: Path,
) -> None:
    code, stderr = goldnas(f"{TRAIN} --learning-rate 1e9 --out new")
    assert code == 2
    error = stderr.splitlines()[-1]
    assert error.startswith("error: training diverged at step ")
    assert "4 times so far" in error
    assert error.endswith("with a lower --learning-rate than 1000000000.0")
    assert not Path("new/result.json").exists()
    state = TrainingFolder.open(Path("new")).read_checkpoint()
    assert state is not None
    assert all(value.isfinite().all() for value in state["learner"].values())


CASES = {
    "nothing": Case(
        "train", "name a network to train: the folder of a search, .*--list-recipes"
    ),
    "no such file": Case(
        "train gone --data digits", "there is no gone. Give the folder of a search, an arch"
    ),
    "no data": Case("train DARTS_V2", "DARTS_V2 needs --data"),
    "a function of nobody": Case(
        f"train shrinkables:nobody {ON_DIGITS}", "no function 'nobody'"
    ),
    "a function with choices": Case(
        f"train own_spaces:residual {ON_DIGITS}",
        "own_spaces:residual has choices",
    ),
    "size of a function's network": Case(
        f"train shrinkables:chain {ON_DIGITS} --cells 3",
        "--cells is for a genotype, and shrinkables:chain decides it",
    ),
    "no argument of a function": Case(
        f"train shrinkables:chain {ON_DIGITS} --set depth=3", "takes no setting 'depth'"
    ),
    "an argument without a function": Case(
        f"train DARTS_V2 {ON_DIGITS} --set width=8", "--set is for a function"
    ),
    "weights of another function": Case(
        f"train shrinkables:chain {ON_DIGITS} --weights wide.pt",
        r"wide.pt does not fit shrinkables:chain: .* 24x1x3x3 there and 16x1x3x3 here",
        lambda: torch.save(chain((1, 8, 8), 10, width=24).state_dict(), "wide.pt"),
    ),
    "nothing but another classifier": Case(
        f"train shrinkables:perceptron {ON_DIGITS} --weights head.pt",
        "head.pt does not fit .*: it has only a classifier, for other classes",
        lambda: torch.save(perceptron((1, 8, 8), 7).state_dict(), "head.pt"),
    ),
    "weights that contradict each other": Case(
        f"train shrinkables:one_weight {ON_DIGITS} --weights two.pt",
        "1.weight and 2.weight are one tensor here, and differ there",
        lambda: torch.save(one_weight((1, 8, 8), 10, apart=True).state_dict(), "two.pt"),
    ),
    "classes that the data says": Case(
        f"train shrinkables:chain {ON_DIGITS} --set classes=5", "leave them out of --set"
    ),
    "weights of another ending": Case(
        f"train shrinkables:chain {ON_DIGITS} --weights w.ckpt",
        r"the name of --weights w.ckpt must end in \.safetensors or \.pt or \.pth",
        written("w.ckpt", b"hello"),
    ),
    "two outputs": Case(f"train shrinkables:two {ON_DIGITS}", "returns a tuple: let it return"),
    "a network that exits": Case(
        f"train shrinkables:exits {ON_DIGITS}", "cannot be made: SystemExit: no"
    ),
    "layers without sizes": Case(
        f"train shrinkables:lazy {ON_DIGITS}", "1.weight .* has no shape before the first input"
    ),
    "a state that is no tensor": Case(
        f"train shrinkables:remembers {ON_DIGITS}", "keeps _extra_state beside its weights"
    ),
    "no such folder": Case("train gone", "there is no gone. Give the folder of a search, "),
    "a long name": Case(f"train {LONG}", "there is no mmm.*Give the folder of a search, "),
    "into a long name": Case(f"{TRAIN} --out {LONG}", "cannot (make|write) mmm.*File name too"),
    "weights that are none": Case(
        f"{TRAIN} --warm --out new",
        r"run/weights/\w+.pt does not fit its architecture: .*; restore it",
        lambda: [torch.save([1], path) for path in Path("run/weights").iterdir()],
    ),
    "no search": Case("train images", "images is not the folder of a search"),
    "a damaged architecture": Case(
        f"train a.json {ON_DIGITS}", "a.json: not an architecture: ", written("a.json", b"{")
    ),
    "no genotype": Case(
        f"train a_file {ON_DIGITS}",
        "not a genotype .*; write Genotype",
        written("a_file", b"a b"),
    ),
    "other images": Case(
        f"train DARTS_V2 {ON_DIGITS} --data nowhere", "unknown dataset 'nowhere'; known: "
    ),
    "weights of others": Case(
        f"{TRAIN} --weights w.pt",
        "--weights w.pt are for a ready-made network, zoo:NAME, or a function; .* with --warm",
    ),
    "data of a search": Case(
        f"{TRAIN} --data digits --cells 3",
        "--data, --cells cannot be given with the folder of a search.*architectures/",
    ),
    "size of a file's network": Case(
        f"train a.json {ON_DIGITS} --space gold --channels 4",
        "--space, --channels is for a genotype, and a.json decides it",
    ),
    "unknown space": Case(
        f"train DARTS_V2 {ON_DIGITS} --space silver",
        "unknown search space 'silver'; known: darts, gold, gold-extended, gold-imagenet",
    ),
    "size of a published network": Case(
        f"train mobilenet_v2 {ON_DIGITS} --channels 4",
        "--channels is for a genotype, and mobilenet_v2 decides it",
    ),
    "ray of a file": Case(
        f"train a.json {ON_DIGITS} --ray local", "--ray cannot be given with a"
    ),
    "out of several": Case(
        f"{TRAIN} --pick 1 --pick 2 --out new", "--out new works for one network only; leav"
    ),
    "pick and all": Case(
        f"{TRAIN} --all --pick 1", "--pick and --all contradict; leave one of"
    ),
    "warm of a file": Case(
        f"train a.json {ON_DIGITS} --warm", "--warm cannot be given with a.js"
    ),
    "unknown recipe": Case(f"{TRAIN} --recipe best", "unknown recipe 'best'; known: darts-cif"),
    "unknown pick": Case(
        f"{TRAIN} --pick 99", "no network '99' in this run: give best, a numb"
    ),
    "unknown device": Case(f"{TRAIN} --train-device tpu", "cannot train on 'tpu': torch finds"),
    "unknown format": Case(f"{TRAIN} --amp fp8", "unknown --amp fp8; known: auto, bf16, off"),
    "cutout": Case(
        f"{TRAIN} --cutout 8", "cutout of 8 pixels hides whole images of 8x8; choose a sm"
    ),
    "drop-path": Case(f"{TRAIN} --drop-path 1", r"--drop-path must lie in \[0, 1\), got 1.0"),
    "rate": Case(f"{TRAIN} --learning-rate 0", "--learning-rate must be positive and finite"),
    "seed": Case(f"{TRAIN} --seed -1", "--seed must be 0 or more, and finite, got -1"),
    "fraction": Case(f"{TRAIN} --validation-fraction 1", r"must lie in \[0, 1\), got 1.0"),
    "a folder in use": Case(f"{TRAIN} --out images", "images is not the folder of a train"),
    "into a file": Case(f"{TRAIN} --out a_file/x", "cannot make a_file/x: a folder of"),
    "data that is gone": Case(
        TRAIN,
        "cannot read .*/gone.npz: no such file",
        changed("run/config.json", data="/gone.npz"),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_mistake_is_one_clear_line_and_leaves_the_disk_alone(
    workplace: Path, case: Case
) -> None:
    assert_refused(case)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            halved("new/checkpoint.pt"),
            "cannot read new/checkpoint.pt: the file is damaged; del",
        ),
        (halved("new/config.json"), "cannot read new/config.json: .*; restore it from a copy"),
        (changed("new/conditions.json", threads="1"), "does not have the threads"),
        (written("new/architecture.json", b"{}"), "new/architecture.json: not an architecture"),
    ],
)
def test_a_damaged_folder_says_what_is_damaged(
    workplace: Path, begun: Path, spoil: Any, message: str
) -> None:
    shutil.copytree(begun, "new")
    assert_refused(Case(f"{TRAIN} --out new", message, spoil))


def test_a_folder_of_another_training_is_refused_by_what_differs(workplace: Path) -> None:
    prepared("run", "new", epochs=2).train()
    case = Case(
        "train run --epochs 5 --batch-size 64 --seed 1 --train-device cpu --out new",
        r"new has a training with other settings: epochs \(2, not 5\), batch_size \(256, not "
        r"64\), seed \(0, not 1\). Give the same .*as --out",
    )
    assert_refused(case)
    other = next(
        n
        for n in SearchRun.open(Path("run")).front().networks
        if n.fingerprint != result_of("new").fingerprint
    )
    assert_refused(
        Case(
            f"{TRAIN} --pick {other.fingerprint} --out new",
            rf"the network \({result_of('new').fingerprint}, not {other.fingerprint}\)",
        )
    )


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("DARTS_V2", "--cells 3 --channels 4"),
        ("DARTS_V2", "--space gold-imagenet --cells 3 --channels 4"),
        ("genotype.txt", "--channels 4"),
        ("network.json", ""),
    ],
)
def test_a_network_from_a_file_is_trained_on_any_data(
    workplace: Path, target: str, options: str
) -> None:
    Path("genotype.txt").write_text(GENOTYPE)
    run = SearchRun.open(Path("run"))
    run.architecture(run.front().pick("1")).save(Path("network.json"))
    code, stdout, stderr = invoke(
        *("train", target, *f"--data digits {options} {SETTINGS}".split())
    )
    assert code == 0, stderr
    (folder,) = Path("trained").iterdir()
    assert result_of(folder).fingerprint == folder.name.split("-")[0]
    assert str(folder) in stdout
    space = find_space(TrainingFolder.open(folder).architecture)
    assert space.input_shape == (1, 8, 8)
    assert space.name == ("gold-imagenet" if "imagenet" in options else "gold")


def test_a_published_mobile_network_is_trained_by_its_name(workplace: Path) -> None:
    code, _, stderr = invoke(*f"train mobilenet_v2 {SETTINGS} --data data.npz".split())
    assert code == 0, stderr
    (folder,) = Path("trained").iterdir()
    space = find_space(TrainingFolder.open(folder).architecture)
    assert (space.name, space.input_shape, space.classes) == ("mobile", (1, 8, 8), 4)
    # Its published count, but for the classifier and the channels of the images.
    assert result_of(folder).resources["params"] == 3_504_872 - 996 * 1281 - 2 * 9 * 32


def test_a_network_for_other_images_is_refused(workplace: Path) -> None:
    run = SearchRun.open(Path("run"))
    run.architecture(run.front().pick("1")).save(Path("network.json"))
    assert_refused(
        Case(
            f"train network.json {SETTINGS} --data data.npz",
            "is for images of 1x8x8 of 10 classes, and .*data.npz has 1x8x8 of 4",
        )
    )


def test_recipes_are_listed_without_anything_to_train() -> None:
    code, stdout, _ = invoke("train", "--list-recipes")
    assert code == 0
    assert all(name in stdout for name in RECIPES)
    assert "0.025" in stdout


# -- processes -------------------------------------------------------------------------------


def wait_for_epochs(log: Path, epochs: int) -> None:
    deadline = time.monotonic() + 60
    while not log.exists() or log.read_text().count('"event": "epoch"') < epochs:
        assert time.monotonic() < deadline
        time.sleep(0.005)


LONG = ("train", "run", "--epochs", "4", "--batch-size", "64", "--train-device", "cpu")


@at_night
def test_kill_9_and_the_same_command_end_in_the_same_bits(workplace: Path) -> None:
    recipe = ("--recipe", "darts-cifar", "--threads", "1")
    settings = {"epochs": 4, "batch_size": 64, "threads": 1}
    prepared("run", "whole", "darts-cifar", **settings).train()
    command, said = (*LONG, *recipe, "--out", "killed"), Path("said")
    training = Forked(*command, said=said)
    wait_for_epochs(Path("killed/events.jsonl"), 2)  # the first is saved by then
    time.sleep(0.02)  # into the next epoch, or into a file
    assert training.kill()
    assert not Path("killed/result.json").exists()
    Forked(*command, said=said).finish()
    assert_same_training("whole", "killed")
    assert not list(Path("killed").rglob("*.tmp"))
    starts = [
        e for e in TrainingFolder.open(Path("killed")).read_events() if e["event"] == "start"
    ]
    assert [event["step"] > 0 for event in starts] == [False, True]


def test_a_signal_saves_the_step_under_way(workplace: Path) -> None:
    said = Path("said")
    process = Forked(*LONG, "--epochs", "500", "--out", "new", said=said)
    wait_for_epochs(Path("new/events.jsonl"), 1)
    process.send(signal.SIGTERM)
    process.wait()
    stderr = said.read_text()
    assert process.status == 143, stderr
    assert stderr.strip().endswith("and saved in new; run the same command again to continue")
    assert "Traceback" not in stderr
    state = TrainingFolder.open(Path("new")).read_checkpoint()
    assert state is not None
    assert f"interrupted after step {state['step']}," in stderr
    assert json.loads(Path("new/config.json").read_text())["epochs"] == 500


def test_settings_say_what_differs() -> None:
    settings: dict[str, Any] = {"recipe": "short", "data": "digits", "crop_padding": 1}
    one = TrainConfig(
        **settings, flip=False, epochs=1, batch_size=2, learning_rate=1, workers=1
    )
    other = TrainConfig(**settings, flip=True, epochs=1, batch_size=2, learning_rate=1)
    assert one.differences(other) == ["flip (False, not True)"]


# -- several networks ------------------------------------------------------------------------


def front_of(count: int) -> list[str]:
    """Let a front have so many networks that no other dominates; their fingerprints."""
    path = Path("run/front.json")
    front = json.loads(path.read_bytes())
    assert len(front["networks"]) >= count
    for index, network in enumerate(front["networks"]):
        network["dominated"] = index >= count
    path.write_text(json.dumps(front))
    return [network["fingerprint"] for network in front["networks"][:count]]


def test_of_a_front_one_broken_network_does_not_stop_the_others(workplace: Path) -> None:
    names = front_of(3)
    broken = Path(f"run/architectures/{names[1]}.json")
    whole = written(str(broken), broken.read_bytes())
    broken.write_bytes(b"{")
    code, stdout, stderr = invoke(*TRAIN.split(), "--all")
    assert code == 1
    assert f"error: cannot read {broken}: not an architecture" in stderr
    assert f"{names[1]} failed: cannot read {broken}" in stdout
    done = {folder.name.split("-")[0] for folder in Path("run/trained").iterdir()}
    assert done == {*names} - {names[1]}
    for folder in Path("run/trained").iterdir():
        assert f"{100 * result_of(folder).test_accuracy:.2f}" in stdout

    # Once it is mended, the same command trains it and nothing else.
    before = on_disk("run/trained")
    whole()
    code, stdout, _ = invoke(*TRAIN.split(), "--all")
    assert code == 0
    assert stdout.count("trained already, with these settings") == 2
    after = on_disk("run/trained")
    assert {name: after[name] for name in before} == before
    assert len(list(Path("run/trained").iterdir())) == 3


def test_several_networks_are_picked(workplace: Path) -> None:
    picks = ("--pick", "1", "--pick", "2", "--pick", "1")
    code, stdout, stderr = invoke(*TRAIN.split(), "--epochs", "1", *picks)
    assert code == 0, stderr
    assert len(list(Path("run/trained").iterdir())) == 2
    assert "2 of 2" in stdout


def test_ray_that_is_not_installed_is_named(workplace: Path) -> None:
    if importlib.util.find_spec("ray") is not None:
        pytest.skip("Ray is installed")
    assert_refused(
        Case(f"{TRAIN} --all --ray local", r"--ray needs Ray, .* pip install 'goldnas\[ray\]'")
    )


def test_ray_trains_a_front_side_by_side(workplace: Path) -> None:
    """In a process of its own: Ray's warnings are not ours."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    names = front_of(3)
    Path(f"run/weights/{names[0]}.pt").unlink()
    process = subprocess.run(
        [sys.executable, "-m", "goldnas", *TRAIN.split(), "--all", "--warm", "--ray", "local"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 1, process.stdout + process.stderr
    assert f"{names[0]} failed: cannot read " in process.stdout
    done = {folder.name.split("-")[0] for folder in Path("run/trained").iterdir()}
    assert done == {*names[1:]}
    for folder in Path("run/trained").iterdir():
        assert f"{100 * result_of(folder).test_accuracy:.2f}" in process.stdout


# -- warm ------------------------------------------------------------------------------------


def test_a_warm_training_begins_with_what_the_search_left(workplace: Path) -> None:
    opened = SearchRun.open(Path("run"))
    found = opened.network(opened.front().pick("best")).state_dict()
    training = prepared("run", "new", warm=True)
    begun = training.learner.network.state_dict()
    assert begun.keys() == found.keys()
    assert all(torch.equal(begun[name], found[name]) for name in found)
    assert training.config.learning_rate == pytest.approx(0.005)  # a tenth of the recipe's
    training.train()
    kept = TrainingFolder.open(Path("new")).network().state_dict()
    gates = [name for name in found if name.endswith("gates")]
    assert gates
    assert all(torch.equal(kept[name], found[name]) for name in gates)
    assert not torch.equal(kept["classifier.2.weight"], found["classifier.2.weight"])
    assert result_of("new").warm


@at_night
def test_a_warm_training_resumes_too(workplace: Path) -> None:
    prepared("run", "whole", warm=True).train()
    interrupted = prepared("run", "halves", warm=True)
    stop_at(interrupted, 7)
    with pytest.raises(StoppedOnPurposeError):
        interrupted.train()
    prepared("run", "halves", warm=True).train()
    assert_same_training("whole", "halves")


def test_a_warm_training_has_a_folder_of_its_own(workplace: Path) -> None:
    code, stdout, stderr = invoke(*TRAIN.split(), "--warm", "--learning-rate", "0.01")
    assert code == 0, stderr
    (folder,) = Path("run/trained").iterdir()
    assert folder.name.endswith("-short-e2-s0-warm")
    assert TrainingFolder.open(folder).config.learning_rate == 0.01
    assert str(folder) in stdout


def test_warm_without_weights_is_refused(workplace: Path) -> None:
    best = SearchRun.open(Path("run")).front().pick("best").fingerprint
    assert_refused(
        Case(
            f"{TRAIN} --warm",
            f"cannot read run/weights/{best}.pt: No such file or directory; restore it",
            lambda: Path(f"run/weights/{best}.pt").unlink(),
        )
    )


def test_warm_is_refused_where_nothing_was_trained(workplace: Path) -> None:
    drawn = "search --strategy random --networks 1 --cells 2 --channels 4 --out drawn"
    code, stderr = goldnas(f"{drawn} --budget 100kFLOPs")
    assert code == 0, stderr
    assert_refused(Case("train drawn --warm", "nothing was trained in drawn: network "))
    code, _, stderr = invoke("train", "drawn", "--epochs", "1", "--batch-size", "256")
    assert code == 0, stderr


# -- afterwards --------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("warm", [pytest.param(False, marks=at_night), True])
def test_what_is_exported_is_the_trained_network(workplace: Path, warm: bool) -> None:
    code, stdout, stderr = invoke(*TRAIN.split(), *["--warm"] * warm)
    assert code == 0, stderr
    lower = "learning rate 0.005 for a warm start, in place of 0.05" in stdout
    assert lower == warm
    (folder,) = Path("run/trained").iterdir()
    code, stdout, stderr = invoke(
        *("export", folder, "--out", "net.onnx", "--python-out", "n.py")
    )
    assert code == 0, stderr
    result = result_of(folder)
    assert (
        f"network {result.fingerprint}: accuracy {100 * result.test_accuracy:.2f} % on the"
        in stdout
    )
    # Of the search: its budget, and its table, which is of a machine that does not exist.
    assert "100 kFLOPs" in stdout
    assert "latency@cpu not verified: the table is for made up" in stdout
    dataset = load_dataset("digits")
    train, _ = split_validation(dataset.train, 0.1, 0)
    model = Path("net.onnx").read_bytes()
    found = onnx_predictions(model, dataset.test, Normalisation.measure(train))
    right = float((found == dataset.test.labels).double().mean())
    assert right == pytest.approx(result.test_accuracy)
    assert set(torch.load("n.pt", weights_only=True)) == set(
        torch.load(folder / "weights.pt", weights_only=True)
    )
    code, stdout, stderr = invoke("evaluate", folder)
    assert code == 0, stderr
    assert stdout.count(f"{100 * result.test_accuracy:.2f} %") == 2


def test_an_unfinished_training_is_not_exported(workplace: Path, begun: Path) -> None:
    shutil.copytree(begun, "new")
    message = "the training in new is not done: continue it with the same settings"
    assert_refused(Case("export new --out net.onnx", message))
    assert_refused(Case("evaluate new", message))
    assert_refused(
        Case("export new --out net.onnx --pick 2", "new has only one network: leave out")
    )
    assert_refused(
        Case("train new", "new is the folder of a training; give the folder of its search")
    )
