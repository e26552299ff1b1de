"""Models put together from exported operators are what exporting them whole would give."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from exported import operator as exported
from goldnas.errors import ExportError
from goldnas.exporting.onnx import to_onnx
from goldnas.operators import build_operator, find_part
from goldnas.profiling.compose import Composition, compose_network
from goldnas.profiling.context import make_row_models
from goldnas.site import Site
from goldnas.spaces import GoldImageNetSpace, GoldSpace
from goldnas.spaces.sampling import draw_architectures
from nightly import at_night

SPACE = GoldSpace(
    cells=2,
    channels=16,
    input_shape=(3, 16, 16),
    operators=("skip_connect", "sep_conv_3x3", "max_pool_3x3"),
    nodes=2,
)
LARGE = GoldImageNetSpace(cells=2, channels=8, input_shape=(3, 33, 48), nodes=1, classes=10)
SHAPE = (1, *SPACE.input_shape)


def optimised(model: bytes, folder: Path) -> Counter[str]:
    """The kinds of nodes that onnxruntime runs."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(folder / "optimised.onnx").graph
    return Counter(node.op_type for node in graph.node)


@pytest.mark.parametrize(
    ("space", "seed"),
    [(SPACE, 0), *(pytest.param(*p, marks=at_night) for p in ((SPACE, 1), (LARGE, 0)))],
)
def test_a_composed_network_runs_the_same_nodes_as_the_exported_one(
    space: GoldSpace, seed: int, tmp_path: Path
) -> None:
    (architecture,) = draw_architectures(space, 1, seed=seed)
    network = space.build(architecture).eval()
    shape = (1, *space.input_shape)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as training would: no two are equal
            nn.init.normal_(module.running_mean)
    composed = compose_network(network, exported, shape)
    whole = to_onnx(network, shape)
    assert optimised(composed, tmp_path) == optimised(whole, tmp_path)


@pytest.mark.parametrize("space", [SPACE, LARGE], ids=lambda space: space.name)
def test_a_composed_network_computes_what_the_network_does(space: GoldSpace) -> None:
    (architecture,) = draw_architectures(space, 1, seed=2)
    network = space.build(architecture).eval()
    shape = (1, *space.input_shape)
    composed = onnx.load_model_from_string(compose_network(network, exported, shape))
    # Weights with one value each: their order between the two does not matter.
    for tensor in composed.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) >= 2:
            values = np.full(tuple(tensor.dims), 0.01, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        elif tensor.data_type == onnx.TensorProto.FLOAT:
            variance = "var" in tensor.name or "weight" in tensor.name
            values = np.full(tuple(tensor.dims), float(variance), np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.fill_(0.01)
            if isinstance(module, nn.Linear):
                module.bias.zero_()
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    images = torch.rand(shape)
    session = ort.InferenceSession(
        composed.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (output,) = session.run(None, {"input": images.numpy()})
    with torch.no_grad():
        expected = network(images).numpy()
    np.testing.assert_allclose(output, expected, rtol=1e-3)


def test_no_two_copies_are_merged_and_no_number_is_denormal(tmp_path: Path) -> None:
    operator = exported(("sep_conv_3x3", Site(16, 16, 8, 8)))
    composition = Composition((1, 16, 8, 8))
    copies = [composition.apply(operator, "input") for _ in range(3)]
    total = composition.add(composition.add(copies[0], copies[1]), copies[2])
    model = composition.to_onnx(total)
    assert optimised(model, tmp_path)["Conv"] == 3 * 4

    deep = Composition((1, 16, 8, 8))
    value = "input"
    for _ in range(40):
        value = deep.apply(operator, value)
    session = ort.InferenceSession(deep.to_onnx(value), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"input": np.ones((1, 16, 8, 8), np.float32)})
    assert 1e-20 < np.abs(output).max() < 1e20


def test_the_same_seed_gives_the_same_model() -> None:
    operator = exported(("sep_conv_3x3", Site(4, 4, 8, 8)))

    def model(seed: int) -> bytes:
        composition = Composition((1, 4, 8, 8), seed=seed)
        return composition.to_onnx(composition.apply(operator, "input"))

    assert model(0) == model(0) != model(1)


def test_what_is_neither_operator_nor_sum_is_refused_by_name() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.operator = build_operator("skip_connect", Site(4, 4, 8, 8))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.operator(x))

    operator = exported(("skip_connect", Site(4, 4, 8, 8)))
    with pytest.raises(ExportError, match=r"cannot build Odd .* it also calls .*relu"):
        compose_network(Odd(), lambda part: operator, (1, 4, 8, 8))


def test_a_part_knows_its_row() -> None:
    site = Site(4, 4, 8, 8)
    assert find_part(build_operator("max_pool_3x3", site)) == ("max_pool_3x3", site)
    assert find_part(nn.ReLU()) is None


# -- the models of a row -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "site", "method", "fed"),
    [
        ("sep_conv_3x3", Site(16, 16, 8, 8), "chain", False),
        ("max_pool_3x3", Site(16, 16, 8, 8), "chain", False),
        ("sep_conv_3x3", Site(16, 16, 8, 8, 2), "branches", False),
        ("max_pool_3x3", Site(16, 16, 8, 8, 2), "branches", True),
        ("factorized_reduce", Site(16, 32, 8, 8, 2), "branches", True),
        ("relu_conv_bn", Site(32, 16, 8, 8), "branches", False),
        ("stem_cifar", Site(3, 48, 8, 8), "branches", False),
        ("stem0_imagenet", Site(3, 16, 17, 24, 4), "branches", False),
        ("stem1_imagenet", Site(16, 16, 9, 12, 2), "branches", False),
        ("classifier", Site(16, 10, 8, 8), "branches", True),
    ],
)
def test_the_larger_model_has_four_more_of_the_operator(
    operator: str, site: Site, method: str, fed: bool, tmp_path: Path
) -> None:
    alone = exported((operator, site))
    plan = make_row_models(alone, site, batch=1)
    assert plan.method == method
    assert ("feeder chain of 6" in plan.models) == fed
    counts = {label: optimised(model, tmp_path) for label, model in plan.models.items()}
    own = optimised(alone.SerializeToString(), tmp_path)
    small, large = [label for label in plan.models if label != "isolated"][:2]
    kind = "MaxPool" if operator == "max_pool_3x3" else "Gemm"
    kind = kind if own[kind] else "Conv"
    feeders = 4 if fed and kind == "Conv" else 0
    assert counts[large][kind] - counts[small][kind] == 4 * own[kind] + feeders


def test_the_factors_of_a_row_leave_one_operator() -> None:
    site = Site(8, 8, 8, 8, 2)
    plan = make_row_models(exported(("max_pool_3x3", site)), site, batch=1)
    assert plan.terms["5 branches"] == 0.25 == -plan.terms["1 branch"]
    assert plan.terms["feeder chain of 6"] == -0.25 == -plan.terms["feeder chain of 2"]
    assert plan.terms["isolated"] == 0
