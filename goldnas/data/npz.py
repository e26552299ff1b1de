"""Data sets in one ``.npz`` file: images and labels as arrays."""

import os
import sys
import zipfile
from pathlib import Path

import numpy as np

from goldnas.arrays import load_arrays
from goldnas.contents import ZIP, describe_other
from goldnas.data.examples import Dataset, ImageData
from goldnas.data.labels import check_labels
from goldnas.data.layout import LAYOUT, find_layout
from goldnas.errors import DataError, read_message

NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")


def load_npz(path: Path) -> Dataset:
    """Read uint8 images and integer labels ``(N,)``, by ``NPZ_KEYS``.

    Images are ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``. Where the shape does not
    say which, the array ``LAYOUT`` does: ``NHWC`` or ``NCHW``.

    Raises:
        DataError: If the file is missing or corrupt, or its arrays do not belong together.
    """
    if not os.path.exists(path):
        raise DataError(f"cannot read {path}: no such file; check the path")
    try:
        found, keys = load_arrays(path, (*NPZ_KEYS, LAYOUT), most_bytes=_find_memory())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        told = isinstance(error, zipfile.BadZipFile) and describe_other(path, own=ZIP)
        raise DataError(
            f"cannot read {path}: it is {told}"
            if told
            else f"cannot read {path}: {read_message(error)}; write it again with numpy.savez"
        ) from None
    if not set(NPZ_KEYS) <= set(found):
        raise DataError(
            f"{path} has the keys {', '.join(keys) or '(none)'}; "
            f"needed: {', '.join(NPZ_KEYS)}; rename its arrays"
        )
    return read_arrays(found, path.stem, place=str(path))


def _find_memory() -> int:
    """Bytes of memory that this machine has; what does not fit is not begun."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows, and who does not tell
        return sys.maxsize


def read_arrays(arrays: dict[str, np.ndarray], name: str, *, place: str) -> Dataset:
    """Images and labels in memory, by ``NPZ_KEYS``, as a dataset.

    Args:
        arrays: uint8 images and integer labels, as in a file.
        name: Of the dataset.
        place: Where they are from, for errors.

    Raises:
        DataError: If they do not belong together.
    """
    layout = str(arrays.get(LAYOUT, ""))
    arrays = {key: arrays[key] for key in NPZ_KEYS}
    _check_arrays(place, arrays)
    if find_layout(place, arrays["x_train"].shape, layout) == "NCHW":
        for key in ("x_train", "x_test"):
            arrays[key] = arrays[key].transpose(0, 2, 3, 1)
    num_classes = int(arrays["y_train"].max()) + 1
    return Dataset(
        name,
        ImageData.from_arrays(arrays["x_train"], arrays["y_train"], num_classes),
        ImageData.from_arrays(arrays["x_test"], arrays["y_test"], num_classes),
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
                "(N, H, W, C), (N, C, H, W) or (N, H, W)"
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
    check_labels(path, {key: arrays[key] for key in ("y_train", "y_test")})
