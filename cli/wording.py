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
            return shlex.join(_words(node))
    return code


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
            yield from (("--space", str(value)) if name == "space" else (str(value),))
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
    except ValueError:
        return ast.unparse(node)
