"""The data sets that goldnas can read, by name or by path."""

from __future__ import annotations

import http.client
import math
import os
import tarfile
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import datasets

from goldnas.errors import ConfigError, DataError
from goldnas.reference import is_function
from goldnas.training.data import (
    DECODING_THREADS,
    Examples,
    ImageData,
    ImageFiles,
    split_validation,
    unreadable_image,
)
from goldnas.training.own import own_dataset

# A folder of images is kept decoded in memory up to this size, else read as it is used.
DECODED_BYTES_LIMIT = 2 * 1024**3
# scikit-learn's digits have no official split; this one is part of the data set's meaning.
DIGITS_TEST_FRACTION = 0.2
DIGITS_SPLIT_SEED = 0
DEFAULT_DATA_DIR = Path("data")
NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set's official parts. A search sees ``train`` only."""

    name: str
    train: Examples
    test: Examples


@dataclass(frozen=True)
class _Download:
    """A data set of torchvision, and where under the data folder it lies."""

    reader: type
    folder: str


_DOWNLOADS = {
    "cifar10": _Download(datasets.CIFAR10, "cifar-10-batches-py"),
    "cifar100": _Download(datasets.CIFAR100, "cifar-100-python"),
    "fashion-mnist": _Download(datasets.FashionMNIST, "FashionMNIST/raw"),
}
DATASET_NAMES = (*_DOWNLOADS, "digits")


def load_dataset(
    name: str,
    *,
    data_dir: Path | str | None = None,
    download: bool = True,
    image_size: int | None = None,
    labelled: bool = True,
) -> Dataset:
    """Load a data set.

    Args:
        name: One of ``DATASET_NAMES``; or the path of an ``.npz`` file with uint8 images
            ``x_train``, ``x_test`` ``(N, H, W[, C])`` and integer labels ``y_train``,
            ``y_test`` ``(N,)``; or the path of a folder with ``train/`` and ``test/`` (or
            ``val/``), each with one folder of images per class; or ``package.module:function``
            of a function that returns two datasets, which is imported.
        data_dir: Where downloaded files are or go; ``data/`` unless given.
        download: Whether missing files may be downloaded.
        image_size: Side in pixels that the images of a folder are resized and cropped to;
            not needed where they are all of one size.
        labelled: Whether a function's targets have to be classes.

    Raises:
        DataError: If the name is unknown, or the data is missing or corrupt.
        ConfigError: If ``image_size`` is given for other than a folder, or not positive; if a
            function cannot be imported, or fails.
    """
    path = Path(name)
    is_folder = name not in DATASET_NAMES and os.path.isdir(path)
    if image_size is not None and (not is_folder or image_size < 1):
        raise ConfigError(
            f"the image size of {image_size} pixels cannot be used for {name}: it must be "
            "positive, and only folders of images are resized; leave it out"
        )
    if name == "digits":
        return _digits()
    if name in _DOWNLOADS:
        return _downloaded(name, Path(data_dir or DEFAULT_DATA_DIR), download)
    if path.suffix == ".npz":
        return _npz(path)
    if is_folder:
        return _folder(path, image_size)
    if is_function(name):
        return Dataset(name, *own_dataset(name, labelled=labelled))
    raise DataError(
        f"unknown data set {name!r}; known: {', '.join(DATASET_NAMES)}, the path of an .npz "
        "file, the path of a folder with train/ and test/ or val/, and a function of yours, "
        "my_package.my_module:data"
    )


def resolved(name: str) -> str:
    """A name of data that means the same in every folder: paths are made absolute."""
    if name in DATASET_NAMES or (is_function(name) and not os.path.lexists(name)):
        return name
    return os.path.realpath(name)


def _image_data(images: np.ndarray, labels: np.ndarray, num_classes: int) -> ImageData:
    """Take uint8 ``(N, H, W)`` or ``(N, H, W, C)`` to the layout of torch."""
    channels_last = images.reshape(*images.shape[:3], -1)
    channels_first = np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2))
    return ImageData(
        torch.from_numpy(channels_first),
        torch.from_numpy(labels.astype(np.int64)),
        num_classes,
    )


def _digits() -> Dataset:
    from sklearn.datasets import load_digits  # a slow import that only this needs

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)  # values are 0 to 16
    data = _image_data(images, digits.target, num_classes=10)
    train, test = split_validation(data, DIGITS_TEST_FRACTION, DIGITS_SPLIT_SEED)
    return Dataset("digits", train, test)


