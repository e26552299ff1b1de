"""Batches: augmented for training, plain for evaluation."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from goldnas.data.augmentation import Augmentation
from goldnas.data.examples import Batch, Examples, ImageData, Normalisation
from goldnas.data.files import ImageFiles, count_cores
from goldnas.errors import ConfigError, DataError, read_message

# Below this many images an epoch is over before worker processes would have started.
FEW_IMAGES = 5_000
MOST_WORKERS = 4
# To decode images takes a hundred times as long as to crop those in memory.
MOST_DECODING_WORKERS = 16
# Images up to this size are kept on a CUDA device.
RESIDENT_BYTES_LIMIT = 2 * 1024**3
CPU = torch.device("cpu")

# What to load: the indices of a batch, and the seed of its augmentation.
Order = tuple[Tensor, int]


def choose_workers(data: Examples, local_ranks: int = 1) -> int:
    """Choose the number of loading processes; 0 loads in the training process itself.

    Args:
        data: To load.
        local_ranks: Processes that train on this machine, each with loading processes.
    """
    if len(data) < FEW_IMAGES:
        return 0
    if isinstance(data, ImageData) and isinstance(data.images, ImageFiles):
        return max(1, min(MOST_DECODING_WORKERS, (count_cores() - 1) // local_ranks))
    return -(-max(1, min(MOST_WORKERS, count_cores() - 1)) // local_ranks)


def read_batches(
    data: Examples, normalisation: Normalisation, *, batch_size: int
) -> Iterator[Batch]:
    """Yield everything once, in order, normalised and otherwise unchanged.

    Yields:
        float32 ``(B, ...)``, as ``(B, C, H, W)``, and targets, as int64 ``(B,)``; the last
        batch may be smaller.

    Raises:
        DataError: If something cannot be read.
    """
    for indices in torch.split(torch.arange(len(data)), batch_size):
        yield data.batch(indices, normalisation)


class TrainingLoader:
    """Shuffled, augmented batches; its worker processes live as long as the loader.

    A batch depends on the data, the settings, the seed and the epoch, and on nothing else:
    not on the number of workers, the global random state or the epochs loaded before. So
    a resumed run sees the batches that the interrupted one would have seen. Loading leaves
    the global random state as it was.

    Args:
        data: To learn from.
        augmentation: Random changes to each image; data of one's own is left as it is.
        normalisation: Applied after them, before Cutout.
        batch_size: Images in a batch. The last, smaller batch of an epoch is dropped, unless
            it is the only one.
        seed: Non-negative; decides order and augmentation.
        workers: Loading processes; 0 loads in this process.
        device: That trains. On CUDA, images in memory are kept there and augmented there, in
            this process, unless a policy or a large dataset needs the processor.
        shard: Which part of each batch to load, and of how many: where several processes
            train together, each loads its own. Order and batches are those of one process.

    Raises:
        ConfigError: If the augmentation does not suit the images, or a number is out of range.
    """

    def __init__(
        self,
        data: Examples,
        augmentation: Augmentation,
        normalisation: Normalisation,
        *,
        batch_size: int,
        seed: int,
        workers: int,
        device: torch.device = CPU,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
            if value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        if isinstance(data, ImageData):
            augmentation.check(data.input_shape)
        self.num_images = len(data)
        self.num_classes = data.num_classes
        self.kept = data.kept
        """Where the images are, for the log."""
        self.images_per_batch = min(batch_size, len(data))
        """In a whole batch, all its shards together."""
        self._orders = _EpochOrders(len(data), self.images_per_batch, seed, shard)
        on_cuda = device.type == "cuda"
        resident = on_cuda and not augmentation.by_image and _may_reside(data)
        if resident and isinstance(data, ImageData):
            data, workers = data.on(device), 0
        self.workers = workers
        with warnings.catch_warnings():
            # More workers than cores is the caller's decision.
            warnings.filterwarnings("ignore", "This DataLoader will create")
            self._loader = DataLoader(
                _AugmentedBatches(data, augmentation, normalisation),
                sampler=self._orders,
                batch_size=None,  # the dataset makes whole batches
                num_workers=workers,
                persistent_workers=workers > 0,
                worker_init_fn=_leave_the_group,
                pin_memory=on_cuda and not resident,
                generator=torch.Generator(),  # else DataLoader draws from the global one
            )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._orders)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch.

        Args:
            epoch: Counted from 0.
            start: The first batch to yield, for an epoch that was interrupted.

        Yields:
            float32 ``(B, ...)`` and targets, on the CPU or on the device.

        Raises:
            DataError: If something cannot be read.
        """
        self._orders.epoch, self._orders.start = epoch, start
        with warnings.catch_warnings():
            # Python 3.12 warns of forking a process with threads; a worker computes with
            # one thread and never needs those of the parent.
            warnings.filterwarnings(
                "ignore", ".*multi-threaded, use of fork", DeprecationWarning
            )
            batches: Any = iter(self._loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
                problem = explain_dead_worker(error) if self._loader.num_workers else None
                if problem is None:
                    raise
                # Or a signal tells of the death once more, whatever is running then.
                with contextlib.suppress(RuntimeError):
                    batches._shutdown_workers()
                raise problem from None
            if isinstance(batch, DataError):
                raise batch
            yield batch


def explain_dead_worker(error: Exception) -> DataError | None:
    """The error to raise for a loading process that died; None for any other error.

    It may die between a batch and its memory, which then nobody hands over.
    """
    told = str(error)
    if isinstance(error, RuntimeError) != ("DataLoader worker" in told):
        return None
    return DataError(
        f"a process that loads data died: {read_message(error)}. Perhaps the machine or "
        "/dev/shm had too little memory: use fewer `workers`. With `workers=0` this process "
        "loads the data, and shows the error"
    )


def _may_reside(data: Examples) -> bool:
    images = data.images if isinstance(data, ImageData) else None
    return isinstance(images, Tensor) and images.nbytes <= RESIDENT_BYTES_LIMIT


class _EpochOrders(Sampler[Order]):
    """Which images form each batch of :attr:`epoch`, and the seed of each batch."""

    def __init__(
        self, num_images: int, batch_size: int, seed: int, shard: tuple[int, int]
    ) -> None:
        self.epoch = self.start = 0
        self._shard, self._shards = shard
        self._num_images = num_images
        self._batch_size = batch_size
        self._seed = seed

    def __len__(self) -> int:
        return max(1, self._num_images // self._batch_size)

    def __iter__(self) -> Iterator[Order]:
        # SeedSequence mixes the two: seed 1, epoch 2 shares nothing with seed 2, epoch 1.
        mixed = np.random.SeedSequence((self._seed, self.epoch)).generate_state(1)
        generator = torch.Generator().manual_seed(int(mixed[0]))
        shuffled = torch.randperm(self._num_images, generator=generator)
        batches = torch.split(shuffled, self._batch_size)
        seeds = torch.randint(2**62, (len(self),), generator=generator)
        # Not strict: the batches may end in a smaller one, which is dropped.
        orders = zip(batches, seeds.tolist(), strict=False)
        for indices, batch_seed in islice(orders, self.start, None):
            mine = torch.tensor_split(indices, self._shards)[self._shard]
            yield mine, batch_seed + self._shard


def _leave_the_group(worker: int) -> None:
    """A signal to the whole group, as from Ctrl-C, must not take the batches under way.

    The parent ends its workers itself; if it is killed they notice and end.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()


class _AugmentedBatches(Dataset[Batch | DataError]):
    """Make one batch from its order; whole batches, since calls cost more than pixels."""

    def __init__(
        self, data: Examples, augmentation: Augmentation, normalisation: Normalisation
    ) -> None:
        self._data = data
        self._parts: ImageFiles | None = None
        files = data.images if isinstance(data, ImageData) else None
        if augmentation.resized_crop and isinstance(files, ImageFiles):
            # Of the files themselves: from what was resized before, they would be blurred.
            self._parts = files
            augmentation = replace(augmentation, resized_crop=False)
        self._augmentation = augmentation
        self._normalisation = normalisation

    def __getitem__(self, order: Order) -> Batch | DataError:
        """Return the batch, or the error: raised here, a worker would wrap it in its trace."""
        indices, seed = order
        try:
            if isinstance(self._data, ImageData):
                return self._augmented(self._data, indices, seed)
            return self._data.batch(indices, self._normalisation, seed)
        except DataError as error:
            return error

    def _augmented(self, data: ImageData, indices: Tensor, seed: int) -> Batch:
        augment, (_, height, width) = self._augmentation, data.input_shape
        changes = augment.draw(len(indices), (height, width), seed)
        indices = indices.to(data.labels.device, non_blocking=True)
        if self._parts is not None:
            originals = self._parts.parts(indices, changes.policy_seed)
        else:
            originals = data.images[indices]
        augmented = augment.recoloured(augment.moved(originals, changes), changes)
        images = augment.cut_out(self._normalisation.apply(augmented), changes)
        return images, data.labels[indices]
