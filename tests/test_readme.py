"""The README's commands work, in the order in which it shows them."""

import re
import shlex
from pathlib import Path

import pytest

from workplace import invoke

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(
    r"^(?P<skip><!-- not run: .+? -->\n+)?```(?:console|bash)\n(?P<body>.*?)^```$", re.M | re.S
)


def commands_of(markdown: str) -> list[str]:
    """Return the goldnas commands of console and bash blocks, but for those marked not run."""
    lines: list[str] = []
    for block in BLOCK.finditer(markdown):
        if not block["skip"]:
            lines += block["body"].replace("\\\n", " ").splitlines()
    bare = (line.removeprefix("$ ") for line in lines)
    return [line for line in bare if line.startswith("goldnas ")]


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_commands_of_the_readme_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = commands_of(README.read_text())
    assert commands, "the README shows no goldnas command"
    for command in commands:
        status, stdout, stderr = invoke(*shlex.split(command, comments=True)[1:])
        assert status == 0, f"{command}\n{stdout}{stderr}"


def test_commands_are_found_in_order_and_marked_blocks_left_out() -> None:
    markdown = """
```console
$ goldnas profile --out a.json
12 rows
```
<!-- not run: downloads CIFAR-10 -->
```bash
goldnas search --data cifar10
```
```bash
make demo
goldnas search --data digits \\
  --out run  # a comment
```
```python
goldnas = 1
```
"""
    assert commands_of(markdown) == [
        "goldnas profile --out a.json",
        "goldnas search --data digits    --out run  # a comment",
    ]
