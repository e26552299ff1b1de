"""Inputs from a model's metadata, for runtimes that take PyTorch's tensors."""

import onnx
import torch
from torch import Tensor

from goldnas.errors import MeasurementError
from goldnas.profiling.runner import INPUTS, run_maker


def read_tensors(model: bytes) -> dict[str, Tensor]:
    """What a model's inputs are to be, by name; nothing of a model that does not say.

    Raises:
        MeasurementError: If one is no tensor of a type that PyTorch takes from onnxruntime.
    """
    proto = onnx.load_model_from_string(model)
    told = {entry.key: entry.value for entry in proto.metadata_props}.get(INPUTS)
    tensors = {}
    for name, value in (run_maker(told) if told is not None else {}).items():
        try:
            tensors[name] = torch.from_numpy(value.numpy())
        except (RuntimeError, TypeError) as error:
            raise MeasurementError(
                f"input {name!r} is {value.data_type()}, which this backend does not take: "
                f"{' '.join(str(error).split())}"
            ) from None
    return tensors
