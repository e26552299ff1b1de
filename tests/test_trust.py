"""Whose code runs: a stranger's folder runs none, and one's own goes on as it did."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import goldnas
from goldnas import trust
from goldnas.spaces import FUNCTIONS
from goldnas.trust import UntrustedError
from workplace import assert_one_line, changed, invoke, on_disk

CODE = """
from pathlib import Path

from own_data import level_net as space, levels as data, regression as task

Path(__file__).with_suffix(".ran").touch()


class Silent:
    def begin(self, step): ...
    def log(self, scalars, step): ...
    def table(self, name, rows): ...
    def close(self, *, finished): ...


def logger(folder, settings):
    return Silent()
"""
SHORT = "--epochs 1 --batch-size 512 --train-device cpu".split()  # noqa: SIM905
SEARCH = (
    "search --data mine:data --task mine:task --space mine:space --logger mine:logger --single "
    "--budget 1kparams --no-report --out run --epochs 1 --batch-size 512 --train-device cpu"
)


def forget() -> None:
    """Be a program that has imported nothing yet, and was told of nothing."""
    trust._allowed.clear()
    trust._folders.clear()
    for name in ("mine", "strange"):
        sys.modules.pop(name, None)
    for name in [name for name in FUNCTIONS if ":" in name]:
        del FUNCTIONS[name]


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each test be a program of its own."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(trust, "_allowed", set())
    monkeypatch.setattr(trust, "_folders", set())
    functions = dict(FUNCTIONS)
    forget()
    yield
    forget()
    FUNCTIONS.update(functions)


def marks(folder: Path) -> list[str]:
    """What has run, of the modules below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.ran"))


# -- a stranger's ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sent(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search, and a training of one of its networks, that name no code yet."""
    folder = tmp_path_factory.mktemp("sent")
    shutil.copytree(template / "run", folder / "run")
    status, _, errors = invoke("train", folder / "run", "--out", folder / "trained", *SHORT)
    assert status == 0, errors
    return folder


COMMANDS = {
    "search --resume run": {"space", "data", "task", "loggers"},
    "evaluate run": {"space", "data", "task"},
    "evaluate trained": {"space", "data", "task"},
    "export run --out net.onnx --force": {"space"},
    "export run --out net.onnx --precision int8": {"space", "data", "task"},
    "export trained --out net.onnx --force": {"space"},
    "train run --epochs 1": {"space", "data", "task"},
    "report run": set(),
    "status run": set(),
    "compare run": set(),
    "search --config run/options.toml --out new": {"space", "data", "task", "loggers"},
}
"""Each command, and the settings whose code it needs; it does without the others."""


SETTINGS = ("space", "data", "task", "loggers")
CASES = [
    (command, setting)
    for command, needed in COMMANDS.items()
    for setting in SETTINGS
    if setting in needed or not command.startswith(("export", "train"))  # which take their time
]


