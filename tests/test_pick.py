"""Picking a ready-made network: the right one, few measurements, files that outlive it."""

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest
from torch import nn

import goldnas
from goldnas.errors import ConfigError, MeasurementError, TableError
from goldnas.exporting.onnx import to_onnx
from goldnas.picking.onnx_work import count_onnx_work
from goldnas.resources import count_flops
from goldnas.spaces import find_space
from goldnas.spaces.zoo import describe_ready_made
from goldnas.zoo.accuracies import estimate_percent
from goldnas.zoo.file import Failed, Measured, load_zoo
from goldnas.zoo.networks import build_network, build_without_numbers, find_network
from goldnas.zoo.work import count_work
from small_models import FLOAT, node, save
from workplace import assert_one_line, invoke
from zoos import WIDTHS, write_models, write_network

pytestmark = pytest.mark.usefixtures("quick")

FROM_FILES = ("--zoo", "models", "--accuracies", "accuracies.csv")
CHEAP = {"target_percent": 50}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, quick: None) -> Path:
    """A folder with the small networks, all of them measured in ``zoo.json``."""
    folder = tmp_path_factory.mktemp("zoo")
    write_models(folder)
    goldnas.pick(
        zoo=[str(folder / "models")],
        accuracies=folder / "accuracies.csv",
        out=folder / "zoo.json",
        exhaustive=True,
        **CHEAP,
    )
    return folder


