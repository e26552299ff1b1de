"""Small made-up data sets, and batches of them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goldnas.training.augmentation import Augmentation
from goldnas.training.data import ImageData, Normalisation
from goldnas.training.loader import TrainingLoader

EVERYTHING = Augmentation(
    crop_padding=2,
    flip=True,
    resized_crop=True,
    autoaugment=True,
    randaugment=True,
    colour_jitter=True,
    cutout=4,
)
RAW = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def colour_data(num_images: int = 40) -> ImageData:
    images = torch.from_numpy(noise(num_images, 3, 12, 12))
    return ImageData(images, torch.arange(num_images) % 4, 4)


def loader(
    data: ImageData, augmentation: Augmentation = EVERYTHING, **settings: Any
) -> TrainingLoader:
    return TrainingLoader(
        data, augmentation, RAW, **{"batch_size": 8, "seed": 3, "workers": 0, **settings}
    )


def same(left: Iterable[tuple[Tensor, Tensor]], right: Iterable[tuple[Tensor, Tensor]]) -> bool:
    return all(
        torch.equal(a, c) and torch.equal(b, d)
        for (a, b), (c, d) in zip(left, right, strict=True)
    )
