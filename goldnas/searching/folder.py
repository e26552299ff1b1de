"""The folder of a search: everything needed to read, repeat and continue it.

::

    config.json                     settings, as they were given
    conditions.json                 versions, device, threads, where the tables came from
    tables/<name>.json              the latency tables
    events.jsonl                    append-only log
    checkpoint.pt                   the state of the search to go on from
    architectures/<fingerprint>.json
    weights/<fingerprint>.pt
    weights/whole.pt                of the network that is shrunk, if one is
    front.json                      the recorded networks
    zoo.json                        what was measured of ready-made networks, if it was given
    baselines.json                  what these compute for the data of the search

Every file but the log is replaced in one step; a line of the log is written in one call.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from goldnas import trust
from goldnas.architecture import Architecture, find_origin
from goldnas.errors import ConfigError, RunError, TableError
from goldnas.lut import LatencyTable, OldTableError
from goldnas.resources import Budget, parse_budgets
from goldnas.run_folder import RunFolder, is_training
from goldnas.searching.baselines import (
    BASELINES_FILE,
    ZOO_FILE,
    BaselineCounts,
    Baselines,
    join_baselines,
)
from goldnas.searching.config import SearchConfig
from goldnas.searching.front import Front, FrontNetwork
from goldnas.spaces import find_space, import_space
from goldnas.zoo.file import load_zoo

WHOLE_WEIGHTS = "weights/whole.pt"
"""Of the network that is shrunk: it goes on as the teacher."""


class SearchRun(RunFolder):
    """One search on disk."""

    kind = "search"
    restore = "restore it from a copy, or search again with another `out`"

    @classmethod
    def create(
        cls,
        path: Path,
        config: SearchConfig,
        conditions: dict[str, Any],
        tables: list[LatencyTable],
        texts: Mapping[str, str] | None = None,
        weights: dict[str, Tensor] | None = None,
    ) -> "SearchRun":
        """Make the folder, complete, in one step; this process holds its lock then.

        Raises:
            BusyError: If another process makes the folder at the same time.
            RunError: If something is there already.
            WriteError: If the disk refuses; then there is no folder.
        """
        cls.check_free(path)
        files = {table.name: os.path.realpath(table.path) for table in tables}

        def fill(run: "SearchRun") -> None:
            run._write_json("config.json", config)
            # Engines and caches of a GPU's table stay beside the user's own file, not here.
            run._write_json("conditions.json", conditions | {"table_files": files})
            for table in tables:
                run._write(table_copy(table), table.to_json().encode())
            # What is cached beside those of GPUs is code, too.
            of_gpus = [table for table in tables if table.conditions.gpu is not None]
            others = {table_copy(table): files[table.name] for table in of_gpus}
            if config.storage is not None:
                others["storage"] = config.storage
            if weights is not None:
                run._write_tensors(WHOLE_WEIGHTS, weights)
            trust.record(path, run.functions(), others)

        return cls.make(path, fill, texts)

    @staticmethod
    def check_free(path: Path) -> None:
        """Refuse a place that is taken.

        Raises:
            RunError: If something is there already.
        """
        if not path.name:
            raise RunError(
                f"{path} is not a name for a new folder; choose one, for example `out='runs/a'`"
            )
        try:
            free = not os.listdir(path)
        except OSError:
            free = not os.path.lexists(path)
        if free:
            return
        if not os.path.isdir(path):
            raise RunError(f"{path} is already a file: choose another `out`")
        if is_training(path) or not os.path.isfile(path / "config.json"):
            raise RunError(
                f"{path} exists and is not the folder of a search: choose another `out`"
            )
        raise RunError(
            f"{path} exists: continue that search with "
            f"`load_run({str(path)!r}).resume()`, or choose another `out`"
        )

    @classmethod
    def open(cls, path: Path) -> "SearchRun":
        """Open the folder of a search.

        Raises:
            RunError: If ``path`` is not the folder of a search.
        """
        run = cls(path)
        run.check_there()
        trust.keep_out_of(path)
        return run

    def check_there(self) -> None:
        """Refuse a folder that is not of a search, or is not any more.

        Raises:
            RunError: Saying what is there.
        """
        path = self.path
        if is_training(path):
            search = path.parent.parent  # as TrainingFolder places them
            found = path.parent.name == "trained" and os.path.isfile(search / "config.json")
            raise RunError(
                f"{path} is the folder of a training; give the folder of its search"
                + (f", {search}" if found else ", or another search")
            )
        if not os.path.isfile(path / "config.json"):
            lacks = (
                "it has no config.json"
                if os.path.isdir(path)
                else "it is a file"
                if os.path.isfile(path)
                else "it does not exist"
            )
            raise RunError(
                f"{path} is not the folder of a search: {lacks}. Give the `out` of a search"
            )

    @cached_property
    def config(self) -> SearchConfig:
        """The settings.

        Raises:
            RunError: If the file is damaged.
        """
        return self._read_json("config.json", SearchConfig)

    @property
    def space(self) -> str:
        """The name of the space whose code makes its networks."""
        return find_origin(self.config.space, self.config.settings)

    @cached_property
    def tables(self) -> list[LatencyTable]:
        """The latency tables of the search.

        Raises:
            RunError: If a file is damaged.
        """
        return [
            self._table(self.path / "tables" / f"{name}.json") for name in self.config.tables
        ]

    def table_file(self, name: str) -> Path | None:
        """The file that a table of the search was copied from; None where it is not known."""
        files = self.conditions.get("table_files")
        file = files.get(name) if isinstance(files, dict) else None
        return Path(file) if isinstance(file, str) else None

    def _table(self, path: Path) -> LatencyTable:
        try:
            return LatencyTable.load(path)
        except OldTableError as error:
            raise RunError(
                f"{path}, this search's copy of its latency table, has schema version "
                f"{error.version}, of an earlier goldnas. Measure the device again, for the "
                "same space and into another file, and copy that file there"
            ) from None
        except TableError:
            # Its advice is to measure again, which would change the search half-way.
            raise RunError(
                f"cannot read {path}, this search's copy of its latency table: copy the table "
                f"there again (`LatencyTable.load({str(path)!r})` says what is wrong)"
            ) from None

    def read(self) -> "SearchRun":
        """Read what the folder says of the search, once and for all.

        Raises:
            RunError: If a file is damaged.
        """
        _ = self.config, self.conditions, self.tables, self.baselines
        return self

    @cached_property
    def baselines(self) -> Baselines | None:
        """The ready-made networks that the search is held against; None without any.

        Raises:
            RunError: If a file is damaged, or one of the two is missing.
        """
        path, counted = self.path / ZOO_FILE, self.path / BASELINES_FILE
        if not os.path.lexists(path) and not os.path.lexists(counted):
            return None
        try:
            zoo = load_zoo(path)
        except TableError as error:
            # Its advice is to measure again, which would be other networks.
            problem = str(error).rpartition(". ")[0]
            raise RunError(
                f"{problem}; this file is the search's copy of the file in `zoo`: copy that "
                "file there again"
            ) from None
        counts = self._read_json(BASELINES_FILE, BaselineCounts)
        try:
            if counts.table not in self.config.tables:
                raise ValueError(f"the search has no latency table {counts.table!r}")
            return join_baselines(zoo, counts, self.budgets, Path(self.config.data).name)
        except ValueError as error:
            raise RunError(f"cannot read {counted}: {error}; {self.restore}") from None

    @cached_property
    def budgets(self) -> list[Budget]:
        """The budgets of the search."""
        return parse_budgets(self.config.budgets, self.tables)

    @property
    def saved(self) -> str:
        """A message that the search is saved, and how to continue it."""
        return f"saved; continue with: `load_run({str(self.path)!r}).resume()`"

    def read_checkpoint(self, most_bytes: int = 2**40) -> dict[str, Any] | None:
        """The state to continue from, or None before the first was saved.

        Raises:
            RunError: If the file is damaged, or a goldnas left it that is too old.
        """
        state = super().read_checkpoint(most_bytes)
        if state is None or "front" not in state:
            return state
        if "step" not in state:  # of the first version, which saved after epochs alone
            raise RunError(
                f"{self.path} was begun by an earlier goldnas, whose searches this one cannot "
                "continue: search anew with another `out`. You can still train and export the "
                "networks that it recorded"
            )
        try:
            return _convert_state(state)
        except (KeyError, TypeError, AttributeError):
            raise RunError(
                f"cannot read {self.path / 'checkpoint.pt'}: an earlier goldnas wrote it, and "
                f"it is damaged; {self.restore}"
            ) from None

    # -- networks ----------------------------------------------------------------------------

    @property
    def has_front(self) -> bool:
        """Whether networks were recorded, and not removed since."""
        return (self.path / "front.json").exists()

    def front(self) -> Front:
        """The recorded networks.

        Raises:
            RunError: If there are none yet, the file is damaged, or the folder is gone.
        """
        if not self.has_front:
            self.check_there()
            raise RunError(
                f"{self.path} has no network yet: continue the search with "
                f"`load_run({str(self.path)!r}).resume()`"
            )
        return self._read_json("front.json", Front)

    def save_front(self, front: Front) -> None:
        """Replace the list of recorded networks."""
        self._write_json("front.json", front)

    def save_network(self, architecture: Architecture, weights: dict[str, Tensor]) -> None:
        """Keep an architecture and its weights."""
        name = architecture.fingerprint
        self._write_tensors(f"weights/{name}.pt", weights)
        self._write_architecture(f"architectures/{name}.json", architecture)

    def with_whole_weights(self, module: nn.Module) -> nn.Module:
        """The network that is shrunk, with the weights that it began with.

        Args:
            module: The whole network.

        Raises:
            RunError: If the file is missing or damaged.
        """
        return self._with_weights(module, WHOLE_WEIGHTS)

    def check_storage(self) -> None:
        """Refuse to write into a database that only a file names.

        Raises:
            UntrustedError: If the folder has one, and may be somebody else's.
        """
        storage = self.config.storage
        ours = self.trusted or trust.made_here(self.path).get("storage") == storage
        if storage is not None and not ours:
            raise trust.UntrustedError(
                f"{self.path} names a database that the search would write to, {storage}. If "
                "you trust it, continue with `trust=True`"
            )

    def import_space(self) -> None:
        """Import the function that the space is, if it is one.

        Raises:
            UntrustedError: If it is somebody else's.
            ConfigError: If it cannot be imported.
        """
        self.admit("space")
        import_space(self.space)

    def architecture(self, network: FrontNetwork) -> Architecture:
        """The architecture of a recorded network; its space is imported, where it may be.

        Raises:
            RunError: If its file is missing or damaged.
        """
        with suppress(trust.UntrustedError):
            self.import_space()
        return self._architecture(f"architectures/{network.fingerprint}.json")

    def network(self, network: FrontNetwork) -> nn.Module:
        """A recorded network with its weights and gates, in evaluation mode.

        Raises:
            UntrustedError: If its space is somebody else's function.
            RunError: If its files are missing or damaged.
        """
        self.import_space()
        architecture = self.architecture(network)
        module = find_space(architecture).build(architecture, gated=True)
        return self._with_weights(module, f"weights/{network.fingerprint}.pt")


def _convert_state(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of an earlier goldnas, in which parts had other names and places."""
    names = {"pace": "schedule", "doomed": "scheduled_removals", "walk": "sampler"}
    own = {names.get(name, name): value for name, value in state["strategy"].items()}
    if "schedule" in own:
        own["schedule"] = {
            "lambda" if name == "pressure" else name: value
            for name, value in own["schedule"].items()
        }
    met = ["met single" if text == "--single" else text for text in state["met"]]
    recorder = {"front": state["front"], "met": met, "recorded": state["recorded"]}
    return {**state, "strategy": {"recorder": recorder, **own}}


def table_copy(table: LatencyTable) -> str:
    """Where in the folder of a search its copy of a table is."""
    return f"tables/{table.name}.json"


def read_tables(tables: Sequence[LatencyTable | str | Path]) -> list[LatencyTable]:
    """Latency tables for a search, each with a name of its own; files are read.

    Raises:
        TableError: If one cannot be read.
        ConfigError: If two have the same name.
    """
    read = [t if isinstance(t, LatencyTable) else LatencyTable.load(t) for t in tables]
    names = [table.name for table in read]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"two latency tables are named {name!r}, and budgets name a table by its file "
                f"name; rename one of the files, for example to {name}-2.json"
            )
    return read
