"""Values of a model's inputs: given values, and made-up values for the others.

The values travel as a small model that makes them, in the metadata of the measured model. So
numbers of any type, texts and sequences reach a device that only has numpy and onnxruntime.
"""

import base64
import math
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from goldnas.arrays import load_arrays
from goldnas.errors import ConfigError, read_message

Array = npt.NDArray[Any]

_BOOL, _STRING = TensorProto.BOOL, TensorProto.STRING
_FLOATS = {
    number
    for name, number in TensorProto.DataType.items()
    if name.startswith(("FLOAT", "BFLOAT")) or name == "DOUBLE"
}
_COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
_OLDEST = (15, 8)
"""The opset and the version of the format that an older onnxruntime takes."""
_NEEDED = {
    "FLOAT8": (19, 9),
    "INT4": (21, 10),
    "UINT4": (21, 10),
    "INT2": (25, 12),
    "UINT2": (25, 12),
}
"""And what some types need, by how their names begin."""
_MOST_BYTES = 2**30
"""Size limit of a file of values."""
_MOST_NUMBERS = 2**28
"""Limit on numbers that travel with the model; larger inputs are made on the device."""
_RANDOM = 21
"""The last opset whose random numbers onnxruntime makes."""


@dataclass(frozen=True, eq=False)
class ModelInput:
    """An input as it is measured."""

    name: str
    kind: int
    """Type of the numbers, as in ``onnx.TensorProto``."""
    shape: tuple[int, ...]
    """Shape; for a sequence, that of its elements."""
    values: tuple[Array, ...] = ()
    """Given values: one, or the elements of a sequence; empty for made-up values."""
    whole: int = 1
    """Made-up value of whole numbers and booleans."""
    is_sequence: bool = False
    is_random: bool = True
    """Whether made-up floats are random; else they have the made-up whole number."""

    @property
    def type(self) -> str:
        """Name of the type: ``float``, ``int64``."""
        name = TensorProto.DataType.Name(self.kind).lower()
        return f"sequence of {name}" if self.is_sequence else name

    @property
    def filled(self) -> str:
        """What it holds, in a few words."""
        if self.values:
            flat = self.values[0].ravel()
            few = len(self.values) == 1 and 0 < flat.size <= 4
            return f"{', '.join(map(str, flat.tolist()))} (given)" if few else "given"
        if 0 in self.shape:
            return "empty"
        if self.holds_random:
            return "random"
        return ("false", "true")[self.whole] if self.kind == _BOOL else f"{self.whole}"

    @property
    def holds_random(self) -> bool:
        """Whether it holds random numbers."""
        return self.kind in _FLOATS and self.is_random and not self.values

    @property
    def is_made_up(self) -> bool:
        """Whether one number that was not given stands throughout it."""
        return not (self.values or self.holds_random or 0 in self.shape)

    def zeroed(self) -> "ModelInput":
        """With zeros in place of ones, where nothing was given."""
        is_fixed = self.values or self.holds_random or self.kind == _STRING
        return self if is_fixed else replace(self, whole=0)


def find_tensor_type(kind: onnx.TypeProto) -> onnx.TypeProto.Tensor | None:
    """The type of a tensor, of one that may be absent, or of a sequence's elements."""
    which = kind.WhichOneof("value")
    if which == "tensor_type":
        return kind.tensor_type
    if which == "optional_type":
        return find_tensor_type(kind.optional_type.elem_type)
    if which == "sequence_type":
        return find_tensor_type(kind.sequence_type.elem_type)
    return None


def is_sequence(kind: onnx.TypeProto) -> bool:
    """Whether a value is a sequence, or may be one."""
    if kind.WhichOneof("value") == "optional_type":
        return is_sequence(kind.optional_type.elem_type)
    return bool(kind.WhichOneof("value") == "sequence_type")


def check_kinds(path: Path, entries: Sequence[onnx.ValueInfoProto]) -> None:
    """Refuse inputs that hold no tensors, or tensors of no type.

    Raises:
        ConfigError: Naming one.
    """
    for entry in entries:
        tensor = find_tensor_type(entry.type)
        if tensor is None:
            kind = (entry.type.WhichOneof("value") or "nothing").removesuffix("_type")
            raise ConfigError(
                f"input {entry.name!r} of {path} is a {kind.replace('_', ' ')}: only tensors "
                "and sequences of them can be measured. Export the model without it"
            )
        if tensor.elem_type == TensorProto.UNDEFINED:
            raise ConfigError(
                f"input {entry.name!r} of {path} has no type of numbers. Export the model again"
            )


