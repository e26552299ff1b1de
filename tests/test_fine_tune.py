"""Ready-made networks are trained on one's own data, from the weights of others."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import WeightsEnum

import goldnas
from goldnas.errors import ConfigError, StoppedError
from goldnas.spaces.zoo import ZooSpace
from goldnas.tensor_file import load_state
from goldnas.training.folder import TrainingFolder
from goldnas.training.pretrained import load_pretrained
from goldnas.training.ready_made import choose_image_size
from goldnas.training.start import NetworkLoop
from goldnas.training.target import target_of_file
from goldnas.zoo.file import load_zoo
from goldnas.zoo.networks import (
    build_network,
    build_without_numbers,
    find_network,
    list_networks,
)
from goldnas.zoo.pretrained import find_image_size, list_weights
from nightly import at_night
from searches import StoppedOnPurposeError
from trainings import assert_same_training, fine_tuned
from workplace import Case, assert_one_line, assert_refused, invoke, written

NAME = "zoo:shufflenet_v2_x0_5"
SPACE = ZooSpace(network=NAME, input_shape=(3, 32, 32), classes=3)
SETTINGS = "--recipe fine-tune --epochs 1 --batch-size 16 --train-device cpu"
TRAIN = f"train {NAME} --data data.npz {SETTINGS}"


def draw(classes: int = 7, *, network: str = NAME) -> dict[str, Tensor]:
    """Weights that somebody else has learnt: none is what goldnas would begin with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        state = build_network(network, (3, 32, 32), classes).state_dict()
    return {name: value.clone() for name, value in state.items()}


WEIGHTS = draw()
BODY = {name for name in WEIGHTS if not name.startswith("fc.")}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images of three classes, and weights for seven."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), np.uint8)
    labels = np.arange(60) % 3
    np.savez(
        "data.npz",
        **{"x_train": images[:48], "y_train": labels[:48]},
        **{"x_test": images[48:], "y_test": labels[48:]},
    )
    torch.save(WEIGHTS, "w.pt")
    return tmp_path


def prepared(out: str, **given: Any) -> NetworkLoop:
    return fine_tuned(out, NAME, "data.npz", "w.pt", **{"epochs": 2, "batch_size": 16} | given)


def config_of(folder: str | Path) -> Any:
    return TrainingFolder.open(Path(folder)).config


# -- networks of every kind --------------------------------------------------------------------


@at_night
@pytest.mark.parametrize("network", [one.name for one in list_networks("torchvision")])
def test_weights_are_loaded_without_what_pytorch_notes_beside_them(network: str) -> None:
    size = find_network(network).sizes[:1] or (224,)
    module = build_without_numbers(network, (3, *size, *size), 7)
    load_state(module, dict(module.state_dict()))


def test_a_network_that_wants_notes_and_has_slow_statistics_learns_and_goes_on() -> None:
    """MNASNet: it refuses weights without a version, and its statistics move by 0.0003."""
    settings = {"epochs": 2, "batch_size": 16, "learning_rate": 0.005}
    whole = fine_tuned("whole", "zoo:mnasnet0_5", "data.npz", None, "short", **settings)
    whole.train()
    parts = fine_tuned("parts", "zoo:mnasnet0_5", "data.npz", None, "short", **settings)
    parts.stop_signal = lambda: 15 * (parts.step == 4)
    with pytest.raises(StoppedError):
        parts.train()
    fine_tuned("parts", "zoo:mnasnet0_5", "data.npz", None, "short", **settings).train()
    assert_same_training("whole", "parts")
    network = TrainingFolder.open(Path("whole")).network()
    (first, *_) = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert first.running_var is not None
    assert float((first.running_var - 1).abs().max()) > 0.1  # after 6 steps