@pytest.fixture
def place(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same networks, and nothing measured; the process is there."""
    (tmp_path / "models").symlink_to(measured / "models")
    for name in ("accuracies.csv",):
        (tmp_path / name).write_bytes((measured / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def latencies_us(folder: Path) -> dict[str, float]:
    return {row.network: row.latency_us for _, row in load_zoo(folder / "zoo.json").measured()}


# -- the answer ------------------------------------------------------------------------------


def test_the_most_accurate_network_within_the_limit_is_chosen(
    measured: Path, place: Path
) -> None:
    us = latencies_us(measured)
    limit_ms = (us["small.onnx"] * us["old.onnx"]) ** 0.5 / 1000  # well between the two
    found = goldnas.pick(
        zoo=["models"], accuracies="accuracies.csv", budgets=[f"{limit_ms}ms"], **CHEAP
    )
    assert found.choice is not None
    assert found.choice.candidate.network == "small.onnx"
    assert [option.candidate.network for option in found.front] == ["tiny.onnx", "small.onnx"]


def test_every_network_is_measured_if_asked(measured: Path) -> None:
    us = latencies_us(measured)
    assert us.keys() == {f"{name}.onnx" for name in WIDTHS}
    assert us["tiny.onnx"] < us["small.onnx"] < us["large.onnx"]
    assert all(row.complete for _, row in load_zoo(measured / "zoo.json").measured())


def test_a_file_answers_for_other_budgets_without_measuring(
    measured: Path, place: Path
) -> None:
    Path("zoo.json").write_bytes((measured / "zoo.json").read_bytes())
    before = Path("zoo.json").read_bytes()
    rows: list[Any] = []
    found = goldnas.pick(
        zoo=["models"],
        accuracies="accuracies.csv",
        budgets=["1s"],
        out="zoo.json",
        on_row=lambda precision, row: rows.append(row),
        **CHEAP,
    )
    assert found.choice is not None
    assert found.choice.candidate.network == "large.onnx"
    assert not rows
    assert Path("zoo.json").read_bytes() == before


def test_budgets_of_flops_and_parameters_hold_too(measured: Path, place: Path) -> None:
    Path("zoo.json").write_bytes((measured / "zoo.json").read_bytes())
    parameters = 9 * (3 * 24 + 3 * 24**2)
    for budget in (f"{parameters}params", f"{parameters * 32 * 32}FLOPs"):
        code, stdout, stderr = invoke(
            *("pick", *FROM_FILES, "--budget", "1s", "--budget", budget, "--json"),
            *("--out", "zoo.json", "--target", "50"),
        )
        assert code == 0, stderr
        told = json.loads(stdout)
        assert told["choice"]["network"]["network"] == "small.onnx"
        assert told["choice"]["network"]["parameters"] == parameters


def test_a_limit_that_none_keeps_says_which_is_the_fastest(measured: Path, place: Path) -> None:
    Path("zoo.json").write_bytes((measured / "zoo.json").read_bytes())
    code, stdout, _ = invoke(
        *("pick", *FROM_FILES, "--budget", "1us", "--out", "zoo.json", "--target", "50")
    )
    assert code == 1
    assert re.search(r"no network is within 1us; the fastest .* tiny\.onnx in fp32", stdout)


def test_number_formats_are_measured_side_by_side(place: Path) -> None:
    found = goldnas.pick(
        zoo=["models"],
        accuracies="accuracies.csv",
        networks=["tiny"],
        precision="fp32,int8",
        exhaustive=True,
        **CHEAP,
    )
    assert {precision for precision, _ in found.zoo.measured()} == {"fp32", "int8"}
    formats = [part.conditions.precision for part in found.zoo.parts]
    assert formats == ["fp32", "int8"]


def test_a_network_of_torchvision_is_measured_at_the_size_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = invoke(
        *("pick", "--networks", "squeezenet1_1", "--size", "32", "--classes", "10"),
        *("--budget", "1s", "--out", "zoo.json", "--target", "50", "--plot", "zoo.svg"),
    )
    assert code == 0, stderr
    assert "within 1s: torchvision/squeezenet1_1 in fp32 for 32 pixels, ~" in stdout
    assert "goldnas train zoo:squeezenet1_1 --data DATA --image-size 32" in stdout
    assert "<svg" in Path("zoo.svg").read_text()
    zoo = load_zoo("zoo.json")
    ((_, row),) = zoo.measured()
    assert row.accuracy.source == "estimated"
    # The file is a latency table, too, of whole networks.
    architecture = describe_ready_made(row.network, input_shape=(3, 32, 32), classes=10)
    space = find_space(architecture)
    table = zoo.table("fp32")
    assert table is not None
    (part,) = space.plan(architecture).parts()
    assert table.latency_us(*part) == row.latency_us
    assert row.flops == count_flops(space.build(architecture), (3, 32, 32))


# -- what goes wrong -------------------------------------------------------------------------


def test_a_network_that_the_runtime_rejects_does_not_keep_the_others(place: Path) -> None:
    Path("models").unlink()
    write_network(Path("models").absolute().parent / "good.onnx", 8)
    Path("models").mkdir()
    Path("good.onnx").rename("models/good.onnx")
    nodes = [node("Unheard", ["x"], ["y"], domain="nobody")]
    save(Path("models/bad.onnx"), nodes, {"x": (FLOAT, [1, 3, 8, 8])}, {"y": FLOAT})
    Path("accuracies.csv").write_text("model,top1\ngood,50\nbad,99\n")
    found = goldnas.pick(
        zoo=["models"], accuracies="accuracies.csv", budgets=["1s"], out="zoo.json", **CHEAP
    )
    assert found.choice is not None
    assert found.choice.candidate.network == "good.onnx"
    rows = load_zoo("zoo.json").rows("fp32")
    assert {type(row) for row in rows.values()} == {Measured, Failed}


BAD = {
    "an unknown network": (
        ("--networks", "resnet81", "--budget", "1ms"),
        "no network is left of torchvision",
    ),
    "no latency": (("--budget", "5Mparams"), "without a latency in --budget"),
    "an unknown unit": (("--budget", "5lightyears"), "unknown unit"),
    "a zoo that is none": (("--zoo", "nowhere", "--budget", "1ms"), "nor a folder"),
    "accuracies that are not there": (
        ("--zoo", "models", "--accuracies", "none.csv", "--budget", "1ms"),
        "cannot read accuracies from none.csv",
    ),
    "accuracies of other networks": (
        ("--zoo", "models", "--accuracies", "others.csv", "--budget", "1ms"),
        "--accuracies has no line for it",
    ),
    "accuracies without a column": (
        ("--zoo", "models", "--accuracies", "columns.csv", "--budget", "1ms"),
        "columns network, size; it needs network .* and accuracy",
    ),
    "an accuracy over 100": (
        ("--zoo", "models", "--accuracies", "over.csv", "--budget", "1ms"),
        "line 2 of over.csv: an accuracy must be 0 to 100 percent, got 7000",
    ),
    "a size of nothing": (
        ("--size", "0", "--budget", "1ms"),
        "--size must be 8 to 4096 pixels",
    ),
    "a number format": (("--precision", "fp32,fp7", "--budget", "1ms"), "unknown --precision"),
    "a patch size that does not fit": (
        ("--networks", "vit_b_16", "--size", "96", "--budget", "1ms"),
        "it takes images of 224 or 384 pixels",
    ),
    "a plot of no kind": (
        ("--budget", "1ms", "--plot", "zoo.txt"),
        "--plot zoo.txt must end in",
    ),
    "a damaged file": (
        (*FROM_FILES, "--budget", "1ms", "--out", "damaged.json"),
        "damaged.json holds no ready-made networks: .*. Give a file that goldnas pick",
    ),
    "a latency table": (
        (*FROM_FILES, "--budget", "1ms", "--out", "table.json"),
        "table.json holds no ready-made networks: it is a file of another kind",
    ),
    "other conditions": (
        (*FROM_FILES, "--budget", "1ms", "--out", "zoo.json", "--target", "7"),
        "zoo.json was measured under other conditions: protocol.target_percent",
    ),
    "other classes": (
        (*FROM_FILES, "--budget", "1ms", "--out", "zoo.json", "--classes", "7"),
        "networks of zoo.json have 1000 classes, not 7",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_setting_is_one_line_and_leaves_files_alone(
    measured: Path, place: Path, name: str
) -> None:
    words, message = BAD[name]
    whole = (measured / "zoo.json").read_bytes()
    Path("zoo.json").write_bytes(whole)
    Path("damaged.json").write_bytes(whole.replace(b"complete", b"completed", 1))
    Path("table.json").write_text('{"schema_version": 2, "rows": []}')
    Path("others.csv").write_text("network,accuracy\nsomething,70\n")
    Path("columns.csv").write_text("network,size\ntiny,70\n")
    Path("over.csv").write_text("network,accuracy\ntiny,7000\n")
    before = {path: path.read_bytes() for path in place.iterdir() if path.is_file()}
    code, _, stderr = invoke("pick", *words)
    assert_one_line(code, stderr, message)
    assert {path: path.read_bytes() for path in place.iterdir() if path.is_file()} == before


def test_a_device_that_is_lost_half_way_leaves_the_file_whole(place: Path) -> None:
    """What was measured is there, and the next call goes on with the rest."""

    def lose(precision: str, row: Any) -> None:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "runner" in " ".join(child.cmdline()):
                    child.kill()
        Path("python").unlink(missing_ok=True)

    Path("python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    Path("python").chmod(0o755)
    settings: dict[str, Any] = {
        "zoo": ["models"],
        "accuracies": "accuracies.csv",
        "exhaustive": True,
        "precision": "fp32,bf16",
        "out": "zoo.json",
    }
    with pytest.raises(MeasurementError):
        goldnas.pick(**settings, python=str(Path("python").absolute()), on_row=lose, **CHEAP)
    kept = [row.network for _, row in load_zoo("zoo.json").measured()]
    assert sorted(kept) == sorted(f"{name}.onnx" for name in WIDTHS)


def test_a_file_of_a_newer_schema_says_so(measured: Path, tmp_path: Path) -> None:
    content = json.loads((measured / "zoo.json").read_bytes())
    path = tmp_path / "newer.json"
    path.write_text(json.dumps(content | {"schema_version": 2}))
    with pytest.raises(TableError, match="schema version 2, and this goldnas reads up to 1"):
        load_zoo(path)


# -- accuracies and work ---------------------------------------------------------------------


def test_a_name_is_found_with_its_library_or_without() -> None:
    known = find_network("zoo:resnet18")
    assert known == find_network("torchvision/resnet18")
    assert known.weights[0].accuracy_percent == 69.758
    with pytest.raises(ConfigError, match="did you mean torchvision/resnet18"):
        find_network("resnet81")


PUBLISHED = {  # accuracies for sides of 192, 160 and 128, of weights for 224
    70.6: (69.1, 67.2, 64.4),  # MobileNetV1, arXiv:1704.04861, table 7
    71.8: (70.7, 68.8, 65.3),  # MobileNetV2, the authors' code
}


@pytest.mark.parametrize("percent", PUBLISHED)
def test_an_accuracy_for_smaller_images_is_estimated_as_papers_have_it(percent: float) -> None:
    estimated = [estimate_percent(percent, 224, side) for side in (192, 160, 128)]
    assert estimated == pytest.approx(PUBLISHED[percent], abs=0.8)
    assert estimate_percent(percent, 224, 288) == percent


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "regnet_y_400mf"])
def test_work_is_what_the_counter_of_flops_counts(name: str) -> None:
    shape = (3, 64, 64)
    work = count_work(build_without_numbers(name, shape, 10), shape)
    network = build_network(name, shape, 10)
    assert work.flops == count_flops(network, shape)
    assert work.parameters == sum(p.numel() for p in network.parameters())


def test_work_of_a_file_is_that_of_its_module() -> None:
    shape = (3, 16, 16)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Flatten(),
        nn.Linear(200, 9),
    )
    of_file = count_onnx_work(onnx.load_model_from_string(to_onnx(module, (1, *shape))))
    of_module = count_work(module, shape)
    assert of_file.dense == of_module.dense > 0
    assert of_file.grouped == of_module.grouped > 0
    assert of_file.matrix == of_module.matrix > 0
    assert of_file.parameters == of_module.parameters


def test_the_list_names_every_network_and_its_accuracy() -> None:
    code, stdout, _ = invoke("pick", "--list", "--json")
    assert code == 0
    listed = {network["name"]: network["weights"] for network in json.loads(stdout)["networks"]}
    assert len(listed) >= 80
    assert listed["torchvision/mobilenet_v3_small"] == [
        {"name": "IMAGENET1K_V1", "accuracy_percent": 67.668, "image_size": 224}
    ]
