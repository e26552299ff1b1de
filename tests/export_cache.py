"""One export of equal modules, however many tests need it: torch takes seconds for a network.

Equal are modules of the same classes, settings and weights, for inputs of the same shapes. What
cannot be compared, such as a class within a test, is exported each time.
"""

import functools
import hashlib
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import torch
from torch._export import utils
from torch.onnx._internal.exporter import _decomp
from torch.onnx._internal.exporter._registration import ONNXRegistry


class Exported(NamedTuple):
    """As much of what torch returns as :mod:`goldnas.exporting.onnx` reads."""

    path: Path

    @property
    def model_proto(self) -> onnx.ModelProto:
        return onnx.load_model(self.path)


class _Pickler(pickle.Pickler):
    """Writes tensors by what they hold, and not by where."""

    def reducer_override(self, found: Any) -> Any:
        if isinstance(found, torch.Tensor):
            numbers = found.detach().contiguous().flatten().view(torch.uint8)
            kind = (type(found).__name__, str(found.dtype), tuple(found.shape), found.stride())
            return str, (repr((kind, found.requires_grad, numbers.numpy().tobytes())),)
        return NotImplemented


def key_of(*found: Any) -> str | None:
    """A hash of everything that some objects hold; None if they cannot be compared."""
    file = io.BytesIO()
    try:
        _Pickler(file).dump(found)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError):
        return None
    return hashlib.sha256(file.getvalue()).hexdigest()


def once(export: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """The export, which gives for equal modules what it gave before.

    Args:
        export: As torch.onnx.export.
        folder: Holds the models; other processes may use it too.
    """

    @functools.wraps(export)
    def cached(module: Any, *args: Any, **settings: Any) -> Any:
        key = key_of(module, args, settings)
        if key is None:
            return export(module, *args, **settings)
        path = folder / f"{key}.onnx"
        if not path.exists():
            part = folder / f"{key}.{os.getpid()}"
            part.write_bytes(export(module, *args, **settings).model_proto.SerializeToString())
            part.rename(path)
        return Exported(path)

    return cached


def prepare_once() -> None:
    """Let torch prepare for the first export alone.

    It reads its translations and decompositions of operators anew for each, and is longer at it
    than at the export of an operator.
    """
    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
    for name in ("_materialize_cpp_cia_ops", "_collect_all_valid_cia_ops_for_namespace"):
        setattr(utils, name, functools.cache(getattr(utils, name)))
    table = functools.cache(_decomp.create_onnx_friendly_decomposition_table)
    _decomp.create_onnx_friendly_decomposition_table = lambda ops: table(frozenset(ops))
