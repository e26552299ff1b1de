"""The documents are right: their commands work, in the order in which a page shows them.

The pages on spaces, data and tasks of one's own are followed by ``test_tutorials.py``.
"""

import importlib
import inspect
import re
import shlex
import shutil
import sys
from glob import glob
from pathlib import Path

import pytest

from documents import (
    PAGES,
    ROOT,
    SHELL,
    Block,
    blocks_of,
    check_named,
    check_parsed,
    commands_of,
    mentioned,
    named,
    of_goldnas,
    options_of,
    write_files,
)
from goldnas.exporting.onnx import ARCHITECTURE, CLASSES, INPUTS
from goldnas.exporting.precision import PRECISION
from images import png
from nightly import at_night
from workplace import invoke

TUTORIALS = {f"docs/{name}.md" for name in ("data", "spaces", "tasks")}
TOURS = ("compare-methods", "device-tables", "raspberry-pi", "too-slow")
PAGES_AT_NIGHT = [
    "cluster",
    "latency",
    "mobile",
    "own-images",
    "pick",
    "strategies",
    "training",
]
AT_NIGHT = {
    *(f"docs/{name}.md" for name in PAGES_AT_NIGHT),
    *(f"docs/tours/{name}.md" for name in TOURS),
}
"""Put commands together that other pages have, or that files of tests are about; photos are
also those of test_stranger.py."""
FIRST = "docs/index.md"
"""Its commands are the README's, in steps: they are run once."""


def is_followed(page: str) -> bool:
    """Whether a page's blocks are run here; those on results say what was run, and stay."""
    if page in TUTORIALS or page == FIRST or page.startswith("docs/results/"):
        return False
    return any(map(is_followable, blocks_of(PAGES[page].read_text())))


def is_followable(block: Block) -> bool:
    shell = block.language in SHELL and re.search(r"^[$> ]*goldnas ", block.body, re.M)
    return block.runs and (bool(shell) or block.language == "python")


def fill(folder: Path, template: Path) -> None:
    """What somebody has who has followed the first page, and has photographs."""
    for old, new in {
        "run": "runs/a",
        "cpu.json": "lut/cpu.json",
        "pi5.json": "lut/pi5.json",
    }.items():
        if (template / old).is_dir():
            shutil.copytree(template / old, folder / new)
        else:
            (folder / new).parent.mkdir(exist_ok=True)
            shutil.copy(template / old, folder / new)
    network = min(folder.glob("runs/a/architectures/*.json"))
    shutil.copy(network, folder / "network.json")
    for kind in ("daisy", "rose", "tulip"):
        for part, count in {"train": 12, "test": 3}.items():
            place = folder / "photos" / part / kind
            place.mkdir(parents=True)
            for number in range(count):
                (place / f"{number}.png").write_bytes(png(number, (20 + number, 24)))


