"""Search spaces by name."""

from typing import Any

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.spaces.choices import ChoiceSpace, choice_space
from goldnas.spaces.gold import GoldSpace
from goldnas.spaces.mobile import mobile
from goldnas.spaces.plan import CellGate
from goldnas.spaces.reference import FUNCTIONS, import_space, is_reference
from goldnas.spaces.space import Gate, Plan, SearchSpace
from goldnas.spaces.variants import DARTS_OPERATORS, GoldExtendedSpace, GoldImageNetSpace

SPACES: dict[str, type[GoldSpace]] = {
    space.name: space for space in (GoldSpace, GoldImageNetSpace, GoldExtendedSpace)
}

FUNCTIONS["mobile"] = mobile  # goldnas' own: files that name it may have it run

__all__ = [
    "DARTS_OPERATORS",
    "FUNCTIONS",
    "SPACES",
    "CellGate",
    "ChoiceSpace",
    "Gate",
    "GoldSpace",
    "Plan",
    "SearchSpace",
    "cell_space_named",
    "import_space",
    "is_reference",
    "space_named",
    "space_of",
]


def space_named(name: str, **settings: Any) -> GoldSpace | ChoiceSpace:
    """Make a search space.

    Args:
        name: A registered one, or that of a function which :func:`import_space` has imported.
        settings: Its own.

    Raises:
        ConfigError: If no space has that name, or a setting is unknown or out of range.
    """
    if name in FUNCTIONS or is_reference(name):
        return choice_space(name, settings)
    return cell_space_named(name, **settings)


def cell_space_named(name: str, **settings: Any) -> GoldSpace:
    """Make a space of cells.

    Raises:
        ConfigError: If no such space has that name, or a setting is unknown or out of range.
    """
    if name not in SPACES:
        known = ", ".join(sorted([*SPACES, *FUNCTIONS]))
        raise ConfigError(f"unknown search space {name!r}; known: {known}")
    fitted: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in settings.items()
    }
    try:
        return SPACES[name](**fitted)
    except TypeError as error:
        raise ConfigError(f"settings of space {name!r} do not fit it: {error}") from None


def space_of(architecture: Architecture) -> GoldSpace | ChoiceSpace:
    """The space that builds an architecture."""
    return space_named(architecture.space, **architecture.settings)
