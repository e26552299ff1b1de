"""Exported networks in other number formats: half precision, and integers of 8 bits."""

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from goldnas.errors import ConfigError, ExportError
from goldnas.exporting import PRECISIONS
from goldnas.exporting.graph_precision import find_precision
from goldnas.exporting.half_precision import to_half
from goldnas.exporting.int8 import to_int8
from goldnas.exporting.int8_ranges import Images
from goldnas.exporting.onnx_graph import drop_indirections, find_opset

PRECISION = "goldnas.precision"
"""Key of a model's metadata under which its number format is kept."""

_OLDEST = {"bf16": 22, "int8": 13}
"""The first opset whose convolutions take bfloat16; that has a scale for each channel."""


def to_precision(model: bytes, precision: str, *, images: Images | None = None) -> bytes:
    """Express a float32 ONNX model in another number format.

    Inputs, outputs and metadata do not change. The same model and images give the same bytes. A
    model that already has the format does not change.

    Args:
        model: With fixed shapes, except for the batch.
        precision: One of ``PRECISIONS``, or the current format of the model.
        images: float32 ``(N, C, H, W)``, normalised, for int8: they give the range of each
            tensor. Without images the ranges are made up: the model takes the same time, but
            its outputs mean nothing.

    Raises:
        ConfigError: If there is no such format.
        ExportError: If the model cannot be expressed in this format.
    """
    if precision == "fp32":
        return model
    try:
        proto = onnx.load_model_from_string(model)
        metadata = {entry.key: entry.value for entry in proto.metadata_props}
        now = read_precision(proto)
        if now == precision:
            return model
        if precision not in PRECISIONS:
            raise ConfigError(
                f"unknown number format {precision!r}; known: {', '.join(PRECISIONS)}"
            )
        if now != "fp32":
            raise ExportError(f"it is in {now} already; give the fp32 model")
        attributes = [a.type for node in proto.graph.node for a in node.attribute]
        if onnx.AttributeProto.GRAPH in attributes or onnx.AttributeProto.GRAPHS in attributes:
            raise ExportError("it has branches or loops; leave such an operator out")
        proto = drop_indirections(proto)
        if find_opset(proto) < _OLDEST.get(precision, 0):
            proto = onnx.version_converter.convert_version(proto, _OLDEST[precision])
        if precision == "int8":
            to_int8(proto, images)
        else:
            proto = to_half(proto, precision)
        helper.set_model_props(proto, {**metadata, PRECISION: precision})
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    except (
        DecodeError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        onnx.version_converter.ConvertError,
        RuntimeError,  # of the converter of versions, and of the inliner
    ) as e:
        reason = " ".join(str(e).split())
        raise ExportError(f"cannot express the model in {precision}: {reason}") from None
    except ExportError as error:
        raise ExportError(f"cannot express the model in {precision}: {error}") from None
    return bytes(proto.SerializeToString(deterministic=True))


def read_precision(model: onnx.ModelProto) -> str:
    """The number format of a model: from its metadata, or that of most of its weights."""
    for entry in model.metadata_props:
        if entry.key == PRECISION:
            return str(entry.value)
    return find_precision(model)
