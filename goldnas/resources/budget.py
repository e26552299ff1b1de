"""Budgets as a user types them: ``600MFLOPs``, ``3Mparams``, ``5ms@pi5``, ``5ms:p99``."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from goldnas.errors import ConfigError
from goldnas.lut import QUANTILES
from goldnas.resource_names import FLOPS, LATENCY, PARAMETERS, name_latency
from goldnas.units import UNITS

_KINDS = {
    unit: (kind, scale) for kind in (FLOPS, PARAMETERS, LATENCY) for scale, unit in UNITS[kind]
}
"""Unit to kind of resource and to its base unit, such as microseconds."""

_TEXT = re.compile(
    r"([^\sA-Za-z@:]*(?:[0-9.][eE][+-]?[0-9]+)?)\s*([A-Za-z]*)(?:@(.+?))?(?::([A-Za-z]\w*))?"
)
"""Number, unit, table, and which of several amounts of that unit."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A resource and its limit."""

    resource: str
    """``FLOPs``, ``params``, ``operators``, or ``latency@`` and the name of a table, with
    ``:p99`` or another quantile of single calls if the budget names one."""
    limit: float
    """The largest allowed amount, in FLOPs, parameters, operators or microseconds."""
    text: str
    """The budget as it was typed."""


def parse_budget(text: str, tables: Sequence[str] = ()) -> Budget:
    """Read a budget.

    Args:
        text: For example ``600MFLOPs``; ``5ms@pi5:p99`` for a quantile of single calls.
        tables: Names of the latency tables. With a single table, ``5ms`` means this table.

    Raises:
        ConfigError: If the number, the unit or the quantile is missing or unknown, or no table
            fits.
    """
    match = _TEXT.fullmatch(text.strip())
    number, unit, table, word = match.groups() if match else (text, "", None, None)
    if word is not None and f"{table}:{word}" in tables:  # a colon of the table's own name
        table, word = f"{table}:{word}", None
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
    if resource == LATENCY:
        if word is not None and word not in QUANTILES:
            raise ConfigError(
                f"unknown quantile {word!r} in budget {text!r}; known: {', '.join(QUANTILES)}"
            )
        resource = name_latency(_choose_table(text, table, tables), word or "")
    elif word is not None:
        raise ConfigError(
            f"budget {text!r} names a quantile, but is not a latency; leave out :{word}"
        )
    elif table is not None:
        raise ConfigError(
            f"budget {text!r} names a latency table, but is not a latency; leave out @{table}"
        )
    return Budget(resource, amount * scale, text)


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
