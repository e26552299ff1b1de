"""The spaces of docs/spaces.md work exactly as they are written there."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from test_readme import commands_of
from workplace import invoke

PAGE = Path(__file__).parent.parent / "docs" / "spaces.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a reader, with the file of the page."""
    space, program = BLOCK.findall(PAGE.read_text())
    (tmp_path / "my_spaces.py").write_text(space)
    (tmp_path / "program.py").write_text(program)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_spaces", raising=False)
    return tmp_path


def test_the_commands_of_the_page_work(folder: Path) -> None:
    commands = commands_of(PAGE.read_text())
    assert len(commands) == 4
    for command in commands:
        status, _, errors = invoke(*shlex.split(command)[1:])
        assert status == 0, f"{command}\n{errors}"
    assert (folder / "net.onnx").exists()


def test_the_program_of_the_page_works(folder: Path) -> None:
    sys.path.insert(0, str(folder))
    exec(compile((folder / "program.py").read_text(), "program.py", "exec"), {})
