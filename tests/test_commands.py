"""What holds for every command: its help, its JSON, its exit status."""

import json
import re
import shlex
import signal
from pathlib import Path

import pytest

from command_lines import COMMANDS, examples_of, parsed
from goldnas.errors import Status
from workplace import changed, goldnas, invoke

DOCS = Path(__file__).parent.parent / "docs" / "commands.md"

# They write files, or change one, and say so in a line.
WITHOUT_TABLES = {"report", "lut plot", "lut merge", "lut import", "lut calibrate"}

TRAIN = "train run --epochs 1 --batch-size 512 --train-device cpu"


# -- help ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_readable_on_a_narrow_terminal(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, stdout, _ = invoke(*name.split(), "--help")
    assert code == 0
    assert max(map(len, stdout.splitlines())) <= 80
    assert not re.search("[\U0001f000-\U0001faff]", stdout)  # rich makes such of ":ram:"
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "option":
            assert re.search(rf"{parameter.opts[0]}\b", stdout), parameter.opts[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_a_command_are_lines_that_it_takes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/b").mkdir(parents=True)
    Path("runs/b/options.toml").write_text('[search]\nbudget = ["600MFLOPs"]\n')
    examples = examples_of(COMMANDS[name])
    assert 2 <= len(examples) <= 4
    for example in examples:
        assert parsed(example).command is COMMANDS[name]


def test_commands_are_in_groups() -> None:
    for group in ("--help", "lut --help"):
        stdout = invoke(*group.split())[1]
        assert "─ Commands ─" not in stdout
        assert stdout.count("╭") == 4


# -- JSON ------------------------------------------------------------------------------------


def measured() -> None:
    """Write what ``lut fit`` reads."""
    rows = [f"{n},{1 + 0.5 * (n % 4) + 0.2 * (n // 4)},{n % 4},{n // 4}" for n in range(16)]
    Path("measured.csv").write_text("\n".join(["name,latency_ms,conv,pool", *rows]))


JSON = {
    "search of spaces": ("--list-spaces", "spaces"),
    "train": (TRAIN.removeprefix("train "), "trainings"),
    "train of recipes": ("--list-recipes", "recipes"),
    "status": ("run", "state"),
    "evaluate": ("run", "networks"),
    "compare": ("run", "rows"),
    "lut show": ("cpu.json", "conditions"),
    "lut lint": ("cpu.json", "files"),
    "lut diff": ("cpu.json pi5.json", "differing"),
    "lut predict": ("cpu.json ARCH", "latency_us"),
    "lut fit": ("--networks measured.csv --out fitted.json", "mape_percent"),
    # Where there is a search, a table or an export to look at anyway: in test_config_file.py,
    # test_cli_profile.py, test_export_command.py, test_pick.py and test_shrink.py.
    **dict.fromkeys(("search", "profile", "pick", "shrink", "lut check", "export"), ()),
}


def test_every_command_has_json_or_prints_no_table() -> None:
    with_json = {
        name for name, c in COMMANDS.items() if any("--json" in p.opts for p in c.params)
    }
    assert with_json == {name.partition(" of ")[0] for name in JSON}
    assert COMMANDS.keys() - with_json == WITHOUT_TABLES


@pytest.mark.parametrize("name", [name for name, case in JSON.items() if case])
def test_json_is_one_object_alone_on_stdout(workplace: Path, name: str) -> None:
    options, key = JSON[name]
    measured()
    (architecture, *_) = Path("run/architectures").iterdir()
    line = f"{name.partition(' of ')[0]} {options} --json".replace("ARCH", str(architecture))
    code, stdout, stderr = invoke(*shlex.split(line))
    assert code in (Status.DONE, Status.FOUND), stderr
    content = json.loads(stdout)
    assert isinstance(content, dict)
    assert content[key]
    if name == "train":
        (training,) = content["trainings"]
        result = json.loads(Path(training["folder"], "result.json").read_text())
        assert result.items() <= training.items()
        # The folder says, as that of a search does, how to do the same again.
        again = parsed(f"goldnas train --config {training['folder']}/options.toml").params
        assert again == parsed(f"goldnas {TRAIN} --json").params


# -- exit status -----------------------------------------------------------------------------


def interrupted(*arguments: object) -> None:
    signal.raise_signal(signal.SIGINT)


def test_the_exit_status_says_how_it_went(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 3 is in test_export_command.py, 143 in test_kill.py.
    assert goldnas("lut show cpu.json")[0] == Status.DONE
    changed("cpu.json", checksum="0")()
    assert goldnas("lut lint cpu.json")[0] == Status.FOUND
    assert goldnas("lut show cpu.json")[0] == Status.FAILED
    monkeypatch.setattr("goldnas.lut.lint.lint", interrupted)
    assert goldnas("lut lint pi5.json") == (Status.INTERRUPTED, "interrupted\n")


def test_exit_statuses_are_documented() -> None:
    stdout = " ".join(invoke("--help")[1].split())
    told = {int(n) for n in re.findall(r"^\| (\d+) \|", DOCS.read_text(), re.M)}
    assert told == {status.value for status in Status}
    assert all(re.search(rf"\b{status}\b", stdout) for status in told)
