"""All commands of goldnas, and what the real parser makes of a line."""

import shlex
from typing import Any

import typer

from goldnas.cli.main import app

GOLDNAS: Any = typer.main.get_command(app)


def commands_of(group: Any, before: str = "") -> dict[str, Any]:
    """Commands by the words that are typed, such as ``lut check``."""
    found = {}
    for name, command in group.commands.items():
        words = f"{before}{name}"
        below = commands_of(command, f"{words} ") if hasattr(command, "commands") else {}
        found |= below or {words: command}
    return found


COMMANDS = commands_of(GOLDNAS)


def parsed(line: str) -> Any:
    """The context of the command of a line, ready to run; nothing is run.

    Raises:
        typer.Exit: If the line is refused; for a wrong name of a command, a KeyError.
    """
    words = shlex.split(line)[1:]
    context = GOLDNAS.make_context("goldnas", list(words))
    while hasattr(context.command, "commands"):
        name, words = words[0], words[1:]
        command = context.command.commands[name]
        context = command.make_context(name, list(words), parent=context)
    return context


def examples_of(command: Any) -> list[str]:
    """The lines that the help of a command shows."""
    return [
        line.removeprefix("$ ") for line in command.help.splitlines() if line.startswith("$ ")
    ]
