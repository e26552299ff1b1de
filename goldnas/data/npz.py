"""Data sets in one ``.npz`` file: images and labels as arrays."""

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from goldnas.data.examples import Dataset, ImageData
from goldnas.data.labels import check_labels
from goldnas.errors import DataError, read_message

NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
LAYOUT = "layout"
"""The key of what says where the channels are, if the shape does not."""

FEW_CHANNELS = (1, 2, 3, 4)


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
        with zipfile.ZipFile(path):  # numpy takes what is no archive for a pickle
            pass
        with np.load(path, allow_pickle=False) as file:
            known = [key for key in (*NPZ_KEYS, LAYOUT) if key in file.files]
            found = {key: np.asarray(file[key]) for key in known}
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
            f"cannot read {path}: {read_message(error)}; write it again with numpy.savez"
        ) from None
    if not set(NPZ_KEYS) <= set(found):
        raise DataError(
            f"{path} has the keys {', '.join(keys) or '(none)'}; "
            f"needed: {', '.join(NPZ_KEYS)}; rename its arrays"
        )
    return read_arrays(found, path.stem, place=str(path))


def read_arrays(arrays: dict[str, np.ndarray], name: str, *, place: str) -> Dataset:
    """Images and labels in memory, by ``NPZ_KEYS``, as a data set.

    Args:
        arrays: uint8 images and integer labels, as in a file.
        name: Of the data set.
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


def find_layout(place: str, shape: tuple[int, ...], layout: str = "") -> str:
    """Where the channels of images are: ``NHW``, ``NHWC`` or ``NCHW``.

    Args:
        place: Where they are from, for errors.
        shape: Of all images.
        layout: What their owner says; "" if nothing.

    Raises:
        DataError: If the shape fits both, or none, and their owner does not say.
    """
    if layout not in ("", "NHWC", "NCHW"):
        raise DataError(f"{place}: {LAYOUT} is {layout!r}; needed: NHWC or NCHW")
    if len(shape) == 3:
        return "NHW"
    if layout:
        return layout
    # A sign each: few channels, and a square image.
    signs = {
        name: (shape[channels] in FEW_CHANNELS) + (shape[height] == shape[width])
        for name, channels, height, width in (("NHWC", 3, 1, 2), ("NCHW", 1, 2, 3))
    }
    if signs["NHWC"] == signs["NCHW"]:
        raise DataError(
            f"{place}: images of shape {shape} may have {shape[3]} channels or {shape[1]}; say "
            f"which with an array {LAYOUT} beside them, NHWC or NCHW"
        )
    return max(signs, key=lambda name: signs[name])


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
