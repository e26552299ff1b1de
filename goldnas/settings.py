"""Settings as data: a struct with a type, a default, a help text and bounds for each field.

The library reads a setting from such a struct, and the command line makes an option of it. So
each setting is described once. In help texts other settings stand in backquotes, as in errors.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from goldnas.errors import ConfigError

_Settings = TypeVar("_Settings", bound=msgspec.Struct)

POSITIVE = "positive and finite"
NOT_NEGATIVE = "0 or more, and finite"
SHARE = "in [0, 1)"


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
    """Make a struct of what a call was given; paths may be texts, and tuples lists.

    Args:
        struct: Of settings.
        what: Has them: ``a search``.
        given: By name.

    Raises:
        ConfigError: If there is no such setting, or one is out of its bounds.
    """
    names = [name for name in struct.__struct_fields__ if name != "schema_version"]
    for name in given:
        if name not in names:
            raise ConfigError(f"{what} has no setting {name!r}; it has: {', '.join(names)}")
    types = {name: (kind, *get_args(kind)) for name, kind, _ in describe_fields(struct)}
    return struct(**{name: _suited(types.get(name, ()), v) for name, v in given.items()})


def _suited(types: tuple[Any, ...], value: Any) -> Any:
    if isinstance(value, str) and Path in types:
        return Path(value)
    if isinstance(value, list) and any(get_origin(kind) is tuple for kind in types):
        return tuple(value)
    return value


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
        }[bounds]
        if not kept:
            verb = "lie" if bounds == SHARE else "be"
            raise ConfigError(f"`{name}` must {verb} {bounds}, got {value}")
