"""The data sets that goldnas can read, by name or by path."""

from __future__ import annotations

import http.client
import math
import os
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torchvision import datasets

from goldnas.data.examples import Examples, ImageData, split_validation
from goldnas.data.files import ImageFiles, Places, common_size, joined
from goldnas.data.own import own_dataset
from goldnas.data.shards import are_shards, read_shards, shards_named
from goldnas.errors import ConfigError, DataError
from goldnas.reference import GIVEN, is_function

# Images on disk are kept decoded in memory up to this size, else decoded as they are used.
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
    classes: tuple[str, ...] = ()
    """Their names, in the order of the labels; empty where there are numbers alone."""


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
            ``val/``), each with one folder of images per class; or shards, see
            :mod:`goldnas.data.shards`; or ``package.module:function`` of a function that
            returns two datasets, which is imported.
        data_dir: Where downloaded files are or go; ``data/`` unless given.
        download: Whether missing files may be downloaded.
        image_size: Side in pixels that images on disk are resized and cropped to; not needed
            where they are all of one size.
        labelled: Whether a function's targets have to be classes.

    Raises:
        DataError: If the name is unknown, or the data is missing or corrupt.
        ConfigError: If ``image_size`` is given for other than images on disk, or not positive;
            if a function cannot be imported, or fails.
    """
    path = Path(name)
    is_folder = name not in DATASET_NAMES and os.path.isdir(path)
    of_shards = name not in DATASET_NAMES and are_shards(name)
    if image_size is not None and (not (is_folder or of_shards) or image_size < 1):
        raise ConfigError(
            f"the image size of {image_size} pixels cannot be used for {name}: it must be "
            "positive, and only folders of images and shards are resized; leave it out"
        )
    if name == "digits":
        return _digits()
    if name in _DOWNLOADS:
        return _downloaded(name, Path(data_dir or DEFAULT_DATA_DIR), download)
    if path.suffix == ".npz":
        return _npz(path)
    if of_shards:
        return _shards(name, image_size)
    if is_folder:
        return _folder(path, image_size)
    if isinstance(arrays := GIVEN.get(name), dict):
        return _of_arrays(name, name, arrays)
    if is_function(name):
        return Dataset(name, *own_dataset(name, labelled=labelled))
    raise DataError(
        f"unknown data set {name!r}; known: {', '.join(DATASET_NAMES)}, the path of an .npz "
        "file, of a folder with train/ and test/ or val/, of shards, as in "
        "shards/train-{000..099}.tar, and a function of yours, my_package.my_module:data"
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
    return Dataset(name, train, test, tuple(parts[0].classes))


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
    return _of_arrays(str(path), path.stem, found)


def _of_arrays(place: str, name: str, arrays: dict[str, np.ndarray]) -> Dataset:
    """Images and labels in memory; errors name the place that they are from."""
    _check_arrays(place, arrays)
    num_classes = int(arrays["y_train"].max()) + 1
    return Dataset(
        name,
        _image_data(arrays["x_train"], arrays["y_train"], num_classes),
        _image_data(arrays["x_test"], arrays["y_test"], num_classes),
    )


def _check_arrays(path: str, arrays: dict[str, np.ndarray]) -> None:
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
    _check_labels(path, {key: arrays[key] for key in ("y_train", "y_test")})


def _check_labels(place: str, labels: dict[str, np.ndarray]) -> None:
    """Check that labels count classes from 0, each with images to learn from.

    Args:
        place: For the error.
        labels: Of the training data and the test data, by a name for people.

    Raises:
        DataError: If they do not, or there is no second class.
    """
    of_train = next(iter(labels))
    highest, found = int(labels[of_train].max()), np.unique(labels[of_train])
    for key, some in labels.items():
        if some.min() < 0 or some.max() > highest:
            raise DataError(
                f"{place}: {key} has labels from {some.min()} to {some.max()}; "
                f"needed: 0 to {highest}, the highest in {of_train}"
            )
    if len(found) <= highest:
        first = next(n for n, label in enumerate(found.tolist()) if n != label)
        raise DataError(
            f"{place}: {of_train} has labels up to {highest}, but none of class {first}; "
            "needed: classes counted from 0, each with images to learn from"
        )
    _check_classes(place, len(found))


def _check_classes(place: str, classes: int) -> None:
    """Refuse data of one class, on which any network is always right.

    Raises:
        DataError: If there is no second class.
    """
    if classes < 2:
        raise DataError(
            f"{place} has images of {classes} class; needed: two classes or more, to tell apart"
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
    parts = [
        (Places(np.array([os.fsencode(path) for path, _ in part.samples])), part.targets)
        for part in (train, test)
    ]
    dataset = _on_disk(root.name, parts, len(train.classes), image_size)
    return replace(dataset, classes=tuple(train.classes))


def _shards(name: str, image_size: int | None) -> Dataset:
    train, test = (read_shards(shards) for shards in shards_named(name))
    _check_labels(f"the shards of {name}", {"train": train.labels, "test": test.labels})
    parts = [(part.places, part.labels.tolist()) for part in (train, test)]
    return _on_disk(Path(name).name, parts, int(train.labels.max()) + 1, image_size)


def _on_disk(
    name: str, parts: list[tuple[Places, list[int]]], classes: int, image_size: int | None
) -> Dataset:
    """The parts of a data set of files or shards; decoded, if they are not too large."""
    side = image_size or 0
    size = (side, side) if side else common_size(joined([places for places, _ in parts]))
    files = [ImageFiles(places, size) for places, _ in parts]
    in_memory = sum(math.prod(some.shape) for some in files) <= DECODED_BYTES_LIMIT
    train, test = (
        ImageData(
            some[torch.arange(len(labels))] if in_memory else some,
            torch.tensor(labels),
            classes,
        )
        for some, (_, labels) in zip(files, parts, strict=True)
    )
    return Dataset(name, train, test)
