"""Options from a file, and options kept in one."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from command_lines import COMMANDS, examples_of, parsed
from goldnas import load_run
from goldnas.cli import config_file
from searches import assert_same_results
from workplace import Case, assert_refused, goldnas, invoke

DOCS = Path(__file__).parent.parent / "docs" / "commands.md"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(text: str, typed: str = "", command: str = "search") -> dict[str, Any]:
    """What a command takes from a file and from what was typed."""
    Path("f.toml").write_text(text)
    params: dict[str, Any] = parsed(f"goldnas {command} --config f.toml {typed}").params
    return params


def test_options_of_a_file_are_taken_as_if_they_were_typed() -> None:
    text = """
        [search]
        budget = ["5ms", "3Mparams"]
        latency-lut = ["a.json", "b.json"]
        image_size = 64
        batch-size = 128
        learning_rate = 1e-3
        levels = 2
        flip = false
        report = false
        single = true
        set = 'stages=[[32, 2, 2]]'
        out = "runs/Ann's 1st"
        """
    typed = parsed(
        "goldnas search --budget 5ms --budget 3Mparams --latency-lut a.json --latency-lut "
        "b.json --image-size 64 --batch-size 128 --learning-rate 1e-3 --levels 2 --no-flip "
        "--no-report --single --set 'stages=[[32, 2, 2]]' --out \"runs/Ann's 1st\""
    )
    assert given(text) == typed.params


def test_what_is_typed_goes_before_the_file() -> None:
    text = '[search]\nbudget = ["5ms", "3Mparams"]\nepochs = 7\nflip = false\nseed = 3\n'
    params = given(text, "--budget 1ms --flip --epochs 9")
    assert list(params["budgets"]) == ["1ms"]
    assert (params["flip"], params["epochs"], params["seed"]) == (True, 9, 3)


def test_arguments_of_a_file_come_after_those_that_are_typed() -> None:
    text = '[lut.predict]\nfile = "cpu.json"\narchitecture = "-odd name.json"\n[lut.diff]\n'
    assert given(text, command="lut predict")["architecture"] == Path("-odd name.json")
    params = given(text, "pi5.json", "lut predict")
    assert params["file"] == Path("pi5.json")
    assert params["architecture"] == Path("-odd name.json")
    text = '[compare]\nruns = ["a", "b"]\n'
    assert list(given(text, command="compare")["runs"]) == [Path("a"), Path("b")]
    assert list(given(text, "c --json", "compare")["runs"]) == [Path("c")]


def test_a_default_in_a_file_counts_as_not_given() -> None:
    Path("f.toml").write_text('[profile]\nthreads = 1\ndevice = "cpu"\nstrict = false\n')
    context = parsed("goldnas profile --config f.toml --bundle b.zip")
    sources = {name: context.get_parameter_source(name).name for name in context.params}
    assert {name for name, source in sources.items() if source != "DEFAULT"} == {"bundle"}
    # So it contradicts nothing, as a device that is no default does.
    Path("f.toml").write_text('[profile]\ndevice = "ssh://pi"\n')
    command = "profile --config f.toml --bundle b.zip"
    assert_refused(Case(command, "--device does not go with --bundle: leave it out"))


def test_help_does_not_read_the_file() -> None:
    assert invoke("search", "--config", "gone.toml", "--help")[0] == 0


BAD = {
    "gone": (None, r"cannot read f.toml: No such file.*TOML file with a table \[search\]"),
    "broken": ("[search]\nepochs = \n", r"f.toml is not a TOML file: .*at line 2, column 10"),
    "not text": (b"\xff", "f.toml is not a TOML file: 'utf-8' codec"),
    "empty": (
        "",
        r"f.toml has no options for this command: it has nothing. .* a line \[search\]",
    ),
    "others": ("[train]\n[lut.check]\n", r"this command: it has \[train\], \[lut.check\]"),
    "no table": ("epochs = 3\n", "epochs = 3 is not in the table of a command; put it below"),
    "not below lut": ("[search]\n[lut]\nseed = 3\n", "seed = 3 is not in the table of a comm"),
    "unknown table": ("[serach]\n", "the table 'serach'; the nearest is 'search'"),
    "unknown lut": ("[search]\n[lut.chekc]\n", "'chekc'; the nearest is 'check'"),
    "unknown key": (
        "[search]\nepoch = 3\n",
        r"\[search\] has no option 'epoch'; the nearest is 'epochs'. goldnas search --help",
    ),
    "itself": ('[search]\nconfig = "g.toml"\n', r"\[search\] has no option 'config'"),
    "twice": (
        "[search]\nimage-size = 3\nimage_size = 4\n",
        "has 'image-size' twice; take one of them out",
    ),
    "text for a number": (
        '[search]\nepochs = "many"\n',
        r"f.toml: epochs = 'many' of \[search\]: .*",
    ),
    "out of range": ("[search]\nepochs = 0\n", r"f.toml: epochs = 0 of \[search\]: .*1"),
    "not a choice": ("[search]\npace = 'slow'\n", r"pace = 'slow' of \[search\]: .*planned"),
    "text for a flag": ("[search]\nsingle = 'yes'\n", "single = 'yes' .* takes true or false"),
    "flag for a text": ("[search]\nout = true\n", "out = true .*one text or number, not true"),
    "list for a text": ("[search]\nout = ['a']\n", "out = .* takes one text .* not a list"),
    "table for a text": ("[search.out]\na = 1\n", "out = .* takes one text.* not a table"),
    "digits without end": (
        f"[search]\nepochs = {'9' * 5000}\n",
        "f.toml is not a TOML file: .* digits",
    ),
    "values within values": (f"[search]\nbudget = {'[' * 10**4}\n", "is not a TOML file"),
    "a zero byte": ('[search]\nout = "a\\u0000"\n', "out = .* zero byte; take it out"),
    "date": ("[search]\nout = 2026-01-31\n", "out = .* takes one text or number, not date"),
    "lists in a list": (
        "[search]\nbudget = [[]]\n",
        "takes a list of texts or num.*not a list",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_is_one_clear_line(content: str | bytes | None, message: str) -> None:
    if content is not None:
        Path("f.toml").write_bytes(content.encode() if isinstance(content, str) else content)
    assert_refused(Case("search --config f.toml", message))


def test_a_search_that_goes_on_takes_no_settings_from_a_file_either() -> None:
    Path("f.toml").write_text("[search]\nepochs = 3\nworkers = 0\n")
    command = "search --resume run --config f.toml"
    assert_refused(Case(command, "--epochs cannot change a search"))


# -- kept ------------------------------------------------------------------------------------


def test_a_search_is_repeated_from_the_options_in_its_folder(workplace: Path) -> None:
    words = ("--config", "run/options.toml", "--out", "again", "--json")
    code, stdout, stderr = invoke("search", *words)
    assert code == 0, stderr
    told, front = json.loads(stdout), json.loads(Path("run/front.json").read_text())
    assert (told["folder"], told["networks"]) == ("again", front["networks"])
    assert "epoch 1/1: " in stderr
    assert_same_results(load_run("run"), load_run("again"))
    first, second = (
        tomllib.loads(Path(f, "options.toml").read_text()) for f in ("run", "again")
    )
    assert first["search"] | {"out": "again", "json": True} == second["search"]


@pytest.mark.parametrize("name", COMMANDS)
def test_kept_options_are_the_options_that_were_given(name: str) -> None:
    Path("runs/b").mkdir(parents=True)
    Path("runs/b/options.toml").write_text('[search]\nbudget = ["600MFLOPs"]\n')
    for example in examples_of(COMMANDS[name]):
        context = parsed(example)
        Path("kept.toml").write_text(config_file.effective(context))
        assert parsed(f"goldnas {name} --config kept.toml").params == context.params


def test_any_command_keeps_its_options_beside_those_of_others() -> None:
    for command in ("lut show c.json", "status r", "lut lint a.json", "lut lint a.json b.json"):
        assert goldnas(f"{command} --save-config f.toml")[0] == 2  # none of the files is there
    assert tomllib.loads(Path("f.toml").read_text()) == {
        "status": {"run": "r"},
        "lut": {"show": {"file": "c.json"}, "lint": {"files": ["a.json", "b.json"]}},
    }
    by_hand = "# my own\n[search]\nseed = 3\n"
    Path("f.toml").write_text(by_hand)
    assert_refused(Case("lut lint a.json --save-config f.toml", "f.toml exists, and"))
    assert Path("f.toml").read_text() == by_hand
    Path("f.toml").write_text("no TOML")
    assert_refused(Case("lut lint a.json --save-config f.toml", "f.toml is not a TOML file"))
    code, stderr = goldnas("lut lint a.json --save-config f.toml/g.toml")
    assert code == 2
    assert "cannot write f.toml/g.toml" in stderr


def test_defaults_are_kept_and_passwords_are_not() -> None:
    url = "postgresql://ann:s3cret:@host:5432/studies"
    text = config_file.effective(parsed(f"goldnas search --storage {url}"))
    kept = tomllib.loads(text)["search"]
    assert kept["storage"] == "postgresql://ann@host:5432/studies"
    assert "s3cret" not in text
    assert (kept["strategy"], kept["seed"], kept["report"]) == ("gold", 0, True)
    assert not kept.keys() & {"resume", "json", "single", "config", "save-config"}


def test_the_file_of_the_documentation_is_one() -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", DOCS.read_text(), re.M | re.S)
    Path("goldnas.toml").write_text(text)
    lines = re.findall(r"^\$ (goldnas .*--config goldnas.toml.*)$", DOCS.read_text(), re.M)
    assert len(lines) == 4
    for line in lines:
        parsed(line)
    assert parsed(lines[2]).params["epochs"] == 50
    with pytest.raises(typer.Exit):
        parsed("goldnas train --config goldnas.toml")
