"""Weights of an ONNX model that lie in files beside it."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
from onnx import TensorProto

from goldnas.bounded import open_regular
from goldnas.contents import describe_other
from goldnas.errors import ConfigError
from goldnas.exporting.onnx_graph import list_subgraphs

_MOST_BYTES = 2 * 2**30
"""Limit on all weights together, as for a model that holds its weights itself."""


def load_weights(model: onnx.ModelProto, path: Path) -> None:
    """Read weights from files beside a model into the model.

    Links are followed, because the caches of model hubs keep links in place of such files; onnx
    itself refuses them.

    Args:
        model: The model, as read from the path.
        path: Path of the model.

    Raises:
        ConfigError: If a file is missing or too short, or not in the model's folder.
    """
    left = _MOST_BYTES
    for tensor in _tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        told = {entry.key: entry.value for entry in tensor.external_data}
        location = PurePosixPath(told.get("location", "").replace("\\", "/"))
        if location.is_absolute() or ".." in location.parts or not location.name:
            raise ConfigError(
                f"{path} refers to weights in {str(location)!r}, but goldnas reads only files "
                "in the model's folder. Save the model again, with its weights beside it"
            )
        file = path.parent / location
        offset = _read_size(path, tensor.name, told.get("offset", "0"))
        length = _read_size(path, tensor.name, told["length"]) if "length" in told else None
        try:
            with open_regular(file) as opened:
                there = max(0, os.fstat(opened.fileno()).st_size - offset)
                left -= there if length is None else min(length, there)
                if left < 0:
                    raise ConfigError(
                        f"{path} is too large to be measured: it keeps more than "
                        f"{_MOST_BYTES // 2**30} GiB of weights beside it"
                    )
                opened.seek(offset)
                content = opened.read(-1 if length is None else length)
        except (OSError, ValueError) as error:  # a name may hold what no name can
            raise ConfigError(
                f"{path} keeps its weights in {file}, which cannot be read: "
                f"{getattr(error, 'strerror', None) or error}. Put that file beside the model"
            ) from None
        if length is not None and len(content) < length:
            if other := describe_other(file):
                raise ConfigError(f"{file}, where {path} keeps its weights, is {other}")
            raise ConfigError(
                f"{file} is cut off: it has no {length} bytes from byte {offset}, where "
                f"{path} keeps {tensor.name!r}. Copy that file again"
            )
        tensor.raw_data = content
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _read_size(path: Path, name: str, text: str) -> int:
    """A number of bytes.

    Raises:
        ConfigError: If it is none.
    """
    if not (text.isdecimal() and len(text) < 19):
        raise ConfigError(
            f"{path} gives {text[:30]!r} as the place or size of {name!r} in another file, "
            "which is not a number of bytes. Export the model again"
        )
    return int(text)


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a model, within branches, loops and functions too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node)


def _of_graph(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: onnx.NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
    for graph in list_subgraphs(node):
        yield from _of_graph(graph)
