"""Starting a search, and going on with one."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from goldnas.data.datasets import resolve_data
from goldnas.data.examples import Dataset, Examples
from goldnas.loggers.listener import check_loggers
from goldnas.lut import LatencyTable
from goldnas.searching.budgets import build_feasibility, check_feasible, list_limits
from goldnas.searching.config import SearchConfig
from goldnas.searching.data import SearchData, search_data, space_for
from goldnas.searching.faster_table import choose_tables
from goldnas.searching.feasibility import Feasibility
from goldnas.searching.folder import SearchRun
from goldnas.searching.front import Front
from goldnas.searching.session import Session
from goldnas.searching.strategies import SearchStrategy, find_strategy
from goldnas.searching.supernet_learner import build_supernet
from goldnas.searching.widths import WidthBudgets, build_widths
from goldnas.spaces.shrunk import ShrunkSpace
from goldnas.task import load_task
from goldnas.training.distributed import Ranks
from goldnas.training.gradients import check_batch
from goldnas.training.loop import TrainingLoop
from goldnas.training.machine import (
    autocast_for,
    choose_amp,
    choose_device,
    describe_inputs,
    describe_machine,
    set_threads,
)
from goldnas.training.memory import LARGEST_BATCH, free_bytes, step_memory
from goldnas.training.task_data import blank_loss, load_data

SearchLoop = TrainingLoop[Front]


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
        self.ranks = ranks = ranks or Ranks()
        ranks.on_all(lambda: set_threads(threads or config.threads))
        ranks.broadcast(lambda: check_loggers(config.loggers))
        device = ranks.on_all(lambda: choose_device(config.train_device))
        self.device = ranks.on_all(lambda: ranks.device(device))
        dataset = ranks.first_of_machine(lambda: load_data(config))
        # As they were resolved: a search that goes on, from whichever folder, neither
        # changes to another device nor looks elsewhere for its data.
        config = msgspec.structs.replace(
            config,
            train_device=str(device),
            data=resolve_data(config.data),
            data_dir=config.data_dir and os.path.realpath(config.data_dir),
        )
        if amp is not None:
            chosen = ranks.on_all(lambda: choose_amp(amp, self.device))
            config = msgspec.structs.replace(config, amp=chosen)
        if fit_batch:
            config = self._fitted(config, dataset)
        self.tables = tables
        self.classes = dataset.classes
        self.data: SearchData = ranks.on_all(
            lambda: search_data(config, dataset, self.device, workers=workers, ranks=ranks)
        )
        of_space = self.data.space.search_settings
        others = {name: v for name, v in config.settings.items() if name not in of_space}
        space = self.data.space
        described = describe_inputs(self.data.normalisation, self.classes)
        counted: dict[str, Any] = {"single": config.single, "described": described}
        budgets, self.notes = ranks.on_all(
            lambda: choose_tables(space, config.budgets, tables, **counted)
        )
        self.config = msgspec.structs.replace(
            config, settings=others, budgets=budgets, **of_space
        )
        self.feasibility: Feasibility
        self.widths: WidthBudgets | None = None
        if isinstance(space, ShrunkSpace):
            self.widths = ranks.on_all(lambda: build_widths(space, budgets, tables))
            self.feasibility = Feasibility(space, (), self.widths.budgets)
        else:
            self.feasibility = ranks.on_all(
                lambda: build_feasibility(space, budgets, tables, **counted)
            )

    def _fitted(self, config: SearchConfig, dataset: Dataset) -> SearchConfig:
        """The settings with the largest batch whose step fits the memory that is free."""
        most = self.ranks.broadcast(lambda: largest_batch(config, dataset.train, self.device))
        # Processes without devices of their own share the memory that is free.
        parts = 1 if self.device.type == "cpu" else self.ranks.count
        return msgspec.structs.replace(config, batch_size=min(most * parts, LARGEST_BATCH))

    def check_feasible(self) -> None:
        """Refuse budgets that no network of the space meets.

        Raises:
            ConfigError: Saying by how much they are missed.
        """
        if self.widths is not None:
            self.ranks.on_all(self.widths.check_feasible)
        else:
            self.ranks.on_all(lambda: check_feasible(self.feasibility))

    def describe(self) -> dict[str, Any]:
        """What was loaded, the device, and what networks of the space need."""
        return {
            "data": self.config.data,
            "images": self.data.loader.num_images,
            "held_out": len(self.data.validation),
            "kept": self.data.loader.kept,
            "log10_size": self.data.space.log10_size(),
            "device": str(self.device),
            "limits": list_limits(self.feasibility)
            if self.widths is None
            else self.widths.list_limits(),
        }

    def start(
        self,
        folder: Path,
        texts: Mapping[str, str] | None = None,
        weights: dict[str, Tensor] | None = None,
        network: str | None = None,
    ) -> SearchLoop:
        """Make the folder of the search; this process holds its lock then.

        Args:
            folder: Where.
            texts: Other files that it begins with, by name.
            weights: Of the network that is shrunk, if one is.
            network: What that network was called.

        Raises:
            BusyError: If another process makes the folder at the same time.
            ConfigError: If a batch cannot be divided as the settings say.
            RunError: If something is there already.
            WriteError: If the disk refuses.
        """
        config, ranks = self.config, self.ranks
        num_images = self.data.loader.images_per_batch
        ranks.on_all(lambda: check_batch(num_images, ranks.count, config.accumulate))
        ranks.broadcast(lambda: find_strategy(config.strategy).check(config))
        conditions = describe_machine(self.device, ranks.count)
        conditions |= describe_inputs(self.data.normalisation, self.classes)
        if network is not None:
            conditions["network"] = network
        run = ranks.broadcast(
            lambda: SearchRun.create(
                folder, config, conditions, self.tables, texts, weights
            ).read()
        )
        with ExitStack() as on_failure:
            on_failure.callback(run.remove)
            loop = self._loop(run)
            on_failure.pop_all()
        return loop

    @classmethod
    def resume(
        cls, run: SearchRun, *, workers: int | None = None, ranks: Ranks | None = None
    ) -> SearchLoop:
        """Go on with a search from its last checkpoint, on as many threads as before.

        Args:
            run: Its folder, whose lock this process holds.
            workers: Loading processes, where they should differ; no result depends on them.
            ranks: The processes that go on together, as many as before or not. With another
                number of them the threads are chosen anew.

        Raises:
            UntrustedError: If the folder names code, and may be somebody else's.
            GoldnasError: If the folder is damaged, or the data or device is gone.
        """
        ranks = ranks or Ranks()
        ranks.broadcast(run.check_storage)
        ranks.broadcast(run.admit)
        run.trusted = True  # as the first rank says
        run.admit()
        threads = ranks.broadcast(lambda: run.choose_threads(ranks.count))
        prepared = cls(run.config, run.tables, threads=threads, workers=workers, ranks=ranks)
        num_images = prepared.data.loader.images_per_batch
        ranks.on_all(lambda: check_batch(num_images, ranks.count, accumulate=1))
        ranks.broadcast(lambda: find_strategy(run.config.strategy).check(run.config))
        loop = prepared._loop(run)
        loop.checkpoints.resume()
        return loop

    def _loop(self, run: SearchRun) -> SearchLoop:
        info = find_strategy(run.config.strategy)

        def strategy(loop: SearchLoop) -> SearchStrategy:
            parts = loop, run.config, self.data, self.feasibility, run, info, self.widths
            return info.make(Session(*parts))

        return SearchLoop(
            run,
            run.config,
            self.data,
            self.device,
            self.ranks,
            strategy,
            accumulate=run.config.accumulate,
        )


def run_search(loop: SearchLoop) -> Front:
    """Search until the budgets are met and nothing is left to do; at its end, read the front.

    Raises:
        RunError: If training diverges again and again, two images do not fit in memory, or the
            last epoch leaves a budget unmet.
        RankError: If the ranks lose each other, or come to differ.
        StoppedError: If a signal asked for it; the search was saved.
        WriteError: If the disk refuses.
    """
    front = loop.ranks.broadcast(lambda: _front_at_end(loop.run))
    return loop.train() if front is None else front


def _front_at_end(run: Any) -> Front | None:
    assert isinstance(run, SearchRun)
    ended = [event["event"] for event in run.read_events()[-1:]] == ["end"]
    # Without its front, what is left to do comes out the same again.
    return run.front() if ended and run.has_front else None


def largest_batch(config: SearchConfig, data: Examples, device: torch.device) -> int:
    """The largest batch whose step fits the memory that is free on a device.

    Raises:
        ConfigError: If none does, or the free memory is not known.
    """
    free = free_bytes(device)
    space = space_for(config, data)
    relaxation = find_strategy(config.strategy).relaxation
    supernet = build_supernet(config, space, device, relaxation)
    blank = blank_loss(load_task(config.task), data)
    autocast = partial(autocast_for, config, device)
    memory = step_memory(supernet, space.input_shape, device, autocast, blank)
    return memory.largest_batch(free, len(data))