@pytest.mark.parametrize(("command", "setting"), CASES)
def test_a_strangers_folder_runs_no_code(
    sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, setting: str
) -> None:
    shutil.copytree(sent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for place in (".", "run", "trained"):
        Path(place, "strange.py").write_text(CODE)
    name = f"strange:{setting.removesuffix('s')}"
    of_training = "architecture" if setting == "space" else "config"
    for file in ("run/config.json", f"trained/{of_training}.json"):
        changed(file, **{setting: [name] if setting == "loggers" else name})()
    key = setting.removesuffix("s")
    Path("run/options.toml").write_text(f'[search]\n{key} = "{name}"\nbudget = "1kFLOPs"\n')
    status, _, errors = invoke(*command.split())
    assert marks(tmp_path) == []
    assert "strange" not in sys.modules
    if setting in COMMANDS[command]:
        file = os.path.realpath("strange.py")
        assert_one_line(status, errors, f"{name} from {file}.*--trust")
    else:
        assert status == 0, errors


@pytest.mark.parametrize("inside", ["run", "run/tables"])
@pytest.mark.parametrize("trusting", [["--trust"], ["--space", "strange:space"]])
def test_nothing_is_looked_for_in_the_folder_itself(
    sent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inside: str,
    trusting: list[str],
) -> None:
    shutil.copytree(sent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / inside)
    Path("strange.py").write_text(CODE)
    monkeypatch.syspath_prepend(os.getcwd())  # as python -m does
    changed(str(tmp_path / "run/config.json"), space="strange:space")()
    status, _, errors = invoke("evaluate", tmp_path / "run", *trusting)
    assert_one_line(status, errors, "there is no module 'strange'")
    assert marks(tmp_path) == []


@pytest.mark.parametrize("name", ["os:system", "sys:exit", "builtins:exec", "this:s"])
def test_a_module_of_python_is_code_too(sent: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(sent, tmp_path, dirs_exist_ok=True)
    changed(str(tmp_path / "run/config.json"), data=name)()
    status, _, errors = invoke("evaluate", tmp_path / "run")
    assert_one_line(status, errors, name)
    assert "this" not in sys.modules


def test_a_file_of_options_cannot_trust_itself(sent: Path, tmp_path: Path) -> None:
    shutil.copytree(sent, tmp_path, dirs_exist_ok=True)
    Path(tmp_path, "run/options.toml").write_text("[evaluate]\ntrust = true\n")
    status, _, errors = invoke("evaluate", "--config", tmp_path / "run/options.toml")
    assert_one_line(status, errors, "has no option 'trust'")


@pytest.mark.parametrize("option", ["python", "perf-test"])
def test_options_of_a_run_start_no_program(sent: Path, tmp_path: Path, option: str) -> None:
    shutil.copytree(sent, tmp_path, dirs_exist_ok=True)
    program = tmp_path / "strange.sh"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/strange.ran\n")
    program.chmod(0o755)
    options = f'[profile]\nout = "new.json"\nnetworks = 0\n{option} = "{program}"\n'
    Path(tmp_path, "run/options.toml").write_text(options)
    status, _, errors = invoke("profile", "--config", tmp_path / "run/options.toml")
    assert_one_line(status, errors, f"{option} = .*: this option runs code")
    assert marks(tmp_path) == []


# -- one's own -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module, a search with its functions, and a training of it."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        patch.chdir(folder)
        Path("mine.py").write_text(CODE)
        for command in (SEARCH.split(), ["train", "run", "--out", "trained", *SHORT]):
            status, _, errors = invoke(*command)
            assert status == 0, errors
    return folder


@pytest.fixture
def own(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, for a program that begins in that folder."""
    monkeypatch.chdir(made)
    return made


OF_RUN = ("evaluate run", "search --resume run --no-report", "train run --out trained")


@pytest.mark.parametrize(
    "command",
    [*OF_RUN, "evaluate trained", "export run --out net.onnx --force", "report run"],
)
def test_ones_own_goes_on_without_an_option(own: Path, command: str) -> None:
    more = SHORT if command.startswith("train") else []
    status, _, errors = invoke(*command.split(), *more)
    assert status == 0, errors
    assert "mine" in sys.modules  # also by a report, which shows the space


@pytest.mark.parametrize("command", OF_RUN)
def test_a_copy_is_a_strangers(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    Path(tmp_path, "mine.ran").unlink()
    monkeypatch.chdir(tmp_path)
    words = [*command.replace("--out trained", "--out new").split()]
    words += SHORT if command.startswith("train") else []
    before = on_disk()
    status, _, errors = invoke(*words)
    assert_one_line(status, errors, f"mine:data from {os.path.realpath('mine.py')}")
    assert on_disk() == before
    status, _, errors = invoke(*words, "--trust")
    assert status == 0, errors
    assert marks(tmp_path) == ["mine.ran"]


def test_naming_it_again_is_enough(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    changed("run/config.json", loggers=[])()
    words = [
        "search",
        "--resume",
        "run",
        "--no-report",
        "--space",
        "mine:space",
        "--data",
        "mine:data",
    ]
    status, _, errors = invoke(*words)
    assert_one_line(status, errors, r"run: mine:task from \S*mine.py. If")
    status, _, errors = invoke(*words, "--task", "mine:task")
    assert status == 0, errors
    forget()
    status, _, errors = invoke("export", "run", "--out", "net.onnx", "--space", "mine:space")
    assert status == 0, errors
    status, _, errors = invoke("export", "run", "--out", "b.onnx", "--space", "other:space")
    assert_one_line(status, errors, "is 'mine:space', and not 'other:space'")


def test_another_file_of_the_same_name_is_refused(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, errors = invoke("evaluate", own / "run")
    assert_one_line(status, errors, "there is no module 'mine' in the current folder")
    Path("mine.py").write_text(CODE)
    status, _, errors = invoke("evaluate", own / "run")
    files = (os.path.realpath(folder / "mine.py") for folder in (tmp_path, own))
    assert_one_line(status, errors, "mine:space from {}, not {};".format(*files))
    assert marks(tmp_path) == []


def test_other_names_at_the_same_place_are_refused(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Path("run/config.json")
    before = config.read_bytes()
    try:
        changed("run/config.json", task="mine:Silent")()
        status, _, errors = invoke("evaluate", "run")
    finally:
        config.write_bytes(before)
    assert_one_line(status, errors, "mine:Silent from .*--trust")


@pytest.mark.parametrize("spoil", [b"", b"[]", b'{"folder": "/", "files": {}}', b"\xff"])
def test_a_damaged_note_is_none(own: Path, state_home: Path, spoil: bytes) -> None:
    notes = {path: path.read_bytes() for path in state_home.glob("goldnas/*")}
    try:
        for path in notes:
            path.write_bytes(spoil)
        status, _, errors = invoke("evaluate", "run")
    finally:
        for path, content in notes.items():
            path.write_bytes(content)
    assert_one_line(status, errors, "--trust")


def test_a_search_goes_on_where_nothing_can_be_noted(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(made / "mine.py", tmp_path)
    Path("a_file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a_file"))
    status, _, errors = invoke(*SEARCH.split())
    assert status == 0, errors
    assert "warning: continuing run will need --trust" in errors
    forget()
    status, _, errors = invoke("evaluate", "run")
    assert_one_line(status, errors, "--trust")
    status, _, errors = invoke("evaluate", "run", "--trust")
    assert status == 0, errors


def test_python_holds_to_it(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    Path("mine.ran").unlink()
    run = goldnas.load_run("run")
    best = run.best  # what only reads needs no code
    assert run.config.space == best.architecture.space == "mine:space"
    assert run.finished
    assert run.front.to_dicts()
    for act in (
        best.build,
        lambda: best.build(trained=False),
        run.resume,
        lambda: goldnas.export(best, "net.onnx"),
        lambda: goldnas.export("trained", "net.onnx"),
        lambda: goldnas.train(run, out="new"),
        lambda: goldnas.train("run", out="new"),
    ):
        with pytest.raises(goldnas.ConfigError, match="mine:"):
            act()
    assert "mine" not in sys.modules
    assert marks(tmp_path) == []
    with pytest.raises(UntrustedError, match="mine:data"):
        goldnas.load_run("run", space="mine:space").resume()
    assert goldnas.load_run("run", space="mine:space").best.build()
    forget()
    assert goldnas.load_run("run", trust=True).resume().best == best
    forget()
    named = goldnas.load_run("run", space="mine:space", data="mine:data", task="mine:task")
    assert goldnas.train(named, out="new", epochs=1, batch_size=512).metric.name == "RMSE"


def test_a_strangers_search_writes_into_no_database(
    sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(sent / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "made.db"
    changed("run/config.json", strategy="evolution", storage=f"sqlite:///{made}")()
    status, _, errors = invoke("search", "--resume", "run")
    assert_one_line(status, errors, "names a database .*made.db.*--trust")
    assert not made.exists()
