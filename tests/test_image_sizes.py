"""Shrinking at other sizes of the images: a run at each, of which the best is returned."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import goldnas
from goldnas.lut import LatencyTable
from goldnas.spaces.reference import name_function
from nightly import at_night
from searches import assert_same_results
from shrinkables import learnt, residual
from workplace import Case, assert_refused, invoke

SIDES = (16, 8)
STEPS = 2 * 9
"""Of a run: two epochs of 72 images."""
WORDS = (
    "shrink shrinkables:residual --weights w.pt --data photos --step 4 --batch-size 8 "
    "--train-device cpu --no-report --out new"
)

pytestmark = pytest.mark.filterwarnings("ignore::goldnas.GoldnasWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 16 pixels, bright on one side; and a network that knows nothing yet."""
    folder = tmp_path_factory.mktemp("sizes")
    random = np.random.default_rng(0)
    for part, number in (("train", 40), ("test", 8)):
        for kind in range(2):
            (folder / "photos" / part / f"side{kind}").mkdir(parents=True)
            for i in range(number):
                image = random.integers(0, 128, (16, 16, 3), dtype=np.uint8)
                image[:, 8 * kind : 8 * kind + 8] += 100
                Image.fromarray(image).save(folder / f"photos/{part}/side{kind}/{i}.png")
    torch.save(learnt(lambda: residual((3, 16, 16), 2)).state_dict(), folder / "w.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shrink(out="several", image_size=SIDES, budgets=["300kFLOPs"])
    return folder


@pytest.fixture(autouse=True)
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def shrink(network: Any = residual, notes: list[str] | None = None, **settings: Any) -> Any:
    def observe(event: str, fields: dict[str, Any]) -> None:
        if event == "note" and notes is not None:
            notes.append(fields["text"])

    own = {"weights": "w.pt", "data": "photos"} if network is residual else {}
    given = {"out": "new", "epochs": 2, "batch_size": 8, "step": 4, "train_device": "cpu"}
    return goldnas.shrink(network, on_event=observe, **{**own, **given, **settings})


def side_of(run: goldnas.Run) -> int:
    shape = run.best.architecture.settings["input_shape"]
    assert run.best.build()(torch.zeros(1, *shape)).shape == (1, 2)
    return int(shape[-1])


def test_the_run_of_the_best_size_is_returned(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all runs are done already."""
    monkeypatch.chdir(made)
    runs = {side: goldnas.load_run(f"several/{side}px") for side in SIDES}
    for side, run in runs.items():
        assert side_of(run) == side
        assert run.best.resources["FLOPs"] <= 300_000
    notes: list[str] = []
    again = shrink(notes=notes, out="several", image_size=SIDES, budgets=["300kFLOPs"])
    assert again.best.accuracy == max(run.best.accuracy or 0 for run in runs.values())
    assert again.path == Path(f"several/{side_of(again)}px")
    assert any(f"images of {side_of(again)} pixels are best" in note for note in notes)
    assert invoke("evaluate", again.path)[0] == 0
    code, stdout, stderr = invoke("compare", *(run.path for run in runs.values()))
    assert code == 0, stderr
    assert "image_size=16" in stdout


def test_a_size_that_misses_the_budgets_is_left_out() -> None:
    """At 16 pixels the smallest size needs four times the FLOPs of the one at 8."""
    notes: list[str] = []
    run = shrink(notes=notes, image_size=SIDES, budgets=["20kFLOPs"])
    assert side_of(run) == 8
    assert not Path("new/16px").exists()
    assert any("16 pixels are left out" in note for note in notes)


def test_a_command_goes_on_where_it_was_stopped() -> None:
    """What was interrupted at the second size ends like what was not."""
    polls = iter(range(10**6))
    with pytest.raises(goldnas.StoppedError, match=r"new/8px.*same command"):
        shrink(
            image_size=SIDES,
            budgets=["300kFLOPs"],
            stop_signal=lambda: 15 * (next(polls) >= 3 * STEPS // 2),
        )
    assert goldnas.load_run("new/16px").finished
    assert not goldnas.load_run("new/8px").finished
    shrink(image_size=SIDES, budgets=["300kFLOPs"])
    for side in SIDES:
        assert_same_results(
            goldnas.load_run(f"several/{side}px"), goldnas.load_run(f"new/{side}px")
        )
    with pytest.raises(goldnas.RunError, match="other settings"):
        shrink(image_size=SIDES, budgets=["200kFLOPs"])


@pytest.mark.usefixtures("quick")
@at_night
def test_each_size_has_a_table_of_its_own() -> None:
    device = {"device": "cpu", "networks": 4, "target_percent": 100}
    visits: list[int] = []

    def count(done: int, total: int) -> None:
        visits.append(done)

    run = shrink(image_size=SIDES, budgets=["1s"], epochs=1, on_progress=count, **device)
    assert visits
    names = [f"new/{side}px.lut.json" for side in SIDES]
    for name, side in zip(names, SIDES, strict=True):
        (known,) = LatencyTable.load(Path(name)).calibrations
        assert known.settings["network"]["settings"]["input_shape"] == [3, side, side]
    assert run.config.tables == (f"{side_of(run)}px.lut",)
    visits.clear()
    again = shrink(
        image_size=SIDES, budgets=["1s"], epochs=1, out="again", tables=names, on_progress=count
    )
    assert not visits
    assert_same_results(run, again)
    with pytest.raises(goldnas.ConfigError, match=r"inputs of 3x8x8.*`image_size`"):
        shrink(image_size=SIDES, budgets=["1s"], epochs=1, out="less", tables=names[:1])


def test_one_other_size_is_taken_at_once() -> None:
    """Also of a network that was shrunk before, which holds its original."""
    smaller = shrink("several/16px", image_size=12, budgets=["150kFLOPs"], epochs=1)
    assert side_of(smaller) == 12
    assert smaller.path == Path("new")


def flat(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Its last layer reads every pixel."""
    conv = nn.Conv2d(input_shape[0], 16, 3, padding=1)
    pixels = 16 * input_shape[1] * input_shape[2]
    return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(pixels, classes))


def test_what_cannot_be_is_one_line() -> None:
    for words, told in {
        "--image-size 8,8": "--image-size .*twice",
        "--image-size 8,0": "--image-size .*0",
        "--image-size small": "--image-size .*'small'",
        "--image-size 8 --data digits": "digits",
        "--image-size 16,8 --device cpu --latency-lut a.json": "leave --latency-lut out",
        "--image-size 16,8 --out several/8px": "several/8px exists",
        "--image-size 16,8 --out photos": "photos exists and is not",
    }.items():
        assert_refused(Case(f"{WORDS} --budget 300kFLOPs {words}", told))
    code, _, stderr = invoke(*f"{WORDS} --budget 1kFLOPs --image-size 8,16".split())
    assert code == 2
    assert "error: the budgets cannot be met at any --image-size" in stderr
    with pytest.raises(goldnas.ConfigError, match="image_size"):
        shrink(image_size=(8, 16.5), budgets=["300kFLOPs"])
    settings = {"input_shape": [3, 16, 16], "classes": 2}
    goldnas.train(
        goldnas.Architecture(space=name_function(flat), settings=settings, choices={}),
        data="photos", epochs=1, batch_size=8, train_device="cpu", out="flat",
        on_event=lambda *_: None,
    )  # fmt: skip
    with pytest.raises(goldnas.ConfigError, match="no weights for those of 8 pixels"):
        shrink("flat", image_size=8, budgets=["300kFLOPs"])
