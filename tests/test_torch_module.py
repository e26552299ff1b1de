"""PyTorch modules from ONNX compute what onnxruntime computes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from exported import OF_NETWORKS, networks, operator, parts
from goldnas.errors import MeasurementError
from goldnas.exporting.onnx import TOLERANCES
from goldnas.exporting.precision import to_precision
from goldnas.operators import OPERATORS, Part
from goldnas.profiling.torch_module import ONNX_NODE, to_torch
from goldnas.site import Site
from goldnas.spaces import GoldSpace

NAMES = [f"{name} {site}" for name, site in parts()]


def relative_difference(model: bytes, reference: bytes, shape: tuple[int, ...]) -> float:
    """Largest difference from onnxruntime, relative to the largest output."""
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(reference, options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input": images.numpy()})
    with torch.inference_mode():
        found = to_torch(model)(images).numpy()
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("part", parts(), ids=NAMES)
def test_every_operator_computes_the_same(part: Part) -> None:
    model = operator(part).SerializeToString()
    assert relative_difference(model, model, (1, *part[1].input_shape)) < 1e-5


@pytest.mark.parametrize(
    "name", ["mbconv_3x3_e1", "mbconv_5x5_e6_se_hswish", "mbconv_7x7_e2p5_se_in_relu"]
)
def test_every_kind_of_mobile_block_computes_the_same(name: str) -> None:
    part = (name, Site(8, 8, 9, 9))
    model = operator(part).SerializeToString()
    assert relative_difference(model, model, (1, 8, 9, 9)) < 1e-5
    for precision in ("fp16", "bf16"):
        difference = relative_difference(to_precision(model, precision), model, (1, 8, 9, 9))
        assert difference < TOLERANCES[precision]


def test_every_operator_is_among_them() -> None:
    assert {name for name, _ in parts()} == set(OPERATORS)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("space", OF_NETWORKS, ids=lambda space: space.name)
def test_whole_networks_compute_the_same(space: GoldSpace, precision: str) -> None:
    """In half precision they are held against onnxruntime in single precision."""
    for network in networks(space):
        model = to_precision(network, precision)
        difference = relative_difference(model, network, (1, *space.input_shape))
        assert difference < (1e-5 if precision == "fp32" else TOLERANCES[precision])


def test_every_node_is_there_by_its_name() -> None:
    network = networks(OF_NETWORKS[0])[0]
    graph = onnx.load_model_from_string(network).graph
    expected = [(node.name or node.output[0], node.op_type) for node in graph.node]
    made = [n.meta[ONNX_NODE] for n in to_torch(network).graph.nodes if ONNX_NODE in n.meta]
    assert made == expected


def single(node: onnx.NodeProto, **weights: np.ndarray) -> bytes:
    graph = helper.make_graph(
        [node],
        "single",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()


WEIGHT = np.ones((4, 4, 3, 3), np.float32)
REJECTED = {
    "unknown": (
        helper.make_node("Det", ["input"], ["output"]),
        "node Det 'output'; known: Add,",
    ),
    "uneven": (
        helper.make_node(
            "MaxPool", ["input"], ["output"], name="p", kernel_shape=[2, 2], pads=[0, 0, 1, 1]
        ),
        r"node MaxPool 'p': pads \[0, 0, 1, 1\] differ from side to side",
    ),
    "automatic": (
        helper.make_node("Conv", ["input", "w"], ["output"], auto_pad="SAME_UPPER"),
        "node Conv 'output': auto_pad b'SAME_UPPER' is not supported",
    ),
    "another hard sigmoid": (
        helper.make_node("HardSigmoid", ["input"], ["output"]),
        "node HardSigmoid 'output': alpha 0.2, beta 0.5 are not PyTorch's",
    ),
    "computed bounds": (
        helper.make_node("Clip", ["input", "input"], ["output"]),
        "node Clip 'output': its bounds are not constant",
    ),
    "computed": (
        helper.make_node("Reshape", ["input", "input"], ["output"]),
        "node Reshape 'output': shape is not constant",
    ),
}


@pytest.mark.parametrize(("node", "message"), REJECTED.values(), ids=REJECTED)
def test_what_is_not_known_is_refused_and_named(node: onnx.NodeProto, message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        to_torch(single(node, w=WEIGHT))


def test_padding_is_with_a_number_that_is_known_beforehand() -> None:
    """A value on a GPU would be waited for in every call, and could not be in a graph."""
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    node = helper.make_node("Pad", ["input", "pads", "value"], ["output"])
    model = single(node, pads=pads, value=np.array(2.5, np.float32))
    assert relative_difference(model, model, (1, 4, 8, 8)) == 0.0
    assert not any(
        isinstance(a, torch.fx.Node)
        for n in to_torch(model).graph.nodes
        if ONNX_NODE in n.meta
        for a in n.args[1:]
    )
    computed = helper.make_node("Pad", ["input", "pads", "input"], ["output"])
    with pytest.raises(MeasurementError, match="node Pad 'output': its value is not constant"):
        to_torch(single(computed, pads=pads))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(MeasurementError, match="not an ONNX model"):
        to_torch(b"no model")
