"""What the library says in Python, said in options and commands.

An error names settings and calls in backquotes, as Python has them. Here they become what is
typed: `levels=2` is ``--levels 2``, `load_run('runs/a').resume()` is ``goldnas search --resume
runs/a``. Every command that goldnas advises is put together here, and can be copied into a
shell, whatever the names in it are.
"""

import ast
import json
import os
import re
import shlex
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from goldnas.errors import in_one_line

NAMES = {
    "budgets": "budget",
    "form": "format",
    "input_shape": "input",
    "loggers": "logger",
    "names": "map",
    "priors": "prior",
    "provider_options": "provider-option",
    "settings": "set",
    "shapes": "shape",
    "tables": "latency-lut",
    "target_percent": "target",
    "values": "value",
}
"""Options whose names are not those of the setting; for the others, dashes are underscores."""

COMMANDS = {
    **{n: n for n in ("profile", "search", "train", "shrink", "export")},
    **{n: n for n in ("evaluate", "compare", "report")},
    "list_zoo": "pick --list",
    "pick": "pick",
    "status": "status",
    "calibrate": "lut calibrate",
    "fit_networks": "lut fit",
    "import_table": "lut import",
    "merge": "lut merge",
}
"""Commands of functions."""
_OF_SPACES = {"channels", "cells", "input_shape", "classes", "operators", "space"}
_QUOTED = re.compile(r"""`((?:[^`'"\n]|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")+)`""")
"""Code in backquotes, which a text within the code may hold, too."""

_PLAIN = {*string.ascii_letters, *string.digits, *" ./:_+,=@"}
"""What stands for itself within a text of printf."""


def option(setting: str) -> str:
    """The option of a setting: ``--latency-lut`` of ``tables``."""
    return "--" + NAMES.get(setting, setting.replace("_", "-"))


def command(*words: object) -> str:
    """A command of goldnas, to be copied into a shell, as :func:`join_words` has it."""
    return join_words("goldnas", *words)


def join_words(*words: object) -> str:
    """A command in one line, which a shell takes apart into these words again.

    Args:
        words: Of which a :class:`pathlib.Path` is taken for no option, whatever it begins with.
    """
    return " ".join(
        _quote(_not_an_option(str(word)) if isinstance(word, Path) else str(word))
        for word in words
    )


def _not_an_option(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path


def _quote(word: str) -> str:
    if in_one_line(word) == word:
        return shlex.quote(word)
    # What nobody sees, as every shell can read it.
    seen = (chr(b) if chr(b) in _PLAIN else f"\\{b:03o}" for b in os.fsencode(word))
    return f"\"$(printf '{''.join(seen)}')\""


def in_options(text: str) -> str:
    """A message of the library as the command line says it.

    What stands in backquotes and is neither a setting nor a call stays, with them: it may be
    of a name.
    """
    said, place = "", 0
    while found := _QUOTED.search(text, place):
        typed = _as_typed(found[1])
        end = found.start() + 1 if typed is None else found.end()
        said += text[place : found.start()] + ("`" if typed is None else typed)
        place = end
    return said + text[place:]


def in_shell(code: str) -> str:
    """A setting or a call in Python as it is typed; anything else as it is."""
    typed = _as_typed(code)
    return code if typed is None else typed


def _as_typed(code: str) -> str | None:
    for source in (code, f"settings({code})"):
        try:
            node = ast.parse(source, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if isinstance(node, ast.Name):
            return option(node.id)
        if isinstance(node, ast.Call):
            return join_words(*_words(node))
    return None


def _words(call: ast.Call) -> Iterator[str]:
    """The words of a call: its command, if it has one, then its arguments and settings."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if isinstance(call.func, ast.Attribute):
        if isinstance(call.func.value, ast.Call):  # load_run('runs/a').resume()
            yield from ("goldnas", "search", "--resume")
            call = call.func.value
        else:  # LatencyTable.load('lut/cpu.json')
            yield from ("goldnas", "lut", "show")
    elif name in COMMANDS:
        yield from ("goldnas", *COMMANDS[name].split())
    for argument in call.args:
        if isinstance(argument, ast.Call):  # space('gold', cells=3)
            yield from _words(argument)
        elif not isinstance(argument, ast.Name):  # a variable stands for what is not known
            value = _value(argument)
            shown = str(value)
            yield from (("--space", shown) if name == "space" else (_not_an_option(shown),))
    for keyword in call.keywords:
        if keyword.arg is None:
            continue
        yield from option_words(keyword.arg, _value(keyword.value), of_space=name == "space")


def option_words(setting: str, value: Any, *, of_space: bool = False) -> Iterator[str]:
    """What is typed for a setting.

    Args:
        setting: Its name.
        value: As Python has it; ``...`` for one that the reader is to choose.
        of_space: Whether those that have no option of their own are of a space, for ``--set``.
    """
    if value is ...:  # which is for the reader to choose
        yield option(setting)
    elif of_space and setting not in _OF_SPACES:
        text = value if isinstance(value, str) and not _is_json(value) else json.dumps(value)
        yield from ("--set", f"{setting}={text}")
    elif value is True:
        yield option(setting)
    elif value is False:
        yield f"--no-{option(setting)[2:]}"
    elif setting == "input_shape" and not isinstance(value, str):
        yield from (option(setting), "x".join(map(str, value)))
    elif isinstance(value, dict):
        for key, one in value.items():
            text = "x".join(map(str, one)) if isinstance(one, tuple) else one  # of a shape
            yield from (option(setting), f"{key}={text}")
    elif isinstance(value, list | tuple) and option(setting) != f"--{setting}":
        for one in value:  # which is repeated
            yield from (option(setting), str(one))
    elif isinstance(value, list | tuple):
        yield from (option(setting), ",".join(map(str, value)))
    else:
        yield from (option(setting), str(value))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return ast.unparse(node)
