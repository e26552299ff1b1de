"""What the library says in Python, said in options and commands.

An error names settings and calls in backquotes, as Python has them. Here they become what is
typed: `levels=2` is ``--levels 2``, `load_run('runs/a').resume()` is ``goldnas search --resume
runs/a``.
"""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

NAMES = {
    "budgets": "budget",
    "input_shape": "input",
    "loggers": "logger",
    "model": "model",
    "provider_options": "provider-option",
    "shapes": "shape",
    "tables": "latency-lut",
}
"""Options whose names are not those of the setting; for the others, dashes are underscores."""

COMMANDS = {"profile", "search", "train", "export", "evaluate", "compare", "report", "status"}
_OF_SPACES = {"channels", "cells", "input_shape", "classes", "operators", "space"}
_QUOTED = re.compile("`([^`\n]+)`")


def option(setting: str) -> str:
    """The option of a setting: ``--latency-lut`` of ``tables``."""
    return "--" + NAMES.get(setting, setting.replace("_", "-"))


def in_options(text: str) -> str:
    """A message of the library as the command line says it."""
    return _QUOTED.sub(lambda quoted: in_shell(quoted[1]), text)


def in_shell(code: str) -> str:
    """A setting or a call in Python as it is typed; anything else as it is."""
    for source in (code, f"settings({code})"):
        try:
            node = ast.parse(source, mode="eval").body
        except SyntaxError:
            continue
        if isinstance(node, ast.Name):
            return option(node.id)
        if isinstance(node, ast.Call):
            return " ".join(_words(node))
    return code


def _words(call: ast.Call) -> Iterator[str]:
    """The words of a call: its command, if it has one, then its arguments and settings."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if isinstance(call.func, ast.Attribute):  # load_run('runs/a').resume()
        yield from ("goldnas", "search", "--resume")
        assert isinstance(call.func.value, ast.Call)
        call = call.func.value
    elif name in COMMANDS:
        yield from ("goldnas", name)
    elif name == "LatencyTable":
        yield from ("goldnas", "lut")
    for argument in call.args:
        if isinstance(argument, ast.Call):  # space('gold', cells=3)
            yield from _words(argument)
        else:
            value = _value(argument)
            yield from (
                ("--space", str(value)) if name == "space" else (shlex.quote(str(value)),)
            )
    for keyword in call.keywords:
        if keyword.arg is None:
            continue
        yield from _option_words(keyword.arg, _value(keyword.value), of_space=name == "space")


def _option_words(setting: str, value: Any, *, of_space: bool) -> Iterator[str]:
    if of_space and setting not in _OF_SPACES:
        plain = isinstance(value, str) and not _is_json(value)
        text = value if plain else json.dumps(value)
        yield from ("--set", shlex.quote(f"{setting}={text}"))
    elif value is True:
        yield option(setting)
    elif value is False:
        yield f"--no-{option(setting)[2:]}"
    elif setting == "input_shape":
        yield from (option(setting), "x".join(map(str, value)))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from (option(setting), shlex.quote(f"{key}={one}"))
    elif isinstance(value, list | tuple) and option(setting) != f"--{setting}":
        for one in value:  # which is repeated
            yield from (option(setting), shlex.quote(str(one)))
    elif isinstance(value, list | tuple):
        yield from (option(setting), shlex.quote(",".join(map(str, value))))
    else:
        yield from (option(setting), shlex.quote(str(value)))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
