"""Shapes of a model's inputs: from the file, from the user, and derived from both."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from goldnas.errors import ConfigError
from goldnas.profiling.input_sizes import compute_size, find_sums
from goldnas.profiling.input_values import Array, find_tensor_type, read_value

Size: TypeAlias = int | str | None
"""Of a dimension: known, named, or neither."""

_EXAMPLE = 64
"""Stands for an open size in an example."""


@dataclass(frozen=True)
class Chosen:
    """Shapes of all inputs, and the arrays that were given for some."""

    shapes: Mapping[str, tuple[int, ...]]
    values: Mapping[str, Array | list[Array]]


def choose_shapes(
    path: Path,
    entries: Sequence[onnx.ValueInfoProto],
    batch: int | None,
    shapes: Mapping[str, Sequence[int]],
    values: Mapping[str, Any],
) -> Chosen:
    """Give each input a shape without open sizes.

    Given shapes and values hold. Sizes of one name are equal, unless the user gave two. A size
    that is computed from others, such as ``past + 1``, follows from them. Open first sizes
    without a name are the batch. Named first sizes are the batch, too, unless the name also
    stands elsewhere, or another name says that it is the batch. A sequence has the sizes of
    its elements.

    Args:
        path: Path of the model.
        entries: Inputs of the model.
        batch: Value of open first sizes; by default that of a given shape, or 1.
        shapes: Given shapes, by name of the input.
        values: Given values, by name of the input.

    Raises:
        ConfigError: If a size is still open, or a given shape or value does not fit.
    """
    declared = {entry.name: read_sizes(entry) for entry in entries}
    arrays = {
        entry.name: read_value(path, entry, values[entry.name])
        for entry in entries
        if entry.name in values
    }
    given = {name: tuple(shape) for name, shape in shapes.items()}
    for name, array in arrays.items():
        if name not in given and (shape := _shape_of(array, declared[name])) is not None:
            given[name] = shape
    for name, shape in given.items():
        setting = "shapes" if name in shapes else "values"
        _check_fits(path, name, declared[name], shape, setting)

    named: dict[str, int] = {}
    first = batch
    for name, shape in given.items():
        sizes = declared[name] or ()
        for size, chosen in zip(sizes, shape, strict=False):
            if isinstance(size, str):
                named.setdefault(size, chosen)
        if first is None and sizes and not isinstance(sizes[0], int):
            first = shape[0]
    first = first or 1
    sums = find_sums(size for sizes in declared.values() for size in sizes or ())
    for name in _batch_names(declared.values(), sums):
        named.setdefault(name, first)
    for name in sums:
        if (computed := compute_size(name, named)) is not None:
            named.setdefault(name, computed)

    def find(place: int, size: Size) -> Size:
        if isinstance(size, str):
            return named.get(size, size)
        return first if size is None and place == 0 else size

    still_open: dict[str, Sequence[Size] | None] = {}
    complete: dict[str, tuple[int, ...]] = {}
    for name, told in declared.items():
        known: Sequence[Size] | None = given.get(name)
        if known is None and told is not None:
            known = [find(place, size) for place, size in enumerate(told)]
        if known is not None and all(isinstance(size, int) for size in known):
            complete[name] = tuple(size for size in known if isinstance(size, int))
        else:
            still_open[name] = known
    if still_open:
        raise _ask(path, declared, still_open, named, sums)
    if batch is not None and not any(
        _takes(batch, declared[name], shape) for name, shape in complete.items()
    ):
        for name, shape in complete.items():
            raise ConfigError(
                f"{_shown(path, name, declared[name])}: its batch is "
                f"{shape[0] if shape else 'not one of its sizes'} and cannot be {batch}"
            )
    return Chosen(complete, arrays)


def read_sizes(entry: onnx.ValueInfoProto) -> tuple[Size, ...] | None:
    """The sizes of an input in a model; None if the model does not give their number.

    Exporters write -1 or ``?`` for a size that is open, and some write 0 for the batch.
    Anywhere else 0 is a size, such as that of an empty cache.
    """
    tensor = find_tensor_type(entry.type)
    if tensor is None or not tensor.HasField("shape"):
        return None
    sizes: list[Size] = []
    for dim in tensor.shape.dim:
        if dim.HasField("dim_value"):
            sizes.append(dim.dim_value if dim.dim_value >= 0 else None)
        else:
            is_name = any(c.isalpha() for c in dim.dim_param) and dim.dim_param != "None"
            sizes.append(dim.dim_param if is_name else None)
    if len(sizes) > 1 and sizes[0] == 0:
        sizes[0] = None
    return tuple(sizes)


def fix_shape(entry: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    """Write an input's shape into a model."""
    tensor = find_tensor_type(entry.type)
    assert tensor is not None
    tensor.shape.SetInParent()
    del tensor.shape.dim[:]
    for size in shape:
        tensor.shape.dim.add(dim_value=size)


