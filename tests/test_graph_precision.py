"""Number formats of models of others."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from goldnas.exporting.precision import read_precision, to_precision
from small_models import multiplied, node

SCALE = {"scale": np.float32(0.1)}
DEQUANTISED = [
    node("DequantizeLinear", ["weight", "scale"], ["w"]),
    node("MatMul", ["x", "w"], ["y"]),
]
FAKED = [
    node("QuantizeLinear", ["weight", "scale"], ["q"]),
    node("DequantizeLinear", ["q", "scale"], ["w"]),
    node("MatMul", ["x", "w"], ["y"]),
]
FED = [
    node("QuantizeLinear", ["x", "scale"], ["q"]),
    node("DequantizeLinear", ["q", "scale"], ["r"]),
    node("MatMul", ["r", "weight"], ["y"]),
]
PACKED = [
    helper.make_node(
        "MatMulNBits", ["x", "weight", "scale"], ["y"], domain="com.microsoft", bits=4
    )
]


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        (multiplied(np.float32), "fp32"),
        (multiplied(np.float64), "fp64"),
        (multiplied(np.float16), "fp16"),
        (multiplied(helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)), "bf16"),
        (multiplied(np.int8, DEQUANTISED, **SCALE), "int8"),
        (
            multiplied(helper.tensor_dtype_to_np_dtype(TensorProto.INT4), DEQUANTISED, **SCALE),
            "int4",
        ),
        (multiplied(np.uint8, PACKED, **SCALE), "int4"),
        (multiplied(np.float32, FAKED, **SCALE), "int8"),
        (multiplied(np.float32, FED, **SCALE), "fp32"),  # nothing of it is quantised
    ],
)
def test_the_number_format_is_that_of_the_weights(
    model: onnx.ModelProto, precision: str
) -> None:
    assert read_precision(model) == precision
    content = model.SerializeToString()
    assert to_precision(content, precision) == content  # it stays as it is


def test_a_constant_that_is_infinite_may_be_so_in_half_precision() -> None:
    mask = np.full((1, 64), -np.inf, np.float32)
    nodes = [node("Add", ["x", "mask"], ["z"]), node("MatMul", ["z", "weight"], ["y"])]
    content = multiplied(np.float32, nodes, mask=mask).SerializeToString()
    for precision in ("fp16", "bf16"):
        made = onnx.load_model_from_string(to_precision(content, precision))
        (short,) = (t for t in made.graph.initializer if t.name == "mask")
        assert np.isneginf(numpy_helper.to_array(short).astype(np.float32)).all()
