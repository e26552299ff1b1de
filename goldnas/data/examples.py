"""What networks learn from; images in memory or on disk, their split and normalisation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from goldnas.data.files import ImageFiles
from goldnas.errors import ConfigError

# Mean and deviation are of at most this many images, evenly spaced: more change no digit
# that matters.
NORMALISATION_IMAGES = 50_000
# Of images on disk, which every process decodes for it before it begins.
NORMALISATION_FILES = 5_000

LOOKED_AT = 64
"""Images of a part, evenly spaced, that are compared to tell whether all are alike."""

Batch = tuple[Tensor, Tensor]
"""Inputs ``(B, ...)`` and their targets ``(B, ...)``."""


class Examples(Protocol):
    """Inputs with their targets."""

    def __len__(self) -> int:
        """How many there are."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input, such as ``(C, H, W)``."""

    @property
    def num_classes(self) -> int | None:
        """The number of classes; None if the targets are not classes."""

    @property
    def kept(self) -> str:
        """Where they are, for the log."""

    @property
    def labels(self) -> Tensor:
        """int64 ``(N,)``, the classes; 0 for all where there are none."""

    def subset(self: _SomeExamples, indices: Tensor) -> _SomeExamples:
        """Keep those at ``indices``, in that order."""

    def batch(self, indices: Tensor, normalisation: Normalisation, seed: int = 0) -> Batch:
        """Read those at ``indices``, without augmentation by goldnas.

        Raises:
            DataError: If one cannot be read.
        """

    def blank_targets(self, count: int) -> Tensor:
        """Targets of zeros, ``(count, ...)``."""


_SomeExamples = TypeVar("_SomeExamples", bound=Examples)


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images with their labels.

    Args:
        images: uint8 ``(N, C, H, W)``, or files that decode to it.
        labels: int64 ``(N,)``, each in ``[0, num_classes)``.
        num_classes: The number of classes.
    """

    images: Tensor | ImageFiles
    labels: Tensor
    num_classes: int

    @classmethod
    def from_arrays(cls, images: np.ndarray, labels: np.ndarray, num_classes: int) -> ImageData:
        """Take uint8 ``(N, H, W)`` or ``(N, H, W, C)`` to the layout of torch."""
        channels_last = images.reshape(*images.shape[:3], -1)
        channels_first = np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2))
        return cls(
            torch.from_numpy(channels_first),
            torch.from_numpy(labels.astype(np.int64)),
            num_classes,
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def kept(self) -> str:
        """Where the images are, for the log."""
        if isinstance(self.images, Tensor):
            return "in memory"
        whole = self.images.places.pieces is None
        return f"decoded from {'files' if whole else 'shards'} when they are used"

    def subset(self, indices: Tensor) -> ImageData:
        """Keep the images at ``indices``, in that order."""
        if isinstance(self.images, ImageFiles):
            images: Tensor | ImageFiles = self.images.subset(indices)
        else:
            images = self.images[indices]
        return ImageData(images, self.labels[indices], self.num_classes)

    def batch(self, indices: Tensor, normalisation: Normalisation, seed: int = 0) -> Batch:
        """Normalised images, float32 ``(B, C, H, W)``, and their labels, int64 ``(B,)``.

        Raises:
            DataError: If an image on disk is corrupt.
        """
        return normalisation.apply(self.images[indices]), self.labels[indices]

    def blank_targets(self, count: int) -> Tensor:
        """Labels of the first class, ``(count,)``."""
        return torch.zeros(count, dtype=torch.long)

    def find_alike(self) -> str:
        """Why nothing can be learnt from the images, judged by some of them; "" if it can.

        Raises:
            DataError: If an image on disk is corrupt.
        """
        if len(self) < 2:
            return ""
        every = -(-len(self) // LOOKED_AT)
        some = self.images[torch.arange(0, len(self), every)].flatten(1)
        if (some == some[0]).all():
            return "all the same"
        return "of one colour each" if (some == some[:, :1]).all() else ""

    def count_in(self, others: ImageData) -> int:
        """How many images are among others, bit by bit; 0 where they are not in memory."""
        if not (isinstance(self.images, Tensor) and isinstance(others.images, Tensor)):
            return 0
        known = set(_digests(others.images))
        return sum(digest in known for digest in _digests(self.images))

    def on(self, device: torch.device) -> ImageData:
        """Images in memory, and the labels, copied to a device."""
        assert isinstance(self.images, Tensor)
        return ImageData(self.images.to(device), self.labels.to(device), self.num_classes)


def _digests(images: Tensor) -> Iterator[bytes]:
    for image in images:
        yield hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset's official parts. A search sees ``train`` only."""

    name: str
    train: Examples
    test: Examples
    classes: tuple[str, ...] = ()
    """Their names, in the order of the labels; empty where there are numbers alone."""