# -- a whole training --------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_a_ready_made_network_is_fine_tuned_exported_and_scored() -> None:
    torch.save(draw(network="zoo:squeezenet1_1"), "squeeze.pt")
    command = f"train zoo:squeezenet1_1 --data data.npz --weights squeeze.pt {SETTINGS}"
    code, _, stderr = invoke(*command.split())
    assert code == 0, stderr
    assert "starts from the weights of squeeze.pt; its classifier is new" in stderr
    assert "`" not in stderr
    (folder,) = Path("trained").iterdir()
    config = config_of(folder)
    assert folder.name.endswith(f"-fine-tune-e1-s0-w{config.weights_sha256[:8]}")
    assert (config.weights, config.body_rate, config.recipe) == ("squeeze.pt", 0.3, "fine-tune")
    result = TrainingFolder.open(folder).result()
    assert result is not None
    # As published, but for 997 classes less.
    assert result.resources["params"] == 1_235_496 - 997 * 513

    code, stdout, stderr = invoke("export", folder, "--out", "n.onnx", "--precision", "int8")
    assert code == 0, stderr
    assert "onnxruntime and PyTorch differ by" in stdout
    assert "classified as in fp32" in stdout
    assert_held_against_a_pick(folder)
    code, stdout, stderr = invoke("evaluate", folder)
    assert code == 0, stderr
    assert stdout.count(f"{100 * result.test.value:.2f} %") == 2
    assert_refused(
        Case(
            f"export {folder} --out m.onnx --python-out n.py",
            "torchvision/squeezenet1_1 already has its own source; leave it out",
        )
    )
    for command in ("status", "compare", "report"):
        assert_refused(Case(f"{command} {folder}", "is the folder of a training"))


def assert_held_against_a_pick(folder: Path) -> None:
    """A limit is verified where a pick has measured the network, at its size and format."""
    picked = ("pick", "--networks", "squeezenet1_1", "--size", "32", "--target", "50")
    export = ("export", folder, "--out", "n.onnx", "--force", "--zoo", "zoo.json")
    code, _, stderr = invoke(*picked, "--budget", "1s", "--out", "zoo.json")
    assert code == 0, stderr
    ((_, row),) = load_zoo("zoo.json").measured()
    for limit, status, verdict in (("1s", 0, "PASS"), ("1us", 3, "FAIL")):
        code, stdout, stderr = invoke(*export, "--budget", limit, "--json")
        assert code == status, stderr
        latency, *_ = json.loads(stdout)["resources"]
        assert latency["resource"] == "latency@zoo"
        assert latency["predicted"] == row.latency_us
        assert latency["measured"] > 0
        assert latency["verdict"] == verdict
        assert "zoo.json was measured with 1000 classes, but the network has 3" in stderr
    code, _, stderr = invoke(*export, "--precision", "fp16")
    assert_one_line(code, stderr, "zoo.json has no fp16 latency of torchvision/squeezenet1_1")
    assert "pick --networks torchvision/squeezenet1_1 --size 32 --classes 1000" in stderr
    code, _, stderr = invoke(*export, "--budget", "1s:p99")
    assert code == 2
    assert "goldnas pick --exhaustive --loop paced:15/s --out paced.json" in stderr


def test_python_trains_what_the_command_trains() -> None:
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 16, "train_device": "cpu"}
    trained = goldnas.train(
        NAME, data="data.npz", weights=Path("w.pt"), recipe="fine-tune", **settings
    )
    code, stdout, _ = invoke(*f"{TRAIN} --weights w.pt".split())
    assert code == 0
    assert stdout.startswith("trained already, with these settings\n")
    assert str(trained.path) in stdout


def test_without_weights_it_begins_anew_and_says_so() -> None:
    code, stdout, stderr = invoke(*TRAIN.split())
    assert code == 0, stderr
    assert "shufflenet_v2_x0_5 starts from fresh weights; give --weights" in stderr
    assert "body rate 1 for fresh weights, in place of 0.3" in stdout
    (folder,) = Path("trained").iterdir()
    assert folder.name.endswith("-fine-tune-e1-s0")
    config = config_of(folder)
    assert (config.weights, config.weights_sha256, config.body_rate) == (None, None, 1.0)


# -- what it begins with -----------------------------------------------------------------------


def test_a_training_begins_with_the_weights_and_a_new_classifier() -> None:
    begun = prepared("new").learner.network.state_dict()
    assert begun.keys() > BODY
    assert all(torch.equal(begun[name], WEIGHTS[name]) for name in BODY)
    assert begun["fc.weight"].shape == (3, 1024)


def save_legacy(state: Any, path: str) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_named(state: dict[str, Any], path: str, before: str, within: str = "") -> None:
    named: dict[str, Any] = {before + name: value for name, value in state.items()}
    torch.save({within: named, "epoch": 3} if within else named, path)