def choose_inputs(
    path: Path,
    entries: Sequence[onnx.ValueInfoProto],
    shapes: Mapping[str, tuple[int, ...]],
    values: Mapping[str, Array | list[Array]],
    settings: Collection[str],
) -> tuple[ModelInput, ...]:
    """Say what each input holds.

    Args:
        path: Path of the model.
        entries: Inputs of the model.
        shapes: Shapes of all inputs, by name.
        values: Given values by name, as :func:`read_value` reads them.
        settings: Names of inputs that say how much is computed: scales, thresholds.

    Raises:
        ConfigError: If a value does not fit its shape.
    """
    chosen = []
    for entry in entries:
        tensor = find_tensor_type(entry.type)
        assert tensor is not None  # see check_kinds
        shape = shapes[entry.name]
        given: tuple[Array, ...] = ()
        if entry.name in values:
            value = values[entry.name]
            given = (
                tuple(value)
                if isinstance(value, list)
                else (_shaped(path, entry.name, value, shape),)
            )
        chosen.append(
            ModelInput(
                entry.name,
                tensor.elem_type,
                shape,
                given,
                is_sequence=is_sequence(entry.type),
                is_random=entry.name not in settings,
            )
        )
    return tuple(chosen)


def _shaped(path: Path, name: str, value: Array, shape: tuple[int, ...]) -> Array:
    """A value in the shape of its input, which a single number fills."""
    if not value.ndim:
        if math.prod(shape) > _MOST_NUMBERS:
            raise ConfigError(
                f"`values` of {name!r}: {math.prod(shape)} numbers for an input of {path} are "
                f"too many: the limit is {_MOST_NUMBERS}. Choose a smaller shape with `shapes`"
            )
        return np.full(shape, value)
    if value.size != np.prod(shape, dtype=int):
        raise ConfigError(
            f"`values` of {name!r}: {value.size} numbers for an input of {path} that has the "
            f"shape {'x'.join(map(str, shape)) or 'of a single number'}. Give as many numbers "
            "as the shape has, or one"
        )
    return value.reshape(shape)


# -- what was given ----------------------------------------------------------------------------


def read_value(path: Path, entry: onnx.ValueInfoProto, value: Any) -> Array | list[Array]:
    """A value as its input takes it.

    Args:
        path: Path of the model.
        entry: The input.
        value: A number, an array, a list of them, a file ``.npy`` or ``.npz``, or numbers
            between commas. Texts where the input takes texts. Of a sequence a list of its
            elements, or a file ``.npz`` that has them in order.

    Returns:
        An array; of a sequence, those of its elements.

    Raises:
        ConfigError: If it cannot be read, or is of another type.
    """
    tensor = find_tensor_type(entry.type)
    assert tensor is not None  # see check_kinds
    said = f"`values` of {entry.name!r}"
    sequence = is_sequence(entry.type)
    if isinstance(value, str | Path) and str(value).endswith((".npy", ".npz")):
        found = _read_arrays(said, Path(value), entry.name, sequence)
    elif isinstance(value, str):
        found = [_parse(said, value, tensor.elem_type)]
    else:
        found = list(value) if sequence else [value]
    if not found:
        raise ConfigError(f"{said}: a sequence without elements. Give one or more elements")
    arrays = [_converted(said, path, one, tensor.elem_type) for one in found]
    return arrays if sequence else arrays[0]


def _read_arrays(said: str, file: Path, name: str, sequence: bool) -> list[Any]:
    """The arrays of a file: all for a sequence, else the one, or that of the input's name."""
    try:
        arrays, _ = load_arrays(file, most_bytes=_MOST_BYTES)
    except OSError as error:
        raise ConfigError(
            f"{said}: cannot read {file}: {error.strerror or error}. Give a file .npy or .npz"
        ) from None
    except (ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{said}: {file} holds no arrays: {read_message(error)}. Save one with numpy.save"
        ) from None
    if sequence:
        return list(arrays.values())
    if name in arrays or len(arrays) == 1:
        return [arrays.get(name, next(iter(arrays.values())))]
    others = ", ".join(map(repr, arrays)) or "none"
    raise ConfigError(f"{said}: {file} has no array of this name, only {others}")


def _parse(said: str, text: str, kind: int) -> Array:
    """Numbers, truths or texts between commas."""
    words = text.split(",")
    read = _parse_text if kind == _STRING else _parse_number
    try:
        found = [read(word.strip()) for word in words]
    except ValueError:
        raise ConfigError(
            f"{said}: give a number, numbers between commas, or a file .npy or .npz; got "
            f"{text!r}"
        ) from None
    return np.array(found if len(found) > 1 else found[0], object)


def _parse_text(word: str) -> str:
    return word


