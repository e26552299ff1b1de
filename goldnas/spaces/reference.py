"""Functions that are spaces, by name: ``package.module:function``."""

import sys
from collections.abc import Callable

from torch import nn

from goldnas import trust
from goldnas.errors import ConfigError
from goldnas.reference import computes_the_same, import_function, own_name

SpaceFunction = Callable[..., nn.Module]

FUNCTIONS: dict[str, SpaceFunction] = {}
"""Those that someone has named."""


def is_reference(name: str) -> bool:
    """Whether the name of a space names a function."""
    return ":" in name


def import_space(name: str) -> None:
    """Import the function that a name stands for; do nothing for other kinds of names.

    Raises:
        UntrustedError: If only a file names the function.
        ConfigError: If there is no such module or function, or importing it fails.
    """
    if name in FUNCTIONS or not is_reference(name):
        return
    FUNCTIONS[name] = import_function(name, "a space", "a module")


def name_function(function: SpaceFunction) -> str:
    """Register a function under a name, so that files can refer to it.

    Returns:
        ``package.module:function``. If another function has this name already, such as another
        closure or an earlier cell of a notebook, the name ends in a number.

    Raises:
        ConfigError: If it has no name.
    """
    if not callable(function) or not hasattr(function, "__qualname__"):
        raise ConfigError(
            f"{function!r:.80} is not a space: give the name of a space, `space(...)`, or a "
            "named function that returns a module with choices"
        )
    name = f"{function.__module__}:{function.__qualname__}"
    if not _is_of_module(function):
        name = own_name(name, function, FUNCTIONS, computes_the_same)
    FUNCTIONS[name] = function
    trust.allow(name)
    return name


def _is_of_module(function: Callable[..., object]) -> bool:
    """Whether the name now stands for this function in its module, as after a reload."""
    module = sys.modules.get(function.__module__)
    named = "<" not in function.__qualname__ and function.__module__ != "__main__"
    return named and module is not None
