"""Starting a search, and going on with one."""

import os
from pathlib import Path

import msgspec
import torch

from goldnas.errors import RunError
from goldnas.lut import LatencyTable
from goldnas.search.config import SearchConfig
from goldnas.search.feasibility import Feasibility
from goldnas.search.gradual import GradualSearch
from goldnas.search.memory import free_bytes, step_memory
from goldnas.search.run import SearchRun
from goldnas.search.setup import (
    SearchData,
    amp_named,
    autocast_for,
    check_feasible,
    conditions_of,
    dataset_of,
    device_named,
    feasibility_of,
    search_data,
    space_for,
    supernet_for,
)
from goldnas.training.data import ImageData
from goldnas.training.datasets import DATASET_NAMES


def largest_batch(config: SearchConfig, images: ImageData, device: torch.device) -> int:
    """The largest batch whose step fits the memory that is free on a device.

    Raises:
        ConfigError: If none does, or the free memory is not known.
    """
    free = free_bytes(device)
    supernet = supernet_for(config, space_for(config, images), device)
    memory = step_memory(supernet, device, lambda: autocast_for(config, device))
    return memory.largest_batch(free, len(images))


class PreparedSearch:
    """A search that is known to be possible, before anything is written.

    Args:
        config: Settings.
        tables: Those that it names.
        threads: CPU threads, in place of those of the settings.
        workers: Loading processes, in place of those of the settings.
        amp: ``auto``, ``bf16`` or ``off``, in place of that of the settings.
        fit_batch: Whether to take the largest batch whose step fits the memory that is free, in
            place of that of the settings.

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
    ) -> None:
        if threads or config.threads:
            torch.set_num_threads(threads or config.threads or 1)
        self.device = device_named(config.train_device)
        dataset = dataset_of(config)
        # As they were resolved: a search that goes on, from whichever folder, neither
        # changes to another device nor looks elsewhere for its data.
        config = msgspec.structs.replace(
            config,
            train_device=str(self.device),
            data=config.data if config.data in DATASET_NAMES else os.path.realpath(config.data),
            data_dir=config.data_dir and os.path.realpath(config.data_dir),
        )
        if amp is not None:
            config = msgspec.structs.replace(config, amp=amp_named(amp, self.device))
        if fit_batch:
            config = msgspec.structs.replace(
                config, batch_size=largest_batch(config, dataset.train, self.device)
            )
        self.config = config
        self.tables = tables
        self.data: SearchData = search_data(config, dataset, self.device, workers=workers)
        self.feasibility: Feasibility = feasibility_of(config, self.data.space, tables)

    def check_feasible(self) -> None:
        """Refuse budgets that no network of the space meets.

        Raises:
            ConfigError: Saying by how much they are missed.
        """
        check_feasible(self.feasibility)

    def start(self, folder: Path) -> GradualSearch:
        """Make the folder of the search.

        Raises:
            RunError: If something is there already.
            WriteError: If the disk refuses.
        """
        run = SearchRun.create(folder, self.config, conditions_of(self.device), self.tables)
        return GradualSearch(run, self.data, self.feasibility, self.device)

    @classmethod
    def resume(cls, run: SearchRun, *, workers: int | None = None) -> GradualSearch:
        """Go on with a search from its last full epoch, on as many threads as before.

        Args:
            run: Its folder.
            workers: Loading processes, where they should differ; no result depends on them.

        Raises:
            GoldnasError: If the folder is damaged, or the data or device is gone.
        """
        run.clear_leftovers()
        threads = run.conditions.get("threads")
        if type(threads) is not int or threads < 1:
            raise RunError(
                f"{run.path}/conditions.json does not say on how many threads the search ran; "
                "restore it from a copy, or search again with another --out"
            )
        prepared = cls(run.config, run.tables, threads=threads, workers=workers)
        search = GradualSearch(run, prepared.data, prepared.feasibility, prepared.device)
        if (state := run.checkpoint()) is not None:
            try:
                search.restore(state)
            except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
                reason = str(error).splitlines()[0]
                raise RunError(
                    f"{run.path}/checkpoint.pt does not belong to this search ({reason}); "
                    "restore it from a copy, or search again with another --out"
                ) from None
        return search
