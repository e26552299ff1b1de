"""The processes that search together, as torchrun starts them: ranks, counted from 0.

Every rank holds the whole super-network and its part of each batch. Gradients are added up
over the ranks, so all take the same step, and each decides for itself, from the same bits,
what the others decide. The first rank alone reads and writes the folder and speaks.

The gradients are added up after the backward pass, not inside it as
``DistributedDataParallel`` does, whose numbers they equal: there a rank that runs out of
memory half-way would leave the others waiting for the rest of its gradients.
"""

import contextlib
import datetime
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from goldnas.data.examples import Examples
from goldnas.errors import ConfigError, GoldnasError, RankError
from goldnas.parent import end_with_parent

_Result = TypeVar("_Result")

SILENCE = datetime.timedelta(minutes=30)
"""After which a rank that neither answers nor ends is given up. One that ends is noticed at
once. A download by the first rank of a machine must fit in."""


class Ranks:
    """One process alone: it has nothing to share and nobody to wait for."""

    index = 0
    count = 1
    local = 0
    """Among the ranks of this machine."""
    local_count = 1
    by_torchrun = False
    """Whether torchrun started this process."""

    @property
    def first(self) -> bool:
        """Whether this is the rank that reads, writes and speaks."""
        return self.index == 0

    def device(self, device: torch.device) -> torch.device:
        """The device of this rank, where the search trains on ``device``.

        Raises:
            ConfigError: If there are fewer devices than ranks.
        """
        return device

    def broadcast(self, do: Callable[[], _Result]) -> _Result:
        """What ``do`` returns on the first rank, on every rank; its error too."""
        return do()

    def on_all(self, do: Callable[[], _Result]) -> _Result:
        """What ``do`` returns; if it fails on any rank, all end with that error."""
        return do()

    def first_of_machine(self, do: Callable[[], _Result]) -> _Result:
        """As :meth:`on_all`, but one rank of each machine goes before the others."""
        return do()

    def common(self, error: GoldnasError) -> BaseException:
        """The error to raise if every rank meets an error: only the first rank reports it."""
        return error

    def forgive(self) -> bool:
        """Whether every rank met the error that was just caught, so that all may go on."""
        return True

    def all_reduce_max(self, *numbers: int) -> tuple[int, ...]:
        """The largest of each number over all ranks."""
        return numbers

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks."""

    def shard(self, data: Examples) -> Examples:
        """The part of some data that this rank looks at."""
        return data

    def verify(self, when: str, parts: Callable[[], dict[str, str]]) -> None:
        """Check that all ranks have the same.

        Args:
            when: For the error.
            parts: The text, or hash, of each thing that must be equal.

        Raises:
            RankError: If two ranks differ; it names the things.
        """


class TorchrunRanks(Ranks):
    """The ranks of a process group: gloo between processors, nccl between CUDA devices."""

    def __init__(self) -> None:
        self.index, self.count = dist.get_rank(), dist.get_world_size()
        self.local = int(os.environ["LOCAL_RANK"])
        self.local_count = int(os.environ["LOCAL_WORLD_SIZE"])
        self.by_torchrun = True
        self.all_end = False
        """Whether every rank is about to leave, none waiting for another."""

    def device(self, device: torch.device) -> torch.device:
        """The device of this rank: of CUDA devices, each has its own."""
        if device.type == "cpu":
            return device
        there = torch.cuda.device_count() if device.type == "cuda" else 0
        if device.index is not None or self.local >= there:
            raise ConfigError(
                f"the processes of one machine cannot train on {str(device)!r}: each needs a "
                f"CUDA device of its own, and torch finds {there}. Start fewer "
                "processes, or search with `train_device` cuda or cpu"
            )
        mine = torch.device("cuda", self.local)
        torch.cuda.set_device(mine)
        return mine

    def broadcast(self, do: Callable[[], _Result]) -> _Result:
        """What ``do`` returns on the first rank, on every rank; its error too."""
        result = self.on_all(lambda: do() if self.first else None)
        box: list[Any] = [result]
        with _in_contact():
            dist.broadcast_object_list(box, src=0)
        told: Any = result if self.first else box[0]
        return told  # type: ignore[no-any-return]

    def on_all(self, do: Callable[[], _Result]) -> _Result:
        """What ``do`` returns; if it fails on any rank, all end with that error."""
        error: GoldnasError | None = None
        try:
            result = do()
        except GoldnasError as caught:
            error = caught
        for rank, failed in enumerate(self._gathered(error)):
            if failed is not None:
                if rank > 0:
                    failed = type(failed)(f"rank {rank}: {failed}")
                raise self.common(failed) from None
        return result

    def first_of_machine(self, do: Callable[[], _Result]) -> _Result:
        """As :meth:`on_all`, but one rank of each machine goes before the others."""
        before = self.on_all(lambda: do() if self.local == 0 else None)
        after = self.on_all(lambda: do() if self.local > 0 else None)
        result: Any = before if self.local == 0 else after
        return result  # type: ignore[no-any-return]

    def common(self, error: GoldnasError) -> BaseException:
        """The error to raise if every rank meets an error: only the first rank reports it."""
        self.all_end = True
        return error if self.first else SystemExit(error.status)

    def forgive(self) -> bool:
        """Whether every rank met the error that was just caught, so that all may go on."""
        met_by_all, self.all_end = self.all_end, False
        return met_by_all

    def all_reduce_max(self, *numbers: int) -> tuple[int, ...]:
        """The largest of each number over all ranks."""
        # On the processor: no CUDA device has to finish what it is doing for it.
        tensor = torch.tensor(numbers, dtype=torch.long)
        with _in_contact():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tuple(tensor.tolist())

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks."""
        if not tensors:  # of a network without normalisations, say
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _in_contact():
            dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, summed in zip(tensors, parts, strict=True):
            tensor.copy_(summed.view_as(tensor))

    def shard(self, data: Examples) -> Examples:
        """Every n-th item, where there are n ranks."""
        return data.subset(torch.arange(self.index, len(data), self.count))

    def verify(self, when: str, parts: Callable[[], dict[str, str]]) -> None:
        """Check that all ranks have the same."""
        ours, *others = self._gathered(parts())
        differ = [name for name in ours if any(other[name] != ours[name] for other in others)]
        if differ:
            raise self.common(
                RankError(
                    f"{when}, the {self.count} ranks differ in {', '.join(differ)}: they do "
                    "not compute the same. Use machines of one kind with one version of torch"
                )
            )

    def _gathered(self, mine: Any) -> list[Any]:
        everyone: list[Any] = [None] * self.count
        with _in_contact():
            dist.all_gather_object(everyone, mine)
        return everyone


