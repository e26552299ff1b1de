"""The gradient of a batch: in as many parts as fit in memory, over all ranks."""

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

from goldnas.errors import ConfigError, RunError
from goldnas.training.distributed import Ranks

LossOf = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Of images ``(B, C, H, W)`` and labels ``(B,)``, means over them: the loss to descend, and
the part of it to report."""


class BatchGradients:
    """Computes gradients of batches; remembers how many images fit in memory.

    The gradient is that of the whole batch, however the batch is divided: each part counts by
    its share of the images. Normalisation is over one part, because only a part is in memory.

    Args:
        ranks: That each have a part of every batch.
        num_images: In a whole batch.
        accumulate: Parts that each rank divides its own part into.
        halved: Told, after it ran out of memory, the images at once and the parts of a step.
    """

    def __init__(
        self,
        ranks: Ranks,
        *,
        num_images: int,
        accumulate: int,
        halved: Callable[[int, int], None],
    ) -> None:
        self._ranks = ranks
        self._num_images = num_images
        self._halved = halved
        self._fewest, self._most = num_images // ranks.count, -(-num_images // ranks.count)
        self.at_once = -(-self._most // accumulate)
        """Images in memory at once, at most, on one device."""

    @property
    def parts(self) -> int:
        """Of the images of one rank; each has two at least, which are normalised together."""
        return max(1, min(-(-self._most // self.at_once), self._fewest // 2))

    def compute(
        self, network: nn.Module, images: Tensor, labels: Tensor, loss_of: LossOf
    ) -> Tensor:
        """Leave the gradient of a batch in the parameters; return its reported loss.

        Args:
            network: Whose parameters they are.
            images: ``(B, C, H, W)``, the images of this rank.
            labels: ``(B,)``.
            loss_of: The loss.

        Raises:
            RunError: If two images at once are too many.
        """
        # All ranks try again if one has to: they divide alike.
        while (loss := self._tried(network, images, labels, loss_of)) is None:
            self._halve(network)
        if self._ranks.count > 1:
            # Of the running statistics the mean: they stay the same on every rank as well.
            statistics = running_statistics(network)
            for tensor in statistics:
                tensor.mul_(len(labels) / self._num_images)
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            self._ranks.all_reduce([*gradients, *statistics, loss])
        return loss

    def _tried(
        self, network: nn.Module, images: Tensor, labels: Tensor, loss_of: LossOf
    ) -> Tensor | None:
        try:
            loss = self._of_parts(network, images, labels, loss_of)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            loss = None
        (failed,) = self._ranks.all_reduce_max(int(loss is None))
        return None if failed else loss

    def _of_parts(
        self, network: nn.Module, images: Tensor, labels: Tensor, loss_of: LossOf
    ) -> Tensor:
        network.zero_grad(set_to_none=True)
        reported: list[Tensor] = []
        parts = zip(
            images.tensor_split(self.parts), labels.tensor_split(self.parts), strict=True
        )
        for some_images, some_labels in parts:
            share = len(some_labels) / self._num_images
            loss, report = loss_of(some_images, some_labels)
            (loss * share).backward()  # type: ignore[no-untyped-call]
            reported.append(report.detach() * share)
        return torch.stack(reported).sum()

    def _halve(self, network: nn.Module) -> None:
        # Outside of the except clause, which would keep the failed attempt's tensors alive.
        network.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        parts, size = self.parts, -(-self._most // self.parts)
        self.at_once = max(2, size // 2)
        if self.parts == parts:
            raise self._ranks.common(
                RunError(
                    f"out of memory with {size} images at once, which cannot be halved: "
                    "take fewer `channels` or `cells`, or a machine with more memory"
                )
            )
        self._halved(self.at_once, self.parts * self._ranks.count)


def check_batch(num_images: int, ranks: int, accumulate: int) -> None:
    """Refuse to divide a batch so far that a part has one image, which has no variance.

    Raises:
        ConfigError: If it is.
    """
    if num_images // (ranks * accumulate) < 2:
        raise ConfigError(
            f"a batch of {num_images} images has fewer than 2 for each of {ranks} x "
            f"{accumulate} parts (processes x `accumulate`): use fewer parts, or a "
            f"`batch_size` of {2 * ranks * accumulate} or more"
        )


def running_statistics(network: nn.Module) -> list[Tensor]:
    """The running means and variances of the normalisations."""
    return list(
        chain.from_iterable(
            (
                buffer
                for name, buffer in module.named_buffers(recurse=False)
                if "running" in name
            )
            for module in network.modules()
        )
    )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or this machine, had no memory left."""
    # The last is what cuDNN and cuBLAS say, whose workspaces PyTorch does not keep.
    words = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(
        word in str(error) for word in words
    )
