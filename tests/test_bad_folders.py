"""A folder that no search can begin or go on in: one clear line, and nothing is touched."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from compared import trained
from goldnas import load_run
from goldnas.errors import RunError
from goldnas.searching.folder import SearchRun
from workplace import (
    LONG,
    RESUME,
    WITHIN,
    Case,
    assert_refused,
    changed,
    halved,
    removed,
    written,
)

CASES = {
    "neither new nor old": Case(
        "search --budget 1MFLOPs",
        "needs a folder: --out DIR for a new one, --resume DIR to go on",
    ),
    "exists": Case(
        f"{WITHIN} --out run",
        "run exists: .*goldnas search --resume run, or choose another --out",
    ),
    "is a file": Case(
        f"{WITHIN} --out a_file", "a_file exists, and is a file: choose another --out"
    ),
    "is something else": Case(
        f"{WITHIN} --out images",
        "images exists, and is not the folder of a search: choose another --out",
    ),
    "is a training": Case(
        f"{WITHIN} --out run",
        "run exists, and is not the folder of a search: choose another --out",
        written("run/architecture.json", b"{}"),
    ),
    "has no name": Case(
        f"{WITHIN} --out .", r"error: \. is no name for a new folder; choose --out"
    ),
    "a name too long": Case(
        f"{WITHIN} --out {LONG}", "cannot make mmm.*too long.*another --out"
    ),
    "in a file": Case(f"{WITHIN} --out a_file/new", "cannot make a_file/new: .*another --out"),
    "resume nothing": Case(
        "search --resume gone",
        "gone is not the folder of a search: it does not exist. Give the --out of",
    ),
    "resume no run": Case("search --resume images", "images is .* it has no config.json"),
    "resume a file": Case(
        "search --resume a_file", "a_file is not the folder of a search: it is a file"
    ),
    "resume a long name": Case(f"search --resume {LONG}", "mmm is not the folder of a search"),
    "resume a training": Case(
        RESUME,
        "run is the folder of a training; give that of its search",
        written("run/architecture.json", b"{}"),
    ),
    "resume otherwise": Case(
        f"{RESUME} --epochs 3", "--epochs cannot change a search that goes on; leave it out"
    ),
    "resume elsewhere": Case(
        f"{RESUME} --out new", "--out cannot change a search that goes on"
    ),
} | {
    f"resume with {name}": Case(RESUME, message, spoil)
    for name, message, spoil in [
        (
            "empty config",
            "cannot read run/config.json: .*truncated; restore it from a copy",
            written("run/config.json"),
        ),
        (
            "config not UTF-8",
            "cannot read run/config.json: .*(?i:utf-8).*; restore it",
            written("run/config.json", b'{"data": "\xff"}'),
        ),
        (
            "impossible config",
            "cannot read run/config.json: .*epochs.* positive.* got -2; restore it",
            changed("run/config.json", epochs=-2),
        ),
        (
            "unknown setting",
            "cannot read run/config.json: .*unknown field .speed.; restore it",
            changed("run/config.json", speed=9),
        ),
        (
            "later config",
            "run/config.json has schema version 2, and this goldnas reads version 1. Upgrade",
            changed("run/config.json", schema_version=2),
        ),
        (
            "damaged conditions",
            "cannot read run/conditions.json: .*; restore it",
            halved("run/conditions.json"),
        ),
        (
            "truncated checkpoint",
            "cannot read run/checkpoint.pt: the file is damaged; delete it",
            halved("run/checkpoint.pt"),
        ),
        (
            "checkpoint of text",
            "cannot read run/checkpoint.pt: the file is damaged; delete it",
            written("run/checkpoint.pt", b"hello"),
        ),
        (
            "damaged table",
            "cannot read run/tables/cpu.json, .*copy that table there again .goldnas lut show",
            halved("run/tables/cpu.json"),
        ),
        (
            "no table",
            "cannot read run/tables/cpu.json, .*copy that table there again",
            removed("run/tables/cpu.json"),
        ),
    ]
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_bad_folder_is_one_clear_line_and_leaves_the_disk_alone(
    workplace: Path, case: Case
) -> None:
    assert_refused(case)


# -- folders of other versions ---------------------------------------------------------------

VERSIONS = {
    0: "version 0, which this goldnas reads no longer: .*the goldnas that wrote it, 0.0.7$",
    2: "version 2, and this goldnas reads version 1. Upgrade goldnas to 0.0.7 or later, which",
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "command",
    [
        *(RESUME, "train run", "export run --out net.onnx", "evaluate run"),
        *("compare run", "report run", "status run"),
        *("export TRAINING --out net.onnx", "evaluate TRAINING"),
    ],
)
def test_a_folder_of_another_schema_says_which_goldnas_reads_it(
    workplace: Path, command: str, version: int
) -> None:
    run = SearchRun.open(Path("run"))
    training = trained(run, run.front().networks[0].fingerprint, 0.9)
    shutil.copy("run/conditions.json", training)
    for path in Path("run").rglob("*.json"):
        if path.name == "conditions.json":
            changed(str(path), goldnas="0.0.7")()
        elif "schema_version" in json.loads(path.read_bytes()) and path.parent.name != "tables":
            changed(str(path), schema_version=version)()
    line = command.replace("TRAINING", str(training))
    assert_refused(Case(line, f"json has schema {VERSIONS[version]}"))


def test_a_search_whose_folder_was_deleted_says_so(workplace: Path) -> None:
    run = load_run("run")
    shutil.rmtree("run")
    for use in (lambda: run.best, run.resume):
        with pytest.raises(
            RunError, match="run is not the folder of a search: it does not exist"
        ):
            use()
    assert not Path("run").exists()


def test_an_empty_folder_is_no_search(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not the folder of a search: it has no config\.json"):
        load_run(tmp_path)


WRONG = {
    "a shape": (lambda weight: weight[:1], "size mismatch for .*weight: .*1, 1, 3, 3"),
    "whole numbers": (lambda weight: weight.to(torch.int8), "weight is of torch.int8, and has"),
    "truths": (lambda weight: weight > 0, "weight is of torch.bool, and has to be of"),
    "no numbers": (lambda weight: weight * torch.nan, r"weight has values .* \(NaN\)"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_weights_that_no_network_has_are_refused(workplace: Path, wrong: str) -> None:
    spoil, message = WRONG[wrong]

    def spoiled() -> None:
        for file in workplace.glob("run/weights/*.pt"):
            weights = torch.load(file)
            name = next(name for name in weights if name.endswith("weight"))
            torch.save(weights | {name: spoil(weights[name])}, file)

    assert_refused(Case("evaluate run", f"does not fit its architecture: .*{message}", spoiled))
