"""Ready-made networks on a device that only a file reaches, and choosing without a device."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import goldnas
from bundles import Device, fabricated, manifest_of, with_field
from goldnas.picking import bundle
from goldnas.profiling.bundle_main import (
    FOUND,
    compute_checksum,
    read_results,
    write_results,
)
from goldnas.zoo.file import Candidate, Failed, Measured, Row, Zoo, load_zoo
from small_models import FLOAT, node, save
from workplace import assert_one_line, invoke
from zoos import WIDTHS, write_models

FROM_FILES = ("--zoo", "models", "--accuracies", "accuracies.csv")
NAMES = {f"{name}.onnx" for name in WIDTHS}


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the small networks, a bundle of them, what a device found, and the zoo."""
    folder = tmp_path_factory.mktemp("carried")
    write_models(folder)
    quick = msgspec.structs.replace(bundle.CARRIED, processes=2, warmup_ms=0.5, visit_ms=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "CARRIED", quick)
        patch.chdir(folder)
        code, stdout, stderr = invoke("pick", *FROM_FILES, "--bundle", "out.zip")
        assert code == 0, stderr
        assert stdout.startswith(f"wrote out.zip: {len(WIDTHS)} networks")
        (folder / "device").mkdir()
        device = Device(folder / "device", folder / "out.zip")
        code, _, stderr = device.run()
        assert (code, stderr) == (0, "")
        shutil.copy(device.results, "results.zip")
        words = ("lut", "import", "results.zip", "--out", "zoo.json", "--bundle", "out.zip")
        code, stdout, stderr = invoke(*words)
        assert code == 0, stderr
        assert stdout.startswith(f"wrote zoo.json: {len(WIDTHS)} networks, 0 of them failed.")
        yield folder


