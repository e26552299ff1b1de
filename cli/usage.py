"""Errors of usage, in one line: what is wrong, and what to give instead.

Typer says it in a box of several lines, partly in words of pydantic.
"""

import re
from typing import Any

import typer

# Typer has no public name for it, and in some versions it is not that of click.
UsageError: Any = typer.BadParameter.__mro__[1]
"""An error of whoever typed the command."""

_PLAIN = (
    (r"Input should be greater than or equal to (\S+)", r"give a whole number from \1"),
    (r"Input should be a valid integer.*", "give a whole number"),
    (r"Input should be a valid number.*", "give a number"),
    (r"Input should be a valid boolean.*", "give true or false"),
    (r"(?:Value error, )?.* is not one of (.*?)\.?", r"give \1"),
    (r"(?:Value error, )?(.*?)\.?", r"\1"),
)
"""What typer says of a value, and what is said instead; the first that fits."""

_PLAIN_USAGE = (
    (r"Option '(.*)' requires an argument\.?", r"\1 needs a value."),
    (r"Option '(.*)' does not take a value\.?", r"\1 takes no value."),
    (r"Got unexpected extra argument\S* \((.*)\)", r"unexpected argument \1."),
    (r"No such command (.*?)\. (.*)", r"there is no command \1. \2"),
    (r"No such command (.*?)\.?", r"there is no command \1."),
)
"""What typer says of a command line, and what is said instead."""


def describe_bad_value(error: typer.BadParameter, value: Any, place: str | None = None) -> str:
    """What is wrong with the value of an option or an argument.

    Args:
        error: As typer has it.
        value: As it was typed; several where the option may be repeated.
        place: Where a file has it, in place of the option and the value.
    """
    parameter, ctx = error.param, error.ctx
    if parameter is None:
        return describe_usage_error(error)
    is_option = parameter.param_type_name == "option"
    name = max(parameter.opts, key=len) if is_option else parameter.metavar or parameter.name
    # MissingParameter, of which typer has no public name either.
    if type(error) is not typer.BadParameter:
        shown = f"{name} {parameter.metavar or 'VALUE'}" if is_option else f"argument {name}"
        return f"{shown} is missing. {_name_help(ctx)}"
    wanted = _say_plainly(error.message, _PLAIN)
    if wanted.startswith("give '"):  # of choices
        *others, last = re.findall("'([^']*)'", wanted)
        wanted = f"give {', '.join(others)}{' or ' * bool(others)}{last}"
    if place is not None:
        return f"{place}: {wanted}"
    got = ", ".join(map(repr, value)) if isinstance(value, list | tuple) else repr(value)
    return f"{name}: {wanted}; got {got}"


def describe_usage_error(error: Any) -> str:
    """What is wrong with a command line: an option or a command that there is not, say."""
    message = str(error.format_message()).strip()
    option = getattr(error, "option_name", None)
    if hasattr(error, "possibilities") and option is not None:
        near = sorted(error.possibilities or ())
        meant = f"; did you mean {' or '.join(near)}?" if near else "."
        return f"there is no option {option}{meant} {_name_help(error.ctx)}"
    return f"{_say_plainly(message, _PLAIN_USAGE)} {_name_help(error.ctx)}"


def _say_plainly(message: str, plain: tuple[tuple[str, str], ...]) -> str:
    line = " ".join(message.split())
    for pattern, said in plain:
        if found := re.fullmatch(pattern, line):
            return found.expand(said)
    return line


def _name_help(ctx: Any) -> str:
    names: list[str] = []
    while ctx is not None and ctx.parent is not None:
        names.insert(0, str(ctx.info_name))
        ctx = ctx.parent
    return f"See {' '.join(('goldnas', *names))} --help"
