"""The registry of operators: a name and a builder from a site to a module."""

from collections.abc import Callable

from torch import nn

from goldnas.errors import ConfigError
from goldnas.site import Site

Part = tuple[str, Site]
"""An operator's name and its site: a row of a latency table."""

OperatorBuilder = Callable[[Site], nn.Module]

OPERATORS: dict[str, OperatorBuilder] = {}

Family = Callable[[str], OperatorBuilder | None]
"""From an operator's name to its builder; None if the name is none of the family."""

FAMILIES: dict[tuple[str, ...], Family] = {}
"""Operators without number whose names say how they are built, by examples of the names."""

CANDIDATES: set[str] = set()
"""Operators that a search may put on an edge; the others are fixed parts of networks."""


def register_operator(
    name: str, *, candidate: bool = True
) -> Callable[[OperatorBuilder], OperatorBuilder]:
    """Make a builder available to every search space under ``name``.

    Args:
        name: Lower-case, as it will appear in tables and architectures: these files
            outlive the code, so a name is never reused for a different operator.
        candidate: Whether a search may put it on an edge; a fixed part is none.

    Raises:
        ConfigError: If ``name`` is taken. Two operators under one name would share one
            latency.
    """

    def register(builder: OperatorBuilder) -> OperatorBuilder:
        if name in OPERATORS:
            raise ConfigError(
                f"operator {name!r} is already registered by {OPERATORS[name].__module__}; "
                "choose another name"
            )
        OPERATORS[name] = builder
        if candidate:
            CANDIDATES.add(name)
        return builder

    return register


def register_family(*examples: str) -> Callable[[Family], Family]:
    """Make a family of operators available, which are fixed parts or choices of a space.

    Args:
        examples: Names of the family that between them need every part of its builder: they
            are what errors show and tests build. As with single operators, what a name says
            never changes.
    """

    def register(family: Family) -> Family:
        FAMILIES[examples] = family
        return family

    return register


def builder_of(name: str) -> OperatorBuilder:
    """What builds the operator ``name``.

    Raises:
        ConfigError: If no operator has that name.
    """
    if name in OPERATORS:
        return OPERATORS[name]
    for family in FAMILIES.values():
        if (builder := family(name)) is not None:
            return builder
    like = ", ".join(example for examples in FAMILIES for example in examples)
    raise ConfigError(
        f"unknown operator {name!r}; known: {', '.join(sorted(OPERATORS))}, "
        f"and others like {like}"
    )


def build_operator(name: str, site: Site) -> nn.Module:
    """Build the operator ``name`` for ``site``.

    Raises:
        ConfigError: If no operator has that name.
    """
    module = builder_of(name)(site)
    module.__dict__["part"] = (name, site)  # not among its parameters, buffers and modules
    return module


def part_of(module: nn.Module) -> Part | None:
    """Name and site of a module that :func:`build_operator` built; None for any other."""
    return module.__dict__.get("part")


def check_candidate(name: str) -> None:
    """Refuse what no edge can hold.

    Raises:
        ConfigError: If no candidate operator has that name.
    """
    if name not in CANDIDATES:
        raise ConfigError(f"unknown operator {name!r}; known: {', '.join(sorted(CANDIDATES))}")
