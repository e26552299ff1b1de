"""Starting a search, and going on with one."""

import os
from pathlib import Path

import msgspec
import torch

from goldnas.data.datasets import resolved
from goldnas.data.examples import Examples
from goldnas.loggers.listener import check_loggers
from goldnas.lut import LatencyTable
from goldnas.searching.config import SearchConfig
from goldnas.searching.data import SearchData, blank_loss, dataset_of, search_data, space_for
from goldnas.searching.feasibility import Feasibility
from goldnas.searching.folder import SearchRun
from goldnas.searching.setup import (
    amp_named,
    autocast_for,
    check_feasible,
    conditions_of,
    device_named,
    feasibility_of,
    inputs_of,
    supernet_for,
)
from goldnas.searching.strategies.darts import DartsSearch
from goldnas.searching.strategies.engine import SupernetSearch
from goldnas.searching.strategies.gold import GradualSearch
from goldnas.searching.strategies.one_shot import OneShotSearch
from goldnas.searching.strategies.optuna_study import StudySearch
from goldnas.searching.strategies.random import SampledSearch
from goldnas.task import task_named
from goldnas.training.distributed import Ranks
from goldnas.training.gradients import check_batch
from goldnas.training.memory import LARGEST_BATCH, free_bytes, step_memory

SEARCHES: dict[str, type[SupernetSearch]] = {
    "gold": GradualSearch,
    "one-shot": OneShotSearch,
    "darts1": DartsSearch,
    "darts2": DartsSearch,
    "random": SampledSearch,
    "evolution": StudySearch,
    "tpe": StudySearch,
}
"""By the names of :data:`goldnas.searching.strategies.STRATEGIES`."""


def largest_batch(config: SearchConfig, data: Examples, device: torch.device) -> int:
    """The largest batch whose step fits the memory that is free on a device.

    Raises:
        ConfigError: If none does, or the free memory is not known.
    """
    free = free_bytes(device)
    supernet = supernet_for(config, space_for(config, data), device)
    blank = blank_loss(task_named(config.task), data)
    memory = step_memory(supernet, device, lambda: autocast_for(config, device), blank)
    return memory.largest_batch(free, len(data))


class PreparedSearch:
    """A search that is known to be possible, before anything is written.

    Args:
        config: Settings.
        tables: The latency tables that they name.
        threads: Of the processor, in place of those of the settings.
        workers: Loading processes, in place of those of the settings.
        amp: ``auto``, ``bf16`` or ``off``, in place of that of the settings.
        fit_batch: Whether to take the largest batch whose step fits the memory that is free, in
            place of that of the settings.
        ranks: The processes that search together; each prepares.

    Raises:
        GoldnasError: If the data, the tables or the settings do not allow the search; a
            budget that no network meets is left to :meth:`check_feasible`.
    """

    def __init__(
        self,
        config: SearchConfig,
        tables: list[LatencyTable],
        *,
        threads: int | None = None,
        workers: int | None = None,
        amp: str | None = None,
        fit_batch: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        if threads or config.threads:
            torch.set_num_threads(threads or config.threads or 1)
        self.ranks = ranks = ranks or Ranks()
        ranks.broadcast(lambda: check_loggers(config.loggers))
        device = ranks.on_all(lambda: device_named(config.train_device))
        self.device = ranks.on_all(lambda: ranks.device(device))
        dataset = ranks.first_of_machine(lambda: dataset_of(config))
        # As they were resolved: a search that goes on, from whichever folder, neither
        # changes to another device nor looks elsewhere for its data.
        config = msgspec.structs.replace(
            config,
            train_device=str(device),
            data=resolved(config.data),
            data_dir=config.data_dir and os.path.realpath(config.data_dir),
        )
        if amp is not None:
            chosen = ranks.on_all(lambda: amp_named(amp, self.device))
            config = msgspec.structs.replace(config, amp=chosen)
        if fit_batch:
            settings = config
            most = ranks.broadcast(lambda: largest_batch(settings, dataset.train, self.device))
            # Processes without devices of their own share the memory that is free.
            parts = 1 if self.device.type == "cpu" else ranks.count
            batch_size = min(most * parts, LARGEST_BATCH)
            config = msgspec.structs.replace(config, batch_size=batch_size)
        self.tables = tables
        self.classes = dataset.classes
        self.data: SearchData = ranks.on_all(
            lambda: search_data(config, dataset, self.device, workers=workers, ranks=ranks)
        )
        space = self.data.space
        config = msgspec.structs.replace(config, **space.search_settings)
        self.config = config
        self.feasibility: Feasibility = ranks.on_all(
            lambda: feasibility_of(config, self.data.space, tables)
        )

    def check_feasible(self) -> None:
        """Refuse budgets that no network of the space meets.

        Raises:
            ConfigError: Saying by how much they are missed.
        """
        self.ranks.on_all(lambda: check_feasible(self.feasibility))

    def start(self, folder: Path) -> SupernetSearch:
        """Make the folder of the search.

        Raises:
            ConfigError: If a batch cannot be divided as the settings say.
            RunError: If something is there already.
            WriteError: If the disk refuses.
        """
        config, ranks = self.config, self.ranks
        num_images = self.data.loader.images_per_batch
        ranks.on_all(lambda: check_batch(num_images, ranks.count, config.accumulate))
        ranks.broadcast(lambda: SEARCHES[config.strategy].check(config))
        conditions = conditions_of(self.device, ranks.count)
        conditions |= inputs_of(self.data.normalisation, self.classes)
        run = ranks.broadcast(
            lambda: SearchRun.create(folder, config, conditions, self.tables).read()
        )
        return self._search(run)

    @classmethod
    def resume(
        cls, run: SearchRun, *, workers: int | None = None, ranks: Ranks | None = None
    ) -> SupernetSearch:
        """Go on with a search from its last checkpoint, on as many threads as before.

        Args:
            run: Its folder.
            workers: Loading processes, where they should differ; no result depends on them.
            ranks: The processes that go on together, as many as before or not. With another
                number of them the threads are chosen anew.

        Raises:
            GoldnasError: If the folder is damaged, or the data or device is gone.
        """
        ranks = ranks or Ranks()
        ranks.broadcast(run.clear_leftovers)
        threads = ranks.broadcast(lambda: run.threads_for(ranks.count))
        prepared = cls(run.config, run.tables, threads=threads, workers=workers, ranks=ranks)
        num_images = prepared.data.loader.images_per_batch
        ranks.on_all(lambda: check_batch(num_images, ranks.count, accumulate=1))
        ranks.broadcast(lambda: SEARCHES[run.config.strategy].check(run.config))
        search = prepared._search(run)
        search.resume()
        return search

    def _search(self, run: SearchRun) -> SupernetSearch:
        search = SEARCHES[self.config.strategy]
        return search(run, self.data, self.feasibility, self.device, self.ranks)


def opened(folder: Path, ranks: Ranks) -> SearchRun:
    """Open the folder of a search, on the first rank, and tell the others what it says.

    Raises:
        RunError: If it is not the folder of a search, or is damaged.
    """
    return ranks.broadcast(lambda: SearchRun.open(folder).read())
