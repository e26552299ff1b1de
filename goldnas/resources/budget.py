"""Budgets as a user types them: ``600MFLOPs``, ``3Mparams``, ``5ms``, ``5ms@pi5``."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from goldnas.errors import ConfigError

OPERATORS = "operators"
"""The resource of which every gate costs 1; its budget is that of a search with ``single``."""

_PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
UNITS: dict[str, tuple[str, float]] = {
    **{f"{prefix}FLOPs": ("FLOPs", scale) for prefix, scale in _PREFIXES.items()},
    **{f"{prefix}params": ("params", scale) for prefix, scale in _PREFIXES.items()},
    "us": ("latency", 1.0),
    "ms": ("latency", 1e3),
    "s": ("latency", 1e6),
}
"""Unit to kind of resource and to its base unit, such as microseconds."""

_TEXT = re.compile(r"([^\sA-Za-z@]*)\s*([A-Za-z]*)(?:@(.+))?")


@dataclass(frozen=True, slots=True)
class Budget:
    """A resource and the value not to exceed."""

    resource: str
    """``FLOPs``, ``params``, ``operators``, or ``latency@`` and the name of a table."""
    limit: float
    """In FLOPs, parameters, operators or microseconds."""
    text: str
    """As it was typed."""


def parse_budget(text: str, tables: Sequence[str] = ()) -> Budget:
    """Read a budget.

    Args:
        text: For example ``600MFLOPs``.
        tables: Names of the latency tables at hand. With one, ``5ms`` means that one.

    Raises:
        ConfigError: If the number or the unit is missing or unknown, or no table fits.
    """
    match = _TEXT.fullmatch(text.strip())
    number, unit, table = match.groups() if match else (text, "", None)
    try:
        amount = float(number)
    except ValueError:
        raise ConfigError(
            f"budget {text!r} is not a number and a unit; write, for example, 600MFLOPs, "
            "5ms, or 5ms@pi5"
        ) from None
    if unit not in UNITS:
        problem = f"unknown unit {unit!r}" if unit else "no unit"
        raise ConfigError(f"{problem} in budget {text!r}; known units: {', '.join(UNITS)}")
    resource, scale = UNITS[unit]
    if not 0 < amount * scale < math.inf:
        raise ConfigError(f"budget {text!r} must be a positive, finite amount")
    if resource == "latency":
        resource = f"latency@{_table(text, table, tables)}"
    elif table is not None:
        raise ConfigError(
            f"budget {text!r} names a table, but only a latency has one; leave out @{table}"
        )
    return Budget(resource, amount * scale, text)


def _table(text: str, wanted: str | None, tables: Sequence[str]) -> str:
    if not tables:
        raise ConfigError(
            f"budget {text!r} needs a latency table; measure one with goldnas profile and "
            "give it with --latency-lut"
        )
    if wanted is None and len(tables) == 1:
        return tables[0]
    if wanted is None or wanted not in tables:
        choices = ", ".join(f"{text.split('@')[0]}@{name}" for name in tables)
        raise ConfigError(f"budget {text!r} must name one of the latency tables: {choices}")
    return wanted


Unit = tuple[float, str]
"""Its size in FLOPs, parameters, microseconds or whatever files are in, and its name."""


def units_of(resource: str) -> tuple[Unit, ...]:
    """The units of ``FLOPs``, ``params``, ``operators`` or a latency."""
    if resource == OPERATORS:
        return ((1.0, OPERATORS),)
    kind = resource.split("@")[0]
    return tuple((scale, unit) for unit, (name, scale) in UNITS.items() if name == kind)


def fitting_unit(units: Sequence[Unit], amount: float) -> Unit:
    """The largest unit that an amount has one of, or else the smallest."""
    return max((unit for unit in units if unit[0] <= amount), default=min(units))


def format_amount(resource: str, amount: float) -> str:
    """Print an amount of a resource with a readable unit: ``777 MFLOPs``, ``1.25 ms``."""
    scale, unit = fitting_unit(units_of(resource), amount)
    return f"{amount / scale:.4g} {unit}"
