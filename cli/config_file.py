"""Options of commands in TOML files: read for ``--config``, written for ``--save-config``.

A file has a table for each command, named as it is typed::

    [search]
    budget = ["600MFLOPs", "5ms"]
    epochs = 100

    [lut.check]
    networks = 40

Options stand under their long names, arguments under the names that ``--help`` shows.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from goldnas import trust
from goldnas.bounded import read_bounded
from goldnas.errors import ConfigError, read_message
from goldnas.files import write_atomic
from goldnas.reference import is_function

EARLIER_NAMES = {
    ("profile", "calibrate"): "networks",
    ("profile", "samples"): "networks",
    ("search", "samples"): "networks",
}
"""Options by the command and the name that they had, which still works."""

_SAVED = "# Written by --save-config, which keeps no comments of yours.\n\n"
"""The beginning of a file by which it is known."""

_SHARED = ("config", "save_config")
_TYPED = ("trust",)
"""Options that no file can give."""
_CODE = ("space", "space_", "data", "task", "loggers")
"""Parameters that may name functions."""
_PROGRAMS = ("python", "perf_test", "ray")
"""Parameters that name what runs code, or sends some."""
_MOST_BYTES = 2**20
_KINDS = {bool: "true or false", dict: "a table", list: "a list"}


@dataclass(frozen=True)
class Setting:
    """One option or argument, as a file gives it."""

    place: str
    """For people: the file, the table, the key, the value."""
    words: tuple[str, ...]
    """What could be typed instead."""
    positional: bool


def read(path: Path, ctx: Any) -> dict[str, Setting]:
    """The settings that a file has for a command, by the names of the parameters.

    Default values are left out: they count as not given.

    Args:
        path: Of the file.
        ctx: Of the command, which is being parsed.

    Raises:
        ConfigError: If the file cannot be read, or says what the command does not know.
    """
    names = _names(ctx)
    head = f"[{'.'.join(names)}]"
    content = _load(path, head)
    _check_tables(path, content, ctx.find_root().command.commands)
    table: Any = content
    for name in names:
        table = table.get(name)
        if table is None:
            listed = ", ".join(f"[{name}]" for name in _tables(content)) or "nothing"
            raise ConfigError(
                f"{path} has no options for this command: it has {listed}. Put the options "
                f"below a line {head}"
            )
    known = {_key(parameter): parameter for parameter in parameters(ctx)}
    keys = [_key_today(names, written) for written in table]
    given: dict[str, Setting] = {}
    for key, (written, value) in zip(keys, table.items(), strict=True):
        if key not in known:
            raise ConfigError(
                f"{path}: {head} has no option {written!r}; the nearest is "
                f"{_nearest(key, known)!r}. {_command(names)} --help lists all"
            )
        parameter = known[key]
        if keys.count(key) > 1:
            raise ConfigError(f"{path}: {head} has {key!r} twice; take one of them out")
        place = f"{path}: {written} = {_shown(value)} of {head}"
        if not _is_default(parameter, value):
            positional = parameter.param_type_name == "argument"
            words = _words(parameter, value, place)
            given[parameter.name] = Setting(place, words, positional)
    return given


def admit(path: Path, given: Mapping[str, Setting], *, trusted: bool) -> None:
    """Refuse functions and programs that the file of somebody else's run names.

    Args:
        path: The file. One that lies in no run's folder is the user's own command.
        given: What it says.
        trusted: Whether the user trusts it, whoever wrote it.

    Raises:
        UntrustedError: Saying whose code would run.
    """
    if os.path.lexists(path.parent / "config.json"):
        for name in () if trusted else _PROGRAMS:
            if name in given and given[name].words != ("--ray=local",):
                raise trust.UntrustedError(
                    f"{given[name].place}: this option runs code, and the file is in the "
                    "folder of a run; if you trust it, type the option yourself"
                )
        words = (word for name in _CODE if name in given for word in given[name].words)
        functions = filter(is_function, (word.partition("=")[2] for word in words))
        trust.admit(path.parent, functions, trusted=trusted)


def joined(settings: Iterable[Setting], typed: list[str]) -> list[str]:
    """A command line of what files say and what was typed."""
    settings = list(settings)
    options = [word for s in settings if not s.positional for word in s.words]
    arguments = [word for s in settings if s.positional for word in s.words]
    mark = ["--"] if arguments and "--" not in typed else []
    return [*options, *typed, *mark, *arguments]


def effective(ctx: Any) -> str:
    """The options of a command as such a file: typed, from a file, or defaults.

    Options without a value, flags that are off, and passwords in URLs are left out.
    """
    import tomli_w

    names = _names(ctx)
    note = f"# {_command(names)} --config options.toml uses these options again.\n\n"
    return note + tomli_w.dumps(_nested(names, _values(ctx)))


def save(path: Path, ctx: Any) -> None:
    """Write the options of a command to a file, and keep the options of other commands.

    Raises:
        ConfigError: If the file is there and was not made here, so that it may have comments.
        WriteError: If the disk refuses.
    """
    import tomli_w

    names = _names(ctx)
    content = _load(path, f"[{'.'.join(names)}]") if path.exists() else {}
    if path.exists() and not read_bounded(path, _MOST_BYTES).startswith(_SAVED.encode()):
        raise ConfigError(
            f"--save-config {path} exists, and --save-config did not write it: its comments "
            "would be lost. Name another file"
        )
    _check_tables(path, content, ctx.find_root().command.commands)
    table = content
    for name in names[:-1]:
        table = table.setdefault(name, {})
    table[names[-1]] = _values(ctx)
    write_atomic(path, _SAVED + tomli_w.dumps(content))


def parameters(ctx: Any) -> list[Any]:
    """The options and arguments of a command that files can give."""
    apart = (*_SHARED, *_TYPED)
    return [parameter for parameter in ctx.command.params if parameter.name not in apart]


def _names(ctx: Any) -> list[str]:
    """The words of a command: ``["lut", "check"]``."""
    return [] if ctx.parent is None else [*_names(ctx.parent), ctx.info_name]


def _command(names: Iterable[str]) -> str:
    return " ".join(("goldnas", *names))


def _key_today(names: list[str], written: str) -> str:
    """What an option of a file is called, however it was called when that was written."""
    key = written.replace("_", "-")
    return EARLIER_NAMES.get((".".join(names), key), key)


def rename_earlier(command: str, words: Iterable[str]) -> list[str]:
    """A typed line with the names that options have today."""
    renamed = []
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        today = EARLIER_NAMES.get((command, name)) if word.startswith("--") else None
        renamed.append(word if today is None else f"--{today}{equals}{value}")
    return renamed


def _key(parameter: Any) -> str:
    """Its name in a file: ``latency-lut``."""
    if parameter.param_type_name == "argument":
        return str(parameter.name).replace("_", "-")
    return str(max(parameter.opts, key=len)).lstrip("-")


def _load(path: Path, head: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(read_bounded(path, _MOST_BYTES).decode())
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}. --config takes a TOML file with a table "
            f"{head}"
        ) from None
    except (ValueError, RecursionError) as error:  # of numbers of thousands of digits, too
        raise ConfigError(f"{path} is not a TOML file: {read_message(error)}") from None


def _check_tables(path: Path, content: dict[str, Any], commands: Mapping[str, Any]) -> None:
    """Refuse what is not below the name of a command: it would be without effect."""
    for name, table in content.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"{path}: {name} = {_shown(table)} is not in the table of a command; put it "
                "below a line like [search]"
            )
        if name not in commands:
            raise ConfigError(
                f"{path}: there is no command for the table {name!r}; the nearest is "
                f"{_nearest(name, commands)!r}"
            )
        if below := getattr(commands[name], "commands", None):
            _check_tables(path, table, below)


def _tables(content: dict[str, Any]) -> list[str]:
    """The names of the commands that a file has a table of."""
    names = []
    for name, table in content.items():
        below = _tables({key: value for key, value in table.items() if isinstance(value, dict)})
        names += [f"{name}.{one}" for one in below] or [name]
    return names


def _nearest(name: str, known: Iterable[str]) -> str:
    return difflib.get_close_matches(name[:100], list(known), n=1, cutoff=0.0)[0]


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value!r:.200}"


def _is_default(parameter: Any, value: Any) -> bool:
    default = parameter.default
    if isinstance(value, bool) or isinstance(default, bool):
        return value is default
    return value == default or str(value) == str(default)


def _words(parameter: Any, value: Any, place: str) -> tuple[str, ...]:
    """What could be typed for a value.

    Raises:
        ConfigError: If it is of another kind than the option takes.
    """
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise ConfigError(f"{place}: the option takes true or false")
        names = parameter.opts if value else parameter.secondary_opts
        return tuple(names[:1])
    several = parameter.multiple or parameter.nargs == -1
    values = value if several and isinstance(value, list) else [value]
    for one in values:
        if not isinstance(one, str | int | float) or isinstance(one, bool):
            kind = next((word for kind, word in _KINDS.items() if isinstance(one, kind)), "")
            takes = "a list of texts or numbers" if several else "one text or number"
            raise ConfigError(
                f"{place}: the option takes {takes}, not {kind or type(one).__name__}"
            )
        if "\0" in str(one):  # nor could it be typed
            raise ConfigError(f"{place}: a text cannot have a zero byte; take it out")
    if parameter.param_type_name == "argument":
        return tuple(map(str, values))
    return tuple(f"--{_key(parameter)}={one}" for one in values)


def _values(ctx: Any) -> dict[str, Any]:
    values = {}
    for parameter in parameters(ctx):
        value = ctx.params.get(parameter.name)
        off = value is False and not parameter.secondary_opts
        if value is not None and value != () and value != [] and not off:
            values[_key(parameter)] = _plain(value)
    return values


def _plain(value: Any) -> Any:
    """A value as TOML has it."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, bool | int | float) else _without_password(str(value))


def _without_password(text: str) -> str:
    try:
        password = urlsplit(text).password if "://" in text else None
    except ValueError:  # no URL after all
        password = None
    return text if password is None else text.replace(f":{password}@", "@", 1)


def _nested(names: list[str], values: dict[str, Any]) -> dict[str, Any]:
    for name in reversed(names):
        values = {name: values}
    return values
