"""The folder of a search: everything needed to read, repeat and continue it.

::

    config.json                     settings, as they were given
    conditions.json                 versions, device, threads
    tables/<name>.json              the latency tables
    events.jsonl                    append-only log
    checkpoint.pt                   the state of the search to go on from
    architectures/<fingerprint>.json
    weights/<fingerprint>.pt
    front.json                      the recorded networks

Every file but the log is replaced in one step; a line of the log is written in one call.
"""

import io
import json
import os
import shlex
import shutil
import time
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from torch import Tensor

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError, RunError, TableError, WriteError
from goldnas.files import write_atomic
from goldnas.lut import LatencyTable
from goldnas.network import CellNetwork
from goldnas.resources import Budget, parse_budget
from goldnas.search.config import SearchConfig
from goldnas.search.front import Front, FrontNetwork
from goldnas.spaces import space_of

_Form = TypeVar("_Form")
_RESTORE = "restore it from a copy, or search again with another --out"


class SearchRun:
    """One search on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls,
        path: Path,
        config: SearchConfig,
        conditions: dict[str, Any],
        tables: list[LatencyTable],
    ) -> "SearchRun":
        """Make the folder, complete, in one step.

        Raises:
            RunError: If something is there already.
            WriteError: If the disk refuses; then there is no folder.
        """
        cls.check_free(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        run = cls(temporary)
        try:
            run._write_json("config.json", msgspec.json.encode(config))
            run._write_json("conditions.json", msgspec.json.encode(conditions))
            for table in tables:
                table.save(temporary / "tables" / f"{table.name}.json")
            if path.exists():
                path.rmdir()
            temporary.rename(path)
        except WriteError as error:
            raise WriteError(str(error).replace(str(temporary), str(path))) from None
        except OSError as error:
            raise WriteError(
                f"cannot make {path}: {error.strerror}; choose another --out"
            ) from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return cls(path)

    @staticmethod
    def check_free(path: Path) -> None:
        """Refuse a place that is taken.

        Raises:
            RunError: If something is there already.
        """
        if not path.name:
            raise RunError(f"{path} is no name for a new folder; choose --out runs/a, say")
        try:
            free = not os.listdir(path)
        except OSError:
            free = not os.path.lexists(path)
        if not free:
            raise RunError(
                f"{path} exists: continue that search with goldnas search --resume "
                f"{shlex.quote(str(path))}, or choose another --out"
            )

    @classmethod
    def open(cls, path: Path) -> "SearchRun":
        """Open the folder of a search.

        Raises:
            RunError: If ``path`` is not the folder of a search.
        """
        run = cls(path)
        if not os.path.isfile(path / "config.json"):
            raise RunError(
                f"{path} is not the folder of a search: it has no config.json. "
                "Give the --out of a goldnas search"
            )
        return run

    @cached_property
    def config(self) -> SearchConfig:
        """The settings.

        Raises:
            RunError: If the file is damaged.
        """
        return self._read_json("config.json", SearchConfig)

    @cached_property
    def conditions(self) -> dict[str, Any]:
        """What the search ran on: versions, device, threads.

        Raises:
            RunError: If the file is damaged.
        """
        return self._read_json("conditions.json", dict[str, Any])

    @cached_property
    def tables(self) -> list[LatencyTable]:
        """The latency tables of the search.

        Raises:
            RunError: If a file is damaged.
        """
        return [
            self._table(self.path / "tables" / f"{name}.json") for name in self.config.tables
        ]

    def _table(self, path: Path) -> LatencyTable:
        try:
            return LatencyTable.load(path)
        except TableError:
            # Its advice is to measure again, which would change the search half-way.
            raise RunError(
                f"cannot read {path}, this search's copy of its latency table: copy that table "
                f"there again (goldnas lut show {shlex.quote(str(path))} says what is wrong)"
            ) from None

    def read(self) -> "SearchRun":
        """Read what the folder says of the search, once and for all.

        Raises:
            RunError: If a file is damaged.
        """
        _ = self.config, self.conditions, self.tables
        return self

    @cached_property
    def budgets(self) -> list[Budget]:
        """The budgets of the search."""
        return [parse_budget(text, self.config.tables) for text in self.config.budgets]

    # -- the log -----------------------------------------------------------------------------

    def log(self, event: str, **fields: Any) -> None:
        """Append one line to the log.

        Raises:
            WriteError: If the disk refuses.
        """
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}) + "\n"
        path = self.path / "events.jsonl"
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

    def events(self) -> list[dict[str, Any]]:
        """Every whole line of the log; after a resumption some epochs appear twice.

        Raises:
            RunError: If one is damaged.
        """
        path = self.path / "events.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        events = []
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            try:
                events.append(json.loads(line))
            except ValueError:
                raise RunError(
                    f"{path}: line {number} is not JSON; delete it, no search reads it"
                ) from None
        return events

    # -- networks ----------------------------------------------------------------------------

    @property
    def has_front(self) -> bool:
        """Whether networks were recorded, and not removed since."""
        return (self.path / "front.json").exists()

    def front(self) -> Front:
        """The recorded networks.

        Raises:
            RunError: If there are none yet, or the file is damaged.
        """
        if not self.has_front:
            raise RunError(
                f"{self.path} has no network yet: go on with goldnas search --resume "
                f"{shlex.quote(str(self.path))}"
            )
        return self._read_json("front.json", Front)

    def save_front(self, front: Front) -> None:
        """Replace the list of recorded networks."""
        self._write_json("front.json", msgspec.json.encode(front))

    def save_network(self, architecture: Architecture, weights: dict[str, Tensor]) -> None:
        """Keep an architecture and its weights."""
        name = architecture.fingerprint
        write_atomic(self.path / "weights" / f"{name}.pt", _serialised(weights))
        architecture.save(self.path / "architectures" / f"{name}.json")

    def architecture(self, network: FrontNetwork) -> Architecture:
        """The architecture of a recorded network."""
        return Architecture.load(self.path / "architectures" / f"{network.fingerprint}.json")

    def network(self, network: FrontNetwork) -> CellNetwork:
        """A recorded network with its weights and gates, in evaluation mode.

        Raises:
            RunError: If its files are missing or damaged.
        """
        architecture = self.architecture(network)
        path = self.path / "weights" / f"{network.fingerprint}.pt"
        module = space_of(architecture).build(architecture, gated=True)
        try:
            module.load_state_dict(_read_tensors(path, _RESTORE))
        except RuntimeError as error:
            raise RunError(
                f"{path} does not fit its architecture: {error}; {_RESTORE}"
            ) from None
        return module.eval()

    # -- checkpoints -------------------------------------------------------------------------

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the state to continue from."""
        write_atomic(self.path / "checkpoint.pt", _serialised(state))

    def checkpoint(self) -> dict[str, Any] | None:
        """The state to continue from, or None before the first was saved.

        Raises:
            RunError: If the file is damaged.
        """
        path = self.path / "checkpoint.pt"
        if not path.exists():
            return None
        return _read_tensors(
            path, "delete it, and the search starts again from its first epoch"
        )

    def clear_leftovers(self) -> None:
        """Remove what a killed process left half-written."""
        for leftover in self.path.rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)

    def _read_json(self, name: str, form: type[_Form]) -> _Form:
        path = self.path / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=form)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RunError(f"cannot read {path}: {error}; {_RESTORE}") from None

    def _write_json(self, name: str, compact: bytes) -> None:
        write_atomic(self.path / name, msgspec.json.format(compact, indent=2) + b"\n")