def to_device(inputs: Tensor, device: torch.device, *, non_blocking: bool = False) -> Tensor:
    """Move inputs; images channels last, which is how convolutions of them are fastest."""
    if inputs.dim() != 4:
        return inputs.to(device, non_blocking=non_blocking)
    return inputs.to(device, memory_format=torch.channels_last, non_blocking=non_blocking)


def split_validation(
    train: _SomeExamples, fraction: float, seed: int
) -> tuple[_SomeExamples, _SomeExamples]:
    """Set a part of the training data aside, the same share of every class.

    Args:
        train: What to split.
        fraction: Share of each class that is set aside, in (0, 1). A class keeps at least
            one item for training.
        seed: Decides which; the same seed gives the same split.

    Returns:
        What remains for training, and the validation data; both in their old order.

    Raises:
        ConfigError: If ``fraction`` is out of range, or so small that nothing is set aside.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"the validation fraction must lie in (0, 1), got {fraction}")
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.zeros(len(train), dtype=torch.bool)
    counts = torch.bincount(train.labels, minlength=train.num_classes or 1)
    # Sorted once: to look a million labels through for each of a thousand classes takes long.
    by_class = torch.split(torch.argsort(train.labels, stable=True), counts.tolist())
    for members in by_class:
        count = min(round(fraction * len(members)), len(members) - 1)
        if count > 0:
            order = torch.randperm(len(members), generator=generator)
            held_out[members[order[:count]]] = True
    if not held_out.any():
        of_classes = f" of {train.num_classes} classes" if train.num_classes else ""
        raise ConfigError(
            f"a validation fraction of {fraction} holds out none of "
            f"{len(train)} items{of_classes}; choose a larger fraction"
        )
    validation = train.subset(held_out.nonzero().flatten())
    return train.subset((~held_out).nonzero().flatten()), validation


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and deviation of each channel over the training images, pixels in [0, 1].

    Of other data than images there are none: they are used as they are.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def measure(cls, train: Examples) -> Normalisation:
        """Measure the training images, from exact counts of their 256 values."""
        if not isinstance(train, ImageData):
            return cls((), ())
        channels = train.input_shape[0]
        counts = torch.zeros(channels, 256, dtype=torch.int64)
        in_memory = isinstance(train.images, Tensor)
        every = -(-len(train) // (NORMALISATION_IMAGES if in_memory else NORMALISATION_FILES))
        for indices in torch.split(torch.arange(0, len(train), every), 1_000):
            for channel, pixels in enumerate(train.images[indices].unbind(1)):
                counts[channel] += torch.bincount(pixels.flatten(), minlength=256)
        share = counts.double() / counts.sum(1, keepdim=True)
        values = torch.arange(256, dtype=torch.float64) / 255
        mean = share @ values
        variance = (share * (values - mean.unsqueeze(1)) ** 2).sum(1)
        # A channel that never changes is left at zero, not divided by it.
        std = variance.sqrt().clamp(min=1 / 255)
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def as_dict(self) -> dict[str, list[float]]:
        """For files: ``mean`` and ``std`` of pixels in [0, 1]; empty where there are none."""
        return {"mean": [*self.mean], "std": [*self.std]} if self.mean else {}

    def apply(self, images: Tensor) -> Tensor:
        """Map uint8 ``(B, C, H, W)`` to float32 of mean 0 and deviation 1."""
        scaled = images.to(torch.float32).mul_(1 / 255)  # the bits of v2's to_dtype
        # Not v2's normalize, which waits for the device that the images are on.
        mean, std = (_per_channel(values, images.device) for values in (self.mean, self.std))
        return scaled.sub_(mean).div_(std)


@lru_cache(maxsize=16)
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """``(C, 1, 1)`` on a device, copied there once."""
    return torch.tensor(values, device=device).view(-1, 1, 1)
