"""Number formats: what a lowered model computes, on which nodes, and what is refused."""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from torch import nn

from exported import operator as exported
from goldnas.data.examples import ImageData, Normalisation
from goldnas.errors import ConfigError, ExportError
from goldnas.exporting.onnx import ARCHITECTURE, to_onnx
from goldnas.exporting.precision import PRECISION, PRECISIONS, to_precision
from goldnas.lut import Conditions
from goldnas.operators import CANDIDATES, OPERATORS
from goldnas.profiling.backend import Failure, Timing, Visit
from goldnas.profiling.compose import Composition, compose_network
from goldnas.profiling.measuring import Estimate
from goldnas.profiling.session import Session
from goldnas.site import Site
from goldnas.spaces import GoldSpace
from goldnas.spaces.sampling import draw_architectures
from goldnas.training.evaluate import onnx_predictions
from nightly import at_night
from simulated_device import SimulatedDevice

SPACE = GoldSpace(
    cells=2,
    channels=8,
    input_shape=(3, 16, 16),
    operators=("skip_connect", "sep_conv_3x3", "max_pool_3x3", "avg_pool_3x3"),
    nodes=2,
)
SHAPE = (1, *SPACE.input_shape)
IMAGES = np.random.default_rng(0).standard_normal((32, *SPACE.input_shape), dtype=np.float32)
TOLD = {ARCHITECTURE: "a network"}
LOWERED = [precision for precision in PRECISIONS if precision != "fp32"]


@cache
def network(seed: int = 0) -> nn.Module:
    """Return a network with weights and statistics as after training."""
    torch.manual_seed(seed)
    (architecture,) = draw_architectures(SPACE, 1, seed=seed)
    network = SPACE.build(architecture)
    network.train()
    network(torch.from_numpy(IMAGES))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean += 0.1 * torch.randn_like(module.running_mean)
    return network.eval()


@cache
def whole(seed: int = 0) -> bytes:
    return to_onnx(network(seed), SHAPE, metadata=TOLD)


def session(model: bytes, path: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    # Without VNNI sums of products saturate otherwise: see docs/devices.md.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if path is not None:
        options.optimized_model_filepath = str(path)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def optimised(model: bytes, folder: Path) -> onnx.GraphProto:
    """Return the graph that onnxruntime runs."""
    session(model, folder / "optimised.onnx")
    return onnx.load(folder / "optimised.onnx").graph


def kinds(graph: onnx.GraphProto) -> Counter[str]:
    return Counter(node.op_type for node in graph.node)


def outputs(model: bytes, images: np.ndarray[Any, Any] = IMAGES) -> np.ndarray[Any, Any]:
    opened = session(model)
    return np.concatenate([opened.run(None, {"input": image[None]})[0] for image in images])


def error_of(model: bytes, exact: bytes) -> float:
    """Root mean square of the error, relative to the outputs' deviation."""
    expected = outputs(exact)
    return float(np.sqrt(((outputs(model) - expected) ** 2).mean()) / expected.std())


def float_islands(graph: onnx.GraphProto) -> list[str]:
    """Nodes that read a dequantised tensor, and neither quantise it nor put it out."""
    real = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    return [
        node.op_type
        for node in graph.node
        if real & set(node.input) and node.op_type != "QuantizeLinear"
    ]


# -- all formats -------------------------------------------------------------------------------


def test_single_precision_is_the_model_itself() -> None:
    assert to_precision(b"whatever", "fp32") == b"whatever"


@pytest.mark.parametrize("precision", LOWERED)
def test_a_lowered_model_is_fed_and_described_as_before(precision: str) -> None:
    model = onnx.load_model_from_string(to_precision(whole(), precision, images=IMAGES))
    onnx.checker.check_model(model, full_check=True)
    reply = {
        value.name: (
            value.type.tensor_type.elem_type,
            [dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in (*model.graph.input, *model.graph.output)
    }
    assert reply == {
        "input": (TensorProto.FLOAT, list(SHAPE)),
        "output": (TensorProto.FLOAT, [1, 10]),
    }
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata == {**TOLD, PRECISION: precision}


@pytest.mark.parametrize("precision", LOWERED)
def test_lowering_is_silent_and_leaves_no_file(
    precision: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = whole()  # not silent itself
    caplog.clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    to_precision(model, precision, images=IMAGES)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert list(tmp_path.iterdir()) == []


def test_every_process_lowers_to_the_same_bytes(tmp_path: Path) -> None:
    """What was measured is found again by the model's hash."""
    (tmp_path / "net.onnx").write_bytes(whole())
    code = (
        "import hashlib, pathlib;"
        "from goldnas.exporting.precision import to_precision as lower;"
        "model = pathlib.Path('net.onnx').read_bytes();"
        f"print(*(hashlib.sha256(lower(model, p)).hexdigest() for p in {LOWERED}))"
    )
    for seed in "12":
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        )
        here = [hashlib.sha256(to_precision(whole(), p)).hexdigest() for p in LOWERED]
        assert done.stdout.split() == here


@pytest.mark.parametrize("precision", LOWERED)
def test_a_model_in_the_format_already_stays_as_it_is(precision: str) -> None:
    lowered = to_precision(whole(), precision)
    assert to_precision(lowered, precision, images=IMAGES) == lowered


def test_what_others_have_quantised_stays_as_it_is() -> None:
    foreign = onnx.load_model_from_string(to_precision(whole(), "int8", images=IMAGES))
    del foreign.metadata_props[:]
    model = foreign.SerializeToString()
    assert to_precision(model, "int8") == model


def with_a_branch() -> bytes:
    def body(name: str) -> onnx.GraphProto:
        node = helper.make_node("Identity", ["input"], [name])
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE)
        return helper.make_graph([node], name, [], [value])

    flag = numpy_helper.from_array(np.array(True), "flag")
    branch = helper.make_node(
        "If", ["flag"], ["output"], then_branch=body("yes"), else_branch=body("no")
    )
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE)
        for name in ("input", "output")
    ]
    graph = helper.make_graph([branch], "branch", values[:1], values[1:], [flag])
    return bytes(helper.make_model(graph).SerializeToString())


