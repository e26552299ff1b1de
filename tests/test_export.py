"""ONNX files: they compute what PyTorch computes, and say nothing of where they were made."""

import getpass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from exported import EXAMPLES
from goldnas.errors import ExportError
from goldnas.exporting.onnx import OPSET, NoKernelError, check_onnx, to_onnx
from goldnas.exporting.precision import to_precision
from goldnas.network import CellNetwork
from goldnas.operators import OPERATORS, build_operator
from goldnas.site import Site
from goldnas.spaces import GoldSpace

SHAPE = (1, 1, 8, 8)
STRIDED = ("factorized_reduce", "max_pool_3x3", "sep_conv_5x5", "conv_3x3_bn_relu6")


def small_network(seed: int = 0) -> CellNetwork:
    """Return a network with gates and statistics of its own."""
    torch.manual_seed(seed)
    space = GoldSpace(cells=3, channels=4, input_shape=(1, 8, 8), nodes=2)
    network = space.build(space.architecture(space.gates), gated=True)
    for cell in network.cells.values():
        nn.init.uniform_(cell.gates, 0.1, 0.9)
    network(torch.randn(16, 1, 8, 8))
    return network


@pytest.fixture(scope="module")
def network() -> CellNetwork:
    return small_network()


@pytest.fixture(scope="module")
def exported(network: CellNetwork) -> bytes:
    return to_onnx(network, SHAPE)


@pytest.mark.parametrize("name", sorted([*OPERATORS, *EXAMPLES]))
def test_every_operator_computes_the_same_in_onnxruntime(name: str) -> None:
    stride = 2 if name in STRIDED else 1
    operator = build_operator(name, Site(4, 4, 7, 7, stride))
    assert check_onnx(to_onnx(operator, (2, 4, 7, 7)), operator, (2, 4, 7, 7)) < 1e-5


def test_a_network_computes_the_same_in_onnxruntime(
    network: CellNetwork, exported: bytes
) -> None:
    assert check_onnx(exported, network, SHAPE) < 1e-5


def test_export_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    to_onnx(build_operator("sep_conv_3x3", Site(4, 4, 8, 8)), (1, 4, 8, 8))
    assert capfd.readouterr() == ("", "")


def test_the_network_stays_in_training(network: CellNetwork, exported: bytes) -> None:
    check_onnx(exported, network, SHAPE)
    assert network.training


def test_file_has_one_plain_input_and_output_of_fixed_shape(exported: bytes) -> None:
    model = onnx.load_from_string(exported)
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"input": [1, 1, 8, 8], "output": [1, 10]}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert {tensor.data_location for tensor in model.graph.initializer} <= {0}  # all inside


def test_file_tells_nothing_of_the_machine(exported: bytes) -> None:
    for trace in (Path(torch.__file__).parent, Path(__file__).parent.parent, Path.home()):
        assert str(trace).encode() not in exported
    for word in (b"torch.nn", b"site-packages", b".py"):
        assert word not in exported
    if len(getpass.getuser()) > 4:
        assert getpass.getuser().encode() not in exported
    model = onnx.load_from_string(exported)
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_only_skip_connections_keep_a_normalisation(
    network: CellNetwork, exported: bytes
) -> None:
    kinds = [node.op_type for node in onnx.load_from_string(exported).graph.node]
    skips = [
        operator
        for cell in network.cells.values()
        for key, operator in cell.operators.items()
        if key.endswith("skip_connect") and isinstance(operator, nn.BatchNorm2d)
    ]
    assert kinds.count("BatchNormalization") == len(skips)
    assert "Mul" not in kinds  # nor a gate


def test_an_open_batch_takes_any_size(network: CellNetwork) -> None:
    exported = to_onnx(network, SHAPE, dynamic_batch=True)
    for batch in (1, 2, 5):
        assert check_onnx(exported, network, (batch, *SHAPE[1:])) < 1e-5


def test_a_fixed_batch_refuses_another(exported: bytes) -> None:
    session = onnxruntime.InferenceSession(exported)
    with pytest.raises(Exception, match="Got: 2 Expected: 1"):
        session.run(None, {"input": np.zeros((2, *SHAPE[1:]), np.float32)})


def test_half_precision_is_exported_as_such() -> None:
    operator = build_operator("sep_conv_3x3", Site(4, 4, 8, 8)).half()
    model = onnx.load_from_string(to_onnx(operator, (1, 4, 8, 8)))
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_another_network_is_not_taken_for_this_one(exported: bytes) -> None:
    with pytest.raises(ExportError, match=r"differs from PyTorch by .* where outputs reach"):
        check_onnx(exported, small_network(seed=1), SHAPE)


def test_another_number_of_classes_is_not_taken_for_this_one(exported: bytes) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(ExportError, match=r"puts out \(1, 10\), but PyTorch \(1, 3\)"):
        check_onnx(exported, other, SHAPE)


def test_not_a_number_is_not_taken_for_equal() -> None:
    broken = nn.Conv2d(1, 1, 1)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(ExportError, match="by nan"):
        check_onnx(to_onnx(broken, SHAPE), broken, SHAPE)


def test_what_onnxruntime_rejects_is_one_line(network: CellNetwork) -> None:
    with pytest.raises(ExportError, match="onnxruntime rejects") as caught:
        check_onnx(b"no model", network, SHAPE)
    assert "\n" not in str(caught.value)


def test_half_precision_of_a_single_precision_module_is_allowed_its_rounding(
    network: CellNetwork, exported: bytes
) -> None:
    half = to_precision(exported, "fp16")
    assert check_onnx(half, network, SHAPE, precision="fp16") > 1e-5
    with pytest.raises(ExportError, match="differs from PyTorch by"):
        check_onnx(half, network, SHAPE)


def test_a_type_that_onnxruntime_has_no_code_for_is_told_from_a_wrong_model() -> None:
    node = onnx.helper.make_node("Conv", ["input", "weight"], ["output"])
    weight = onnx.numpy_helper.from_array(np.ones((1, 1, 1, 1)), "weight")
    shape = list(SHAPE)
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, shape)
        for name in ("input", "output")
    ]
    graph = onnx.helper.make_graph([node], "double", values[:1], values[1:], [weight])
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    with pytest.raises(NoKernelError, match="onnxruntime rejects the exported network"):
        check_onnx(model.SerializeToString(), nn.Identity(), SHAPE)


def test_what_onnx_cannot_express_is_one_line() -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError, match=r"cannot export Branch at input \(1, 1, 8, 8\)") as e:
        to_onnx(Branch(), SHAPE)
    assert "\n" not in str(e.value)
