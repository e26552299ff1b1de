"""Images on disk, decoded as they are used: files of their own, or pieces of shards."""

from __future__ import annotations

import io
import math
import os
import tarfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import get_worker_info

from goldnas.bounded import open_regular
from goldnas.contents import describe_other
from goldnas.data.pixels import find_upright_size, read_rgb
from goldnas.errors import DataError, read_message, show_name

_Result = TypeVar("_Result")

# Of the area and of width to height, of a random part. Source: the ImageNet code of
# GoogLeNet's authors (arXiv:1409.4842), as torchvision's RandomResizedCrop has them.
PART_OF_AREA = (0.08, 1.0)
PART_RATIO = (3 / 4, 4 / 3)
PART_TRIES = 10

_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")

IMAGE_EXTENSIONS = {
    extension
    for extension, format in Image.registered_extensions().items()
    if format in _FORMATS and format in Image.OPEN
}
"""Of files that are taken for images: those formats, as far as this Pillow reads them."""

LONGEST = 8
"""Of an image, its longer side to the shorter one: of a longer one the middle is resized."""


def count_cores() -> int:
    """Processor cores that this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")  # Linux
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class Places:
    """Where images are on disk.

    Arrays, since loading processes share them: a list of a million paths would be copied into
    each of these, page by page, as it is looked at.
    """

    paths: np.ndarray
    """Bytes ``(N,)``: the file that holds each."""

    pieces: np.ndarray | None = None
    """int64 ``(N, 2)``: where in its file each begins, and of how many bytes it is; None where
    each is a file of its own."""

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: Tensor) -> Places:
        """Keep the images at ``indices``."""
        kept = indices.numpy()
        return Places(self.paths[kept], None if self.pieces is None else self.pieces[kept])

    def name(self, index: int) -> str:
        """The file, for people; and what it is called there, if it is a piece of one."""
        path = os.fsdecode(self.paths[index])
        if self.pieces is None:
            return show_name(path)
        offset = int(self.pieces[index, 0])
        try:
            with tarfile.open(path, "r:") as tar:
                member = next(m.name for m in tar if m.offset_data == offset)
        except (OSError, tarfile.TarError, StopIteration):  # it was changed meanwhile
            member = f"byte {offset}"
        return f"{show_name(member)} in {show_name(path)}"

    def look(self, index: int, look: Callable[[Image.Image], _Result]) -> _Result:
        """What a function finds in the image at ``index``, which is open for as long.

        Raises:
            DataError: If it cannot be read or decoded; the message names it.
        """
        try:
            with self._opened(index) as file, Image.open(file) as image:
                return look(image)
        except Exception as error:  # a broken file can raise nearly anything in PIL
            whole = os.fsdecode(self.paths[index]) if self.pieces is None else ""
            raise DataError(
                f"cannot read the image {self.name(index)}: {_explain(error, whole)}"
            ) from None

    def _opened(self, index: int) -> BinaryIO:
        path = os.fsdecode(self.paths[index])
        if self.pieces is None:
            return open_regular(path)
        offset, size = map(int, self.pieces[index])
        with open_regular(path) as file:
            file.seek(offset)
            return io.BytesIO(file.read(size))


def _explain(error: Exception, path: str) -> str:
    """Why Pillow did not read an image, and what to do; ``path`` is "" of one in a shard."""
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        return f"it has more than {most} million pixels, which is not read; make it smaller"
    reason = read_message(error)
    if isinstance(error, UnidentifiedImageError):  # says where in memory it is
        if path and (told := describe_other(path)):
            return f"it is {told}"
        reason = "it is not an image, or its format is unknown to Pillow"
    return f"{reason}; repair or remove the file"


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images on disk that are decoded when they are indexed.

    Args:
        places: Where they are.
        size: ``(H, W)`` of the decoded images. An image of another size is resized along
            its shorter edge and cropped at the centre.
    """

    places: Places
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(N, 3, H, W)``: files are always read as RGB."""
        return (len(self.places), 3, *self.size)

    def subset(self, indices: Tensor) -> ImageFiles:
        """Keep the files at ``indices``."""
        return ImageFiles(self.places.subset(indices), self.size)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Decode the images at ``indices`` ``(B,)`` to uint8 ``(B, 3, H, W)``.

        Raises:
            DataError: If a file cannot be decoded; the message names it.
        """
        return self._decoded(indices, lambda slot, image: fit_image(image, self.size))

    def parts(self, indices: Tensor, seed: int) -> Tensor:
        """Decode a random part of each image, resized: torchvision's RandomResizedCrop.

        Unlike a crop of what was resized before, a small part has the pixels of the original.

        Args:
            indices: ``(B,)``.
            seed: Decides the parts.

        Returns:
            uint8 ``(B, 3, H, W)``.

        Raises:
            DataError: If a file cannot be decoded; the message names it.
        """
        height, width = self.size

        def part(slot: int, image: Image.Image) -> Image.Image:
            whole = read_rgb(image)
            box = draw_box(whole.size, np.random.default_rng((seed, slot)))
            return whole.resize((width, height), Image.Resampling.BILINEAR, box=box)

        return self._decoded(indices, part)

    def _decoded(
        self, indices: Tensor, change: Callable[[int, Image.Image], Image.Image]
    ) -> Tensor:
        # Slow to import, and only files need it; not in the threads below.
        from torchvision.transforms.v2.functional import pil_to_tensor

        images = torch.empty((len(indices), *self.shape[1:]), dtype=torch.uint8)

        def decode(slot: int, index: int) -> None:
            images[slot] = self.places.look(
                index, lambda image: pil_to_tensor(change(slot, image))
            )

        # Loading processes stand side by side, and need no threads.
        threads = 1 if get_worker_info() else choose_decoding_threads()
        with _pillow_silenced(), ThreadPoolExecutor(threads) as pool:
            list(pool.map(decode, range(len(indices)), indices.tolist()))
        return images


