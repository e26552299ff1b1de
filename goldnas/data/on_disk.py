"""Data sets of images on disk: folders by class, and shards."""

import math
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from goldnas.data.examples import Dataset, ImageData
from goldnas.data.files import ImageFiles, Places, find_common_size, join_places
from goldnas.data.folders import (
    choose_test_part,
    describe_left_out,
    quote_lookalike,
    read_class_folders,
)
from goldnas.data.labels import check_classes, check_labels
from goldnas.data.shards import are_shards, find_shards, read_shards
from goldnas.errors import DataError, GoldnasWarning, read_message

# Kept decoded in memory up to this size, else decoded as they are used.
DECODED_BYTES_LIMIT = 2 * 1024**3


def load_folder(root: Path, image_size: int | None) -> Dataset:
    """Read a folder with ``train/`` and ``test/`` (or ``val/``), each of one folder per class.

    Raises:
        DataError: If it is not such a folder, or its images are not of one size.
    """
    try:
        test_name, note = choose_test_part(root)
        train, test = (read_class_folders(root / part) for part in ("train", test_name))
    except OSError as error:
        raise _no_folder(root, error) from None
    if train.classes != test.classes:
        differing = sorted(set(train.classes) ^ set(test.classes))
        names = [quote_lookalike(name, differing) for name in differing]
        raise DataError(
            f"{root}: train/ and {test_name}/ have different classes: {', '.join(names)}; "
            "needed: the same class folders in both"
        )
    if names := [n for n in train.classes if quote_lookalike(n, train.classes) != n]:
        note += (
            "; classes with similar names are separate classes: "
            f"{', '.join(quote_lookalike(name, names) for name in names)}"
        )
    check_classes(f"{root}: train/", len(train.classes))
    for part, found in (("train", train), (test_name, test)):
        if left_out := describe_left_out(found):
            note += f"; {len(found.paths)} images of {part}/ are used. {left_out}"
    if note:
        warnings.warn(f"{root}: {note.removeprefix('; ')}", GoldnasWarning, stacklevel=2)
    parts = [
        (Places(np.array([os.fsencode(path) for path in part.paths])), part.labels)
        for part in (train, test)
    ]
    dataset = _on_disk(root.name, parts, len(train.classes), image_size)
    return replace(dataset, classes=tuple(train.classes))


def load_shards(name: str, image_size: int | None) -> Dataset:
    """Read shards, see :mod:`goldnas.data.shards`.

    Raises:
        DataError: If one is damaged, or their images are not of one size.
    """
    train, test = (read_shards(shards) for shards in find_shards(name))
    check_labels(f"the shards of {name}", {"train": train.labels, "test": test.labels})
    parts = [(part.places, part.labels.tolist()) for part in (train, test)]
    return _on_disk(Path(name).name, parts, int(train.labels.max()) + 1, image_size)


def list_training_images(name: str) -> Places:
    """Where the training images of a folder or of shards are.

    Raises:
        DataError: If it is neither.
    """
    if are_shards(name):
        return read_shards(find_shards(name)[0]).places
    try:
        found = read_class_folders(Path(name, "train"))
    except OSError as error:
        raise _no_folder(Path(name), error) from None
    return Places(np.array([os.fsencode(path) for path in found.paths]))


def _no_folder(root: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot read {root} as a folder of images: {read_message(error)}; needed: train/ "
        "and test/ or val/, each with one folder of images per class"
    )


def _on_disk(
    name: str, parts: list[tuple[Places, list[int]]], classes: int, image_size: int | None
) -> Dataset:
    """The parts of a dataset of files or shards; decoded, if they are not too large."""
    side = image_size or 0
    size = (
        (side, side) if side else find_common_size(join_places([places for places, _ in parts]))
    )
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
