"""Accuracies of ready-made networks: published, from the user's file, or estimated.

A published accuracy holds for one image size. For smaller images goldnas estimates it: the
error grows with the cube root of the ratio of the sides. This is within 0.8 points of the
authors' figures for MobileNetV1 (arXiv:1704.04861, table 7) and MobileNetV2 (their code) at
192, 160 and 128 pixels. For larger images no gain is assumed.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from goldnas.bounded import read_bounded
from goldnas.errors import ConfigError, read_message
from goldnas.lut.lines import BadLineError, read_number, split_csv
from goldnas.zoo.file import Accuracy
from goldnas.zoo.networks import ReadyMade, Weights

_MOST_BYTES = 64 * 2**20

_NAMES = ("network", "model", "name")
_PERCENTS = ("accuracy", "accuracy_percent", "top1", "acc1", "acc@1")
_SIZES = ("image_size", "img_size", "size")
"""What columns may be called; timm's files have ``model``, ``top1`` and ``img_size``."""


@dataclass(frozen=True)
class GivenAccuracies:
    """Accuracies of a user's file by name, with the image size if the file has one."""

    path: Path
    found: Mapping[str, tuple[Weights, ...]]

    def of(self, name: str) -> tuple[Weights, ...]:
        """Accuracies of a network by its full or shorter name, or by a file's name or stem."""
        bare = name.rpartition("/")[2]
        names = (name, bare, bare.removesuffix(".onnx"))
        return next((self.found[known] for known in names if known in self.found), ())


def read_accuracies(path: Path) -> GivenAccuracies:
    """Read accuracies in percent from a CSV file with a header.

    Its columns are ``network`` (or ``model``), ``accuracy`` (or ``top1``), and optionally
    ``image_size`` (or ``img_size``). timm publishes such files. The part of a name after a dot
    names the weights: ``resnet50.a1_in1k``.

    Raises:
        ConfigError: If it is not such a file, or a value is not a percentage.
    """
    try:
        text = read_bounded(path, _MOST_BYTES).decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(
            f"cannot read accuracies from {path}: {reason}. Give a CSV file with the columns "
            "network and accuracy"
        ) from None
    try:
        (_, header), *lines = split_csv(text) or [(1, [])]
    except BadLineError as error:
        raise ConfigError(f"{path}: {read_message(error)}") from None
    columns = [cell.strip().lower() for cell in header]
    name_at, percent_at = _find(columns, _NAMES), _find(columns, _PERCENTS)
    size_at = _find(columns, _SIZES)
    if name_at is None or percent_at is None:
        raise ConfigError(
            f"{path} has the columns {', '.join(columns) or 'none'}; it needs network (or "
            "model) and accuracy (or top1), in percent"
        )
    found: dict[str, list[Weights]] = defaultdict(list)
    for number, cells in lines:
        place = f"line {number} of {path}"
        if len(cells) != len(header):
            raise ConfigError(f"{place} has {len(cells)} cells, but the header {len(header)}")
        percent = _number(cells[percent_at], place)
        if not 0 <= percent <= 100:
            raise ConfigError(f"{place}: an accuracy must be 0 to 100 percent, got {percent:g}")
        size = 0
        if size_at is not None and cells[size_at].strip():
            size = int(_number(cells[size_at], place))
        full = cells[name_at].strip()
        name, _, weights = full.partition(".") if not full.endswith(".onnx") else (full, "", "")
        found[name].append(Weights(weights, percent, size))
    return GivenAccuracies(path, {name: tuple(entries) for name, entries in found.items()})


def _find(columns: Iterable[str], names: Iterable[str]) -> int | None:
    listed = list(columns)
    return next((listed.index(name) for name in names if name in listed), None)


def _number(text: str, place: str) -> float:
    number = read_number(text)
    if number is None:
        raise ConfigError(f"{place}: {text!r} is not a number")
    return number


def find_accuracy(
    network: ReadyMade, image_size: int, given: GivenAccuracies | None = None
) -> Accuracy | None:
    """The best known accuracy of a network for an image size; None if there is none.

    The user's file takes precedence over published accuracies.

    Args:
        network: See :func:`goldnas.zoo.networks.find_network`.
        image_size: Side of the images, in pixels.
        given: Accuracies of the user's file.
    """
    said = given.of(network.name) if given is not None else ()
    entries = said or network.weights
    rated = [_at(one, image_size, given=bool(said)) for one in entries]
    return max(rated, key=lambda one: one.percent, default=None)


def _at(weights: Weights, image_size: int, *, given: bool) -> Accuracy:
    percent, size = weights.accuracy_percent, weights.image_size
    name = weights.name or None
    if size and size != image_size:
        estimated = estimate_percent(percent, size, image_size)
        return Accuracy(percent=estimated, source="estimated", weights=name)
    return Accuracy(percent=percent, source="given" if given else "published", weights=name)


def estimate_percent(percent: float, published_size: int, image_size: int) -> float:
    """Estimate the accuracy for images of another size than the published one.

    Args:
        percent: Published accuracy.
        published_size: Side of its images, in pixels.
        image_size: Side of the other images.
    """
    ratio = max(1.0, published_size / image_size)
    return max(0.0, 100 - (100 - percent) * math.cbrt(ratio))
