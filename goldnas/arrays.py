"""Arrays in files of NumPy, ``.npy`` and ``.npz``.

Sizes that a file states are checked against its bytes before memory is taken for them.
"""

import math
import os
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from goldnas.bounded import open_regular
from goldnas.errors import read_message

Array = np.ndarray[Any, Any]

_MOST_RATIO = 1033
"""What deflate makes of nothing but zeros."""

_DAMAGE = (
    *(ValueError, EOFError, SyntaxError, TypeError, OverflowError, zlib.error),
    *(RuntimeError, NotImplementedError),  # zipfile: encrypted, or of an unknown compression
)


def load_arrays(
    path: Path, wanted: Collection[str] | None = None, *, most_bytes: int
) -> tuple[dict[str, Array], list[str]]:
    """Read arrays by their names; that of an ``.npy`` file has none.

    Args:
        path: The file.
        wanted: Names of those to read, if they are there; all unless given.
        most_bytes: That they may take.

    Returns:
        The arrays, and the names of all that are in the file.

    Raises:
        OSError: If it cannot be read, or is no regular file.
        ValueError: If it is damaged, holds objects of Python, or is too large.
        zipfile.BadZipFile: If it is neither an array nor a whole archive.
    """
    with open_regular(path) as file:
        try:
            if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                size = os.fstat(file.fileno()).st_size
                return {"": _read(file, size, most_bytes)}, [""]
            with zipfile.ZipFile(file) as archive:
                return _unpack(archive, wanted, most_bytes)
        except _DAMAGE as error:
            raise ValueError(read_message(error)) from None


def _unpack(
    archive: zipfile.ZipFile, wanted: Collection[str] | None, most_bytes: int
) -> tuple[dict[str, Array], list[str]]:
    entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    found: dict[str, Array] = {}
    for name, entry in entries.items():
        if wanted is not None and name not in wanted:
            continue
        packed, size = entry.compress_size, entry.file_size
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name[:60]!r} has a compression that NumPy does not use")
        if size > _MOST_RATIO * packed + 1000:
            raise ValueError(
                f"{name[:60]!r} cannot have {size} bytes, from {packed} compressed bytes"
            )
        left = most_bytes - sum(array.nbytes for array in found.values())
        with archive.open(entry) as file:
            found[name] = _read(file, size, left)
    return found, list(entries)


def _read(file: IO[bytes], size: int, most_bytes: int) -> Array:
    """An array of a file of ``size`` bytes, if that is what its header says."""
    file.seek(0)
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError("it has records, not numbers")
    try:
        shape, _, kind = _HEADERS[version](file)
    except Exception as error:  # of Python's parser there are several kinds
        raise ValueError(f"its header is not that of an array: {read_message(error)}") from None
    if kind.hasobject:
        raise ValueError("Object arrays are not read, because they can run code")
    if not kind.itemsize:
        raise ValueError(f"its numbers have the type {kind}, which takes no bytes")
    needed, there = math.prod(shape) * kind.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or needed > there:
        raise ValueError(
            f"an array of shape {shape} does not fit into the {there} bytes of the file"
        )
    if needed > most_bytes:
        raise ValueError(f"its arrays take more than {most_bytes / 2**30:.3g} GiB")
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)


_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}
"""What reads a header, by its version."""