@contextlib.contextmanager
def init_process_group() -> Iterator[Ranks]:
    """The ranks that torchrun started this process as one of; alone without torchrun.

    An error of a rank that is not the first says which rank it is from.

    Raises:
        RankError: If the other ranks cannot be reached.
    """
    if not dist.is_torchelastic_launched() or os.environ.get("WORLD_SIZE") == "1":
        alone = Ranks()
        alone.by_torchrun = dist.is_torchelastic_launched()
        if alone.by_torchrun:
            end_with_parent(number=signal.SIGTERM)
        yield alone
        return
    end_with_parent(number=signal.SIGTERM)  # torchrun, if killed, leaves its processes alone
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _in_contact():
        dist.init_process_group(backend, timeout=SILENCE)
    ranks = TorchrunRanks()
    if ranks.local < torch.cuda.device_count():
        # Before anything else touches CUDA, which would do so on the first device.
        torch.cuda.set_device(ranks.local)
    try:
        yield ranks
        ranks.all_end = True
    except GoldnasError as error:
        if ranks.first or ranks.all_end:
            raise
        raise type(error)(f"rank {ranks.index}: {error}") from None
    finally:
        if ranks.all_end:  # else nccl would wait for ranks that do not come any more
            dist.destroy_process_group()


@contextlib.contextmanager
def _in_contact() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what gloo and nccl raise, among others
        # Without the place in their source before it, and the advice after it.
        reason = re.sub(r"^\[\S+\] ", "", str(error).strip()).splitlines()[0].split(". ")[0]
        raise RankError(
            "lost contact with the other ranks: one has ended or cannot be reached "
            f"({reason}); see its output"
        ) from None