class Spectator(SearchRun):
    """The folder for the ranks that do not write it: what was read of it, and no more.

    Args:
        run: As the first rank read it.
    """

    def __init__(self, run: SearchRun) -> None:
        super().__init__(run.path)
        vars(self).update(vars(run))

    def log(self, event: str, **fields: Any) -> None:
        """Leave it to the first rank."""

    def save_front(self, front: Front) -> None:
        """Leave it to the first rank."""

    def save_network(self, architecture: Architecture, weights: dict[str, Tensor]) -> None:
        """Leave it to the first rank."""

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Leave it to the first rank."""


def _serialised(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _read_tensors(path: Path, next_step: str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything
        # Not torch's own words, which advise to load the file unsafely.
        reason = error.strerror if isinstance(error, OSError) else "the file is damaged"
        raise RunError(f"cannot read {path}: {reason}; {next_step}") from None
    return state


def read_tables(paths: list[Path]) -> list[LatencyTable]:
    """Read latency tables for a search, each with a name of its own.

    Raises:
        TableError: If one cannot be read.
        ConfigError: If two have the same name.
    """
    tables = [LatencyTable.load(path) for path in paths]
    names = [table.name for table in tables]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"two latency tables are named {name!r}; budgets name tables by their file, "
                "so give one file another name"
            )
    return tables
