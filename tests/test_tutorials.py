"""The spaces, data and tasks of the documents work exactly as they are written there."""

import json
import re
import sys
from pathlib import Path

import pytest

from documents import blocks_of, commands_of
from workplace import invoke

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a reader."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for module in ("my_spaces", "my_signals", "my_shapes"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


def programs_of(markdown: str) -> list[str]:
    return [block.body for block in blocks_of(markdown) if block.language == "python"]


def followed(page: str, module: str) -> list[str]:
    """Write the first file of a page, run its commands, and return what they say."""
    text = (DOCS / page).read_text()
    Path(f"{module}.py").write_text(programs_of(text)[0])
    said = []
    for command in commands_of(text):
        status, stdout, stderr = invoke(*command)
        assert status == 0, f"{command}\n{stderr}"
        said.append(stdout)
    return said


def test_the_commands_of_spaces_work(folder: Path) -> None:
    assert len(followed("spaces.md", "my_spaces")) == 7
    assert (folder / "net.onnx").exists()


def test_the_programs_of_spaces_work(folder: Path) -> None:
    space, *programs = programs_of((DOCS / "spaces.md").read_text())
    (folder / "my_spaces.py").write_text(space)
    sys.path.insert(0, str(folder))
    for program in programs:
        exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})


def test_signals_are_searched_trained_and_exported(folder: Path) -> None:
    search, train, evaluate, export = followed("data.md", "my_signals")
    assert "540 items to train on, 60 held out" in search
    assert " % on the test set" in train
    assert "items took" in train
    assert "images" not in search + train + evaluate + export
    assert "verify: PASS" in export
    (result,) = folder.glob("runs/signals/trained/*/result.json")
    assert json.loads(result.read_bytes())["test_accuracy"] > 0.6  # of three kinds


def test_shapes_are_segmented_and_judged_by_their_metric_alone(folder: Path) -> None:
    search, train, evaluate, export, compare = followed("tasks.md", "my_shapes")
    assert "validation mean IoU" in search
    assert re.search(r"mean IoU 0\.\d+ on the test set", train)
    assert "test mean IoU" in evaluate
    assert "validation mean IoU" in compare
    assert "verify: PASS" in export
    said = search + train + evaluate + export + compare
    assert not re.search(r"accurac|% of the|validation %|images|top-1", said)
    (result,) = folder.glob("runs/shapes/trained/*/result.json")
    found = json.loads(result.read_bytes())
    assert found["test_accuracy"] is found["validation_accuracy"] is None
    assert found["test_metric"]["name"] == "mean IoU"
    assert found["test_metric"]["value"] > 0.4  # all background is a third of nearly 1
