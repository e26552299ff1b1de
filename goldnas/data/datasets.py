"""Loading a dataset, by name or by path."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from goldnas import trust
from goldnas.data.examples import Dataset, ImageData
from goldnas.data.files import has_image_of
from goldnas.data.named import DATASET_NAMES, load_named
from goldnas.data.npz import load_npz, read_arrays
from goldnas.data.on_disk import list_training_images, load_folder, load_shards
from goldnas.data.own import OwnData, find_doubts, load_own
from goldnas.data.shards import are_shards
from goldnas.errors import ConfigError, DataError, GoldnasWarning, is_text, show_name
from goldnas.reference import GIVEN, is_function

DEFAULT_DATA_DIR = Path("data")


def load_dataset(
    name: str,
    *,
    data_dir: Path | str | None = None,
    download: bool = True,
    image_size: int | None = None,
    labelled: bool = True,
) -> Dataset:
    """Load a dataset, and warn if nothing can be learnt, for example if all images are alike.

    Args:
        name: One of ``DATASET_NAMES``; or the path of an ``.npz`` file with uint8 images
            ``x_train``, ``x_test`` and integer labels ``y_train``, ``y_test``, see
            :func:`goldnas.data.npz.load_npz`; or the path of a folder with ``train/`` and
            ``test/`` (or ``val/``), each with one folder of images per class; or shards, see
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
    trust.allow(name)
    dataset = _load(name, data_dir, download, image_size, labelled)
    for doubt in _find_doubts(name, dataset):
        warnings.warn(doubt, GoldnasWarning, stacklevel=2)
    return dataset


def _find_doubts(name: str, dataset: Dataset) -> Iterator[str]:
    """What makes the results of data worth nothing, and may have been meant."""
    train, test = dataset.train, dataset.test
    if isinstance(train, OwnData) and isinstance(test, OwnData):
        yield from find_doubts(train, test)
    alike = {
        part: examples.find_alike()
        for part, examples in (("training", train), ("test", test))
        if isinstance(examples, ImageData)
    }
    for part, how in alike.items():
        if how:
            yield (
                f"the {part} images of {name} are {how}: nothing can be learnt from them. "
                "Check how they were written"
            )
    if name in DATASET_NAMES or any(alike.values()):
        return
    if not (isinstance(train, ImageData) and isinstance(test, ImageData)):
        return
    if repeated := test.count_in(train):
        yield (
            f"{repeated} of the {len(test)} test images of {name} are also training images: "
            "the accuracy says nothing about new images. Remove them from one part"
        )


def _load(
    name: str,
    data_dir: Path | str | None,
    download: bool,
    image_size: int | None,
    labelled: bool,
) -> Dataset:
    path = Path(name)
    is_folder = name not in DATASET_NAMES and os.path.isdir(path)
    of_shards = name not in DATASET_NAMES and are_shards(name)
    of_arrays = path.suffix == ".npz" or name in GIVEN
    if not (name in DATASET_NAMES or is_folder or of_shards or of_arrays or is_function(name)):
        raise _unknown(name)
    if image_size is not None and (not (is_folder or of_shards) or image_size < 1):
        raise ConfigError(
            f"the image size of {image_size} pixels cannot be used for {name}: it must be "
            "positive, and only folders of images and shards are resized; leave it out"
        )
    if name in DATASET_NAMES:
        return load_named(name, Path(data_dir or DEFAULT_DATA_DIR), download=download)
    if path.suffix == ".npz":
        return load_npz(path)
    if of_shards:
        return load_shards(name, image_size)
    if is_folder:
        return load_folder(path, image_size)
    if isinstance(arrays := GIVEN.get(name), dict):
        return read_arrays(arrays, name, place=name)
    return Dataset(name, *load_own(name, labelled=labelled))


def _unknown(name: str) -> DataError:
    """The error for a name of nothing that is there."""
    home = "~" in Path(name).parts
    return DataError(
        f"unknown dataset {name!r}; known: {', '.join(DATASET_NAMES)}, the path of an .npz "
        "file, of a folder with train/ and test/ or val/, of shards, as in "
        "shards/train-{000..099}.tar, and a function of yours, my_package.my_module:data"
        + home
        * ". The ~ does not stand for your home folder here: write the folder out"
    )


def reaches_size(name: str, image_size: int) -> bool:
    """Whether some training image on disk has sides of at least this size; no for other data.

    Raises:
        DataError: If there is no such folder, or an image cannot be read.
    """
    if name in DATASET_NAMES or not (os.path.isdir(name) or are_shards(name)):
        return False
    return has_image_of(list_training_images(name), image_size)


def resolve_data(name: str) -> str:
    """A name of data that is valid in every folder: paths are made absolute.

    Raises:
        DataError: If the path is not UTF-8.
    """
    if name in DATASET_NAMES or (is_function(name) and not os.path.lexists(name)):
        return name
    path = os.path.realpath(name)
    if not is_text(path):
        raise DataError(
            f"{name} is {show_name(path)}, which is not UTF-8, and logs need UTF-8; rename it"
        )
    return path