def show_sizes(sizes: Sequence[Size]) -> str:
    """``1x3x224x224``; of what has no sizes, what that means."""
    return "x".join("?" if s is None else str(s) for s in sizes) or "a single number"


def _shown(path: Path, name: str, sizes: Sequence[Size] | None) -> str:
    known = "of any shape" if sizes is None else show_sizes(sizes)
    return f"input {name!r} of {path} is {known}"


def _shape_of(
    value: Array | list[Array], sizes: tuple[Size, ...] | None
) -> tuple[int, ...] | None:
    """The shape that a value has by itself; None of a number, which fills any shape."""
    if isinstance(value, list):  # each element has its own
        return value[0].shape
    if sizes is None or value.ndim > 1 or len(sizes) == 1:
        return value.shape if value.ndim or sizes is None else None
    if not value.ndim:
        return None
    # Numbers in a row: they may be of more dimensions than one, if only one is open.
    known = [size for size in sizes if isinstance(size, int)]
    count: int = prod(known)
    if len(known) == len(sizes):
        return tuple(known) if count == value.size else value.shape
    if len(known) + 1 == len(sizes) and count and value.size % count == 0:
        return tuple(s if isinstance(s, int) else value.size // count for s in sizes)
    return value.shape


def _check_fits(
    path: Path,
    name: str,
    sizes: tuple[Size, ...] | None,
    shape: tuple[int, ...],
    setting: str,
) -> None:
    """Refuse a shape that the model does not leave open. A size of 0 is, if it is told so."""
    if sizes is None:
        return
    pairs = zip(sizes, shape, strict=False)
    is_other = any(isinstance(size, int) and size not in (0, told) for size, told in pairs)
    if is_other or len(sizes) != len(shape):
        raise ConfigError(
            f"{_shown(path, name, sizes)}, and cannot be {show_sizes(shape)}. "
            f"Correct `{setting}`"
        )


def _batch_names(declared: Iterable[Sequence[Size] | None], sums: Collection[str]) -> list[str]:
    """Names of sizes that are the batch; none of those that are computed."""
    shapes = [[None if s in sums else s for s in sizes] for sizes in declared if sizes]
    names = [size for sizes in shapes for size in sizes if isinstance(size, str)]
    if told := [name for name in names if "batch" in name.lower()]:
        return told
    elsewhere = {size for sizes in shapes for size in sizes[1:]}
    first = [sizes[0] for sizes in shapes if isinstance(sizes[0], str)]
    return [name for name in first if name not in elsewhere]


def _takes(batch: int, sizes: Sequence[Size] | None, shape: tuple[int, ...]) -> bool:
    """Whether an input has the batch, which may stand where a name says so."""
    named = zip(sizes or (), shape, strict=False)
    return shape[:1] == (batch,) or any(
        isinstance(size, str) and "batch" in size.lower() and chosen == batch
        for size, chosen in named
    )


def _ask(
    path: Path,
    declared: Mapping[str, Sequence[Size] | None],
    still_open: Mapping[str, Sequence[Size] | None],
    named: Mapping[str, int],
    sums: Collection[str],
) -> ConfigError:
    """The error that asks for all shapes that are open, with some that would be taken."""
    names = {s for sizes in declared.values() for s in sizes or () if isinstance(s, str)}
    known = dict.fromkeys(names - set(sums), _EXAMPLE) | dict(named)

    def show(size: Size) -> int:
        if isinstance(size, str):
            return known.get(size) or compute_size(size, known) or _EXAMPLE
        return _EXAMPLE if size is None else size

    example = {
        name: (1, 3, 224, 224) if sizes is None else tuple(map(show, sizes))
        for name, sizes in still_open.items()
    }
    name = next(iter(still_open))
    return ConfigError(
        f"{_shown(path, name, declared[name])}: give all sizes, as in `shapes={example}`"
    )
