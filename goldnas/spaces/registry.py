"""The registry of goldnas' own spaces: classes of cell networks, and functions.

To add a space, add a file to this folder that registers it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from goldnas.errors import ConfigError
from goldnas.spaces.reference import FUNCTIONS, SpaceFunction

if TYPE_CHECKING:
    from goldnas.spaces.gold import GoldSpace

SPACES: "dict[str, type[GoldSpace]]" = {}
"""Spaces of cells, by name."""

SMALL: dict[str, Mapping[str, Any]] = {}
"""For each function, settings of a small space with all its features; tests build it."""

LATER: dict[str, tuple[str, ...]] = {}
"""For each function, settings that it has got since files have named it. At their defaults they
stay out of architectures and tables, which so are the same as before."""

STRINGS: dict[str, Callable[[str], Mapping[str, Sequence[str]]]] = {}
"""By space: the reader of other projects' networks, which yields choices of an architecture."""

_Cells = TypeVar("_Cells", bound="type[GoldSpace]")
_Function = TypeVar("_Function", bound=SpaceFunction)


def register_cells(space: _Cells) -> _Cells:
    """Make a class of spaces of cells available under its name.

    Raises:
        ConfigError: If the name is taken.
    """
    _check_free(space.name)
    SPACES[space.name] = space
    return space


def register_function(
    name: str, *, later: Sequence[str] = (), **small: Any
) -> Callable[[_Function], _Function]:
    """Make a function that returns a network with choices available under a name.

    Args:
        name: Name in architectures and tables; files that use this name run the function.
        later: Settings that it has got since files have named it; see :data:`LATER`.
        small: Settings of a small space with all features of the function.

    Raises:
        ConfigError: If the name is taken.
    """

    def register(function: _Function) -> _Function:
        _check_free(name)
        FUNCTIONS[name] = function
        SMALL[name] = small
        LATER[name] = tuple(later)
        return function

    return register


def _check_free(name: str) -> None:
    if name in SPACES or name in FUNCTIONS:
        raise ConfigError(f"space {name!r} is already registered; choose another name")
