"""The spaces that goldnas has, and what each decides."""

import inspect
from dataclasses import fields
from typing import Any

from goldnas.cli.console import out


def print_spaces() -> None:
    """Show every registered space with its settings and their defaults."""
    from goldnas.spaces import FUNCTIONS, SPACES, is_reference

    for name, space in SPACES.items():
        _print(name, space, {field.name: field.default for field in fields(space)})
    for name, function in FUNCTIONS.items():
        if is_reference(name):
            continue  # someone's own, imported before
        parameters = inspect.signature(function).parameters
        _print(name, function, {key: given.default for key, given in parameters.items()})


def _print(name: str, what: object, settings: dict[str, Any]) -> None:
    described = (inspect.getdoc(what) or "").partition("\n")[0]
    out.print(f"{name}: {described}", highlight=False)
    told = "; ".join(f"{key} {shown(value)}" for key, value in settings.items())
    out.print(f"    {told}\n", highlight=False)


def shown(value: object) -> str:
    """A value for people, as ``3, 32, 32``."""
    if isinstance(value, list | tuple):
        items = (f"({shown(v)})" if isinstance(v, list | tuple) else shown(v) for v in value)
        return ", ".join(items)
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)
