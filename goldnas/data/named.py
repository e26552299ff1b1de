"""The datasets that have a name: scikit-learn's digits, and what torchvision downloads."""

import http.client
import pickle
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from goldnas.data.examples import Dataset, ImageData, split_validation
from goldnas.errors import DataError, read_message

# scikit-learn's digits have no official split; this one is part of the dataset's meaning.
DIGITS_TEST_FRACTION = 0.2
DIGITS_SPLIT_SEED = 0


@dataclass(frozen=True)
class _Download:
    """A dataset of torchvision, and where under the data folder it lies."""

    reader: str
    """The name of its class."""
    folder: str


_DOWNLOADS = {
    "cifar10": _Download("CIFAR10", "cifar-10-batches-py"),
    "cifar100": _Download("CIFAR100", "cifar-100-python"),
    "fashion-mnist": _Download("FashionMNIST", "FashionMNIST/raw"),
}
DATASET_NAMES = (*_DOWNLOADS, "digits")


def load_named(name: str, folder: Path, *, download: bool) -> Dataset:
    """Load a dataset that has a name.

    Args:
        name: One of ``DATASET_NAMES``.
        folder: Where downloaded files are or go.
        download: Whether missing files may be downloaded.

    Raises:
        DataError: If its files are missing or corrupt.
    """
    return _load_digits() if name == "digits" else _load_download(name, folder, download)


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits  # a slow import that only this needs

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)  # values are 0 to 16
    data = ImageData.from_arrays(images, digits.target, num_classes=10)
    train, test = split_validation(data, DIGITS_TEST_FRACTION, DIGITS_SPLIT_SEED)
    return Dataset("digits", train, test)


def _load_download(name: str, folder: Path, download: bool) -> Dataset:
    from torchvision import datasets  # a slow import that only these need

    source = _DOWNLOADS[name]
    reader = getattr(datasets, source.reader)
    try:
        parts = [reader(folder, train=train, download=download) for train in (True, False)]
    except (
        OSError,  # also every URLError
        RuntimeError,  # torchvision: missing, or a checksum that differs
        ValueError,
        EOFError,
        http.client.HTTPException,
        pickle.UnpicklingError,
        tarfile.TarError,
        zlib.error,
    ) as error:
        raise DataError(
            f"cannot load {name}: {read_message(error)}; put its files in "
            f"{folder / source.folder}/, or name the folder that holds them with `data_dir`"
        ) from None
    train, test = (
        ImageData.from_arrays(
            np.asarray(part.data), np.asarray(part.targets), len(part.classes)
        )
        for part in parts
    )
    return Dataset(name, train, test, tuple(parts[0].classes))
