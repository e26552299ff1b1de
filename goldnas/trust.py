"""Whose code runs: of functions that files name, ``package.module:function``.

Anybody may have written the folder of a run. A function that it names is imported only if the
user names it too, on the command line or in a program, or if the user made the folder on this
machine, and the function comes from the same file as then. A record outside the folder says so:
``$XDG_STATE_HOME/goldnas/``, or ``~/.local/state/goldnas/``, has a file for each folder whose
search or training names functions. goldnas never takes code from the folder of a run.
"""

import hashlib
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import msgspec

from goldnas.errors import ConfigError, GoldnasWarning, WriteError
from goldnas.files import write_atomic

OF_PROGRAMS = ("__main__", "builtins", "given")
"""Modules of functions, data and tasks that only the program which gave them has."""

_allowed: set[str] = set()
"""Functions that may be imported."""

_folders: set[str] = set()
"""Of runs that were opened, as real paths."""


class UntrustedError(ConfigError):
    """A file names a function, and nobody has said that its code may run."""


class MadeHere(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record of a folder that this user made on this machine."""

    folder: str
    """Its real path."""
    files: dict[str, str]
    """What its settings name, and the file that each comes from: of a function that of its
    package, see :func:`locate`."""
    schema_version: int = 1


# -- what may run ----------------------------------------------------------------------------


def allow(*functions: str) -> None:
    """Let functions be imported: the user names them, or a program does."""
    _allowed.update(functions)


def check_allowed(function: str) -> None:
    """Refuse a function that only a file names.

    Raises:
        UntrustedError: Saying which file has the code.
    """
    if function not in _allowed and _module(function) not in OF_PROGRAMS:
        raise UntrustedError(
            f"{_from(function)}: only a file names this code; to run it, name it yourself, or "
            "trust the file with `trust=True`"
        )


def admit(folder: Path, functions: Iterable[str], *, trusted: bool = False) -> None:
    """Let functions be imported that a folder names, or refuse all of them.

    Args:
        folder: Of a run.
        functions: That are needed.
        trusted: Whether the user trusts the folder, whoever made it.

    Raises:
        UntrustedError: If the user neither made the folder nor trusts it, and has not named
            one of them; it says whose code would run.
        ConfigError: If the user made the folder, and a module is not found any more.
    """
    keep_out_of(folder)
    asked = [f for f in functions if f not in _allowed and _module(f) not in OF_PROGRAMS]
    if not trusted:
        files = made_here(folder)
        refused = [_why_not(function, files) for function in asked]
        if told := "; ".join(filter(None, refused)):
            raise UntrustedError(
                f"{folder} names code that would run: {told}. If you trust it, name it "
                "yourself, or continue with `trust=True`"
            )
    allow(*asked)


def _why_not(function: str, files: Mapping[str, str]) -> str:
    """What there is to say before the code of a function runs; nothing if it may."""
    if function not in files:
        return _from(function)
    here = locate(function)
    if here is None:
        raise missing(_module(function))
    return "" if here == files[function] else f"{_from(function)}, not {files[function]}"


def _from(function: str) -> str:
    file = locate(function)
    if file is None:
        return f"{function}, of a module that is not found"
    return f"{function} from {file if os.path.isabs(file) else 'Python itself'}"


# -- where code comes from -------------------------------------------------------------------


def keep_out_of(folder: Path) -> None:
    """Never import a module from the folder of a run, or from a folder inside it."""
    _folders.add(os.path.realpath(folder))


def search_path() -> list[str]:
    """Where modules are looked for: the current folder first, and no folder of a run."""
    here = os.getcwd()
    path = sys.path if here in sys.path or "" in sys.path else [here, *sys.path]
    return [entry for entry in path if not _is_kept_out(entry or here)]


def locate(function: str) -> str | None:
    """The file that the code of a function comes from; nothing is imported to find it.

    Returns:
        The real path of its module's file; of a package's module, that of the package; of a
        package without a file, its folders. None if there is none.

    Raises:
        ConfigError: If it is in the folder of a run.
    """
    package = _module(function).partition(".")[0]
    before, sys.path[:] = sys.path[:], search_path()
    try:
        spec = find_spec(package)
        places = [] if spec is None else [*(spec.submodule_search_locations or ())]
        origin = None if spec is None else spec.origin
    except ValueError:  # a module that a program has made
        places, origin = [], getattr(sys.modules[package], "__file__", None)
    finally:
        sys.path[:] = before
    if origin is not None:
        places = [origin]
    found = [os.path.realpath(p) if os.path.isabs(p) else p for p in places]
    for place in found:
        if _is_kept_out(place):
            raise ConfigError(
                f"{place} is in the folder of a run, from which goldnas takes no code; move it "
                "to another folder"
            )
    return os.pathsep.join(found) or None


def missing(module: str) -> ConfigError:
    """The error for a module that is not found."""
    return ConfigError(
        f"there is no module {module!r} in the current folder ({os.getcwd()}), and none is "
        "installed; change to the folder of the module, or install it"
    )


def _module(function: str) -> str:
    return function.partition(":")[0]


def _is_kept_out(path: str) -> bool:
    real = os.path.realpath(path)
    return any(real == folder or real.startswith(folder + os.sep) for folder in _folders)


# -- records ---------------------------------------------------------------------------------


def record(folder: Path, functions: Iterable[str], files: Mapping[str, str]) -> None:
    """Record that the user made a folder on this machine, if the folder names code.

    Where the state folder cannot be written, a warning says so.

    Args:
        folder: Of a run.
        functions: That its settings name.
        files: Others that it names: of each name the file.
    """
    ours = [f for f in functions if _module(f) not in OF_PROGRAMS]
    named = {f: file for f in ours if (file := locate(f)) is not None} | dict(files)
    if not named:
        return
    made = MadeHere(folder=os.path.realpath(folder), files=named)
    try:
        write_atomic(_record_of(folder), msgspec.json.encode(made))
    except (WriteError, RuntimeError) as error:  # pathlib's, without a home
        warnings.warn(
            f"continuing {folder} will need `trust=True`, because goldnas cannot note whose "
            f"code the folder names: {error}",
            GoldnasWarning,
            stacklevel=2,
        )


def made_here(folder: Path) -> Mapping[str, str]:
    """What the record of a folder says that it names, and the files; nothing without one."""
    try:
        made = msgspec.json.decode(_record_of(folder).read_bytes(), type=MadeHere)
    except (OSError, RuntimeError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    same = made.folder == os.path.realpath(folder) and made.schema_version == 1
    return made.files if same else {}


def _record_of(folder: Path) -> Path:
    state = os.environ.get("XDG_STATE_HOME")
    place = Path(state) if state else Path.home() / ".local" / "state"
    digest = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()
    return place / "goldnas" / f"{digest[:32]}.json"
