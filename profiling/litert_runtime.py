"""LiteRT on a processor, with XNNPACK. litert-torch converts models, by way of PyTorch."""

import contextlib
import hashlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from goldnas.errors import MeasurementError
from goldnas.profiling.processor_runtimes import Array


class LiteRt:
    """Loads models in fp32.

    Args:
        threads: Threads for one operator.
        folder: Keeps converted models, by their checksums.
    """

    def __init__(self, threads: int, folder: Path) -> None:
        self.version = version("ai-edge-litert")
        self.options: Mapping[str, str] = {
            "delegate": "xnnpack",
            "litert-torch": version("litert-torch"),
        }
        self._threads = threads
        self._folder = folder

    def prepare(self, model: bytes) -> "Network":
        """See :meth:`Runtime.prepare`."""
        from ai_edge_litert.interpreter import Interpreter

        place = self._folder / f"{hashlib.sha256(model).hexdigest()}.tflite"
        if not place.is_file():
            _convert(model, place)
        return Network(Interpreter(str(place), num_threads=self._threads))


class Network:
    """An interpreter of one model."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        interpreter.allocate_tensors()
        # Names have the number of the input: serving_default_args_0.
        self._inputs = sorted(interpreter.get_input_details(), key=lambda one: one["name"])
        self.call = interpreter.invoke

    def feed(self, inputs: Sequence[Array]) -> None:
        """See :meth:`Model.feed`."""
        for entry, value in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(entry["index"], value)

    def outputs(self) -> list[Array]:
        """See :meth:`Model.outputs`."""
        details = self._interpreter.get_output_details()
        return [self._interpreter.get_tensor(entry["index"]) for entry in details]

    def nodes(self, calls: int) -> list[dict[str, Any]]:
        """Is never called: the package has no profiler."""
        raise NotImplementedError


def _convert(model: bytes, place: Path) -> None:
    """Convert a model. Torch and the converter are loaded here alone: it takes seconds.

    Raises:
        MeasurementError: If PyTorch or LiteRT has no form of a node; with the node.
    """
    import torch

    from goldnas.profiling.torch_module import to_torch
    from goldnas.profiling.torch_runtime import list_inputs

    module = to_torch(model)
    given = tuple(torch.zeros(shape, dtype=kind) for shape, kind in list_inputs(model).values())
    scratch = place.with_suffix(".part")
    # It reports its progress where our answers go.
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import litert_torch

        try:
            litert_torch.convert(module, given).export(str(scratch))
        except Exception as error:  # of torch, of MLIR and of its own
            said = " ".join(str(error).split())[:300]
            raise MeasurementError(f"litert-torch does not convert the model: {said}") from None
    scratch.rename(place)
