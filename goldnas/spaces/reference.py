"""Functions that are spaces, by name: ``package.module:function``."""

from collections.abc import Callable

from torch import nn

from goldnas.reference import import_function

SpaceFunction = Callable[..., nn.Module]

FUNCTIONS: dict[str, SpaceFunction] = {}
"""Those that someone has named."""


def is_reference(name: str) -> bool:
    """Whether a name of a space is that of a function."""
    return ":" in name


def import_space(name: str) -> None:
    """Import the function that a name stands for; nothing, if it is another kind of name.

    Raises:
        ConfigError: If there is no such module or function, or importing it fails.
    """
    if name in FUNCTIONS or not is_reference(name):
        return
    FUNCTIONS[name] = import_function(name, "a space", "a module")


def name_function(function: SpaceFunction) -> str:
    """Name a function of a module, so that files which name it find it.

    Returns:
        ``package.module:function``.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    FUNCTIONS[name] = function
    return name
