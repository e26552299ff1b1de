"""Budgets as a user types them: ``600MFLOPs``, ``5ms@pi5``, ``5ms:p99``, ``6mJ``, ``2MB:int8``.

A number, a unit, the table of a latency or an energy, and words that say what else is meant.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from goldnas.errors import ConfigError
from goldnas.lut import QUANTILES, LatencyTable
from goldnas.resource_names import (
    BYTES,
    ENERGY,
    FLOPS,
    LATENCY,
    PARAMETERS,
    PRECISIONS,
    RAM,
    name_energy,
    name_latency,
    name_of_file,
)
from goldnas.units import UNITS, name_base_unit

_KINDS = {
    unit: (kind, scale)
    for kind in (FLOPS, PARAMETERS, LATENCY, ENERGY, BYTES)
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
    """The largest allowed amount, in FLOPs, parameters, operators, microseconds, microjoules or
    bytes."""
    text: str
    """The budget as it was typed."""


def parse_budgets(
    texts: Iterable[str], tables: Iterable[LatencyTable], *, precision: str = PRECISIONS[0]
) -> list[Budget]:
    """Read budgets, which may name these tables; the rest is as for :func:`parse_budget`."""
    names: dict[str, list[str]] = {LATENCY: [], ENERGY: []}
    for table in tables:
        names[table.kind].append(table.name)
    return [
        parse_budget(text, names[LATENCY], energy_tables=names[ENERGY], precision=precision)
        for text in texts
    ]


def parse_budget(
    text: str,
    tables: Sequence[str] = (),
    *,
    energy_tables: Sequence[str] = (),
    precision: str = PRECISIONS[0],
) -> Budget:
    """Read a budget.

    Args:
        text: For example ``600MFLOPs``; ``5ms@pi5:p99`` for a quantile of single calls.
        tables: Names of the tables of times. With a single one, ``5ms`` means this table.
        energy_tables: Names of the tables of energies. With a single one, ``6mJ`` means this
            table.
        precision: Number format of the file that bytes are counted on, unless the text says.

    Raises:
        ConfigError: If the number or the unit is missing or unknown, no table fits, or the
            unit has no such word.
    """
    match = _TEXT.fullmatch(text.strip())
    number, unit, table, said = match.groups() if match else (text, "", None, "")
    words = said.split(":")[1:]
    if table is not None:
        table, words = _part_name(table, words, [*tables, *energy_tables])
    try:
        amount = float(number)
    except ValueError:
        raise ConfigError(
            f"budget {text!r} is not a number and a unit; write, for example, 600MFLOPs, "
            "5ms, 5ms@pi5, 5ms:p99, or 6mJ"
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
        chosen = _choose_table(text, table, resource, tables, energy_tables)
        resource = name_latency(chosen, *words)
    elif resource == ENERGY:
        resource = name_energy(_choose_table(text, table, resource, energy_tables, tables))
    elif table is not None:
        raise ConfigError(
            f"budget {text!r} names a latency table, but is not a latency or an energy; "
            f"leave out @{table}"
        )
    if resource == BYTES:
        resource = _name_bytes(text, words, precision)
    return Budget(resource, amount * scale, text)


def list_alternatives(text: str, tables: Iterable[LatencyTable]) -> dict[str, str]:
    """The budgets that ``5ms@ort,openvino`` stands for, by the table of each.

    Args:
        text: A budget as it was typed.
        tables: Whose names it may name.

    Returns:
        Empty if the text does not name several tables.

    Raises:
        ConfigError: If the tables are of energies.
    """
    match = _TEXT.fullmatch(text.strip())
    said = match and match[3]
    kinds = {table.name: table.kind for table in tables}
    if not match or not said or said in kinds:
        return {}
    before, after = match.string[: match.start(3)], match.string[match.end(3) :]
    names = list(dict.fromkeys(said.split(",")))
    if len(names) < 2 or not all(name in kinds for name in names):
        return {}  # one that is no table is named when the budget is read
    if match[2] not in _KINDS or _KINDS[match[2]][0] not in (LATENCY, ENERGY):
        return {}  # and so is a unit
    if ENERGY in [kinds[name] for name in names]:
        raise ConfigError(
            f"budget {text!r} names several tables, which is possible for latencies only; keep "
            "one"
        )
    return {name: f"{before}{name}{after}" for name in names}


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


_ADVICE = {
    LATENCY: "needs a latency table; measure one, as with "
    "`profile(space('gold'), out='pi5.json')`, and give it in `tables`",
    ENERGY: "needs a table of energies; make one from figures of others or of a power meter, "
    "with goldnas lut import or goldnas lut fit, and give it in `tables`",
}
_NAMES = {LATENCY: "a latency", ENERGY: "an energy"}
_OTHER = {LATENCY: ENERGY, ENERGY: LATENCY}


def _choose_table(
    text: str, wanted: str | None, kind: str, tables: Sequence[str], others: Sequence[str]
) -> str:
    """The table of a budget.

    Args:
        text: The budget.
        wanted: The table that it names, if it names one.
        kind: What it is of: a latency or an energy.
        tables: Names of the tables of this kind.
        others: Names of the tables of the other kind.
    """
    if not tables and not others:
        raise ConfigError(f"budget {text!r} {_ADVICE[kind]}")
    if wanted is None and len(tables) == 1:
        return tables[0]
    if wanted is not None and wanted in tables:
        return wanted
    if not tables or wanted in others:
        units = {name: name_base_unit(kind) for name in tables}
        units |= {name: name_base_unit(_OTHER[kind]) for name in others}
        listed = ", ".join(f"{name} in {unit}" for name, unit in units.items())
        if not tables:
            raise ConfigError(f"budget {text!r} {_ADVICE[kind]}. Tables at hand: {listed}")
        raise ConfigError(
            f"budget {text!r} is {_NAMES[kind]}, and {wanted} is no table of such: the tables "
            f"have {listed}"
        )
    amount, _, _ = text.partition("@")
    amount, colon, word = amount.partition(":") if amount == text else (amount, "", "")
    choices = ", ".join(f"{amount}@{name}{colon}{word}" for name in tables)
    what = "latency tables" if kind == LATENCY else "tables of energies"
    raise ConfigError(f"budget {text!r} must name one of the {what}: {choices}")