@contextmanager
def _pillow_silenced() -> Iterator[None]:
    """Keep back Pillow's warnings, of damage that does not touch pixels: they name no file.

    Filters are those of the whole process: not for use in threads.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def choose_decoding_threads() -> int:
    """Threads that decode images in one process: Pillow computes beside Python."""
    return min(16, 2 + count_cores())


def fit_image(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An image as RGB of ``size`` (H, W): its shorter edge resized, its centre cropped."""
    rgb = read_rgb(image)
    if (rgb.height, rgb.width) == size:
        return rgb
    from torchvision.transforms import v2  # as above

    rgb = _without_ends(rgb)
    fit = v2.Compose([v2.Resize(min(size)), v2.CenterCrop(size)])
    fitting: Image.Image = fit(rgb)
    return fitting


def _without_ends(image: Image.Image) -> Image.Image:
    """The middle of a very long image: its ends would be resized, and then cropped."""
    length = LONGEST * min(image.size)
    if max(image.size) <= length:
        return image
    width, height = (min(side, length) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def draw_box(size: tuple[int, int], random: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a part of an image of ``size`` (W, H): left, top, right, bottom in pixels."""
    width, height = size
    narrow, wide = map(math.log, PART_RATIO)
    for _ in range(PART_TRIES):
        area = width * height * random.uniform(*PART_OF_AREA)
        ratio = math.exp(random.uniform(narrow, wide))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = (int(random.integers(room + 1)) for room in (width - w, height - h))
            return left, top, left + w, top + h
    # A very long image: its centre, as near to the ratios as it can be.
    w = min(width, round(height * PART_RATIO[1]))
    h = min(height, round(width / PART_RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def join_places(parts: list[Places]) -> Places:
    """All images of several parts, of one kind."""
    pieces = [part.pieces for part in parts if part.pieces is not None]
    paths = np.concatenate([part.paths for part in parts])
    return Places(paths, np.concatenate(pieces) if pieces else None)


def find_common_size(places: Places) -> tuple[int, int]:
    """Find the ``(H, W)`` that all images have; the first that differs ends it.

    Raises:
        DataError: If an image is of another size than the first, or unreadable.
    """

    def size_of(index: int) -> tuple[int, int]:
        return places.look(index, find_upright_size)

    with _pillow_silenced(), ThreadPoolExecutor(choose_decoding_threads()) as pool:
        first = size_of(0)
        for some in torch.split(torch.arange(len(places)), 1_000):
            indices = some.tolist()
            for index, size in zip(indices, pool.map(size_of, indices), strict=True):
                if size != first:
                    raise DataError(
                        f"{places.name(index)} is {size[0]}x{size[1]}, {places.name(0)} is "
                        f"{first[0]}x{first[1]}; choose one size for all with `image_size`"
                    )
    return first


def has_image_of(places: Places, side: int) -> bool:
    """Whether an image has no side of fewer pixels; the first that has none ends it.

    Raises:
        DataError: If an image is unreadable.
    """

    def is_large(index: int) -> bool:
        return min(places.look(index, find_upright_size)) >= side

    with _pillow_silenced(), ThreadPoolExecutor(choose_decoding_threads()) as pool:
        return any(
            found
            for some in torch.split(torch.arange(len(places)), 100)
            for found in pool.map(is_large, some.tolist())
        )
