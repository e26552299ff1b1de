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

COMMANDS = {
    **{n: n for n in ("profile", "search", "train", "export", "evaluate", "compare", "report")},
    "status": "status",
    "calibrate": "lut calibrate",
    "fit_networks": "lut fit",
    "import_table": "lut import",
    "merge": "lut merge",
}
"""Commands of functions."""
_OF_SPACES = {"channels", "cells", "input_shape", "classes", "operators", "space"}
_QUOTED = re.compile("`([^`\n]+)`")


def option(setting: str) -> str:
    """The option of a setting: ``--latency-lut`` of ``tables``."""
    return "--" + NAMES.get(setting, setting.replace("_", "-"))


def in_options(text: str) -> str:
    """A message of the library as the command line says it."""
    return _QUOTED.sub(lambda quoted: _said(quoted[1]), text)


def _said(code: str) -> str:
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
        yield from ("goldnas", COMMANDS[name])
    for argument in call.args:
        if isinstance(argument, ast.Call):  # space('gold', cells=3)
            yield from _words(argument)
        elif not isinstance(argument, ast.Name):  # a variable stands for what is not known
            value = _value(argument)
            yield from (
                ("--space", str(value)) if name == "space" else (shlex.quote(str(value)),)
            )
    for keyword in call.keywords:
        if keyword.arg is None:
            continue
        yield from _option_words(keyword.arg, _value(keyword.value), of_space=name == "space")


def _option_words(setting: str, value: Any, *, of_space: bool) -> Iterator[str]:
    if value is ...:  # which is for the reader to choose
        yield option(setting)
    elif of_space and setting not in _OF_SPACES:
        text = value if isinstance(value, str) and not _is_json(value) else json.dumps(value)
        yield from ("--set", shlex.quote(f"{setting}={text}"))
    elif value is True:
        yield option(setting)
    elif value is False:
        yield f"--no-{option(setting)[2:]}"
    elif setting == "input_shape":
        yield from (option(setting), "x".join(map(str, value)))
    elif isinstance(value, dict):
        for key, one in value.items():
            text = "x".join(map(str, one)) if isinstance(one, tuple) else one  # of a shape
            yield from (option(setting), shlex.quote(f"{key}={text}"))
    elif isinstance(value, list | tuple) and option(setting) != f"--{setting}":
        for one in value:  # which is repeated
            yield from (option(setting), shlex.quote(str(one)))
    elif isinstance(value, list | tuple):
        yield from (option(setting), shlex.quote(",".join(map(str, value))))
    else:
        yield from (option(setting), shlex.quote(str(value)))


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
