"""The documents, and the commands in them as a shell reads them."""

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import click
import typer

from command_lines import GOLDNAS

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in sorted(
        [
            *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "lut/README.md")),
            *(ROOT / "docs").rglob("*.md"),
        ]
    )
}
SHELL = ("console", "bash", "sh")
ELLIPSES = ("...", "\N{HORIZONTAL ELLIPSIS}")

_BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]+) -->\n+)?(?P<indent> *)```(?P<language>\w*)[^\n]*\n"
    r"(?P<body>.*?)^(?P=indent)```$",
    re.M | re.S,
)
_INLINE = re.compile(r"(?<!`)`(goldnas [^`]+)`(?!`)")

# Nothing is found on this path, so that bash hands every command that it would have started
# to its handler: with all words as they are after quotes, variables, loops and patterns.
_RECORD = """
command_not_found_handle() { printf '%s\\0' "$#" "$@" >> "$RECORD"; }
PATH=/nowhere
"""


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    body: str
    note: str
    """What the comment above it says: ``not run: reason``, ``run with: --epochs 1``."""

    @property
    def runs(self) -> bool:
        return not self.note.startswith("not run: ")

    @property
    def _instead(self) -> str:
        """What takes the place of what is shown; empty where it is run as it stands."""
        return self.note.partition("run with: ")[2]

    @property
    def smaller(self) -> list[list[str]]:
        """Options that take the place of those that are shown, each with its value."""
        return _options(self._instead.partition("; where shown: ")[0])

    @property
    def smaller_where_shown(self) -> list[list[str]]:
        """Likewise, for commands that show the option alone."""
        return _options(self._instead.partition("; where shown: ")[2])

    @property
    def program(self) -> str:
        """Python, with the arguments that take the place of those that are shown."""
        program = self.body
        for argument in shlex.split(self._instead):
            name = argument.partition("=")[0]
            program, count = re.subn(rf"\b{name}=\w+", argument, program)
            assert count, f"{argument} takes the place of nothing"
        return program

    def commands(self) -> list[list[str]]:
        """The words of each command, in order."""
        with tempfile.TemporaryDirectory() as folder:
            record = Path(folder, "record")
            record.touch()
            bash = shutil.which("bash")
            assert bash, "bash reads the commands"
            ended = subprocess.run(
                [bash, "-c", f"{_RECORD}{self._typed()}\nwait"],
                cwd=folder,
                env={"RECORD": str(record)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            assert "syntax error" not in ended.stderr, f"{self.body}\n{ended.stderr}"
            words = iter(record.read_text().split("\0")[:-1])
        return [[next(words) for _ in range(int(count))] for count in words]

    def _typed(self) -> str:
        """What a reader types: without prompts, and without what the commands say."""
        lines = self.body.splitlines()
        if not any(line.startswith("$ ") for line in lines):
            return self.body
        typed, goes_on = [], False
        for line in lines:
            prompt = line.startswith(("$ ", "> "))
            if prompt or goes_on:
                typed.append(line[2:] if prompt else line)
                goes_on = line.endswith("\\")
        return "\n".join(typed)


def _options(line: str) -> list[list[str]]:
    words = shlex.split(line)
    starts = [i for i, word in enumerate(words) if word.startswith("--")]
    return [words[i:j] for i, j in pairwise([*starts, None])]


def blocks_of(markdown: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [
        Block(found["language"], found["body"], found["note"] or "")
        for found in _BLOCK.finditer(markdown)
    ]


def commands_of(markdown: str) -> list[list[str]]:
    """What follows ``goldnas`` in the shell blocks of a page, but for those not run."""
    shell = (b for b in blocks_of(markdown) if b.language in SHELL and b.runs)
    commands = (command for block in shell for command in block.commands())
    return [command[1:] for command in commands if command[0] == "goldnas"]


def of_goldnas(command: Sequence[str]) -> list[str] | None:
    """What follows ``goldnas``, also where torchrun or Slurm starts it; None of others."""
    if command[0] == "goldnas":
        return [*command[1:]]
    for place in range(1, len(command)):
        if command[place - 1 : place + 1] == ["-m", "goldnas"]:
            return [*command[place + 1 :]]
    return None


def named(words: Sequence[str]) -> tuple[click.Command, list[str]]:
    """The command that the first words name, and the words after its name."""
    command, left = GOLDNAS, [*words]
    # Of a class that typer brings along, which click need not be.
    while hasattr(command, "commands") and left and not left[0].startswith("-"):
        name, *left = left
        assert name in command.commands, f"there is no goldnas {name}: {shlex.join(words)}"
        command = command.commands[name]
    return command, left


def check_parsed(words: Sequence[str]) -> None:
    """Let the command read its options and arguments; nothing is run.

    Where a file that is not there gives some of them, the names of the others have to be right.
    """
    words = [word for word in words if word not in ELLIPSES]
    command, left = named(words)
    config = left[left.index("--config") + 1] if "--config" in left else None
    installs = words == left  # what is no sub-command's, such as --install-completion
    if installs or (config is not None and not Path(config).exists()):
        check_named(words)
        return
    context, above = None, GOLDNAS
    names = ["goldnas", *words[: len(words) - len(left)]]
    for name, below in pairwise(names):
        context = above.make_context(name, [], parent=context, resilient_parsing=True)
        above = above.commands[below]
    try:
        command.make_context(names[-1], left, parent=context)
    except typer.Exit as end:  # 0 for --help, --version
        if end.exit_code != 0:
            raise AssertionError(f"goldnas {shlex.join(words)} is not understood") from None
    except Exception as error:
        said = error.format_message() if hasattr(error, "format_message") else error
        raise AssertionError(f"goldnas {shlex.join(words)}: {said}") from None


def check_named(words: Sequence[str]) -> None:
    """The command, and each option of it that is given, has to be there."""
    command, left = named([word for word in words if word not in ELLIPSES])
    options = {word.partition("=")[0] for word in left if word.startswith("--")}
    assert options <= options_of(command), shlex.join(words)


def write_files(markdown: str) -> None:
    """Write the blocks that begin with a comment that is the name of a file: TOML, Python."""
    for block in blocks_of(markdown):
        if found := re.match(r"# (\w+\.(?:toml|py))\n", block.body):
            Path(found[1]).write_text(block.body)


def mentioned(markdown: str) -> Iterator[str]:
    """Commands within the text, which may be shortened, but for those of the blocks."""
    text = _BLOCK.sub("", markdown)
    for found in _INLINE.finditer(text):
        yield " ".join(found[1].split())


def options_of(command: click.Command) -> set[str]:
    """Every spelling of its options."""
    return {"--help"} | {
        spelling
        for parameter in command.params
        for spelling in (*parameter.opts, *parameter.secondary_opts)
    }
