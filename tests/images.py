"""Small made-up data sets, and batches of them."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from goldnas.data.augmentation import Augmentation
from goldnas.data.examples import ImageData, Normalisation
from goldnas.data.loader import TrainingLoader

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


def png(value: int, size: tuple[int, int] = (10, 10)) -> bytes:
    """A image of noise whose first pixel has a value."""
    pixels = noise(*size, 3)
    pixels[0, 0] = value
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_shards(folder: Path) -> Path:
    """Three shards of four samples to train on, one to test; the first pixel counts them."""
    for name, first in {"train-08": 0, "train-09": 4, "train-10": 8, "val-0": 12}.items():
        members = {}
        for number in range(first, first + 4):
            members |= {
                f"{number:04}.png": png(number),
                f"{number:04}.cls": b"%d\n" % (number % 2),
                f"{number:04}.json": b"{}",
            }
        write_tar(folder / f"{name}.tar", members)
    return folder