def follow(block: Block) -> None:
    """Run a block: a program of Python, or each command of goldnas, as it stands there."""
    if block.language == "python":
        exec(compile(block.program, "block.py", "exec"), {})
        return
    for command in block.commands():
        words = of_goldnas(command)
        if words is None:
            raise AssertionError(
                f"cannot run {shlex.join(command)}; say why: <!-- not run: -->"
            )
        elif command[0] == "goldnas":  # torchrun's are run by test_ranks.py
            has = options_of(named(words)[0])
            smaller = [option for option in block.smaller if option[0] in has]
            smaller += [option for option in block.smaller_where_shown if option[0] in words]
            words += [word for option in smaller for word in option]
            if words[0] == "profile" and not {"--model", "--networks"} & {*words}:
                words += ["--networks", "4"]  # of 20, for a table that nobody will use
            words = [name for word in words for name in sorted(glob(word)) or [word]]
            status, stdout, stderr = invoke(*words)
            assert status == 0, f"goldnas {shlex.join(words)}\n{stdout}{stderr}"


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=at_night) if page in AT_NIGHT else page
        for page in PAGES
        if is_followed(page)
    ],
)
def test_what_a_page_shows_works(
    page: str, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page not in ("README.md", "docs/python.md"):  # which are where one begins
        fill(tmp_path, template)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    write_files(PAGES[page].read_text())
    for block in blocks_of(PAGES[page].read_text()):
        if is_followable(block):
            follow(block)


def test_the_first_page_takes_the_steps_of_the_readme() -> None:
    pages = [PAGES[page].read_text() for page in (FIRST, "README.md")]
    steps, loop = map(commands_of, pages)
    assert len(steps) > 5
    assert steps == loop


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that are not run: real options, no argument missing, values of the choices."""
    monkeypatch.chdir(tmp_path)
    markdown = PAGES[page].read_text()
    write_files(markdown)
    for block in blocks_of(markdown):
        if block.language in SHELL:
            for command in block.commands():
                if (words := of_goldnas(command)) is not None:
                    check_parsed(words)
                for word in command[1:]:
                    if word.startswith("benchmarks/"):
                        assert (ROOT / word).exists(), word
    for text in mentioned(markdown):
        check_named(shlex.split(text)[1:])


METADATA = {ARCHITECTURE, CLASSES, INPUTS, PRECISION}
NAME = re.compile(r"`(goldnas(?:\.\w+)+)")
FILE = re.compile(r"`((?:goldnas|profiling|lut|cli|tests|benchmarks|docs)/[\w./-]+\.\w+)`")
LINK = re.compile(r"(?<!\\)\]\((?!https?:|#)([^)#]+)")


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page: str) -> None:
    text = PAGES[page].read_text()
    for name in NAME.findall(text):
        assert name in METADATA or is_there(name), name
    for file in FILE.findall(text):
        made_by_the_reader = re.fullmatch(r"lut/\w[\w-]*\.json", file)
        assert made_by_the_reader or (ROOT / file).exists(), file
    for link in LINK.findall(text):
        assert (PAGES[page].parent / link).exists(), link


def is_there(name: str) -> bool:
    """Whether a module, a class, a function, a method or a field has this name."""
    *modules, last = name.split(".")
    for count in range(len(modules) + 1, 0, -1):
        try:
            found = importlib.import_module(".".join([*modules, last][:count]))
        except ModuleNotFoundError:
            continue
        names = [*modules, last][count:]
        break
    for place, one in enumerate(names):
        if not hasattr(found, one):
            # What __init__ gives to every object, and a field of a dataclass without default.
            text = inspect.getsource(found) if inspect.isclass(found) else ""
            last_one = place == len(names) - 1
            return last_one and bool(re.search(rf"^ +(self\.)?{one}(:| =)", text, re.M))
        found = getattr(found, one)
    return True


def test_a_name_that_is_gone_is_noticed() -> None:
    assert is_there("goldnas.supernet.SuperNet.relative_weights")
    assert is_there("goldnas.searching.config.SearchConfig.lambda0")
    assert is_there("goldnas.searching.schedules.AlgorithmOneSchedule.increase")
    for gone in ("goldnas.supernets", "goldnas.supernet.SuperNet.beta", "goldnas.Choose"):
        assert not is_there(gone)


def test_commands_are_read_as_a_shell_reads_them() -> None:
    markdown = """
```console
$ goldnas profile --out a.json   # a comment
12 rows
$ for seed in 0 1; do
>   goldnas search --seed $seed \\
>     --set 'blocks=[1,2]'
> done
```
<!-- not run: downloads CIFAR-10 -->
```bash
goldnas search --data cifar10
```
<!-- run with: --epochs 1 --set a=1; where shown: --cells 1 -->
```bash
make demo
torchrun --nproc-per-node 2 -m goldnas search --resume runs/a
goldnas train runs/a &
```
<!-- run with: goldnas=2 -->
```python
goldnas=1
```
"""
    first, marked, smaller, python = blocks_of(markdown)
    assert first.commands() == [
        ["goldnas", "profile", "--out", "a.json"],
        *(
            ["goldnas", "search", "--seed", seed, "--set", "blocks=[1,2]"]
            for seed in ("0", "1")
        ),
    ]
    assert [first.runs, marked.runs, smaller.runs, python.runs] == [True, False, True, True]
    assert smaller.smaller == [["--epochs", "1"], ["--set", "a=1"]]
    assert smaller.smaller_where_shown == [["--cells", "1"]]
    assert marked.smaller == marked.smaller_where_shown == []
    assert python.program == "goldnas=2\n"
    make, torchrun, goldnas = smaller.commands()
    assert of_goldnas(make) is None
    assert of_goldnas(torchrun) == ["search", "--resume", "runs/a"]
    assert of_goldnas(goldnas) == ["train", "runs/a"]
    assert len(commands_of(markdown)) == 4


@pytest.mark.parametrize(
    "command",
    [
        "search --no-such-option",
        "search --pace slow",
        "export runs/a",
        "lut shown a.json",
        "train runs/a --epochs some",
    ],
)
def test_a_command_that_is_wrong_is_noticed(command: str) -> None:
    with pytest.raises(AssertionError):
        check_parsed(command.split())
