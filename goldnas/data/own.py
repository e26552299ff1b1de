"""Data of one's own: two map-style datasets of PyTorch, which a function returns."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from goldnas.data.examples import Batch, Normalisation
from goldnas.data.layout import has_channels_last
from goldnas.data.tensors import to_tensor
from goldnas.errors import DataError, name_type, read_message
from goldnas.reference import call_function, explain_error

_PAIR = "two datasets, of training and of test"


_LOOKED_AT = 16
"""Items of a part, evenly spaced, that are looked at for what may be wrong with all."""

_ALIKE = 10
"""How many times further the numbers of one part may reach than those of the other."""


@dataclass(frozen=True, eq=False)
class OwnData:
    """Some items of a dataset, each read when it is asked for, and used as it is."""

    name: str
    """For errors."""
    items: Any
    """The dataset."""
    indices: Tensor
    """int64 ``(N,)``, of its items."""
    blank: Batch
    """An input and a target of zeros."""
    labels: Tensor
    """int64 ``(N,)``, the classes; 0 for all where there are none."""
    num_classes: int | None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input."""
        return tuple(self.blank[0].shape)

    @property
    def kept(self) -> str:
        """Where they are, for the log."""
        return "read when they are used"

    def find_reach(self) -> float | None:
        """The largest size of a number among some inputs; None if one cannot be read."""
        every = -(-len(self) // _LOOKED_AT)
        try:
            inputs, _ = self.batch(torch.arange(0, len(self), every), Normalisation((), ()))
        except DataError:
            return None  # told of where it is used
        return float(inputs.abs().max())

    def blank_targets(self, count: int) -> Tensor:
        """Targets of zeros, ``(count, ...)``."""
        return self.blank[1].expand(count, *self.blank[1].shape)

    def subset(self, indices: Tensor) -> "OwnData":
        """Keep the items at ``indices``, in that order."""
        return replace(self, indices=self.indices[indices], labels=self.labels[indices])

    def batch(self, indices: Tensor, normalisation: Normalisation, seed: int = 0) -> Batch:
        """Read some items.

        Args:
            indices: int64 ``(B,)``.
            normalisation: Not used.
            seed: What torch, numpy and Python draw at random in the dataset follows from it.

        Raises:
            DataError: If one cannot be read, or is of another form than the first.
        """
        with _seeded(seed):
            pairs = [self._read(index) for index in self.indices[indices].tolist()]
        if not pairs:
            return self.blank[0][None][:0], self.blank[1][None][:0]
        inputs, targets = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        for tensor, what in ((inputs, "an input"), (targets, "a target")):
            self._check_finite(tensor, what, indices)
        if self.num_classes is not None:
            differing = (targets != self.labels[indices]).nonzero().flatten().tolist()
            for place in differing[:1]:
                index = indices[place]
                raise DataError(
                    f"item {int(self.indices[index])} of {self.name} has the label "
                    f"{int(targets[place])}, and had {int(self.labels[index])} before or in "
                    ".targets; labels must not change"
                )
        return inputs, targets

    def _check_finite(self, tensor: Tensor, what: str, indices: Tensor) -> None:
        """Refuse what would end in a loss that is no number, however slow the learning.

        Raises:
            DataError: If a number is infinite or none; the message names the first item.
        """
        if bool(tensor.isfinite().all()):
            return
        place = int((~tensor.isfinite()).flatten(1).any(1).nonzero()[0])
        raise DataError(
            f"item {int(self.indices[indices[place]])} of {self.name} has {what} with numbers "
            "that are infinite or not a number (NaN); repair it, or leave it out"
        )

    def _read(self, index: int) -> Batch:
        pair = _item(self.items, index, self.name)
        for found, first, what in zip(pair, self.blank, ("an input", "a target"), strict=True):
            if found.shape != first.shape:
                raise DataError(
                    f"item {index} of {self.name} has {what} of {_text(found)}, and item 0 has "
                    f"{_text(first)}; all must have the same shape"
                )
        return pair


def load_own(name: str, *, labelled: bool) -> tuple[OwnData, OwnData]:
    """The training and the test data that a function returns.

    Args:
        name: ``package.module:function``.
        labelled: Whether the targets are classes. Then there are as many classes as the
            training data has labels, which are those of its ``targets``, as datasets of
            torchvision have, or else those of all items, each read once.

    Raises:
        ConfigError: If there is no such function, it fails, or returns something else.
        DataError: If the datasets are not what can be learnt from.
    """
    pair = call_function(name, "data", _PAIR)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataError(f"{name} returns {_kind(pair)}, and must return {_PAIR}")
    names = [f"the {part} data of {name}" for part in ("training", "test")]
    train, test = (_read(items, its) for items, its in zip(pair, names, strict=True))
    for data in (train, test):
        if data.input_shape != train.input_shape:
            raise DataError(
                f"the inputs of {test.name} are {_text(test.blank[0])}, and those of the "
                f"training data {_text(train.blank[0])}; both must have the same shape"
            )
    if not labelled:
        return train, test
    labels = _labels(train)
    classes = int(labels.max()) + 1
    found = set(labels.tolist())
    if missing := [label for label in range(classes) if label not in found]:
        raise DataError(
            f"{train.name} has labels up to {classes - 1}, but none of class {missing[0]}; "
            "classes are counted from 0, each with items to learn from"
        )
    if classes < 2:
        raise DataError(f"{train.name} has items of 1 class; needed: two or more classes")
    others = _labels(test)
    if int(others.max()) >= classes:
        raise DataError(
            f"{test.name} has the label {int(others.max())}; those of the training data are 0 "
            f"to {classes - 1}"
        )
    return (
        replace(train, labels=labels, num_classes=classes),
        replace(test, labels=others, num_classes=classes),
    )


def find_doubts(train: OwnData, test: OwnData) -> Iterator[str]:
    """Warnings of data that may be right, but is more often a mistake."""
    shape = train.input_shape
    if len(shape) == 3 and has_channels_last(shape):
        yield (
            f"the inputs of {train.name} are {_text(train.blank[0])}, which a network reads as "
            f"{shape[0]} channels of {shape[1]}x{shape[2]}. If the channels are last, put them "
            "first, as in (N, C, H, W)"
        )
    reach, other = train.find_reach(), test.find_reach()
    if reach and other and not 1 / _ALIKE < reach / other < _ALIKE:
        yield (
            f"the numbers of {train.name} go up to {reach:.3g}, those of {test.name} to "
            f"{other:.3g}: scale both in the same way"
        )


def _read(items: Any, name: str) -> OwnData:
    """A dataset, of which one item is read."""
    try:
        if isinstance(items, IterableDataset) or not hasattr(items, "__getitem__"):
            raise TypeError("it has no items by index")
        length = len(items)
    except Exception as error:
        raise DataError(
            f"{name} is {_kind(items)}, and must be a map-style dataset of PyTorch, with a "
            f"length and items by index ({read_message(error)})"
        ) from None
    if length < 1:
        raise DataError(f"{name} is empty; give it items")
    with _seeded(0):
        first = _item(items, 0, name)
    return OwnData(
        name=name,
        items=items,
        indices=torch.arange(length),
        blank=(torch.zeros_like(first[0]), torch.zeros_like(first[1])),
        labels=torch.zeros(length, dtype=torch.long),
        num_classes=None,
    )


def _item(items: Any, index: int, name: str) -> Batch:
    """One item: a float32 input, and a target in float32 or int64."""
    try:
        item = items[index]
    except Exception as error:
        raise DataError(
            f"item {index} of {name} cannot be read: {explain_error(error)}"
        ) from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(
            f"item {index} of {name} is {_kind(item)}, and must be an input and a target"
        )
    tensors = []
    for value, what in zip(item, ("input", "target"), strict=True):
        if not isinstance(value, Tensor | np.ndarray | np.generic | int | float):
            raise DataError(
                f"item {index} of {name} has {_kind(value)} for its {what}; a tensor is needed"
            )
        try:
            tensors.append(to_tensor(value))
        except TypeError as error:
            raise DataError(
                f"item {index} of {name} has {_kind(value)} for its {what}: "
                f"{read_message(error)}"
            ) from None
    inputs, target = tensors
    if not inputs.is_floating_point() or inputs.dim() < 1:
        raise DataError(
            f"item {index} of {name} has an input in {inputs.dtype} of shape "
            f"{tuple(inputs.shape)}; it must be floating point, as the network uses it, with "
            "one dimension or more. Give word numbers as floats, and let the network call "
            ".long() on them"
        )
    return inputs.float(), target.float() if target.is_floating_point() else target.long()


def _labels(data: OwnData) -> Tensor:
    """The labels of all items, int64 ``(N,)``.

    Raises:
        DataError: If a target is no class.
    """
    if data.blank[1].dim() or data.blank[1].is_floating_point():
        kind = "floating point" if data.blank[1].is_floating_point() else "whole numbers"
        raise DataError(
            f"the targets of {data.name} are of shape {tuple(data.blank[1].shape)} in {kind}; "
            "a class is one whole number, and other targets need a `task`"
        )
    labels = _told_labels(data)
    if labels is None:
        with _seeded(0):
            labels = torch.stack([data._read(index)[1] for index in range(len(data))])
    if int(labels.min()) < 0:
        raise DataError(
            f"{data.name} has the label {int(labels.min())}; classes are counted from 0"
        )
    return labels


def _told_labels(data: OwnData) -> Tensor | None:
    """Those that the dataset has as ``targets``; None if it does not say."""
    try:
        labels = torch.as_tensor(data.items.targets)
    except Exception:  # it may be anything, such as a table whose rows begin elsewhere
        return None
    if labels.shape != (len(data),) or labels.is_floating_point():
        return None
    return labels.long()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let random draws follow from a seed, and leave the generators as they were."""
    before, numpy_before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would reset the generators of all devices as well.
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpy_before)


def _text(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _kind(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"{name_type(value)} of {len(value)}"
    return name_type(value)