@cache
def with_weight(value: float) -> bytes:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, padding=1)
    nn.init.constant_(layer.bias, value)  # type: ignore[arg-type]
    return to_onnx(layer, SHAPE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: to_precision(b"no model", "int8"), "in int8: .*pars"),
        (lambda: to_precision(b"no model", "fp16"), "in fp16: .*pars"),
        (lambda: to_precision(with_a_branch(), "int8"), "in int8: it has branches or loops"),
        (
            lambda: to_precision(with_weight(1e5), "fp16"),
            r"reaches 1e\+05, but fp16 ends at 6.55",
        ),
        (
            lambda: to_precision(with_weight(np.nan), "bf16"),
            "reaches nan, but bf16 ends at 3.39",
        ),
        (
            lambda: to_precision(to_precision(whole(), "fp16"), "int8"),
            "in int8: it is in fp16 already; give the fp32 model",
        ),
        (
            lambda: to_precision(whole(), "int8", images=IMAGES[:, :, 1:]),
            "onnxruntime cannot run it on these images: .*invalid dimensions",
        ),
        (lambda: to_precision(whole(), "int8", images=IMAGES[:0]), "there are no images"),
        (
            lambda: to_precision(whole(), "int8", images=np.full_like(IMAGES, np.inf)),
            "not finite for every image",
        ),
    ],
    ids=[
        "no model",
        "no model16",
        "branch",
        "large",
        "nan",
        "fp16",
        "shape",
        "no images",
        "infinite",
    ],
)
def test_what_cannot_be_lowered_is_refused_in_one_line(
    make: Callable[[], bytes], message: str
) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        make()
    assert str(caught.value).startswith("cannot express the model in ")
    assert "\n" not in str(caught.value)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown number format 'int4'; known: fp32, fp16"):
        to_precision(whole(), "int4")


