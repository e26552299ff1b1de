"""Accuracy while a network learns: divided among the ranks, in batches that fit in memory."""

import torch
from torch import nn

from goldnas.errors import RunError
from goldnas.search.gradients import is_out_of_memory
from goldnas.search.ranks import Ranks
from goldnas.training.data import ImageData, Normalisation
from goldnas.training.evaluate import count_right


class Scorer:
    """Scores networks on pictures; remembers how many fit in memory.

    Args:
        normalisation: Of the training data.
        device: Of this rank.
        ranks: That each look at their share of the pictures.
    """

    def __init__(
        self, normalisation: Normalisation, device: torch.device, ranks: Ranks
    ) -> None:
        self._normalisation = normalisation
        self._device = device
        self._ranks = ranks
        self._at_once = 256

    def accuracy(self, network: nn.Module, images: ImageData) -> float:
        """Share of pictures that a network classifies right."""
        mine = self._ranks.share(images)
        while (right := self._tried(network, mine)) is None:
            # Outside of the except clause, which would keep the failed attempt's tensors alive.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            if self._at_once == 1:
                raise RunError(
                    "out of memory with one picture to classify: take fewer --channels or "
                    "--cells, or a machine with more memory"
                )
            self._at_once //= 2
        return self._ranks.total(right) / len(images)

    def _tried(self, network: nn.Module, images: ImageData) -> int | None:
        """How many are classified right; None if memory does not suffice."""
        try:
            return count_right(
                network, images, self._normalisation, self._device, batch_size=self._at_once
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
