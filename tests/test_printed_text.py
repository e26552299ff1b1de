"""What is printed is text: no name, and no file, steers the terminal or the shell."""

import csv
import dataclasses
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from conftest import MakeRow, MakeTable
from goldnas import load_run
from goldnas.cli.completion import networks_of_run
from goldnas.cli.search_output import print_end
from goldnas.cli.wording import join_words
from goldnas.comparison.formats import as_csv
from goldnas.comparison.rows import compare
from goldnas.comparison.runs import read_runs
from goldnas.errors import CONTROLS, GoldnasError, GoldnasWarning, in_one_line
from goldnas.lut import Conditions, LatencyTable
from goldnas.site import Site
from workplace import SPACE, invoke

NAMES = {
    "shell": "a; touch X $(touch Y) `touch Z` 'b' \"c\" * \\",
    "dash": "-dash",
    "markup": "[bold]a[/nothing] :100: {x} %s",
    "terminal": "a\x1b[31m\x1b]0;b\x07\x9b2J\rc\x7f",
    "lines": "a\nerror: b\u2028c",
    "direction": "a\u202eb\u2066c\u200bd",
    "page": "<script>alert(1)<!-- & $\\frac$ \"'",
}
"""Of files and folders, devices and machines."""


@pytest.fixture(params=NAMES.values(), ids=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(workplace: Path, name: str) -> str:
    """Make a folder of this name that holds a search; its tables have the name, too."""
    shutil.move("run", f"./{name}")
    shutil.copy("cpu.json", f"./{name}.json")
    return f"./{name}"


def words_of(command: str) -> list[str]:
    """Take an advised command apart as a shell does, with a goldnas that says its arguments."""
    script = f"goldnas() {{ for word; do printf '%s\\0' \"$word\"; done; }}; {command}"
    shell = subprocess.run(["sh", "-c", script], check=True, capture_output=True)
    assert shell.stderr == b""
    return [os.fsdecode(word) for word in shell.stdout.split(b"\0")[:-1]]


def say(*words: str) -> tuple[int, str]:
    """What a command prints, on both streams; nothing of it steers a terminal."""
    code, stdout, stderr = invoke(*words)
    said = stdout + stderr
    assert not CONTROLS.search(said), CONTROLS.findall(said)
    return code, said


def advised(said: str, after: str) -> list[str]:
    """The words of the command that ends a line."""
    (command,) = re.findall(rf"{after}(goldnas .*)$", said, re.M)
    return words_of(command)


@pytest.mark.parametrize(
    "command", ["lut show", "lut lint", "status", "compare --format markdown"]
)
def test_a_name_is_printed_as_it_is_and_on_one_line(
    workplace: Path, run: str, name: str, command: str
) -> None:
    place = f"{run}.json" if command.startswith("lut") else run
    code, said = say(*command.split(), place)
    assert code == 0, said
    Path(place).rename("plain")
    assert len(said.splitlines()) == len(say(*command.split(), "plain")[1].splitlines())
    if command.startswith(("lut", "status")):
        assert f"{in_one_line(name)}" in said


def test_an_advised_command_names_what_was_asked_for(
    workplace: Path, run: str, name: str
) -> None:
    code, said = say("lut", "show", f"{run}-gone")
    assert code == 2
    assert advised(said, "with: ") == ["profile", "--device", "cpu", "--out", f"{name}-gone"]
    code, said = say("status", run)
    _, place = words = advised(said, "See the report: ")
    assert os.path.samefile(place, run)
    code, said = say(*words)
    assert (code, in_one_line(name) in said) == (0, True)
    assert not {"X", "Y", "Z"} & set(os.listdir())


def test_the_end_of_a_search_advises_a_command(
    workplace: Path, run: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_end(load_run(run), report=False, as_json=False)
    command, place, *_ = advised(capsys.readouterr().out, r"\. Next: ")
    assert command == "export"
    assert os.path.samefile(place, run)


def test_a_device_in_a_table_is_one_word_of_a_command(
    workplace: Path, make_table: MakeTable, conditions: Conditions, name: str
) -> None:
    other = replace(conditions, device=name, cpu_model=name)
    table = make_table(Path("odd.json"), SPACE, conditions=other)
    dataclasses.replace(table, rows=table.rows[1:]).save()
    search = "search --data digits --cells 2 --channels 4 --budget 5ms --out new"
    code, said = say(*search.split(), "--latency-lut", "odd.json")
    assert code == 2
    words = advised(said, "with: ")
    assert words[words.index("--device") + 1] == name
    _, said = say("lut", "show", "odd.json")
    assert f"{in_one_line(name)}: {in_one_line(name)}" in said
    told = invoke("lut", "show", "odd.json", "--json")[1]
    assert json.loads(told)["conditions"]["device"] == name
    assert not CONTROLS.search(told)


def test_words_are_joined_so_that_a_shell_takes_them_apart_again() -> None:
    for words in ([*NAMES.values()], ["", " ", "a\tb", "%d\\n"]):
        assert words_of(join_words("goldnas", *words)) == words


@pytest.mark.parametrize("of", [GoldnasError, GoldnasWarning])
def test_a_message_is_one_line_that_steers_nothing(
    of: type[GoldnasError | GoldnasWarning], name: str
) -> None:
    said = str(of(f"there is no {name}"))
    assert len(said.splitlines()) == 1
    assert not CONTROLS.search(said)


# -- files -------------------------------------------------------------------------------------


def test_names_in_a_table_do_not_steer_what_is_drawn(
    workplace: Path, make_row: MakeRow, conditions: Conditions
) -> None:
    name, site = "".join(NAMES.values()), Site(4, 8, 8, 4, 1)
    rows = tuple(make_row(f"{name}{number}", site, 1.0 + number) for number in range(2))
    odd = replace(conditions, cpu_model=name, backend=f"{name} 1")
    LatencyTable(odd, rows, Path("odd.json")).save()
    for place in ("odd.svg", "odd.html"):
        code, said = say("lut", "plot", "odd.json", "--out", place)
        assert code == 0, said
        drawn = Path(place).read_text()
        assert not CONTROLS.search(drawn)
        assert "<script>alert" not in drawn
    ET.fromstring(Path("odd.svg").read_text())  # which is XML
    assert in_one_line(f"{name}1") in html.unescape(drawn)


def test_a_report_shows_names_as_they_are(workplace: Path) -> None:
    folder = Path("".join(NAMES.values()))
    shutil.move("run", f"./{folder}")
    code, said = say("report", f"./{folder}", "--out", "report.html")
    assert code == 0, said
    page = Path("report.html").read_text()
    assert not CONTROLS.search(page)
    assert "<script>alert" not in page
    (command,) = re.findall('<pre id="command">(.*?)</pre>', page, re.S)
    words = words_of(html.unescape(command))
    assert words[words.index("--out") + 1] == f"{folder}-again"


def test_a_cell_of_a_csv_file_is_no_formula(workplace: Path) -> None:
    comparison = compare(read_runs([Path("run")], None), None, None)
    rows = [dataclasses.replace(row, settings="=1+1\n2") for row in comparison.rows]
    text = as_csv(dataclasses.replace(comparison, rows=rows))
    (line, *_) = csv.DictReader(io.StringIO(text))
    assert line["settings"] == "'=1+1 2"


def test_what_a_shell_completes_is_a_word(workplace: Path) -> None:
    front = json.loads(Path("run/front.json").read_bytes())
    front["networks"].append({"fingerprint": "$(touch X)", "reasons": ["a\x1b[31m"]})
    Path("run/front.json").write_text(json.dumps(front))

    typed = SimpleNamespace(params={"run": "run"}, args=[])
    _best, *offered = networks_of_run(typed)  # type: ignore[arg-type]
    assert offered
    assert all(re.fullmatch(r"\w+", network) for network, _ in offered)


# -- streams -----------------------------------------------------------------------------------


def in_shell(command: str, **environment: str) -> tuple[int, str, str]:
    """Run the installed command in a shell."""
    goldnas = Path(sys.executable).with_name("goldnas")
    done = subprocess.run(
        ["sh", "-c", f'goldnas() {{ {goldnas} "$@"; }}; {command}'],
        check=False,
        capture_output=True,
        env=os.environ | environment,
    )
    return done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_an_output_that_is_full_is_one_line(workplace: Path) -> None:
    code, _, stderr = in_shell("goldnas lut show cpu.json >/dev/full")
    assert code == 2
    assert stderr == (
        "error: cannot write the output: No space left on device. Make room where it goes, or "
        "send it elsewhere\n"
    )


def test_an_output_that_is_closed_is_one_line_or_none(workplace: Path) -> None:
    code, _, stderr = in_shell("goldnas lut show cpu.json >&-")
    assert (code, stderr.count("\n")) == (2, 1)
    assert stderr.startswith("error: the standard output is closed: ")
    code, stdout, stderr = in_shell("goldnas lut lint pi5.json 2>&- <&-")
    assert (code, stderr) == (0, "")
    assert in_shell("goldnas lut show gone.json 2>/dev/full")[0] == 2
    code, stdout, stderr = in_shell("goldnas lut show cpu.json | head -1")
    assert (stdout.count("\n"), stderr) == (1, "")


def test_a_letter_that_the_output_lacks_is_escaped(workplace: Path) -> None:
    shutil.copy("cpu.json", "é→.json")
    code, stdout, stderr = in_shell(
        "goldnas lut show é→.json; goldnas lut lint é→.json --json", PYTHONIOENCODING="ascii"
    )
    assert (code, stderr) == (0, "")
    assert "\n\\xe9\\u2192.json: 13 rows\n" in stdout
    assert json.loads(stdout[stdout.index("\n{\n") :])["files"][0]["file"] == "é→.json"
    assert stdout.isascii()