# -- half precision ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)]
)
def test_every_number_of_half_precision_has_16_bits(precision: str, kind: int) -> None:
    model = onnx.load_model_from_string(to_precision(whole(), precision))
    reals = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    found = {t.data_type for t in model.graph.initializer if t.data_type in reals}
    assert found == {kind}
    assert kinds(model.graph)["Cast"] == 2
    exact = {t.name: t for t in onnx.load_model_from_string(whole()).graph.initializer}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float64)
        expected = numpy_helper.to_array(exact[tensor.name]).astype(np.float64)
        np.testing.assert_allclose(values, expected, rtol=2**-8, atol=1e-7)


def of_others(*nodes: onnx.NodeProto, opset: int = 18, **weights: object) -> onnx.ModelProto:
    """A convolution, which puts out ``c``, and what follows it."""
    weights["w"] = np.random.default_rng(1).standard_normal((4, 3, 3, 3))
    kept = [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in weights.items()]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), *nodes],
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        kept,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    )


def old() -> onnx.ModelProto:
    """As exporters wrote models once: each weight is an input, too."""
    model = of_others(helper.make_node("Relu", ["c"], ["y"]), opset=9)
    model.ir_version = 3
    model.graph.input.append(
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3, 3, 3])
    )
    return model


def with_function() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Mul", ["a", "two"], ["b"]),
    ]
    opset = helper.make_opsetid("", 18)
    model = of_others(helper.make_node("Twice", ["c"], ["y"], domain="mine"))
    model.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], nodes, [opset]))
    model.opset_import.add(domain="mine", version=1)
    return model


FORMS: dict[str, Callable[[], onnx.ModelProto]] = {
    "resized": lambda: of_others(
        helper.make_node("Resize", ["c", "", "scales"], ["y"]), scales=[1, 1, 2, 2]
    ),
    "resized, opset 9": lambda: of_others(
        helper.make_node("Upsample", ["c", "scales"], ["y"]), opset=9, scales=[1, 1, 2, 2]
    ),
    "a range": lambda: of_others(
        helper.make_node("Range", ["zero", "six", "one"], ["range"]),
        helper.make_node("Mul", ["c", "range"], ["y"]),
        **{"zero": 0, "six": 6, "one": 1},
    ),
    "a constant": lambda: of_others(
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Mul", ["c", "two"], ["y"]),
    ),
    "masked by the lowest number": lambda: of_others(
        helper.make_node("Max", ["c", "lowest"], ["y"]), lowest=np.finfo(np.float32).min
    ),
    "weights are inputs": old,
    "a function": with_function,
}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("name", FORMS)
def test_models_of_every_form_are_lowered(name: str, precision: str) -> None:
    """What ONNX has in float32 alone stays so; weights may be inputs or constants, too."""
    model = FORMS[name]().SerializeToString()
    images = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
    lowered = to_precision(model, precision, images=images)
    outputs = [session(m).run(None, {"x": images[:1]})[0] for m in (model, lowered)]
    assert np.abs(outputs[0] - outputs[1]).max() < 0.03 * np.abs(outputs[0]).max()


def test_fp16_computes_the_same_up_to_rounding() -> None:
    assert 1e-6 < error_of(to_precision(whole(), "fp16"), whole()) < 1e-2


# -- integers ----------------------------------------------------------------------------------


@at_night
@pytest.mark.parametrize("seed", [0, 1])
def test_a_composed_network_runs_the_same_integer_nodes_as_the_exported_one(
    seed: int, tmp_path: Path
) -> None:
    """So a table that was measured with random weights and ranges is one of real networks."""
    composed = compose_network(network(seed), exported, SHAPE)
    measured = optimised(to_precision(composed, "int8"), tmp_path)
    deployed = optimised(to_precision(whole(seed), "int8", images=IMAGES), tmp_path)
    assert kinds(measured) == kinds(deployed)
    assert kinds(deployed)["QLinearAdd"] > 0
    assert kinds(deployed)["QLinearConcat"] > 0
    assert float_islands(deployed) == []


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        *((name, 1) for name in sorted(OPERATORS.keys() - {"factorized_reduce"})),
        *((name, 2) for name in sorted({*CANDIDATES, "factorized_reduce"})),
        ("mbconv_3x3_e1", 1),
        ("mbconv_5x5_e3_relu", 2),
        ("conv_3x3_bn_relu6", 2),
    ],
)
def test_every_operator_runs_in_integers_within_a_network(
    name: str, stride: int, tmp_path: Path
) -> None:
    site = Site(8, 8, 8, 8, stride)
    composition = Composition((1, *site.input_shape))
    value = composition.convolve("input", 8, 8)
    one, other = (composition.apply(exported((name, site)), value) for _ in range(2))
    model = composition.to_onnx(composition.add(one, other))
    graph = optimised(to_precision(model, "int8"), tmp_path)
    assert float_islands(graph) == []
    assert not kinds(graph).keys() & {"Conv", "FusedConv", "Add", "Relu", "Gemm", "ReduceMean"}


