"""Any ONNX model, with weights from files beside it, and inputs to run it on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, EncodeError, Message
from onnx import TensorProto, version_converter

from goldnas.architecture import Architecture
from goldnas.bounded import open_regular
from goldnas.contents import describe_other
from goldnas.errors import ConfigError
from goldnas.exporting.onnx import ARCHITECTURE
from goldnas.exporting.precision import read_precision
from goldnas.profiling.deciding_inputs import find_deciding
from goldnas.profiling.input_shapes import choose_shapes, fix_shape
from goldnas.profiling.input_values import (
    ModelInput,
    check_kinds,
    choose_inputs,
    write_inputs,
)
from goldnas.profiling.onnx_weights import load_weights
from goldnas.profiling.runner import INPUTS

_ONNX = ("", "ai.onnx")
_OLDEST_OPSET = 7
"""Runtimes implement what came before in part."""
_OF_TYPES = {"data_type", "elem_type"}
"""Fields that hold the type of numbers."""
_KNOWN_TYPES = frozenset(TensorProto.DataType.values())


@dataclass(frozen=True)
class Form:
    """A form of a model that a runtime may take, and the inputs to run it on."""

    model: bytes
    inputs: tuple[ModelInput, ...]
    note: str = ""
    """How the form differs from the file; empty if it does not."""


@dataclass(frozen=True)
class OnnxFile:
    """A model, and a value for each of its inputs."""

    path: Path
    proto: onnx.ModelProto = field(repr=False)
    batch: int
    precision: str
    """Number format, as the file says, or that of its weights."""
    architecture: Architecture | None
    """What goldnas exported; None for models of others."""
    inputs: tuple[ModelInput, ...]
    deciding: Mapping[str, str]
    """Inputs without a given value that decide what runs: by name, the node they decide."""

    def forms(self) -> Iterator[Form]:
        """The forms of the model that a runtime may take; use the first that it takes.

        The first form has fixed shapes. The next keeps the shapes of the file, because a part
        that never runs may not fit fixed ones. Whole numbers that were not given are 1, or 0 if
        1 is out of range. For an opset that runtimes no longer take, another form has the
        oldest opset that they do take.

        Raises:
            ConfigError: If the model is too large.
        """
        yield from self._forms_of(self.proto, "")
        converted = _bring_up(self.proto)
        if converted is not None:
            note = (
                f"the runtime does not take opset {find_opset(self.proto)} of {self.path}: "
                f"goldnas measures the model as onnx converts it to opset {_OLDEST_OPSET}"
            )
            yield from self._forms_of(converted, note)

    def _forms_of(self, proto: onnx.ModelProto, note: str) -> Iterator[Form]:
        zeros = tuple(entry.zeroed() for entry in self.inputs)
        has_ones = any(zero is not one for zero, one in zip(zeros, self.inputs, strict=True))
        for inputs in (self.inputs, zeros) if has_ones else (self.inputs,):
            fixed = self._form(proto, inputs, note, is_fixed=True)
            yield fixed
            as_it_was = self._form(proto, inputs, note, is_fixed=False)
            if as_it_was.model != fixed.model:
                yield as_it_was

    def _form(
        self,
        proto: onnx.ModelProto,
        inputs: tuple[ModelInput, ...],
        note: str,
        *,
        is_fixed: bool,
    ) -> Form:
        told = {entry.name: entry for entry in inputs}
        model = onnx.ModelProto()
        model.CopyFrom(proto)
        for value in model.graph.input:
            if is_fixed and value.name in told:
                fix_shape(value, told[value.name].shape)
        if inputs:
            model.metadata_props.add(key=INPUTS, value=write_inputs(inputs))
        try:
            return Form(model.SerializeToString(), inputs, note)
        except (EncodeError, ValueError) as error:
            raise ConfigError(f"{self.path} is too large to be measured: {error}") from None


def find_opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators; 1 of a model that does not say."""
    versions = [entry.version for entry in model.opset_import if entry.domain in _ONNX]
    return versions[0] if versions else 1


def _problems(message: Message) -> Iterator[str]:
    """What protobuf reads, and no model holds, in a message and those within."""
    for kind, value in message.ListFields():
        if kind.type == kind.TYPE_STRING:
            texts = [value] if isinstance(value, str | bytes) else value
            if any(isinstance(text, bytes) for text in texts):
                yield "a name in it is not UTF-8"
        elif kind.type == kind.TYPE_MESSAGE:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _problems(inner)
        elif kind.name in _OF_TYPES and value not in _KNOWN_TYPES:
            yield f"it has numbers of type {value}, which onnx {onnx.__version__} does not know"


def _bring_up(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A model of an old opset in the oldest that runtimes take; None if there is no way."""
    if find_opset(model) >= _OLDEST_OPSET:
        return None
    try:
        return version_converter.convert_version(model, _OLDEST_OPSET)
    except Exception:  # onnx has several kinds, of models that it does not convert
        return None


def read_onnx(
    path: Path,
    *,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, Any] | None = None,
) -> OnnxFile:
    """Read a model, with weights that lie beside it, and choose its inputs.

    Args:
        path: The file.
        batch: First size of inputs that leave it open; 1 by default.
        shapes: Shapes of inputs, by name.
        values: Values of inputs, by name: numbers, arrays, or files of arrays.

    Raises:
        ConfigError: If the file is not a model, an input's shape is still open or does not fit,
            or a value does not fit its input.
    """
    shapes, values = shapes or {}, values or {}
    try:
        with open_regular(path) as opened:
            model = onnx.load(opened, format="protobuf", load_external_data=False)
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror or error}. Give the path of an ONNX file"
        ) from None
    except DecodeError as error:
        told = describe_other(path)
        raise ConfigError(
            f"{path} is not an ONNX model, but {told}"
            if told
            else f"{path} is not an ONNX model: {error}. It may be cut off: copy or export it "
            "again"
        ) from None
    if problem := next(_problems(model), ""):
        raise ConfigError(f"{path} is not an ONNX model: {problem}. Copy or export it again")
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    weights |= {tensor.values.name for tensor in graph.sparse_initializer}
    entries = [entry for entry in graph.input if entry.name not in weights]
    if not entries and not graph.node:
        raise ConfigError(f"{path} is not an ONNX model: it has no node. Give an ONNX file")
    for setting, given in (("shapes", shapes), ("values", values)):
        if unknown := given.keys() - {entry.name for entry in entries}:
            raise ConfigError(
                f"`{setting}` of {min(unknown)!r}: {path} has no such input, only "
                f"{', '.join(repr(entry.name) for entry in entries)}"
            )
    check_kinds(path, entries)
    load_weights(model, path)
    chosen = choose_shapes(path, entries, batch, shapes, values)
    found = find_deciding(model)
    settings = {name for name, deciding in found.items() if deciding.is_setting}
    inputs = choose_inputs(path, entries, chosen.shapes, chosen.values, settings)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    text = metadata.get(ARCHITECTURE)
    try:
        architecture = Architecture.from_json(text) if text is not None else None
    except ConfigError as error:
        raise ConfigError(
            f"{path} says that goldnas made it, but holds {error}. Export it again"
        ) from None
    return OnnxFile(
        path=path,
        proto=model,
        batch=next((entry.shape[0] for entry in inputs if entry.shape), 1),
        precision=read_precision(model),
        architecture=architecture,
        inputs=inputs,
        deciding={name: d.node for name, d in found.items() if name not in values},
    )