SAVED: dict[str, Callable[[dict[str, Any], str], None]] = {
    "ordered.pt": lambda state, path: torch.save(
        build_network(NAME, (3, 32, 32), 7).state_dict() | state, path
    ),
    "legacy.pth": save_legacy,
    "weights.safetensors": save_file,
    "parameters.pt": lambda state, path: torch.save(
        {n: torch.nn.Parameter(v, v.is_floating_point()) for n, v in state.items()}, path
    ),
    "checkpoint.pth": lambda state, path: save_named(state, path, "module.", "state_dict"),
    "trainer.pt": lambda state, path: save_named(state, path, "model.", "model"),
    "compiled.pt": lambda state, path: save_named(state, path, "_orig_mod.module."),
    "average.pt": lambda state, path: torch.save(
        {"n_averaged": torch.tensor(3)} | {f"module.{n}": v for n, v in state.items()}, path
    ),
    "uncounted.pt": lambda state, path: torch.save(
        {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}, path
    ),
    "double.pt": lambda state, path: torch.save(
        {n: v.double() if v.is_floating_point() else v for n, v in state.items()}, path
    ),
}


@pytest.mark.parametrize("path", SAVED)
def test_weights_are_read_however_they_were_saved(path: str) -> None:
    SAVED[path](WEIGHTS, path)
    found = load_pretrained(path, SPACE)
    assert found.weights is not None
    assert found.weights.keys() == BODY
    assert all(torch.equal(found.weights[name], WEIGHTS[name]) for name in BODY)
    assert found.name == path
    assert found.new_classifier


def test_a_classifier_for_as_many_classes_is_kept_and_one_that_is_missing_is_new() -> None:
    same = load_pretrained("w.pt", ZooSpace(network=NAME, input_shape=(3, 32, 32), classes=7))
    assert same.weights is not None
    assert torch.equal(same.weights["fc.weight"], WEIGHTS["fc.weight"])
    assert not same.new_classifier
    torch.save({name: WEIGHTS[name] for name in BODY}, "headless.pt")
    assert load_pretrained("headless.pt", SPACE).new_classifier


def test_heads_that_are_built_no_longer_are_left_out() -> None:
    googlenet = draw(network="googlenet") | {"aux1.fc2.bias": torch.zeros(7)}
    torch.save(googlenet, "googlenet.pt")
    space = ZooSpace(network="googlenet", input_shape=(3, 32, 32), classes=3)
    found = load_pretrained("googlenet.pt", space)
    assert found.weights is not None
    assert "aux1.fc2.bias" not in found.weights


@pytest.mark.parametrize(
    ("network", "classifier"),
    [
        ("mobilenet_v3_small", {"classifier.3.weight", "classifier.3.bias"}),
        ("squeezenet1_1", {"classifier.1.weight", "classifier.1.bias"}),
        ("vit_b_16", {"heads.head.weight", "heads.head.bias"}),
        ("timm/test_efficientnet", {"classifier.weight", "classifier.bias"}),
    ],
)
def test_the_classifier_is_what_knows_the_number_of_classes(
    network: str, classifier: set[str]
) -> None:
    state = torch.get_rng_state()
    space = ZooSpace(network=network, input_shape=(3, 224, 224), classes=10)
    assert space.find_classifier() == classifier
    assert torch.equal(torch.get_rng_state(), state)


def test_the_body_learns_at_its_share_of_the_rate() -> None:
    loop = prepared("new", body_rate=0.25, epochs=1)
    loop.train()
    fast, slow = loop.learner.optimizer.sgd.param_groups  # type: ignore[attr-defined]
    assert [weight.shape for weight in fast["params"]] == [(3, 1024), (3,)]
    assert slow["lr"] == pytest.approx(0.25 * fast["lr"])
    still = prepared("still", body_rate=0.0, epochs=1)
    still.train()
    weights = dict(still.learner.module.network.named_parameters())  # type: ignore[operator, union-attr]
    moved = {n for n, w in weights.items() if n in BODY and not torch.equal(w, WEIGHTS[n])}
    assert not moved
    assert not torch.equal(weights["fc.weight"], prepared("x").learner.network.fc.weight)  # type: ignore[union-attr]


# -- published weights -------------------------------------------------------------------------