def _parse_number(word: str) -> int | float | bool:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    try:
        return int(word)
    except ValueError:
        return float(word)


def _converted(said: str, path: Path, value: Any, kind: int) -> Array:
    """A value in an input's type.

    Raises:
        ConfigError: If the type does not have it.
    """
    type_name = TensorProto.DataType.Name(kind).lower()
    try:
        array = np.asarray(value)
        if kind == _STRING:
            return array.astype(object)
        if array.dtype == object:
            array = np.array(array.tolist())
        if np.iscomplexobj(array) and kind not in _COMPLEX:
            raise TypeError  # or a half of each number would be lost
        with np.errstate(all="ignore"):
            converted = array.astype(helper.tensor_dtype_to_np_dtype(kind))
            exact = kind in _FLOATS or bool((converted == array).all())
        if exact and array.dtype.kind != "U":
            return converted
    except (ValueError, TypeError, OverflowError, KeyError):
        pass
    raise ConfigError(
        f"{said}: the input of {path} takes {type_name}, which cannot hold "
        f"{' '.join(str(value).split())[:60]}"
    )


# -- the model that makes them -----------------------------------------------------------------


def write_inputs(inputs: Sequence[ModelInput]) -> str:
    """The inputs as ``runner.py`` reads them: a model that puts them out, in base64."""
    nodes: list[onnx.NodeProto] = []
    weights: list[TensorProto] = []
    outputs = []
    opset, ir_version = _find_versions(inputs)
    for index, entry in enumerate(inputs):
        tensor = helper.make_tensor_type_proto(entry.kind, None)
        if not entry.is_sequence:
            _put_out(entry, entry.name, index, nodes, weights, entry.values, opset)
            outputs.append(helper.make_value_info(entry.name, tensor))
            continue
        elements = []
        for number, value in enumerate(entry.values or (None,)):
            elements.append(f"{entry.name}/{number}")
            given = () if value is None else (value,)
            _put_out(entry, elements[-1], index, nodes, weights, given, opset)
        nodes.append(helper.make_node("SequenceConstruct", elements, [entry.name]))
        sequence = helper.make_sequence_type_proto(tensor)
        outputs.append(helper.make_value_info(entry.name, sequence))
    graph = helper.make_graph(nodes, "inputs", [], outputs, weights)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    return base64.b64encode(model.SerializeToString()).decode()


def _find_versions(inputs: Sequence[ModelInput]) -> tuple[int, int]:
    """The opset and the version of the format that the types of inputs need."""
    opset, ir_version = _OLDEST
    for entry in inputs:
        for start, needed in _NEEDED.items():
            if TensorProto.DataType.Name(entry.kind).startswith(start):
                opset, ir_version = max(opset, needed[0]), max(ir_version, needed[1])
    return opset, ir_version


def _put_out(
    entry: ModelInput,
    name: str,
    seed: int,
    nodes: list[onnx.NodeProto],
    weights: list[TensorProto],
    given: Sequence[Array],
    opset: int,
) -> None:
    """Add what makes one tensor: what was given, random numbers, or one number throughout.

    Random numbers are normal, since zeros would be a special case of much that is computed, and
    the same in each process.
    """
    made = f"{name}/made"
    kind: int = TensorProto.FLOAT if entry.kind in _FLOATS else TensorProto.INT64
    if entry.holds_random and opset > _RANDOM:
        given = (np.random.default_rng(seed).standard_normal(entry.shape, np.float32),)
    if given or entry.kind == _STRING:
        own = helper.tensor_dtype_to_np_dtype(entry.kind)
        kind = entry.kind if own.isbuiltin == 1 else kind  # numpy's; others are cast to
        plain = given[0] if given else np.full(entry.shape, str(entry.whole), object)
        plain = plain.astype(helper.tensor_dtype_to_np_dtype(kind))
        weights.append(numpy_helper.from_array(plain, made))
    else:
        shape, blank = f"{name}/shape", f"{name}/blank"
        weights.append(numpy_helper.from_array(np.array(entry.shape, np.int64), shape))
        one = numpy_helper.from_array(
            np.array([entry.whole], helper.tensor_dtype_to_np_dtype(kind))
        )
        filled = blank if entry.holds_random else made
        nodes.append(helper.make_node("ConstantOfShape", [shape], [filled], value=one))
        if entry.holds_random:
            nodes.append(
                helper.make_node("RandomNormalLike", [blank], [made], seed=float(seed))
            )
    ends = ([made], [name])
    if kind == entry.kind:
        nodes.append(helper.make_node("Identity", *ends))
    else:
        nodes.append(helper.make_node("Cast", *ends, to=entry.kind))
