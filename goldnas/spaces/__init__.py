"""Search spaces by name.

Every module of this folder is imported, so that what it registers is known.
"""

import importlib
import pkgutil
from typing import Any

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.spaces.choices import ChoiceSpace, choice_space
from goldnas.spaces.gold import GoldSpace
from goldnas.spaces.plan import CellGate
from goldnas.spaces.reference import FUNCTIONS, import_space, is_reference
from goldnas.spaces.registry import SMALL, SPACES, register_cells, register_function
from goldnas.spaces.space import Gate, Plan, SearchSpace
from goldnas.spaces.variants import DARTS_OPERATORS, GoldExtendedSpace, GoldImageNetSpace

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = [
    "DARTS_OPERATORS",
    "FUNCTIONS",
    "SMALL",
    "SPACES",
    "CellGate",
    "ChoiceSpace",
    "Gate",
    "GoldExtendedSpace",
    "GoldImageNetSpace",
    "GoldSpace",
    "Plan",
    "SearchSpace",
    "cell_space_named",
    "import_space",
    "is_reference",
    "register_cells",
    "register_function",
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
