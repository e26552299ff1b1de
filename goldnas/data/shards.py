"""Shards as WebDataset writes them: tars of images, each beside its label.

A sample is ``0001.jpg`` with ``0001.cls``, the number of its class. Tars that are not
compressed can be read at any place, so each is looked through once, for where its images are.
From there on shards are like files: any number of processes share them evenly, images are
held out class by class, and a run that goes on sees the batches it would have seen. A stream of
samples, as the library ``webdataset`` gives it, has none of that: its order depends on who
reads.
"""

import os
import re
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from goldnas.bounded import open_regular
from goldnas.data.files import IMAGE_EXTENSIONS, Places, choose_decoding_threads
from goldnas.errors import DataError, read_message

LABEL = "cls"

_NUMBERS = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}")
_MOST_SHARDS = 100_000
_MOST_LABEL = 100  # bytes, of the file of a label
_MEMBER = re.compile(r"(?P<key>(?:.*/)?[^/.]+)\.(?P<extension>[^/]*)")
_BLOCK = 512  # bytes, of a tar


@dataclass(frozen=True, eq=False)
class Shards:
    """The images of some shards, in their order there."""

    places: Places
    labels: np.ndarray
    """int64 ``(N,)``."""


def are_shards(name: str) -> bool:
    """Whether the name of a dataset is that of shards, or of a folder that has some.

    A folder of images may have the tars beside ``train/`` that it was unpacked from.
    """
    if not os.path.isdir(name):
        return name.endswith(".tar")
    return not os.path.isdir(Path(name, "train")) and any(Path(name).glob("*.tar"))


def find_shards(name: str) -> tuple[list[Path], list[Path]]:
    """The shards to train on, and those of the test set.

    Args:
        name: A folder, whose shards to train on have ``train`` in their names; or these
            themselves, as ``shards/train-{000..099}.tar``. Those of the test set are in the
            same folder, and have ``test`` in their names, or else ``val``.

    Raises:
        DataError: If some are missing.
    """
    if os.path.isdir(name):
        folder = Path(name)
        train = sorted(path for path in folder.glob("*.tar") if "train" in path.name)
    else:
        folder = Path(name).parent
        train = [Path(path) for path in expand_shards(name)]
        missing = [path for path in train if not os.path.isfile(path)]
        if missing:
            raise DataError(
                f"there is no shard {missing[0]} ({len(missing)} of {len(train)} are missing); "
                "check the path and the numbers"
            )
    others = sorted(path for path in folder.glob("*.tar") if "train" not in path.name)
    others = [path for path in others if path not in train]
    test = [path for path in others if "test" in path.name]
    test = test or [path for path in others if "val" in path.name]
    for part, needed in ((train, "train-000.tar"), (test, "test-000.tar or val-000.tar")):
        if not part:
            raise DataError(
                f"{folder} has no shards named like {needed}; needed: shards to train on, with "
                "train in their names, and shards of the test set, with test or val"
            )
    return train, test


def expand_shards(name: str) -> list[str]:
    """``train-{08..10}.tar`` as ``train-08.tar``, ``train-09.tar``, ``train-10.tar``."""
    match = _NUMBERS.search(name)
    if match is None:
        return [name]
    first, last = match.groups()
    if max(len(first), len(last)) > 12 or int(last) - int(first) >= _MOST_SHARDS:
        raise DataError(
            f"{name:.200} names more than {_MOST_SHARDS} shards; correct the numbers"
        )
    if int(last) < int(first):
        raise DataError(f"{name} counts down, from {first} to {last}; swap the numbers")
    before, after = name[: match.start()], name[match.end() :]
    numbers = range(int(first), int(last) + 1)
    names: list[str] = []
    for number in numbers:
        names += expand_shards(f"{before}{number:0{len(first)}}{after}")
        if len(names) > _MOST_SHARDS:
            raise DataError(
                f"{name} names more than {_MOST_SHARDS} shards; correct the numbers"
            )
    return names


def read_shards(paths: list[Path]) -> Shards:
    """Find the images of shards, and their labels.

    Raises:
        DataError: If a shard is damaged, or a sample is not an image with a label; the
            message names it.
    """
    with ThreadPoolExecutor(choose_decoding_threads()) as pool:
        found = list(pool.map(_read, paths))
    counts = [len(labels) for _, labels in found]
    files = np.array([os.fsencode(path) for path in paths])
    return Shards(
        Places(np.repeat(files, counts), np.concatenate([pieces for pieces, _ in found])),
        np.concatenate([labels for _, labels in found]),
    )


def _read(shard: Path) -> tuple[np.ndarray, np.ndarray]:
    """Offset and size in bytes ``(N, 2)`` of the images of a shard, and their labels."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with open_regular(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                match = _MEMBER.fullmatch(member.name)
                if match is None or not member.isfile():
                    continue
                key, extension = match["key"], match["extension"].lower()
                if f".{extension}" in IMAGE_EXTENSIONS:
                    if key in images:
                        raise DataError(
                            f"{shard}: sample {key} has two images; needed: one image with a "
                            "label"
                        )
                    images[key] = (member.offset_data, member.size)
                elif extension == LABEL:
                    content = tar.extractfile(member)
                    assert content is not None  # of a file there is one
                    labels[key] = _label(shard, member.name, content.read(_MOST_LABEL))
            end = tar.offset
            file.seek(end)
            mark = file.read(_BLOCK)
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        raise DataError(
            f"cannot read the shard {shard}: {read_message(error)}; needed: a whole tar, "
            "without compression"
        ) from None
    if mark != bytes(_BLOCK):  # tarfile stops there, and says nothing
        raise DataError(
            f"cannot read the shard {shard}: it is not a tar from byte {end} on, so samples "
            "may be missing; copy it again"
        )
    for kind, has, needs in (("label", labels, images), ("image", images, labels)):
        for key in needs:
            if key not in has:
                raise DataError(
                    f"{shard}: sample {key} has no {kind}; needed: an image, such as "
                    f"{key}.jpg, and the number of its class in {key}.{LABEL}"
                )
    if not images:
        raise DataError(
            f"{shard} has no samples; needed: images, such as 0001.jpg, and the numbers of "
            f"their classes, such as 0001.{LABEL}"
        )
    return (
        np.array(list(images.values()), np.int64),
        np.array([labels[key] for key in images], np.int64),
    )


def _label(shard: Path, name: str, content: bytes) -> int:
    text = content.strip()
    if not (text.isdigit() and len(text) < 10):
        raise DataError(
            f"{shard}: {name} is {content[:20]!r}; needed: the number of a class, from 0"
        )
    return int(text)
