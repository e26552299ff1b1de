"""Spaces and strategies that goldnas has, and what each decides or does."""

import inspect
from dataclasses import fields
from typing import Any

from goldnas.cli.console import print_json, say


def print_spaces(*, as_json: bool = False) -> None:
    """Show every registered space with its settings and their defaults."""
    spaces = _spaces()
    if as_json:
        print_json({"spaces": spaces})
        return
    for space in spaces:
        say(f"{space['name']}: {space['description']}")
        told = "; ".join(f"{key} {shown(value)}" for key, value in space["settings"].items())
        say(f"    {told}")
        say("")


def print_strategies(*, as_json: bool = False) -> None:
    """Show every strategy."""
    from goldnas.searching.strategies import STRATEGIES

    known = {name: info.description for name, info in STRATEGIES.items()}
    if as_json:
        print_json({"strategies": known})
        return
    for name, description in known.items():
        say(f"{name}: {description}")


def _spaces() -> list[dict[str, Any]]:
    from goldnas.spaces import FUNCTIONS, SPACES, is_reference

    settings: dict[str, tuple[object, dict[str, Any]]] = {
        name: (space, {field.name: field.default for field in fields(space)})
        for name, space in SPACES.items()
    }
    for name, function in FUNCTIONS.items():
        if not is_reference(name):  # someone's own, imported before
            parameters = inspect.signature(function).parameters
            settings[name] = function, {key: p.default for key, p in parameters.items()}
    return [
        {
            "name": name,
            "description": (inspect.getdoc(what) or "").partition("\n")[0],
            "settings": defaults,
        }
        for name, (what, defaults) in settings.items()
    ]


def shown(value: object) -> str:
    """A value for people, as ``3, 32, 32``."""
    if isinstance(value, list | tuple):
        items = (f"({shown(v)})" if isinstance(v, list | tuple) else shown(v) for v in value)
        return ", ".join(items)
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)