def reachable(monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor] | None) -> list[str]:
    """Let torchvision have weights, or no network; which ones it was asked for."""
    asked: list[str] = []

    def get(self: WeightsEnum, **how: Any) -> dict[str, Tensor]:
        asked.append(self.name)
        assert how["weights_only"]
        if state is None:
            raise URLError("no network")
        return state

    monkeypatch.setattr(WeightsEnum, "get_state_dict", get)
    return asked


def test_published_weights_are_fetched_by_name_and_needed_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = reachable(monkeypatch, WEIGHTS)
    command = (*TRAIN.split(), "--weights", "default")
    assert invoke(*command)[0] == 0
    assert asked == ["IMAGENET1K_V1"]
    (folder,) = Path("trained").iterdir()
    assert config_of(folder).weights == "IMAGENET1K_V1"
    assert folder.name.endswith(f"-w{config_of(folder).weights_sha256[:8]}")

    asked = reachable(monkeypatch, None)
    code, stdout, stderr = invoke(*command)
    assert code == 0, stderr
    assert stdout.startswith("trained already, with these settings\n")
    asked.clear()
    assert invoke("evaluate", folder)[0] == 0
    assert asked == []  # what a folder says is not fetched


def test_weights_that_cannot_be_fetched_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    reachable(monkeypatch, None)
    assert_refused(
        Case(
            f"{TRAIN} --weights IMAGENET1K_V1",
            "torchvision cannot fetch the weights IMAGENET1K_V1 of shufflenet_v2_x0_5: .*no "
            "network.*give the file as --weights",
        )
    )


def test_published_weights_are_known_without_a_network() -> None:
    assert list_weights("resnet50") == ("IMAGENET1K_V2", "IMAGENET1K_V1")
    assert list_weights("timm/mobilenetv3_small_100") == ("lamb_in1k",)
    sizes = map(find_image_size, ("resnet50", "efficientnet_v2_s", "timm/test_efficientnet"))
    assert [*sizes] == [224, 384, 160]


# -- going on ----------------------------------------------------------------------------------


def test_a_training_goes_on_to_the_same_bits_without_its_weights() -> None:
    prepared("whole", body_rate=0.5).train()
    begun = prepared("halves", body_rate=0.5)

    def stop(event: str, fields: dict[str, Any]) -> None:
        if event == "step" and fields["step"] == 4:
            begun.checkpoints.save()
            raise StoppedOnPurposeError

    begun.events.observer = stop
    with pytest.raises(StoppedOnPurposeError):
        begun.train()
    Path("w.pt").unlink()
    settings = {"epochs": 2, "batch_size": 16, "train_device": "cpu", "body_rate": 0.5}
    goldnas.train(
        *(NAME,), data="data.npz", weights="w.pt", recipe="fine-tune", out="halves", **settings
    )
    assert_same_training("whole", "halves")


def test_a_training_that_is_done_is_found_without_its_weights() -> None:
    assert invoke(*f"{TRAIN} --weights w.pt".split())[0] == 0
    Path("w.pt").rename("moved.pt")
    code, stdout, stderr = invoke(*f"{TRAIN} --weights w.pt".split())
    assert code == 0, stderr
    assert stdout.startswith("trained already, with these settings\n")
    code, stdout, stderr = invoke(*f"{TRAIN} --weights moved.pt".split())
    assert code == 0, stderr  # the same weights by another name
    assert stdout.startswith("trained already, with these settings\n")
    assert_refused(Case(f"{TRAIN} --weights gone.pt", "there is no file gone.pt of --weights"))


def test_other_weights_are_another_training() -> None:
    assert invoke(*f"{TRAIN} --weights w.pt --out new".split())[0] == 0
    torch.save(WEIGHTS | {"conv1.0.weight": torch.zeros(24, 3, 3, 3)}, "w.pt")
    assert_refused(
        Case(
            f"{TRAIN} --weights w.pt --out new",
            r"new has a training with other settings: weights_sha256 \(\w{64}, not \w{64}\)",
        )
    )
    assert_refused(
        Case(f"{TRAIN} --out new", r"other settings: .*weights \(w.pt, not None\), weights_sha")
    )


# -- the size of images ------------------------------------------------------------------------