def _downloaded(name: str, root: Path, download: bool) -> Dataset:
    source = _DOWNLOADS[name]
    try:
        parts = [source.reader(root, train=train, download=download) for train in (True, False)]
    except (
        OSError,  # also every URLError
        RuntimeError,  # torchvision: missing, or a checksum that differs
        ValueError,
        EOFError,
        http.client.HTTPException,
        tarfile.TarError,
        zlib.error,
    ) as error:
        raise DataError(
            f"cannot load {name}: {_one_line(error)}; put its files in "
            f"{root / source.folder}/, or name the folder that holds them with --data-dir"
        ) from None
    train, test = (
        _image_data(np.asarray(part.data), np.asarray(part.targets), len(part.classes))
        for part in parts
    )
    return Dataset(name, train, test)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _npz(path: Path) -> Dataset:
    if not os.path.exists(path):
        raise DataError(f"cannot read {path}: no such file; check the path")
    try:
        with zipfile.ZipFile(path):  # numpy takes what is no archive for a pickle
            pass
        with np.load(path, allow_pickle=False) as file:
            found = {key: np.asarray(file[key]) for key in NPZ_KEYS if key in file.files}
            keys = file.files
    except (
        OSError,
        ValueError,
        EOFError,
        RuntimeError,  # zipfile: encrypted, or of an unknown compression
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(
            f"cannot read {path}: {_one_line(error)}; write it again with numpy.savez"
        ) from None
    if len(found) < len(NPZ_KEYS):
        raise DataError(
            f"{path} has the keys {', '.join(keys) or '(none)'}; "
            f"needed: {', '.join(NPZ_KEYS)}; rename its arrays"
        )
    _check_npz(path, found)
    num_classes = int(found["y_train"].max()) + 1
    return Dataset(
        path.stem,
        _image_data(found["x_train"], found["y_train"], num_classes),
        _image_data(found["x_test"], found["y_test"], num_classes),
    )


def _check_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Check that the arrays are images and labels that belong together.

    Raises:
        DataError: If they are not; the message names the array.
    """
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.dtype != np.uint8 or x.ndim not in (3, 4) or 0 in x.shape:
            raise DataError(
                f"{path}: x_{part} is {x.dtype} of shape {x.shape}; needed: uint8 images "
                "(N, H, W, C) or (N, H, W)"
            )
        if not np.issubdtype(y.dtype, np.integer) or y.shape != x.shape[:1]:
            raise DataError(
                f"{path}: y_{part} is {y.dtype} of shape {y.shape}; needed: one integer "
                f"for each of the {len(x)} images, shape ({len(x)},)"
            )
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise DataError(
            f"{path}: x_train has images of {arrays['x_train'].shape[1:]}, x_test of "
            f"{arrays['x_test'].shape[1:]}; needed: one size for both"
        )
    highest, found = int(arrays["y_train"].max()), np.unique(arrays["y_train"])
    for key in ("y_train", "y_test"):
        if arrays[key].min() < 0 or arrays[key].max() > highest:
            raise DataError(
                f"{path}: {key} has labels from {arrays[key].min()} to {arrays[key].max()}; "
                f"needed: 0 to {highest}, the highest in y_train"
            )
    if len(found) <= highest:
        first = next(n for n, label in enumerate(found.tolist()) if n != label)
        raise DataError(
            f"{path}: y_train has labels up to {highest}, but none of class {first}; needed: "
            "classes counted from 0, each with pictures to learn from"
        )
    _check_classes(str(path), len(found))


def _check_classes(place: str, classes: int) -> None:
    """Refuse data of one class, on which any network is always right.

    Raises:
        DataError: If there is no second class.
    """
    if classes < 2:
        raise DataError(
            f"{place} has pictures of {classes} class; needed: two classes or more, to tell "
            "apart"
        )


def _folder(root: Path, image_size: int | None) -> Dataset:
    test_name = "test" if (root / "test").is_dir() else "val"
    try:
        train, test = (datasets.ImageFolder(root / part) for part in ("train", test_name))
    except OSError as error:
        raise DataError(
            f"cannot read {root} as a folder of images: {_one_line(error)}; needed: train/ "
            "and test/ or val/, each with one folder of images per class"
        ) from None
    if train.classes != test.classes:
        differing = sorted(set(train.classes) ^ set(test.classes))
        raise DataError(
            f"{root}: train/ and {test_name}/ differ in their classes: {', '.join(differing)}; "
            "needed: the same class folders in both"
        )
    _check_classes(f"{root}: train/", len(train.classes))
    paths = [Path(file) for file, _ in train.samples + test.samples]
    size = (image_size, image_size) if image_size else _common_size(paths)
    files = ImageFiles(tuple(paths), size)
    labels = torch.tensor(train.targets + test.targets)
    in_memory = math.prod(files.shape) <= DECODED_BYTES_LIMIT
    everything = torch.arange(len(paths))
    images = files[everything] if in_memory else files
    data = ImageData(images, labels, len(train.classes))
    parts = everything.tensor_split([len(train.samples)])
    return Dataset(root.name, *map(data.subset, parts))


def _common_size(paths: list[Path]) -> tuple[int, int]:
    """Find the ``(H, W)`` that all images have.

    Raises:
        DataError: If an image is of another size than the first, or unreadable.
    """

    def size_of(path: Path) -> tuple[int, int]:
        try:
            with Image.open(path) as image:
                return image.height, image.width
        except Exception as error:  # a broken file can raise nearly anything in PIL
            raise unreadable_image(path, error) from None

    with ThreadPoolExecutor(DECODING_THREADS) as pool:
        sizes = list(pool.map(size_of, paths))
    for path, size in zip(paths, sizes, strict=True):
        if size != sizes[0]:
            raise DataError(
                f"{path} is {size[0]}x{size[1]}, {paths[0]} is {sizes[0][0]}x{sizes[0][1]}; "
                "choose one size for all with --image-size"
            )
    return sizes[0]
