"""Functions that are spaces, by name: ``package.module:function``.

A function is code. It is imported where someone names it, on the command line or in the
settings of a search of theirs; a file that names one, an architecture or a table, never gets
it imported.
"""

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable
from types import ModuleType

from torch import nn

from goldnas.errors import ConfigError

SpaceFunction = Callable[..., nn.Module]

FUNCTIONS: dict[str, SpaceFunction] = {}
"""Those that someone has named."""

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_reference(name: str) -> bool:
    """Whether a name of a space is that of a function."""
    return ":" in name


def import_space(name: str) -> None:
    """Import the function that a name stands for; nothing, if it is another kind of name.

    The folder of the command is looked in first, as ``python -m`` does.

    Raises:
        ConfigError: If there is no such module or function, or importing it fails.
    """
    if name in FUNCTIONS or not is_reference(name):
        return
    if not _REFERENCE.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no space: write package.module:function, as in "
            "my_package.spaces:small"
        )
    module_name, _, path = name.partition(":")
    function: object = _imported(module_name)
    for attribute in path.split("."):
        if not hasattr(function, attribute):
            where = getattr(function, "__file__", None) or module_name
            raise ConfigError(f"{where} has no function {path!r}; look how it is spelt there")
        function = getattr(function, attribute)
    if not callable(function) or isinstance(function, ModuleType):
        raise ConfigError(
            f"{name} is a {type(function).__name__}; a space is a function that returns a "
            "module"
        )
    FUNCTIONS[name] = function


def _imported(module_name: str) -> ModuleType:
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{module_name} cannot be imported: {error} ({where(error)})"
            ) from error
        raise ConfigError(
            f"there is no module {error.name!r} in {folder}, nor is one installed; run the "
            "command in the folder that it is in, or install it"
        ) from None
    except Exception as error:
        raise ConfigError(
            f"{module_name} cannot be imported: {described(error)} ({where(error)})"
        ) from error


def described(error: Exception) -> str:
    """What an error of somebody's code says, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, ConfigError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def where(error: BaseException, file: str | None = None) -> str:
    """The line that an error comes from: the last one in a file, if it is in the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    within = [frame for frame in frames if frame.filename == file] or frames
    return f"{within[-1].filename}, line {within[-1].lineno}"