def test_relu6_is_the_end_of_a_range(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU6(), nn.Conv2d(8, 4, 3))
    layers[0].weight.data *= 30  # most of what it puts out is below 0 or above 6
    exact = to_onnx(layers, SHAPE)
    assert float_islands(optimised(to_precision(exact, "int8"), tmp_path)) == []
    model = to_precision(exact, "int8", images=IMAGES)
    assert float_islands(optimised(model, tmp_path)) == []
    assert error_of(model, exact) < 0.05


def test_what_has_no_integer_form_stays_real_between_integers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 3))
    exact = to_onnx(layers, SHAPE)
    model = to_precision(exact, "int8", images=IMAGES)
    graph = optimised(model, tmp_path)
    assert kinds(graph)["QLinearConv"] == 2
    assert float_islands(graph) != []
    assert error_of(model, exact) < 0.05


def test_a_model_of_nothing_to_quantise_is_left_alone() -> None:
    exact = to_onnx(nn.Sigmoid(), SHAPE)
    np.testing.assert_array_equal(outputs(to_precision(exact, "int8")), outputs(exact))


def test_integers_compute_what_the_network_does() -> None:
    assert error_of(to_precision(whole(), "int8", images=IMAGES), whole()) < 0.1


def test_ranges_are_those_of_the_images() -> None:
    narrow = to_precision(whole(), "int8", images=0.1 * IMAGES)
    assert error_of(narrow, whole()) > 3 * error_of(
        to_precision(whole(), "int8", images=IMAGES), whole()
    )


def test_an_open_batch_stays_open() -> None:
    exact = to_onnx(network(), SHAPE, dynamic_batch=True)
    model = to_precision(exact, "int8", images=IMAGES[:5])
    fixed = to_precision(whole(), "int8", images=IMAGES[:5])
    (together,) = session(model).run(None, {"input": IMAGES})
    np.testing.assert_allclose(together, outputs(fixed), rtol=1e-4, atol=1e-4)


def test_a_batch_that_images_do_not_fill_begins_anew() -> None:
    exact = to_onnx(network(), (3, *SPACE.input_shape))
    (found,) = session(to_precision(exact, "int8", images=IMAGES[:2])).run(
        None, {"input": IMAGES[[0, 1, 0]]}
    )
    np.testing.assert_array_equal(found[0], found[2])


def test_made_up_ranges_are_all_different() -> None:
    """Runtimes save work between tensors of one range, and networks have none."""
    model = onnx.load_model_from_string(to_precision(whole(), "int8"))
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    names = {n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    assert len({float(values[name]) for name in names}) == len(names)


def test_a_large_bias_of_a_small_weight_survives() -> None:
    layer = nn.Conv2d(3, 2, 1)
    nn.init.constant_(layer.weight, 1e-9)
    with torch.no_grad():
        layer.weight[1] = 0
        assert layer.bias is not None
        layer.bias.copy_(torch.tensor([50.0, -20.0]))
    exact = to_onnx(layer, SHAPE)
    found = outputs(to_precision(exact, "int8", images=IMAGES))
    np.testing.assert_allclose(found, outputs(exact), atol=0.3)


def test_predictions_are_made_for_every_image_and_of_numbers_alone() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (300, *SHAPE[1:])))
    data = ImageData(pixels.to(torch.uint8), torch.zeros(300, dtype=torch.long), 10)
    normalisation = Normalisation.measure(data)
    images = normalisation.apply(data.images[torch.arange(300)]).numpy()
    found = onnx_predictions(whole(), data, normalisation)
    np.testing.assert_array_equal(found.numpy(), outputs(whole(), images).argmax(axis=1))
    with pytest.raises(ExportError, match="returns values that are not numbers"):
        onnx_predictions(with_weight(np.nan), data, normalisation)
    with pytest.raises(ExportError, match="onnxruntime cannot run the exported network"):
        onnx_predictions(b"no model", data, normalisation)


