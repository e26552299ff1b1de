"""Data that a program gives in place of a name: arrays, or two datasets of PyTorch."""

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from goldnas import trust
from goldnas.data.layout import LAYOUT
from goldnas.data.npz import NPZ_KEYS
from goldnas.data.tensors import to_array, to_tensor
from goldnas.errors import DataError, name_type, read_message
from goldnas.reference import give

_FORMS = (
    "the name or path of a dataset, a dictionary of the arrays x_train, y_train, x_test and "
    "y_test, ((x_train, y_train), (x_test, y_test)), or a pair of datasets of PyTorch"
)


def name_data(data: Any) -> str:
    """Return a name for data, under which this program finds it.

    Args:
        data: A name, a path, four arrays or tensors, the training and the test dataset of
            PyTorch, or a function that returns one of these. uint8 images ``(N, H, W[, C])`` or
            ``(N, C, H, W)`` with integer labels are augmented as images, and ``layout`` may say
            which shape they have. Other arrays are used as they are.

    Raises:
        DataError: If it is anything else.
    """
    if isinstance(data, str | Path):
        trust.allow(str(data))
        return str(data)
    if inspect.isfunction(data):
        data = data()
    if data is None:
        raise DataError(f"`data` is None; give {_FORMS}")
    found: Any = data
    if isinstance(data, tuple | list) and len(data) == 2:
        if all(isinstance(part, tuple | list) and len(part) == 2 for part in data):
            found = dict(zip(NPZ_KEYS, (array for part in data for array in part), strict=True))
        elif not all(
            hasattr(part, "__getitem__") and hasattr(part, "__len__") for part in data
        ):
            raise DataError(f"`data` is a pair of other things; give {_FORMS}")
    elif not isinstance(data, Mapping) or set(data) - {LAYOUT} != set(NPZ_KEYS):
        raise DataError(f"`data` is {name_type(data)}; give {_FORMS}")
    if isinstance(found, Mapping):
        arrays = {key: _read(key, value) for key, value in found.items()}
        _check_lengths(arrays)
        digest = _digest(*(part for a in arrays.values() for part in (str(a.shape), a)))
        return give("data", _prepared(arrays), digest, same=lambda one, other: True)
    return give("data", tuple(found), _digest_of_datasets(*found), same=_are_those)


def _are_those(one: Any, other: Any) -> bool:
    """Whether two pairs are of the same datasets."""
    return isinstance(one, tuple) and all(a is b for a, b in zip(one, other, strict=True))


def _read(key: str, value: Any) -> np.ndarray:
    if key == LAYOUT:
        return np.asarray(value)
    try:
        return to_array(value)
    except TypeError as error:
        number = "; number the classes, as numpy.unique does" if key.startswith("y") else ""
        raise DataError(
            f"`{key}` is not an array of numbers: {read_message(error)}{number}"
        ) from None


def _check_lengths(arrays: Mapping[str, np.ndarray]) -> None:
    for part in ("train", "test"):
        shapes = [arrays[f"{name}_{part}"].shape for name in "xy"]
        if not all(shapes) or shapes[0][0] != shapes[1][0]:
            raise DataError(
                f"x_{part} is of shape {shapes[0]} and y_{part} of {shapes[1]}; give a target "
                "for each input"
            )


def _digest_of_datasets(train: Any, test: Any) -> str:
    """Of their kinds, their lengths and, where they do not change, of some of their items."""
    some = []
    for part in (train, test):
        some += [type(part).__qualname__, str(len(part))]
        places = sorted(
            {round(i * (len(part) - 1) / 15) for i in range(16)} if len(part) else ()
        )
        try:
            with torch.random.fork_rng(devices=[]):
                items = [[_digest(part[place]) for place in places] for _ in range(2)]
        except Exception:  # of somebody's code; it is told of where the item is used
            continue
        if items[0] == items[1]:
            some += items[0]
    return _digest(*some)


def _digest(*values: Any) -> str:
    """Of texts, numbers, arrays, images, and what holds them."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, tuple | list):
            content = _digest(*value).encode()
        elif isinstance(value, str | int | float | np.generic):
            content = repr(value).encode()
        elif isinstance(value, torch.Tensor | np.ndarray) or hasattr(
            value, "__array_interface__"
        ):
            numbers = to_array(value) if isinstance(value, torch.Tensor) else np.asarray(value)
            content = numbers.tobytes()
        else:
            content = type(value).__qualname__.encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _prepared(arrays: dict[str, np.ndarray]) -> Any:
    """Arrays of images as they are; others as two datasets.

    Raises:
        DataError: If they are of whole numbers, and no images with classes.
    """
    for part in ("train", "test"):
        if arrays[f"y_{part}"].dtype == np.bool_:
            arrays[f"y_{part}"] = arrays[f"y_{part}"].astype(np.int64)
    inputs, targets = (
        [arrays[f"{name}_{part}"] for part in ("train", "test")] for name in "xy"
    )
    if all(np.issubdtype(array.dtype, np.floating) for array in inputs):
        if str(arrays.get(LAYOUT, "")) == "NHWC" and inputs[0].ndim == inputs[1].ndim == 4:
            inputs = [array.transpose(0, 3, 1, 2) for array in inputs]
        return tuple(
            TensorDataset(to_tensor(x), to_tensor(y))
            for x, y in zip(inputs, targets, strict=True)
        )
    for key in ("x_train", "x_test"):
        if arrays[key].dtype != np.uint8:
            raise DataError(
                f"`{key}` is {arrays[key].dtype} of shape {arrays[key].shape}: give both parts "
                "as uint8 images from 0 to 255, or as floats that the network can use as they "
                "are"
            )
    for key in ("y_train", "y_test"):
        if not np.issubdtype(arrays[key].dtype, np.integer):
            raise DataError(
                f"`{key}` is {arrays[key].dtype} of shape {arrays[key].shape}, and uint8 "
                "images need classes: one whole number for each image, counted from 0. With "
                "other targets, give the images as floats, and a `task`"
            )
    return arrays