def write_photos(side: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (side + 20, side + 20, 3), np.uint8)
    for number, name in enumerate(("train/a", "train/b", "test/a", "test/b") * 2):
        Path("photos", name).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(noise[number : number + side, : side + number])
        image.save(f"photos/{name}/{number}.png")


@pytest.mark.parametrize(
    ("network", "side", "size"),
    [
        (NAME, 230, 224),  # as its weights
        (NAME, 60, None),  # all are smaller, and stay so
        ("zoo:vit_b_16", 60, 224),  # it takes no others
        ("zoo:timm/test_efficientnet", 200, 160),
    ],
)
def test_photographs_are_resized_to_what_weights_are_for(
    network: str, side: int, size: int | None
) -> None:
    write_photos(side)
    notes: list[str] = []
    assert choose_image_size(network, "photos", None, notes) == size
    assert len(notes) == (size is not None)
    if size:
        assert f"resized to {size}x{size} pixels" in notes[0]
    assert choose_image_size(network, "data.npz", None, notes) is None


def test_an_image_size_that_is_given_is_taken() -> None:
    write_photos(230)
    target = target_of_file(NAME, data="photos", image_size=40)
    assert target.architecture.settings["input_shape"] == [3, 40, 40]
    assert not any("resized" in note for note in target.notes)
    assert_refused(
        Case(
            "train zoo:vit_b_16 --data photos --image-size 40",
            "vit_b_16 (cannot be built|does not take).*40",
        )
    )


# -- what is refused ---------------------------------------------------------------------------


class _Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch it-ran",)


def of_state(**changes: Any) -> Callable[[], object]:
    """Weights with some that are others; without those that are None."""
    state = {n: v for n, v in (WEIGHTS | changes).items() if v is not None}
    return lambda: torch.save(state, "w.pt")


def write_legacy_lie() -> None:
    """A small file whose storage says that it is of a terabyte."""
    save_legacy({"a": torch.zeros(4)}, "w.pt")
    content = Path("w.pt").read_bytes()
    items, many = (pickle.dumps(number, 2)[2:-1] for number in (4, 2**38))
    assert content.count(items + b"N") == 1
    Path("w.pt").write_bytes(content.replace(items + b"N", many + b"N"))


def write_safetensors_lie() -> None:
    save_file(WEIGHTS, "w.safetensors")
    os.truncate("w.safetensors", 5000)


def make_pipe() -> None:
    Path("w.pt").unlink()
    os.mkfifo("w.pt")


def make_folder() -> None:
    Path("w.pt").unlink()
    Path("w.pt").mkdir()


def make_huge() -> None:
    os.truncate("w.pt", 2**27)  # of holes


