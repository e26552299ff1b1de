"""Settings as data: a struct with a type, a default, a help text and bounds for each field.

The library reads a setting from such a struct, and the command line makes an option of it. So
each setting is described once. In help texts other settings stand in backquotes, as in errors.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from goldnas.errors import ConfigError
from goldnas.ranges import MOST_PROCESSES

_Settings = TypeVar("_Settings", bound=msgspec.Struct)

POSITIVE = "positive and finite"
NOT_NEGATIVE = "0 or more, and finite"
SHARE = "in [0, 1)"
THREADS = f"from 1 to {MOST_PROCESSES}"
WORKERS = f"from 0 to {MOST_PROCESSES}"


def setting(
    help: str,
    *,
    group: str = "",
    bounds: str = "",
    metavar: str = "",
    kind: str = "",
) -> msgspec.Meta:
    """Describe a setting.

    Args:
        help: What it is, in a sentence or two.
        group: Of settings that are shown together.
        bounds: One of the bounds of this module.
        metavar: What stands for its value in help: ``FILE``.
        kind: Of values that have a completion: ``dataset``, ``table`` and so on.
    """
    told = {"group": group, "bounds": bounds, "metavar": metavar, "kind": kind}
    return msgspec.Meta(description=help, extra=told)


def describe_fields(struct: type[msgspec.Struct]) -> Iterator[tuple[str, Any, msgspec.Meta]]:
    """Each field that is described: its name, its type, and what :func:`setting` says of it."""
    for name, hint in get_type_hints(struct, include_extras=True).items():
        if get_origin(hint) is Annotated:
            bare, meta = get_args(hint)[:2]
            yield name, bare, meta


def make_settings(struct: type[_Settings], what: str, given: Mapping[str, Any]) -> _Settings:
    """Make a struct of settings from the arguments of a call.

    Paths may be texts, tuples may be lists, and numbers may be those of NumPy.

    Args:
        struct: Of settings.
        what: Has them: ``a search``.
        given: By name.

    Raises:
        ConfigError: If there is no such setting, or one is of another type or out of its
            bounds.
    """
    names = [name for name in struct.__struct_fields__ if name != "schema_version"]
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"{what} has no setting {name!r}; {meant}it has: {', '.join(names)}"
            )
    types = {name: kind for name, kind, _ in describe_fields(struct)}
    defaults = dict(
        zip(struct.__struct_fields__[::-1], struct.__struct_defaults__[::-1], strict=False)
    )
    return struct(
        **{
            name: value
            if name not in types or (value is None and defaults.get(name, "") is None)
            else _convert(name, value, types[name])
            for name, value in given.items()
        }
    )


def _convert(name: str, value: Any, kind: Any) -> Any:
    """A value as a type has it.

    Raises:
        ConfigError: If it is of another.
    """
    kinds = (kind, *get_args(kind))
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if Path in kinds and isinstance(value, str | Path):
        return Path(value)
    if str in kinds and isinstance(value, Path):
        return str(value)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise ConfigError(f"`{name}` must be {_describe(kind)}, got {value!r}") from None


_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    Path: "a path",
}


def _describe(kind: Any) -> str:
    """What a value of a type is."""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(value) for value in get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        others = [one for one in get_args(kind) if one is not NoneType]
        return " or ".join(map(_describe, others))
    if get_origin(kind) is tuple:
        return "a list of " + ("texts" if get_args(kind)[0] is str else "whole numbers")
    if get_origin(kind) is Mapping:
        held = {str: "texts", Any: "values"}.get(get_args(kind)[1], "shapes")
        return f"a dictionary of {held}"
    return _WORDS.get(kind, "a dictionary")


def check_known(given: Iterable[str], known: Collection[str], what: str) -> None:
    """Refuse a setting that would have no effect.

    Args:
        given: Names.
        known: Those that have one.
        what: Has no use for the others: ``a bundle``.

    Raises:
        ConfigError: Naming the first.
    """
    for name in given:
        if name not in known:
            raise ConfigError(f"`{name}` does not go with {what}: leave it out")


def check_given_once(given: Mapping[str, Any]) -> None:
    """Refuse a setting of a space that is given by its name and among ``settings`` too.

    Args:
        given: What a call was given, by name.

    Raises:
        ConfigError: Naming both values.
    """
    for name, value in (given.get("settings") or {}).items():
        if given.get(name) is not None:
            told = {name: value}
            raise ConfigError(
                f"`{name}={given[name]!r}` and `settings={told}` give one setting twice; leave "
                "one of them out"
            )


def check_bounds(settings: msgspec.Struct) -> None:
    """Refuse numbers that are out of their bounds.

    Raises:
        ConfigError: Naming the setting and its value.
    """
    for name, _, meta in describe_fields(type(settings)):
        bounds, value = (meta.extra or {})["bounds"], getattr(settings, name)
        if value is None or not isinstance(value, int | float) or not bounds:
            continue
        kept = {
            POSITIVE: 0 < value < math.inf,
            NOT_NEGATIVE: 0 <= value < math.inf,
            SHARE: 0 <= value < 1,
            THREADS: 1 <= value <= MOST_PROCESSES,
            WORKERS: 0 <= value <= MOST_PROCESSES,
        }[bounds]
        if not kept:
            verb = "lie" if bounds == SHARE else "be"
            raise ConfigError(f"`{name}` must {verb} {bounds}, got {value}")
