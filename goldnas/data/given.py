"""Data that a program gives in place of a name: arrays, or two datasets of PyTorch."""

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from goldnas.data.npz import NPZ_KEYS
from goldnas.errors import DataError
from goldnas.reference import give

_FORMS = (
    "the name or path of a dataset, a dictionary of the arrays x_train, y_train, x_test and "
    "y_test, ((x_train, y_train), (x_test, y_test)), or a pair of datasets of PyTorch"
)


def name_data(data: Any) -> str:
    """A name for data, under which this program finds it.

    Args:
        data: A name, a path, four arrays or tensors (uint8 images ``(N, H, W[, C])`` with
            integer labels are augmented as images; anything else is used as it is), the
            training and the test dataset of PyTorch, or a function that returns one of these.

    Raises:
        DataError: If it is anything else.
    """
    if isinstance(data, str | Path):
        return str(data)
    if inspect.isfunction(data):
        data = data()
    found: Any = data
    if isinstance(data, tuple | list) and len(data) == 2:
        if all(isinstance(part, tuple | list) and len(part) == 2 for part in data):
            found = dict(zip(NPZ_KEYS, (array for part in data for array in part), strict=True))
        elif not all(
            hasattr(part, "__getitem__") and hasattr(part, "__len__") for part in data
        ):
            raise DataError(f"`data` is a pair of something else; give {_FORMS}")
    elif not isinstance(data, Mapping) or set(data) != set(NPZ_KEYS):
        raise DataError(f"`data` is a {type(data).__name__}; give {_FORMS}")
    if isinstance(found, Mapping):
        arrays = {key: np.asarray(found[key]) for key in NPZ_KEYS}
        digest = hashlib.sha256(b"".join(a.tobytes() for a in arrays.values())).hexdigest()
        return give("data", _prepared(arrays), digest)
    train, test = found
    first = repr(train[0]) if len(train) else ""
    text = f"{type(train).__qualname__} {len(train)} {len(test)} {first}"
    return give("data", (train, test), hashlib.sha256(text.encode()).hexdigest())


def _prepared(arrays: dict[str, np.ndarray]) -> Any:
    """Arrays of images as they are; others as two datasets."""
    images = all(arrays[f"x_{part}"].dtype == np.uint8 for part in ("train", "test"))
    labels = all(
        np.issubdtype(arrays[f"y_{part}"].dtype, np.integer) for part in ("train", "test")
    )
    if images and labels and arrays["x_train"].ndim in (3, 4):
        return arrays
    return tuple(
        TensorDataset(*(torch.from_numpy(arrays[f"{name}_{part}"]) for name in "xy"))
        for part in ("train", "test")
    )