CASES = {
    "of another network": Case(
        f"train zoo:squeezenet1_1 --data data.npz {SETTINGS} --weights w.pt",
        "w.pt does not fit torchvision/squeezenet1_1: it has no features.0.weight of "
        r"64x3x3x3; \d+ of \d+ tensors do not fit. Give the --weights of this network",
    ),
    "of another shape": Case(
        f"{TRAIN} --weights w.pt",
        "conv1.0.weight is 24x1x3x3 there and 24x3x3x3 here; 1 of 338 tensors",
        of_state(**{"conv1.0.weight": torch.zeros(24, 1, 3, 3)}),
    ),
    "left over": Case(
        f"{TRAIN} --weights w.pt",
        "it has more.weight of 2, and the network has none; 2 of 340 tensors",
        of_state(**{"more.weight": torch.zeros(2), "x" * 500: 3}),
    ),
    "one is missing": Case(
        f"{TRAIN} --weights w.pt",
        "it has no conv1.0.weight of 24x3x3x3; 1 of 338 tensors",
        of_state(**{"conv1.0.weight": None}),
    ),
    "not finite": Case(
        f"{TRAIN} --weights w.pt",
        "conv1.1.bias has values that are not finite; 1 of 338",
        of_state(**{"conv1.1.bias": torch.full((24,), torch.nan)}),
    ),
    "whole numbers": Case(
        f"{TRAIN} --weights w.pt",
        "conv1.1.bias is torch.int64 there and torch.float32 here",
        of_state(**{"conv1.1.bias": torch.zeros(24, dtype=torch.int64)}),
    ),
    "no dictionary": Case(
        f"{TRAIN} --weights w.pt",
        "cannot read --weights w.pt: it holds no weights by name; give a file .safe",
        lambda: torch.save([torch.zeros(3)], "w.pt"),
    ),
    "code": Case(
        f"{TRAIN} --weights w.pt",
        "cannot read --weights w.pt: it names posix.system, and only tensors and plain values",
        lambda: torch.save({"a": _Runs()}, "w.pt"),
    ),
    "code of old": Case(
        f"{TRAIN} --weights w.pt",
        "cannot read --weights w.pt: it names posix.system, and only tensors and plain values",
        lambda: save_legacy({"a": _Runs()}, "w.pt"),
    ),
    "a bare pickle": Case(
        f"{TRAIN} --weights w.pt",
        "cannot read --weights w.pt: the file is damaged",
        written("w.pt", pickle.dumps(_Runs())),
    ),
    "a lie": Case(
        f"{TRAIN} --weights w.pt",
        "cannot read --weights w.pt: (the sizes of its storages are wrong|it has a tensor)",
        write_legacy_lie,
    ),
    "truncated": Case(
        f"{TRAIN} --weights w.pt",
        "cannot read --weights w.pt: the file is damaged",
        lambda: os.truncate("w.pt", 100_000),
    ),
    "truncated tensors": Case(
        f"{TRAIN} --weights w.safetensors",
        "cannot read --weights w.safetensors: the file is damaged",
        write_safetensors_lie,
    ),
    "huge": Case(
        f"{TRAIN} --weights w.pt",
        "it has 128.0 MiB, and at most [0-9.]+ are read",
        make_huge,
    ),
    "a pipe": Case(f"{TRAIN} --weights w.pt", "it is a pipe, not a file", make_pipe),
    "a folder": Case(f"{TRAIN} --weights w.pt", "w.pt: Is a directory", make_folder),
    "gone": Case(
        f"{TRAIN} --weights no.pt", "there is no file no.pt of --weights; check the path"
    ),
    "an unknown name": Case(
        f"{TRAIN} --weights V7",
        "there are no --weights V7: give a file .safetensors, .pt or .pth, or IMAGENET1K",
    ),
    "for a mobile network": Case(
        "train mobilenet_v2 --data data.npz --weights w.pt",
        r"--weights w.pt are for a ready-made network, zoo:NAME, or .* is of space mobile",
    ),
    "a rate without weights": Case(
        f"{TRAIN} --body-rate 0.5", "--body-rate is for a network that begins with --weights"
    ),
    "a rate over 1": Case(
        f"{TRAIN} --weights w.pt --body-rate 1.5", r"--body-rate must lie in \[0, 1\], got 1.5"
    ),
    "of cells": Case(f"{TRAIN} --drop-path 0.1", "--drop-path is for networks of cells"),
    "cells": Case(f"{TRAIN} --cells 3", f"--cells is for a genotype, and {NAME} decides"),
    "no data": Case(f"train {NAME}", "needs --data"),
    "no network": Case(
        "train zoo:resnet19 --data data.npz",
        "there is no ready-made network torchvision/resnet19; did you mean torchvision/resnet1",
    ),
    "too small": Case(
        "train zoo:inception_v3 --data data.npz",
        "torchvision/inception_v3 does not take images of 3x32x32: .*Give images of 299 pixels",
    ),
    "of patches": Case(
        "train zoo:maxvit_t --data data.npz",
        "torchvision/maxvit_t does not take images of 3x32x32: .*Give images of 224 pixels",
    ),
    "with Ray": Case(f"{TRAIN} --ray local", "--ray cannot be given with zoo:"),
    "no images": Case(
        f"train {NAME} --data own_data:lines",
        "torchvision/shufflenet_v2_x0_5 is for images, and the items of own_data:lines are 2x8",
    ),
    "no classes": Case(
        f"train {NAME} --data own_data:images --task own_data:regression",
        "is for classification, and the targets of own_data:images are not classes",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_does_not_fit_is_one_line(case: Case) -> None:
    assert_refused(case)
    assert not Path("it-ran").exists()


def test_what_follows_from_the_weights_is_not_given() -> None:
    with pytest.raises(ConfigError, match=r"`weights_sha256` follows from `weights`; leave it"):
        goldnas.train(NAME, data="data.npz", weights_sha256="0" * 64)
