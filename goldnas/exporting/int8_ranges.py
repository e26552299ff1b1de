"""The range of each tensor of a model: measured over images, or made up."""

import math
from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from goldnas.errors import ExportError

Images = npt.NDArray[np.float32]
Range = tuple[float, float]
"""Least and largest value of a tensor."""


def invent_ranges(names: list[str], positive: Collection[str]) -> dict[str, Range]:
    """Ranges for tensors that nobody has seen, no two alike.

    Runtimes save work between tensors of one range, which tensors of a network never have.
    """
    random = np.random.default_rng(0)
    made_up = {}
    for name in names:
        low, high = random.uniform(2, 3, size=2).tolist()
        made_up[name] = (0.0 if name in positive else -low, high)
    return made_up


def measure_ranges(
    model: onnx.ModelProto, names: list[str], images: Images
) -> dict[str, Range]:
    """The ranges of tensors over images.

    Raises:
        ExportError: If the model cannot run on the images, or puts out a value that is not a
            finite number.
    """
    import onnxruntime

    if len(images) == 0:
        raise ExportError("there are no images for the ranges of tensors; give one or more")
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    there = {value.name for value in (*model.graph.input, *model.graph.output)}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in names
        if name not in there
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    lows: dict[str, float] = dict.fromkeys(names, math.inf)
    highs: dict[str, float] = dict.fromkeys(names, -math.inf)
    try:
        session = onnxruntime.InferenceSession(
            watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (entry,) = session.get_inputs()
        size = entry.shape[0]
        batch = size if isinstance(size, int) else min(8, len(images))
        asked = [name for name in names if name != entry.name]
        for start in range(0, len(images), batch):
            taken = np.arange(start, start + batch) % len(images)
            batch_images = np.ascontiguousarray(images[taken], dtype=np.float32)
            found = dict(
                zip(asked, session.run(asked, {entry.name: batch_images}), strict=True)
            )
            for name in names:
                values = found.get(name, batch_images)
                lows[name] = min(lows[name], float(values.min()))
                highs[name] = max(highs[name], float(values.max()))
                if not math.isfinite(highs[name] - lows[name]):
                    raise ExportError(f"{name} is not finite for every image")
    except ExportError:
        raise
    except Exception as error:  # onnxruntime's own classes share no base
        reason = " ".join(str(error).split())
        raise ExportError(f"onnxruntime cannot run it on these images: {reason}") from None
    return {name: (lows[name], highs[name]) for name in names}
