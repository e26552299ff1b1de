"""Functions of a user's, by name: ``package.module:function``.

A function is code: ``goldnas/trust.py`` says which may be imported.
"""

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from goldnas import trust
from goldnas.errors import ConfigError, name_type, read_message

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


GIVEN: dict[str, Any] = {}
"""What a program gave in place of a name: data, tasks; by the name that stands for it."""

_GIVEN = "given"


def give(kind: str, value: Any, digest: str, same: Callable[[Any, Any], bool]) -> str:
    """Keep what a program gives, for as long as it runs.

    Args:
        kind: ``data`` or ``task``.
        value: To keep.
        digest: Of what is known of it, in hexadecimal digits.
        same: Whether two values of one digest are the same; each other one has its own name.

    Returns:
        The name that stands for it in settings and files.
    """
    name = own_name(f"{_GIVEN}:{kind}_{digest[:12]}", value, GIVEN, same)
    GIVEN.setdefault(name, value)
    return name


def own_name(
    name: str, value: Any, known: Mapping[str, Any], same: Callable[[Any, Any], bool]
) -> str:
    """The name, or the name with a number, that no other value has."""
    number, free = 1, name
    while free in known and not same(known[free], value):
        number += 1
        free = f"{name}_{number}"
    return free


def computes_the_same(one: Any, other: Any) -> bool:
    """Whether two functions have the same code, defaults and variables around them."""
    if one is other:
        return True
    if not (inspect.isfunction(one) and inspect.isfunction(other)):
        return False
    try:
        return bool(_made_of(one) == _made_of(other))
    except Exception:  # what is around them does not compare, or is not there yet
        return False


def _made_of(function: FunctionType) -> tuple[Any, ...]:
    around = [cell.cell_contents for cell in function.__closure__ or ()]
    return function.__code__, function.__defaults__, function.__kwdefaults__, around


def is_function(name: str) -> bool:
    """Whether a name is one of a function: ``package.module:function``."""
    return _REFERENCE.fullmatch(name) is not None


def name_items(data: str) -> str:
    """What a dataset has: images, or, where a function returns it, items of any kind."""
    return "items" if is_function(data) else "images"


def import_function(name: str, kind: str, returns: str) -> Callable[..., Any]:
    """Import a function.

    The current folder is looked in first, as ``python -m`` does.

    Args:
        name: ``package.module:function``.
        kind: What it is there for, with its article, as in ``a space``.
        returns: What a function of this kind returns, for errors.

    Raises:
        UntrustedError: If only a file names it.
        ConfigError: If there is no such module or function, or importing it fails.
    """
    module_name, _, path = name.partition(":")
    if module_name == _GIVEN:
        what = path.partition("_")[0]
        raise ConfigError(
            f"a program that has ended gave the {what} {name}. Give it again in Python: "
            f"load_run(folder, {what}=...)"
        )
    if module_name in trust.OF_PROGRAMS or "<" in path:
        what = kind.split()[-1]
        raise ConfigError(
            f"a program that has ended defined {name}. Give the {what} again in Python: "
            f"load_run(folder, {what}=...)"
        )
    if not is_function(name):
        raise ConfigError(
            f"{name!r} is not the name of a {kind.split()[-1]}: write package.module:function, "
            f"as in my_package.my_module:{kind.split()[-1]}"
        )
    trust.check_allowed(name)
    function: object = _imported(module_name)
    for attribute in path.split("."):
        if not hasattr(function, attribute):
            where = getattr(function, "__file__", None) or module_name
            raise ConfigError(f"{where} has no function {path!r}; check the spelling")
        function = getattr(function, attribute)
    if not callable(function) or isinstance(function, ModuleType):
        raise ConfigError(
            f"{name} is {name_type(function)}; {kind} is a function that returns {returns}"
        )
    return function


def call_function(name: str, kind: str, returns: str) -> Any:
    """What a function that takes nothing returns.

    Args:
        name: ``package.module:function``.
        kind: What it is there for, with its article.
        returns: What a function of this kind returns, for errors.

    Raises:
        ConfigError: If it cannot be imported, or fails.
    """
    if name in GIVEN:
        return GIVEN[name]
    function = import_function(name, kind, returns)
    try:
        return function()
    except Exception as error:
        raise ConfigError(f"{name} fails: {explain_error(error, function)}") from error


def _imported(module_name: str) -> ModuleType:
    trust.locate(module_name)  # which refuses one in the folder of a run
    sys.path[:] = trust.search_path()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{module_name} cannot be imported: {read_message(error)} ({_locate(error)})"
            ) from error
        raise trust.missing(error.name) from None
    except Exception as error:
        raise ConfigError(
            f"{module_name} cannot be imported: {explain_error(error)}"
        ) from error


def describe_error(error: BaseException) -> str:
    """What an error of somebody's code says, in one line."""
    if isinstance(error, ConfigError):
        return " ".join(str(error).split())
    kind, text = type(error).__name__, read_message(error)
    return kind if text == kind else f"{kind}: {text}"


def explain_error(error: BaseException, function: object = None) -> str:
    """What an error of somebody's code says, and the line that it comes from.

    Args:
        error: With its traceback.
        function: That was called: of the lines of its file the last one is told, if there is
            any in the traceback.
    """
    # As tracebacks name it; a function that is not written in Python has none.
    code = getattr(inspect.unwrap(function), "__code__", None)  # type: ignore[arg-type]
    return f"{describe_error(error)} ({_locate(error, code and code.co_filename)})"


def _locate(error: BaseException, file: str | None = None) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    within = [frame for frame in frames if frame.filename == file] or frames
    return f"{within[-1].filename}, line {within[-1].lineno}"