@pytest.fixture
def place(carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, for one test."""
    shutil.copytree(carried, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of_candidate(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Candidate.__struct_fields__}


def test_what_comes_back_is_the_file_that_pick_writes(place: Path) -> None:
    zoo = load_zoo("zoo.json")
    (part,) = zoo.parts
    assert {row.network for row in part.rows} == NAMES
    assert all(isinstance(row, Measured) and row.complete for row in part.rows)
    us = {row.network: row.latency_us for _, row in zoo.measured()}
    assert us["tiny.onnx"] < us["small.onnx"] < us["large.onnx"]
    (campaign,) = part.campaigns
    assert campaign.networks == len(NAMES)
    found = goldnas.pick(
        zoo=["models"], accuracies="accuracies.csv", out="here.json", exhaustive=True,
        networks=["tiny"], target_percent=50,
    )  # fmt: skip
    ((_, here),) = found.zoo.measured()
    carried = part.rows[[row.network for row in part.rows].index("tiny.onnx")]
    for name in ("network", "image_size", "accuracy", "parameters", "flops"):
        assert getattr(here, name) == getattr(carried, name)
    (of_here,) = found.zoo.parts
    there = part.conditions.protocol
    assert msgspec.structs.replace(of_here.conditions, protocol=there) == part.conditions


def test_a_file_is_chosen_from_without_its_device(place: Path) -> None:
    us = {row.network: row.latency_us for _, row in load_zoo("zoo.json").measured()}
    limit = f"{(us['small.onnx'] * us['old.onnx']) ** 0.5}us"
    before = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    words = ("pick", "--measured", "zoo.json", "--budget", limit)
    code, stdout, stderr = invoke(*words, "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["choice"]["network"]["network"] == "small.onnx"
    assert {path: path.stat().st_mtime_ns for path in place.iterdir()} == before
    code, stdout, stderr = invoke(*words)
    assert code == 0
    held = len(NAMES)
    assert f"chosen among {held} of the {held} networks in zoo.json" in stderr
    assert goldnas.pick(measured="zoo.json", networks=["tiny"]).options[0].percent > 0
    assert invoke("pick", "--measured", "zoo.json", "--budget", "0.001us")[0] == 1


def test_what_was_not_measured_to_the_end_is_not_chosen_and_named(place: Path) -> None:
    zoo = load_zoo("zoo.json")
    (part,) = zoo.parts
    best = max(part.rows, key=lambda row: row.accuracy.percent)
    zoo.with_rows(part.conditions, [msgspec.structs.replace(best, complete=False)]).save()
    code, stdout, stderr = invoke("pick", "--measured", "zoo.json", "--budget", "1s", "--json")
    assert code == 0
    assert json.loads(stdout)["choice"]["network"]["network"] != best.network
    assert f"{best.key} may be within the limits" in stderr


@pytest.mark.usefixtures("noise_counts")
def test_noise_is_seen_in_every_group(place: Path) -> None:
    """Five networks are two groups; in the second two copies of one model differ by half."""
    shutil.copy("models/tiny.onnx", "models/twin.onnx")
    Path("accuracies.csv").write_text(f"{Path('accuracies.csv').read_text()}twin.onnx,51\n")
    code, _, stderr = invoke("pick", *FROM_FILES, "--bundle", "five.zip", "--cores", "3")
    assert code == 0, stderr  # the device has that core, or says that it has not
    fabricated(Path("five.zip"), Path("quiet.zip"))
    manifest, found = read_results(Path("quiet.zip"))
    assert len(manifest["groups"]) == 2
    for run in found["runs"]:
        for line in run["lines"]:
            if run["group"] == 1 and line.get("model") == manifest["sentinels"][1]:
                line["p10_us"] *= 1.5
    write_results(Path("noisy.zip"), manifest, found)
    assert invoke("lut", "import", "quiet.zip", "--out", "quiet.json")[0] == 0
    assert {row.network for _, row in load_zoo("quiet.json").measured()} == NAMES | {
        "twin.onnx"
    }
    code, _, stderr = invoke("lut", "import", "noisy.zip", "--out", "noisy.json")
    assert_one_line(code, stderr, "two copies of one model differed by 50.0 % on the device")
    assert not Path("noisy.json").exists()


def test_what_cannot_be_carried_is_left_out_and_named(place: Path) -> None:
    nodes = [node("Unheard", ["x"], ["y"], domain="nobody")]
    save(Path("models/bad.onnx"), nodes, {"x": (FLOAT, [1, 3, 8, 8])}, {"y": FLOAT})
    code, stdout, stderr = invoke("pick", *FROM_FILES, "--bundle", "new.zip", "--json")
    assert code == 0, stderr
    assert {name.partition("@")[0] for name in json.loads(stdout)["networks"]} == NAMES
    assert "left out bad.onnx: --accuracies has no line for it" in stderr


BAD = {
    "a bundle and a limit": (
        ("pick", "--bundle", "b.zip", "--budget", "1ms"),
        "--budget does not go with a bundle",
    ),
    "a bundle and a file": (
        ("pick", "--bundle", "b.zip", "--out", "o.json"),
        "--out does not go with a bundle",
    ),
    "a bundle, by force": (
        ("pick", "--bundle", "b.zip", "--force"),
        "--force does not go with a bundle",
    ),
    "a list and a bundle": (
        ("pick", "--list", "--bundle", "b.zip"),
        "--bundle does not go with --list",
    ),
    "measured, and a wait": (
        ("pick", "--measured", "zoo.json", "--budget", "1s", "--wait"),
        "--wait does not go with",
    ),
    "results, by force": (
        ("lut", "import", "results.zip", "--out", "zoo.json", "--force"),
        "--force does not go with results.zip",
    ),
    "results, and a space": (
        ("lut", "import", "results.zip", "--out", "new.json", "--space", "gold"),
        "results.zip is for ready-made networks",
    ),
    "no networks": (("lut", "import", "none.zip", "--out", "new.json"), "no network is named"),
    "a bundle and a device": (
        ("pick", "--bundle", "b.zip", "--device", "cuda"),
        "--device does not go with a bundle",
    ),
    "a bundle of two formats": (
        ("pick", "--bundle", "b.zip", *FROM_FILES, "--precision", "fp32,int8"),
        "a bundle has one number format",
    ),
    "something else in its place": (
        ("pick", "--bundle", "accuracies.csv", *FROM_FILES),
        "accuracies.csv exists, and is not a bundle",
    ),
    "measured, and a device": (
        ("pick", "--measured", "zoo.json", "--device", "cuda"),
        "--device does not go with networks that were measured before",
    ),
    "measured, and a place for more": (
        ("pick", "--measured", "zoo.json", "--out", "more.json"),
        "--out does not go with networks that were measured before",
    ),
    "no such network": (
        ("pick", "--measured", "zoo.json", "--networks", "resnet*"),
        "zoo.json has no measured network with --networks",
    ),
    "no such format": (
        ("pick", "--measured", "zoo.json", "--precision", "int8"),
        "zoo.json has no measured network with --precision",
    ),
    "nothing there": (
        ("pick", "--measured", "none.json", "--budget", "1s"),
        "there is no file none.json",
    ),
    "results in place of what was measured": (
        ("pick", "--measured", "results.zip", "--budget", "1s"),
        "results.zip holds no ready-made networks",
    ),
    "a file that is there": (
        ("lut", "import", "results.zip", "--out", "zoo.json"),
        "zoo.json exists already",
    ),
    "half of the results": (
        ("lut", "import", "half.zip", "--out", "new.json"),
        "half.zip is not a whole zip file",
    ),
    "a network without a model": (
        ("lut", "import", "odd.zip", "--out", "new.json"),
        "odd.zip holds impossible results: there is no model of a stranger",
    ),
    "all failed": (
        ("pick", "--measured", "failed.json", "--budget", "1s"),
        "every network of failed.json failed, .* with: too large",
    ),
    "results that were changed": (
        ("lut", "import", "changed.zip", "--out", "new.json"),
        "changed.zip was changed",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_wish_is_one_line_and_leaves_files_alone(place: Path, name: str) -> None:
    words, message = BAD[name]
    whole = Path("results.zip").read_bytes()
    Path("half.zip").write_bytes(whole[: len(whole) // 2])
    for spoilt in ("odd.zip", "changed.zip"):
        Path(spoilt).write_bytes(whole)
    with_field(FOUND, "measured_on", "1999-01-01")(Path("changed.zip"))
    manifest = manifest_of(Path("odd.zip"))
    stranger = {**manifest["candidates"][0], "network": "a stranger"}
    for name, candidates in (("odd.zip", [stranger]), ("none.zip", [])):
        changed = manifest | {"candidates": candidates}
        changed["checksum"] = compute_checksum(changed)
        found = read_results(Path("results.zip"))[1]
        write_results(Path(name), changed, found | {"bundle": changed["checksum"]})
    zoo = load_zoo("zoo.json")
    lost = [Failed(**of_candidate(row), error="too large") for row in zoo.parts[0].rows]
    Zoo(Path("failed.json"), 1000).with_rows(zoo.parts[0].conditions, lost).save()
    before = {path: path.read_bytes() for path in place.iterdir() if path.is_file()}
    code, _, stderr = invoke(*words)
    assert_one_line(code, stderr, message)
    assert {path: path.read_bytes() for path in place.iterdir() if path.is_file()} == before


def test_the_bundle_runs_in_a_process_of_the_shell(place: Path) -> None:
    """What is printed is what is to be typed."""
    done = subprocess.run(
        [sys.executable, "out.zip", "again.zip"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.strip().splitlines()[-1].partition("goldnas ")[2].split()
    code, _, stderr = invoke(*(word.replace("FILE", "new") for word in words))
    assert code == 0, stderr
    assert load_zoo("new.json").parts
