"""The registry of operators: a name and a builder from a site to a module."""

from collections.abc import Callable

from torch import nn

from goldnas.errors import ConfigError
from goldnas.site import AnySite, Site

Part = tuple[str, AnySite]
"""An operator's name and its site: a row of a latency table."""

RegisteredPart = tuple[str, Site]
"""A part that :func:`build_operator` builds."""

OperatorBuilder = Callable[[Site], nn.Module]

PartBuilder = Callable[[str, AnySite], nn.Module]
"""Builds a part: :func:`build_operator`, or a space that has parts of its own."""

OPERATORS: dict[str, OperatorBuilder] = {}

Family = Callable[[str], OperatorBuilder | None]
"""From an operator's name to its builder; None if the name is not of the family."""

FAMILIES: dict[tuple[str, ...], Family] = {}
"""Operators without number whose names say how they are built, by examples of the names."""

CANDIDATES: set[str] = set()
"""Operators that a search may put on an edge; the others are fixed parts of networks."""


def register_operator(
    name: str, *, candidate: bool = True
) -> Callable[[OperatorBuilder], OperatorBuilder]:
    """Make a builder available to every search space under ``name``.

    Args:
        name: Lower-case name for tables and architectures. These files outlive the code, so a
            name is never reused for a different operator.
        candidate: Whether a search may put the operator on an edge; False for a fixed part.

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
        examples: Names of the family that together use every part of its builder. Errors show
            them, and tests build them. As with single operators, the meaning of a name never
            changes.
    """

    def register(family: Family) -> Family:
        FAMILIES[examples] = family
        return family

    return register


def find_builder(name: str) -> OperatorBuilder | None:
    """The builder of the operator ``name``; None if no operator has that name."""
    if name in OPERATORS:
        return OPERATORS[name]
    builders = (family(name) for family in FAMILIES.values())
    return next((builder for builder in builders if builder is not None), None)


def build_operator(name: str, site: AnySite) -> nn.Module:
    """Build the operator ``name`` for ``site``.

    Raises:
        ConfigError: If no operator has that name, or the site lacks a size that it needs.
    """
    builder = find_builder(name)
    if builder is None:
        like = ", ".join(example for examples in FAMILIES for example in examples)
        raise ConfigError(
            f"unknown operator {name!r}; known: {', '.join(sorted(OPERATORS))}, "
            f"and others like {like}"
        )
    if not isinstance(site, Site):
        raise ConfigError(f"operator {name!r} needs a site like 16x32x32->16/s1, got {site}")
    return label_part(builder(site), (name, site))


def label_part(module: nn.Module, part: Part) -> nn.Module:
    """Record in a module which part it is."""
    module.__dict__["part"] = part  # not among its parameters, buffers and modules
    return module


def find_part(module: nn.Module) -> Part | None:
    """Name and site of a module that was built as a part; None for any other."""
    return module.__dict__.get("part")


def check_candidate(name: str) -> None:
    """Refuse names that are not candidates.

    Raises:
        ConfigError: If no candidate operator has that name.
    """
    if name not in CANDIDATES:
        raise ConfigError(f"unknown operator {name!r}; known: {', '.join(sorted(CANDIDATES))}")
