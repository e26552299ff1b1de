"""The folder of a search or a training: its log, its JSON files, its tensors.

Every file but the log is replaced in one step; a line of the log is written in one call. Who
works in it holds its lock; who reads needs none.
"""

import errno
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

import msgspec

from goldnas import trust
from goldnas.architecture import Architecture
from goldnas.bounded import open_regular
from goldnas.errors import BusyError, ConfigError, RunError, WriteError, read_message
from goldnas.files import (
    explain_refusal,
    list_temporaries,
    name_temporary,
    remove_leftovers,
    write_atomic,
)
from goldnas.locks import Lock
from goldnas.log_records import RECORDS, Line
from goldnas.ranges import MOST_PROCESSES, check_resources
from goldnas.reference import is_function

if TYPE_CHECKING:
    from torch import nn

MOST_JSON_BYTES = 8 * 2**20
"""Of a file; those of the largest searches have a tenth."""

MOST_LOG_BYTES = 256 * 2**20
"""Half a million lines."""

_Form = TypeVar("_Form")
_Module = TypeVar("_Module", bound="nn.Module")


EARLIER_NAMES = {
    "pictures": "images",
    "pictures_at_once": "images_at_once",
    "pressure": "penalty_weight",
    "samples": "networks",
}
"""What fields of logs, settings and results were called before, and are called now."""


def is_training(path: Path) -> bool:
    """Whether a folder is of a training; that of a search has no one architecture."""
    return os.path.lexists(path / "architecture.json")


def read_json(path: Path, form: type[_Form], next_step: str) -> _Form:
    """Read a file that goldnas wrote.

    Args:
        path: Of the file.
        form: Its form, of schema version 1.
        next_step: What to do about a damaged file.

    Raises:
        RunError: If it is missing or damaged, or a later goldnas wrote it.
    """
    try:
        content = msgspec.json.decode(_read(path, MOST_JSON_BYTES))
        version = content.get("schema_version") if isinstance(content, dict) else None
        version = version if type(version) is int else 1
        if version > 1:
            raise RunError(
                f"{path} has schema version {version}, and this goldnas reads version 1. "
                f"Upgrade goldnas{_of_writer(path, ' to {} or later, which wrote it')}"
            )
        if version < 1:
            raise RunError(
                f"{path} has schema version {version}, which this goldnas does not read any "
                "more: it reads version 1. Use the goldnas that wrote "
                f"it{_of_writer(path, ', {}')}"
            )
        return msgspec.convert(_renamed(content), form)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"cannot read {path}: {_reason(error)}; {next_step}") from None


