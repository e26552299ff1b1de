"""Budgets as a user types them: ``600MFLOPs``, ``5ms@pi5``, ``5ms:p99``, ``2MB:int8``.

A number, a unit, the table of a latency, and words that say what else is meant.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from goldnas.errors import ConfigError
from goldnas.lut import QUANTILES
from goldnas.resource_names import (
    BYTES,
    FLOPS,
    LATENCY,
    PARAMETERS,
    PRECISIONS,
    RAM,
    name_latency,
    name_of_file,
)
from goldnas.units import UNITS

_KINDS = {
    unit: (kind, scale)
    for kind in (FLOPS, PARAMETERS, LATENCY, BYTES)
    for scale, unit in UNITS[kind]
}
"""Unit to kind of resource and to its base unit, such as microseconds."""

_WORDS: dict[str, tuple[str, ...]] = {
    LATENCY: tuple(QUANTILES),
    BYTES: (RAM, *PRECISIONS),
}
"""Of each kind of resource, the words that may follow its unit."""

_TEXT = re.compile(
    r"([^\sA-Za-z@:]*(?:[0-9.][eE][+-]?[0-9]+)?)\s*([A-Za-z]*)(?:@(.+?))?((?::\w*)*)"
)


@dataclass(frozen=True, slots=True)
class Budget:
    """A resource and its limit."""

    resource: str
    """As ``goldnas/resource_names.py`` names it: ``FLOPs``, ``latency@pi5``, ``bytes:int8``."""
    limit: float
    """The largest allowed amount, in FLOPs, parameters, operators, microseconds or bytes."""
    text: str
    """The budget as it was typed."""


def parse_budget(
    text: str, tables: Sequence[str] = (), *, precision: str = PRECISIONS[0]
) -> Budget:
    """Read a budget.

    Args:
        text: For example ``600MFLOPs``; ``5ms@pi5:p99`` for a quantile of single calls.
        tables: Names of the latency tables. With a single table, ``5ms`` means this table.
        precision: Number format of the file that bytes are counted on, unless the text says.

    Raises:
        ConfigError: If the number or the unit is missing or unknown, no table fits, or the
            unit has no such word.
    """
    match = _TEXT.fullmatch(text.strip())
    number, unit, table, said = match.groups() if match else (text, "", None, "")
    words = said.split(":")[1:]
    if table is not None:
        table, words = _part_name(table, words, tables)
    try:
        amount = float(number)
    except ValueError:
        raise ConfigError(
            f"budget {text!r} is not a number and a unit; write, for example, 600MFLOPs, "
            "5ms, 5ms@pi5, or 5ms:p99"
        ) from None
    if unit not in _KINDS:
        problem = f"unknown unit {unit!r}" if unit else "no unit"
        raise ConfigError(f"{problem} in budget {text!r}; known units: {', '.join(_KINDS)}")
    resource, scale = _KINDS[unit]
    if not 0 < amount * scale < math.inf:
        raise ConfigError(f"budget {text!r} must be a positive, finite amount")
    for word in words:
        if word not in _WORDS.get(resource, ()):
            known = ", ".join(f":{word}" for word in _WORDS.get(resource, ())) or "none"
            raise ConfigError(
                f"unknown word ':{word}' in budget {text!r}; known after {unit}: {known}"
            )
    if resource == LATENCY:
        if len(words) > 1:
            raise ConfigError(f"budget {text!r} names two quantiles; keep one")
        resource = name_latency(_choose_table(text, table, tables), *words)
    elif table is not None:
        raise ConfigError(
            f"budget {text!r} names a latency table, but is not a latency; leave out @{table}"
        )
    if resource == BYTES:
        resource = _name_bytes(text, words, precision)
    return Budget(resource, amount * scale, text)


def _part_name(table: str, words: list[str], tables: Sequence[str]) -> tuple[str, list[str]]:
    """The name of a table, which may have colons of its own, and the words after it."""
    for count in range(len(words), 0, -1):
        if (name := ":".join([table, *words[:count]])) in tables:
            return name, words[count:]
    return table, words


def _name_bytes(text: str, words: Sequence[str], precision: str) -> str:
    """The size of a file, or the memory that its activations take; in a number format."""
    formats = [word for word in words if word in PRECISIONS]
    if len(set(words)) < len(words) or len(formats) > 1:
        raise ConfigError(f"budget {text!r} says a word twice, or two formats; keep one")
    return name_of_file(RAM if RAM in words else BYTES, *(formats or [precision]))


def _choose_table(text: str, wanted: str | None, tables: Sequence[str]) -> str:
    if not tables:
        raise ConfigError(
            f"budget {text!r} needs a latency table; measure one, as with "
            "`profile(space('gold'), out='pi5.json')`, and give it in `tables`"
        )
    if wanted is None and len(tables) == 1:
        return tables[0]
    if wanted is None or wanted not in tables:
        amount, _, _ = text.partition("@")
        amount, colon, word = amount.partition(":") if amount == text else (amount, "", "")
        choices = ", ".join(f"{amount}@{name}{colon}{word}" for name in tables)
        raise ConfigError(f"budget {text!r} must name one of the latency tables: {choices}")
    return wanted
