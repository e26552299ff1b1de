"""What Tab completes: names that are known without torch, in a real shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from command_lines import COMMANDS
from goldnas.cli.main import app

PROGRAM = """#!{python}
import sys
sys.modules["torch"] = None  # whoever imports it fails
sys.argv[0] = "goldnas"
from goldnas.__main__ import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no bash")
def test_bash_completes_commands_options_and_values(tmp_path: Path) -> None:
    """As bash does it: by the function of the script, from the words and the place of Tab."""
    program = tmp_path / "goldnas"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    script = """
        eval "$(_GOLDNAS_COMPLETE=source_bash goldnas)"
        tab() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _goldnas_completion "$1"
            echo "${COMPREPLY[*]}"
        }
        tab goldnas se
        tab goldnas search --strat
        tab goldnas train --recipe dar
        tab goldnas profile --precision fp
        tab goldnas profile --device c
        tab goldnas export r
    """
    result = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr == ""
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["search"],
        ["--strategy"],
        ["darts-cifar", "darts-imagenet"],
        ["fp32", "fp16"],
        ["cpu", "cuda"],
        [],  # files and folders are bash's own
    ]


def test_every_value_that_has_names_is_completed() -> None:
    completed = {
        f"{name} {parameter.opts[0]}"
        for name, command in COMMANDS.items()
        for parameter in command.params
        if parameter._custom_shell_complete is not None
    }
    assert completed >= {
        *(f"{name} --{o}" for name in ("search", "train") for o in ("amp", "logger")),
        *("train --recipe", "train --pick", "export --pick", "export --backend"),
        *(f"profile --{o}" for o in ("device", "backend", "provider", "precision")),
        *("lut check --device", "compare --format"),
    }


def test_networks_of_the_run_that_was_typed_are_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    front = {"networks": [{"fingerprint": "1f0c3a2b", "reasons": ["end"]}]}
    (tmp_path / "run" / "front.json").write_text(json.dumps(front))
    monkeypatch.chdir(tmp_path)
    assert tab("goldnas export run --pick ") == ["best", "1f0c3a2b"]
    assert tab("goldnas train run --epochs 1 --pick 1") == ["1f0c3a2b"]
    assert tab("goldnas export gone --pick ") == ["best"]
    Path("run/front.json").write_text("{")
    assert tab("goldnas export run --pick ") == ["best"]


def tab(line: str) -> list[str]:
    """What a shell is told to offer where a line ends."""
    completing = {"_GOLDNAS_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": line}
    environment = completing | {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    result = CliRunner().invoke(app, [], prog_name="goldnas", env=environment)
    return [offer.partition("\t")[0] for offer in result.stdout.splitlines()]
