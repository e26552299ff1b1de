"""A network that learns from a trained one besides the labels."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import goldnas
from goldnas.data.examples import Normalisation
from goldnas.training.folder import TrainingFolder
from goldnas.training.teacher import Distillation, Teacher
from trainings import assert_same_training
from workplace import Case, assert_refused, changed, invoke, removed

TRAIN = "train run --epochs 1 --batch-size 512 --train-device cpu"
PUPIL = f"{TRAIN} --teacher teacher --out pupil"

pytestmark = pytest.mark.usefixtures("workplace")


@pytest.fixture(scope="module")
def trained(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of the search, trained for one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(template, folder, dirs_exist_ok=True)
    with contextlib.chdir(folder):
        code, _, stderr = invoke(*TRAIN.split(), "--out", "teacher")
    assert code == 0, stderr
    return folder / "teacher"


@pytest.fixture
def teacher(trained: Path, workplace: Path) -> Path:
    """A copy of it."""
    shutil.copytree(trained, "teacher")
    return Path("teacher")


def weights_of(folder: str | Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(Path(folder, "weights.pt"), weights_only=True)
    return weights


# -- what is learnt ----------------------------------------------------------------------------


def test_the_loss_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    images, outputs = torch.randn(5, 3, 2, 2), torch.randn(5, 4, requires_grad=True)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    labels = F.cross_entropy(outputs, torch.arange(5) % 4)
    found = Distillation(module, share=0.7, temperature=3.0).compute(labels, images, outputs)
    wanted = torch.softmax(module(images) / 3, 1)
    apart = (wanted * (wanted.log() - torch.log_softmax(outputs / 3, 1))).sum(1).mean()
    torch.testing.assert_close(found, 0.3 * labels + 0.7 * 9 * apart)
    found.backward()
    assert outputs.grad is not None
    assert all(weight.grad is None for weight in module.parameters())
    same = Distillation(nn.Identity(), share=1.0, temperature=2.0)
    logits = torch.randn(5, 4)
    assert abs(float(same.compute(labels.detach(), logits, logits))) < 1e-6


def test_a_teacher_sees_images_as_its_own_were_normalised() -> None:
    torch.manual_seed(0)
    mine, theirs = Normalisation((0.5, 0.4), (0.2, 0.3)), Normalisation((0.1, 0.7), (0.5, 0.25))
    pixels = torch.randint(0, 256, (6, 2, 4, 4), dtype=torch.uint8)
    module = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 3)).train()
    teacher = Teacher("t", module, (2, 4, 4), 3, mine, ("a", "b", "c"), "d", "0")
    placed = teacher.place(torch.device("cpu"), theirs)
    before = module[0].running_mean.clone()
    found = placed(theirs.apply(pixels))
    torch.testing.assert_close(found, module.eval()(mine.apply(pixels)))
    assert torch.equal(module[0].running_mean, before)
    teacher.check((2, 4, 4), 3, ("a", "b", "c"))
    teacher.check((2, 4, 4), 3, ())  # whose classes have no names
    with pytest.raises(goldnas.ConfigError, match=r"other classes \(b, not c\)"):
        teacher.check((2, 4, 4), 3, ("a", "c", "b"))
    assert not any(weight.requires_grad for weight in placed.parameters())


def test_a_pupil_learns_something_else_and_says_what_its_teacher_has(teacher: Path) -> None:
    code, _, stderr = invoke(*PUPIL.split())
    assert code == 0, stderr
    config, result = (TrainingFolder.open(Path("pupil")).config, Path("pupil/result.json"))
    assert (config.teacher_share, config.temperature) == (0.9, 4.0)
    told = json.loads(result.read_text())["teacher"]
    assert told == f"{config.teacher_sha256[:8]}, share 0.9, temperature 4"
    mine, theirs = weights_of("pupil"), weights_of("teacher")
    assert any(not torch.equal(mine[name], theirs[name]) for name in mine)
    (said,) = [line for line in stderr.splitlines() if "the teacher" in line]
    accuracy = json.loads(Path("teacher/result.json").read_text())["test_accuracy"]
    assert f"has {100 * accuracy:.2f} % on the test set" in said
    events = [json.loads(line) for line in Path("pupil/events.jsonl").read_text().splitlines()]
    (told,) = [event for event in events if event["event"] == "teacher"]
    assert told["test_accuracy"] == pytest.approx(accuracy)
    (end,) = [event for event in events if event["event"] == "end"]
    assert ("train without a teacher" in said) == (accuracy < end["test_accuracy"])


def test_a_teacher_of_other_data_is_said(teacher: Path) -> None:
    with np.load("data.npz") as file:
        arrays = {name: file[name] for name in file.files}
    arrays["y_train"][:10] = np.arange(10)
    np.savez("ten.npz", **arrays)
    command = "train DARTS_V2 --data ten.npz --cells 2 --channels 4 --epochs 1 --batch-size 16"
    code, _, stderr = invoke(*command.split(), "--teacher", "teacher", "--out", "new")
    assert code == 0, stderr
    assert "the teacher was trained on digits, and this network is trained on" in stderr


def test_a_training_goes_on_to_the_same_bits(
    teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 512, "train_device": "cpu"}
    run = goldnas.load_run("run")
    whole = goldnas.train(run, teacher=teacher, out="whole", **settings)
    steps = []

    def stop() -> int:
        steps.append(1)
        return 15 * (len(steps) == 4)

    with pytest.raises(goldnas.StoppedError):
        goldnas.train(run, teacher="teacher", out="parts", stop_signal=stop, **settings)
    Path("teacher").rename("moved")  # where it is decides nothing
    parts = goldnas.train(run, teacher="moved", out="parts", **settings)
    assert parts.accuracy == whole.accuracy
    assert_same_training("whole", "parts")


def test_a_network_of_a_search_teaches_too() -> None:
    run = goldnas.load_run("run")
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 512, "train_device": "cpu"}
    by_run = goldnas.train(run, teacher="run", out="a", **settings)
    by_network = goldnas.train(run, teacher=run.best, out="b", **settings)
    by_trained = goldnas.train(run, teacher=by_run, out="c", **settings)
    shas = [t.folder.config.teacher_sha256 for t in (by_run, by_network, by_trained)]
    assert shas[0] == shas[1] != shas[2]


def test_trainings_with_and_without_a_teacher_are_rows_of_their_own(teacher: Path) -> None:
    other = f"{TRAIN} --teacher teacher"
    for words in (TRAIN, other, f"{other} --temperature 2"):
        code, _, stderr = invoke(*words.split())
        assert code == 0, stderr
    assert len(list(Path("run/trained").iterdir())) == 3
    code, stdout, stderr = invoke("compare", "run", "--json")
    assert code == 0, stderr
    rows = json.loads(stdout)["rows"]
    shas = [row["teacher"] for row in rows if row["recipe"]]
    assert len({*shas}) == 3
    assert None in shas


# -- what is refused ---------------------------------------------------------------------------

BAD = {
    "no folder": Case(
        f"{TRAIN} --teacher nowhere", "the --teacher .*nowhere is not the folder of a training"
    ),
    "a file": Case(
        f"{TRAIN} --teacher a_file", "the --teacher .*a_file is not the folder of a training"
    ),
    "a share without a teacher": Case(
        f"{TRAIN} --teacher-share 0.5", "--teacher-share is for a training with a --teacher"
    ),
    "a temperature without a teacher": Case(
        f"{TRAIN} --temperature 2", "--temperature is for a training with a --teacher"
    ),
    "a share over 1": Case(f"{PUPIL} --teacher-share 2", r"--teacher-share must lie in \(0, 1"),
    "a share of nothing": Case(f"{PUPIL} --teacher-share 0", r"--teacher-share must lie in"),
    "a temperature of nothing": Case(f"{PUPIL} --temperature 0", "--temperature must lie in"),
    "a temperature without end": Case(f"{PUPIL} --temperature 1e200", "--temperature must lie"),
    "images of another size": Case(
        "train run/architectures/SOME.json --data images --teacher teacher --out new",
        "images|shape|size",
    ),
    "a training that is not done": Case(
        PUPIL, "the training in .*teacher is not done", removed("teacher/result.json")
    ),
    "fewer classes": Case(
        "train DARTS_V2 --data data.npz --cells 2 --channels 4 --teacher teacher --out new",
        r"the --teacher .*teacher has other classes \(10, not 4\)",
    ),
    "no normalisation": Case(
        PUPIL, "does not say how the images were normalised", changed(
            "teacher/conditions.json", inputs={}
        ),
    ),
    "weights that are gone": Case(PUPIL, "weights.pt", removed("teacher/weights.pt")),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_teacher_is_one_line(teacher: Path, name: str) -> None:
    case = BAD[name]
    if "SOME" in case.command:
        (some, *_) = sorted(Path("run/architectures").glob("*.json"))
        case = case._replace(command=case.command.replace("SOME", some.stem))
    assert_refused(case)


def test_a_search_that_trained_nothing_does_not_teach() -> None:
    search = "search --data digits --cells 2 --channels 4 --strategy random --networks 1"
    words = ("--budget", "100kFLOPs", "--no-report", "--out", "drawn")
    code, _, stderr = invoke(*search.split(), *words)
    assert code == 0, stderr
    assert_refused(Case(f"{TRAIN} --teacher drawn", "nothing was trained in .*drawn"))


def test_a_teacher_of_other_images_is_refused(teacher: Path) -> None:
    config = json.loads(Path("teacher/architecture.json").read_text())
    with pytest.raises(goldnas.GoldnasError, match="takes images of"):
        goldnas.train(
            "zoo:squeezenet1_1", data="images", image_size=32, teacher=teacher, out="new",
            epochs=1, batch_size=4, train_device="cpu", validation_fraction=0,
        )  # fmt: skip
    assert config
    assert not Path("new").exists()