def test_it_is_what_the_quantiser_of_onnxruntime_makes(tmp_path: Path) -> None:
    """Without what it has no integer form for; it is too slow for networks of hundreds."""
    operator = exported(("sep_conv_3x3", Site(8, 8, 8, 8)))
    composition = Composition((1, 8, 8, 8))
    value = composition.convolve("input", 8, 8)
    value = composition.add(composition.apply(operator, value), value)
    value = composition.concat([composition.apply(operator, value), value])
    exact = composition.to_onnx(value)
    images = np.random.default_rng(1).standard_normal((8, 8, 8, 8), dtype=np.float32)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = list(images)

        def get_next(self) -> dict[str, Any] | None:
            return {"input": self.left.pop()[None]} if self.left else None

    (tmp_path / "exact.onnx").write_bytes(exact)
    quantize_static(
        tmp_path / "exact.onnx",
        tmp_path / "theirs.onnx",
        Reader(),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    theirs = (tmp_path / "theirs.onnx").read_bytes()
    ours = to_precision(exact, "int8", images=images)
    assert kinds(optimised(ours, tmp_path)) == kinds(optimised(theirs, tmp_path))
    expected = outputs(exact, images)
    steps = 255 / (expected.max() - expected.min())
    assert np.abs(outputs(ours, images) - outputs(theirs, images)).max() * steps <= 3


# -- sessions ----------------------------------------------------------------------------------


class Recording(SimulatedDevice):
    """A device of one number format, with a record of the models it was given."""

    def __init__(self, precision: str) -> None:
        super().__init__()
        self.precision = precision
        self.given: dict[str, bytes] = {}

    def conditions(self, *, batch: int) -> Conditions:
        conditions = super().conditions(batch=batch)
        return msgspec.structs.replace(conditions, precision=self.precision)

    def visit(
        self, models: Mapping[str, bytes], *, seed: int
    ) -> dict[str, tuple[Visit, ...] | Failure]:
        self.given |= models
        return super().visit(models, seed=seed)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_session_measures_in_the_format_of_its_conditions(precision: str) -> None:
    device = Recording(precision)
    model = with_weight(1.0)
    Session(device).measure({"model": model}, [Estimate({"model": 1.0})])
    assert device.given.pop("model") == to_precision(model, precision)
    for sentinel in device.given.values():
        assert b"Cast" not in sentinel
        assert b"QuantizeLinear" not in sentinel


def test_models_that_cannot_be_lowered_fail_and_the_others_do_not() -> None:
    device = Recording("fp16")
    models = {
        "good": with_weight(1.0),
        "shared": with_weight(2.0),
        "alone": with_weight(3.0),
        "large": with_weight(1e5),
    }
    estimates = [
        Estimate({"good": 1.0, "shared": -1.0}),
        Estimate({"large": 1.0, "shared": -1.0, "alone": 0.5}),
    ]
    results = Session(device).measure(models, estimates)
    assert {name for name in models if isinstance(results[name], Timing)} == {"good", "shared"}
    for name in ("large", "alone"):
        failure = results[name]
        assert isinstance(failure, Failure)
        assert "fp16 ends at 6.55e+04" in failure.error
    assert "alone" not in device.given


def test_if_nothing_can_be_lowered_nothing_is_measured() -> None:
    device = Recording("fp16")
    results = Session(device).measure({"large": with_weight(1e5)}, [Estimate({"large": 1.0})])
    assert isinstance(results["large"], Failure)
    assert isinstance(Session(device).nodes({"large": with_weight(1e5)})["large"], Failure)


def test_nodes_are_those_of_the_lowered_model() -> None:
    nodes = Session(Recording("fp16")).nodes({"model": with_weight(1.0)})["model"]
    assert not isinstance(nodes, Failure)
    assert [node.operator for node in nodes] == ["Cast", "Conv", "Cast"]
