"""Scores while a network learns: divided among the ranks, in batches that fit in memory."""

import torch
from torch import Tensor, nn

from goldnas.data.examples import Examples, Normalisation
from goldnas.errors import RunError
from goldnas.task import Task
from goldnas.training.distributed import Ranks
from goldnas.training.evaluate import summed
from goldnas.training.gradients import is_out_of_memory


class Scorer:
    """Scores networks on data; remembers how much of it fits in memory.

    Args:
        task: Whose metric is the score.
        normalisation: Of the training data.
        device: Of this rank.
        ranks: That each look at their share of the data.
    """

    def __init__(
        self, task: Task, normalisation: Normalisation, device: torch.device, ranks: Ranks
    ) -> None:
        self._task = task
        self._normalisation = normalisation
        self._device = device
        self._ranks = ranks
        self._at_once = 256

    def score(self, network: nn.Module, data: Examples) -> float:
        """The metric of a network: the share that it classifies right."""
        mine = self._ranks.shard(data)
        # A rank without a share adds nothing, in the shape of the others' sums.
        some = mine if len(mine) else data.subset(torch.arange(1))
        while (sums := self._tried(network, some)) is None:
            # Outside of the except clause, which would keep the failed attempt's tensors alive.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            if self._at_once == 1:
                raise RunError(
                    "out of memory with one image to classify: take fewer `channels` or "
                    "`cells`, or a machine with more memory"
                )
            self._at_once //= 2
        total = sums if len(mine) else torch.zeros_like(sums)
        self._ranks.all_reduce([total])
        return self._task.summarise(total / len(data))

    def _tried(self, network: nn.Module, data: Examples) -> Tensor | None:
        """The sum of the task's statistics; None if memory does not suffice."""
        settings = (self._normalisation, self._device, self._task)
        try:
            return summed(network, data, *settings, batch_size=self._at_once)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
