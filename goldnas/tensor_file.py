"""Reading files of ``torch.save``, after a check of their content.

Such a file is an archive of storages, and a pickle of the tensors made of them. PyTorch trusts
both: a compressed megabyte becomes gigabytes, and a tensor gets the size that the file states.
Here all sizes are checked against the file before memory is taken, and all names against the
few that files of weights have. Then PyTorch reads the file: only plain values and tensors.
"""

import hashlib
import io
import math
import mmap
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from goldnas.bounded import open_regular

if TYPE_CHECKING:
    from torch import Tensor, nn

_ITEM_BYTES = {
    **{"FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2},
    **{"LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1},
    **{"ByteStorage": 1, "BoolStorage": 1},
}


def read_tensors(path: Path, most_bytes: int, *, legacy: bool = False) -> Any:
    """Read a file of plain values and tensors, which come to the CPU.

    Args:
        path: Of the file.
        most_bytes: That it may have.
        legacy: Whether it may be of the form that PyTorch wrote before version 1.6.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is larger, or is not what ``torch.save`` writes of such values.
    """
    import torch

    with open_regular(path) as file:
        _check_size(file, most_bytes)
        if legacy and file.read(len(_LEGACY)) == _LEGACY:
            _check_legacy(file)
        else:
            _check(file)
        file.seek(0)
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # nearly any; not in torch's words, which advise what is unsafe
            raise ValueError("the file is damaged") from None


def check_like(found: Any, like: "Mapping[str, Tensor]") -> None:
    """Refuse tensors that are not of the types and shapes of others, or are no finite numbers.

    Args:
        found: In a file; which of them there have to be, ``load_state_dict`` says.
        like: Those that they are to take the place of, by name.

    Raises:
        ValueError: Naming the first that is wrong.
    """
    if not isinstance(found, dict):
        raise ValueError("it has no weights")
    for name, value in found.items():
        if (mine := like.get(name)) is not None:
            check_tensor(str(name), value, mine)


def compute_digest(tensors: "Mapping[str, Tensor]") -> str:
    """The SHA-256 of names, types, shapes and numbers, as hexadecimal."""
    import torch

    told = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        told.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        numbers = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        told.update(numbers.numpy().data)
    return told.hexdigest()


def load_state(module: "nn.Module", state: "Mapping[str, Tensor]", **how: bool) -> None:
    """Load weights that a module of the same kind had.

    PyTorch notes a version of each module beside them, which files of tensors do not keep.
    Some modules of others, such as torchvision's MNASNet, refuse weights without it.

    Args:
        module: Takes them.
        state: By name.
        how: ``strict`` and ``assign``, as of ``load_state_dict``.

    Raises:
        RuntimeError: If they do not fit.
    """
    noted: Any = OrderedDict(state)
    noted._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(noted, **how)


def check_tensor(name: str, value: Any, like: "Tensor") -> None:
    """Refuse a tensor that is not of the type and shape of another, or is not finite.

    Raises:
        ValueError: Naming it.
    """
    import torch

    if type(value) not in (torch.Tensor, torch.nn.Parameter):
        raise ValueError(f"{name} is not a tensor")
    if value.dtype != like.dtype or value.shape != like.shape:
        kinds = (f"{one.dtype} of {tuple(one.shape)}" for one in (value, like))
        raise ValueError("{} is {}, not {}".format(name, *kinds))
    if value.is_floating_point() and not value.isfinite().all():
        raise ValueError(f"{name} has values that are not finite")


def _check_size(file: BinaryIO, most_bytes: int) -> None:
    size = os.fstat(file.fileno()).st_size
    if size > most_bytes:
        raise ValueError(
            f"it has {size / 2**20:.1f} MiB, and at most {most_bytes / 2**20:.1f} are read"
        )


def _check(file: BinaryIO) -> None:
    """Refuse a file that holds more than it has bytes.

    Raises:
        ValueError: Saying what is wrong.
    """
    size = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(one.compress_type != zipfile.ZIP_STORED for one in entries):
                raise _UnlikeOursError("it is compressed, and files of torch.save are not")
            if sum(one.file_size for one in entries) > size:
                raise _UnlikeOursError("it states more content than it has bytes")
            (pickled,) = (one for one in entries if one.filename.endswith("/data.pkl"))
            root = pickled.filename.removesuffix("data.pkl") + "data/"
            sizes = {
                one.filename.removeprefix(root): one.file_size
                for one in entries
                if one.filename.startswith(root)
            }
            told = archive.read(pickled)
            # A byte at least for each; some small ones may be meant more than once.
            if _count(_Look(io.BytesIO(told), sizes).load(), {}) > 8 * len(told):
                raise _UnlikeOursError("it has endlessly nested lists")
    except _UnlikeOursError:
        raise
    except Exception:  # of what is no archive or no pickle: nearly any
        raise ValueError("the file is damaged") from None


def _check_legacy(file: BinaryIO) -> None:
    """The same of a legacy file: five pickles, one after another, and then the storages.

    Raises:
        ValueError: Saying what is wrong.
    """
    try:
        # Of which a pickle reads no more than there is, whatever it says.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for _ in range(3):  # a mark, the version, and what wrote it
                _Look(content, {}).load()
            look = _Look(content, None)
            began = content.tell()
            held = look.load()
            if _count(held, {}) > 8 * (content.tell() - began):
                raise _UnlikeOursError("it has endlessly nested lists")
            keys = _Look(content, {}).load()
            if set(keys) != look.storages.keys():
                raise _UnlikeOursError("its storages are not the ones that it names")
            # Each begins with its size.
            if (
                sum(8 + size for size in look.storages.values())
                != len(content) - content.tell()
            ):
                raise _UnlikeOursError("the sizes of its storages are wrong")
    except _UnlikeOursError:
        raise
    except Exception:
        raise ValueError("the file is damaged") from None


class _UnlikeOursError(ValueError):
    """What is not read, though PyTorch may have written it."""


_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""Begins what PyTorch wrote before version 1.6: the pickle of a number."""


class _Storage(NamedTuple):
    """What a pickle says of a storage, whose archive holds as much."""

    items: int


class _Look(pickle._Unpickler):
    """Looks through a pickle without making a tensor. In Python: C trusts its numbers, too.

    Args:
        content: The pickle begins at its place.
        sizes: Of the storages beside it, in bytes; None where they are not known yet.
    """

    def __init__(self, content: Any, sizes: dict[str, int] | None) -> None:
        super().__init__(content)
        self._sizes = sizes
        self.storages: dict[str, int] = {}
        """The size of each that is named, in bytes."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for the few things that our files name."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _look_at_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _look_at_parameter
        if module == "torch" and name in _ITEM_BYTES:
            return name
        raise _UnlikeOursError(
            f"it names {f'{module}.{name}':.100}, and only tensors and plain values are read"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage, if the archive holds it whole."""
        kind, key, _, items = pid[1:5]
        size = items * _ITEM_BYTES[kind]
        known = self.storages.setdefault(key, size) if self._sizes is None else self._sizes[key]
        # A view of a storage, which legacy files may name, has not been met in weights.
        if items < 0 or known != size or any(pid[5:]):
            raise _UnlikeOursError("the size of one of its storages is wrong")
        return _Storage(items)


def _look_at_tensor(
    storage: _Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any
) -> None:
    """Refuse a tensor that reaches beyond its storage, or meets an item of it twice."""
    if min(offset, *shape, *strides, 0) < 0 or len(shape) != len(strides):
        raise _UnlikeOursError("it has a tensor with a negative size")
    last = offset + sum(
        (size - 1) * stride for size, stride in zip(shape, strides, strict=True)
    )
    if math.prod(shape) and last >= storage.items:
        raise _UnlikeOursError("it has a tensor that is larger than its storage")
    if math.prod(shape) > storage.items:
        raise _UnlikeOursError("it has a tensor with more items than its storage")


def _look_at_parameter(*_: Any) -> None:
    """A tensor that was looked at, and whether it learns."""


def _count(value: Any, counted: dict[int, int]) -> int:
    """Places in lists and dictionaries, those of one that is met twice counted twice."""
    if not isinstance(value, dict | list | tuple):
        return 1
    if id(value) not in counted:
        counted[id(value)] = 10**12  # of a list that is in itself
        within = [*value, *value.values()] if isinstance(value, dict) else value
        counted[id(value)] = 1 + sum(_count(one, counted) for one in within)
    return counted[id(value)]
