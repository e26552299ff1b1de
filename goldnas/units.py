"""The units that amounts of resources are typed and printed in. Needs no torch."""

from collections.abc import Sequence

from goldnas.resource_names import (
    BYTES,
    ENERGY,
    FLOPS,
    LATENCY,
    OPERATORS,
    PARAMETERS,
    RAM,
    read_kind,
)

Unit = tuple[float, str]
"""Its size in FLOPs, parameters, microseconds, microjoules, bytes or whatever files are in, and
its name."""

_PREFIXES = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"))

_BYTES = tuple((scale, prefix + "B") for scale, prefix in _PREFIXES)

UNITS: dict[str, tuple[Unit, ...]] = {
    FLOPS: tuple((scale, prefix + FLOPS) for scale, prefix in _PREFIXES),
    PARAMETERS: tuple((scale, prefix + PARAMETERS) for scale, prefix in _PREFIXES),
    LATENCY: ((1.0, "us"), (1e3, "ms"), (1e6, "s")),
    ENERGY: ((1.0, "uJ"), (1e3, "mJ"), (1e6, "J")),
    OPERATORS: ((1.0, OPERATORS),),
    BYTES: _BYTES,
    RAM: _BYTES,
}
"""Of each kind of resource, the smallest first."""


def list_units(resource: str) -> tuple[Unit, ...]:
    """The units of a resource, the smallest first."""
    return UNITS[read_kind(resource)]


def name_base_unit(resource: str) -> str:
    """The unit that amounts of a resource are kept in: ``us``, ``uJ``, ``B``."""
    return list_units(resource)[0][1]


def choose_unit(units: Sequence[Unit], amount: float) -> Unit:
    """The largest unit that is not larger than an amount, or else the smallest unit."""
    return max((unit for unit in units if unit[0] <= amount), default=min(units))


def name_axis(resource: str, unit: str) -> str:
    """Name the axis of a plot: ``MFLOPs``, ``latency@pi5, ms``."""
    return unit if resource in unit else f"{resource}, {unit}"


def format_amount(resource: str, amount: float) -> str:
    """Print an amount of a resource with a readable unit: ``777 MFLOPs``, ``1.25 ms``."""
    scale, unit = choose_unit(list_units(resource), amount)
    return f"{amount / scale:.4g} {unit}"