def _read(path: Path, most_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        OSError: If it cannot be read, is of another kind, or is larger.
    """
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it has more than {most_bytes // 2**20} MiB")
    return content


def _renamed(content: Any) -> Any:
    """A JSON object with the names of today."""
    if not isinstance(content, dict) or EARLIER_NAMES.keys().isdisjoint(content):
        return content
    return {EARLIER_NAMES.get(name, name): value for name, value in content.items()}


def _reason(error: Exception) -> str:
    """Why a file cannot be read, in one line."""
    if isinstance(error, OSError):
        return error.strerror or read_message(error)
    return read_message(error)


def _of_writer(path: Path, text: str) -> str:
    """A text with the version of the goldnas that wrote a file; empty where it is not known."""
    for folder in (path.parent, path.parent.parent):
        try:
            content = msgspec.json.decode(_read(folder / "conditions.json", MOST_JSON_BYTES))
            version = msgspec.convert(content, _Writer).goldnas
        except (OSError, ValueError, RecursionError):
            continue
        return text.format(version)
    return ""


class _Writer(msgspec.Struct):
    """What ``conditions.json`` says of who wrote a folder."""

    goldnas: Annotated[str, msgspec.Meta(max_length=100)]


class RunFolder:
    """What the folders of searches and of trainings have in common."""

    kind = "run"
    """What is recorded."""

    again = "start again"
    """What to do about one that cannot go on."""

    restore = "restore it from a copy"
    """What to do about a damaged file."""

    trusted = False
    """Whether the user trusts the code that it names, whoever made it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock(path / ".lock", path)

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock, which stays with the process that holds it."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock(state["path"] / ".lock", state["path"]))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    @classmethod
    def make(
        cls, path: Path, fill: Callable[[Self], None], texts: Mapping[str, str] | None = None
    ) -> Self:
        """Make the folder, complete, in one step; this process holds its lock then.

        Args:
            path: Where there is nothing yet, or an empty folder.
            fill: Writes the files that it begins with.
            texts: Other files that it begins with, by name.

        Raises:
            BusyError: If another process has made the folder meanwhile.
            WriteError: If the disk refuses; then there is no folder.
        """
        temporary = name_temporary(path)
        remove_leftovers(list_temporaries(path))
        new = cls(temporary)
        try:
            temporary.mkdir(parents=True)
            new.take_lock()
            fill(new)
            for name, text in (texts or {}).items():
                new._write(name, text.encode())
            if path.exists():
                path.rmdir()
            temporary.rename(path)
        except BaseException as error:
            new.release()
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, WriteError):
                raise WriteError(str(error).replace(str(temporary), str(path))) from None
            if not isinstance(error, OSError):
                raise
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise BusyError(
                    f"{path} has just been made by {cls(path)._lock.describe_holder()}; choose "
                    "another `out`"
                ) from None
            raise WriteError(
                f"cannot make {path}: {explain_refusal(error)}; choose another `out`"
            ) from None
        new.path = path
        new._lock.path, new._lock.what = path / ".lock", path
        return new

    def remove(self) -> None:
        """Remove the folder, which is new: what it was made for cannot begin."""
        self.release()
        shutil.rmtree(self.path, ignore_errors=True)

    def take_lock(self) -> str:
        """Take the lock of the folder, if it is free; else return who holds it.

        Half-written files of a killed process are removed.

        Raises:
            WriteError: If the disk refuses.
        """
        if not self._lock.take():
            return self._lock.describe_holder()
        remove_leftovers(self.path.rglob(".*.tmp"))
        return ""

    def release(self) -> None:
        """Let others write here."""
        self._lock.release()

    def sweep(self) -> None:
        """Remove the half-written files of a killed process from a finished run."""
        if self._lock.path.exists():
            with suppress(WriteError):  # of somebody else's folder: it may stay
                self.take_lock()
                self.release()

    @property
    def saved(self) -> str:
        """A message that the run is saved."""
        return f"saved in {self.path}"

    @cached_property
    def conditions(self) -> dict[str, Any]:
        """What it ran on: versions, device, threads.

        Raises:
            RunError: If the file is damaged.
        """
        return self._read_json("conditions.json", dict[str, Any])

    def choose_threads(self, ranks: int) -> int | None:
        """Threads to continue with: as many as before; None if the number of ranks differs.

        Raises:
            RunError: If the conditions do not say how many there were.
        """
        if self.conditions.get("ranks", 1) != ranks:
            return None
        threads = self.conditions.get("threads")
        if type(threads) is not int or not 1 <= threads <= MOST_PROCESSES:
            raise RunError(
                f"{self.path}/conditions.json does not have the threads of the {self.kind}, a "
                f"number from 1 to {MOST_PROCESSES}; {self.restore}"
            )
        return threads

    # -- the code that it names --------------------------------------------------------------

    config: Any
    """The settings."""

    @property
    def space(self) -> str:
        """The name of the space."""
        raise NotImplementedError

    def named(self) -> dict[str, Iterable[str]]:
        """What may be the name of a function, by setting: ``space``, ``data`` and so on."""
        config = self.config
        return {
            "space": [self.space],
            "data": [config.data],
            "task": [config.task or ""],
            "loggers": config.loggers,
        }

    def functions(self, *settings: str) -> list[str]:
        """Functions that it names: by these settings, or by any."""
        named = self.named()
        found = (name for setting in settings or named for name in named[setting])
        return [*filter(is_function, found)]

    def admit(self, *settings: str) -> None:
        """Let the code run that the folder names.

        Args:
            settings: ``space``, ``data``, ``task``, ``loggers``: those that are needed; all
                unless given.

        Raises:
            UntrustedError: If the folder may be somebody else's; see ``goldnas/trust.py``.
            RunError: If a file is damaged.
        """
        trust.admit(self.path, self.functions(*settings), trusted=self.trusted)

    # -- the log -----------------------------------------------------------------------------

    def log(self, event: str, **fields: Any) -> None:
        """Append one line to the log.

        Raises:
            WriteError: If the disk refuses.
        """
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}) + "\n"
        path = self.path / "events.jsonl"
        self._check_in_place()
        try:
            with path.open("r+b" if path.exists() else "w+b") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 1))
                if end and file.read(1) != b"\n":
                    # A disk that was full has cut the last line short: drop what is there.
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
                    file.seek(0, os.SEEK_END)
                file.write(line.encode())
        except OSError as error:
            raise WriteError(
                f"cannot write {path}: {error.strerror}. Make room, or choose another place"
            ) from None

    def read_events(self) -> list[dict[str, Any]]:
        """Every whole line of the log; after a resumption some epochs appear twice.

        Raises:
            RunError: If one is damaged, or the file cannot be read.
        """
        path = self.path / "events.jsonl"
        try:
            content = _read(path, MOST_LOG_BYTES) if os.path.lexists(path) else b""
        except OSError as error:
            raise RunError(f"cannot read {path}: {_reason(error)}; {self.restore}") from None
        lines = content.splitlines(keepends=True)
        del content
        events, known = [], set[str]()
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            try:
                event = _renamed(msgspec.json.decode(line))
                msgspec.convert(event, RECORDS.get(event["event"], Line))
                if not known.issuperset(names := event.get("resources") or {}):
                    check_resources(names)  # of each name once: there are few
                    known |= names.keys()
                events.append(event)
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                known_reason = isinstance(error, ValueError | RecursionError)
                reason = read_message(error) if known_reason else "it has no event"
                raise RunError(
                    f"{path}: line {number} does not belong to this log ({reason}); delete the "
                    "file, which is not needed to continue"
                ) from None
        return events

    # -- checkpoints -------------------------------------------------------------------------

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the state to continue from."""
        self._write_tensors("checkpoint.pt", state)

    def read_checkpoint(self, most_bytes: int = 2**40) -> dict[str, Any] | None:
        """The state to continue from, or None before the first was saved.

        Args:
            most_bytes: That the file may have.

        Raises:
            RunError: If the file is damaged.
        """
        if not os.path.lexists(self.path / "checkpoint.pt"):
            return None
        next_step = f"delete it, and the {self.kind} starts again from its first epoch"
        state = self._read_tensors("checkpoint.pt", next_step, most_bytes)
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise RunError(
                f"cannot read {self.path / 'checkpoint.pt'}: it has other content; {next_step}"
            )
        return {"strategy": {}, **state}  # which earlier trainings did not have

    # -- files -------------------------------------------------------------------------------

    def _read_json(self, name: str, form: type[_Form]) -> _Form:
        return read_json(self.path / name, form, self.restore)

    def _architecture(self, name: str) -> Architecture:
        path = self.path / name
        try:
            return Architecture.from_json(_read(path, MOST_JSON_BYTES))
        except (OSError, ConfigError) as error:
            raise RunError(f"cannot read {path}: {_reason(error)}; {self.restore}") from None

    def _write_json(self, name: str, content: Any) -> None:
        compact = msgspec.json.encode(content)
        self._write(name, msgspec.json.format(compact, indent=2) + b"\n")

    def _write_architecture(self, name: str, architecture: Architecture) -> None:
        self._write(name, msgspec.json.format(architecture.to_json()) + b"\n")

    def _write(self, name: str, content: bytes) -> None:
        """Replace a file, in this folder and no other.

        Raises:
            RunError: If the folder was removed, or another one put in its place.
            WriteError: If the disk refuses.
        """
        self._check_in_place()
        path = self.path / name
        if path.parent != self.path:
            with suppress(OSError):  # then the file cannot be written either
                path.parent.mkdir(exist_ok=True)
        write_atomic(path, content, make_folders=False)

    def _check_in_place(self) -> None:
        if not self._lock.is_in_place():
            raise RunError(
                f"{self.path} was removed or moved while the {self.kind} ran; everything since "
                "the last save is lost. If the folder was moved, continue in its new place; "
                f"else {self.again}"
            )

    def _read_tensors(self, name: str, next_step: str, most_bytes: int) -> Any:
        from goldnas.tensor_file import read_tensors

        path = self.path / name
        try:
            return read_tensors(path, most_bytes)
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {path}: {_reason(error)}; {next_step}") from None

    def _with_weights(self, module: _Module, name: str) -> _Module:
        """A module of the run with its weights, in evaluation mode."""
        from goldnas.tensor_file import check_like, load_state

        own = module.state_dict()
        # Beside the numbers there are the names, and gaps, of each tensor.
        most_bytes = sum(2 * t.nbytes + 4096 for t in own.values()) + 2**20
        state = self._read_tensors(name, self.restore, most_bytes)
        try:
            check_like(state, own)
            load_state(module, state)
        except (RuntimeError, TypeError, AttributeError, ValueError) as error:
            # Of torch's lines the first names a class alone; the others may be very long.
            lines = str(error).splitlines()
            reason = shorten(read_message(RuntimeError(" ".join(lines[1:2] or lines))), 200)
            raise RunError(
                f"{self.path / name} does not fit its architecture: {reason}; {self.restore}"
            ) from None
        return module.eval()

    def _write_tensors(self, name: str, state: dict[str, Any]) -> None:
        import torch

        buffer = io.BytesIO()
        torch.save(state, buffer)
        self._write(name, buffer.getvalue())
