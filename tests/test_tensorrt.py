"""TensorRT-RTX parses and builds what goldnas exports; its builder needs no GPU.

What needs one is not tested here: that engines run, what they put out, and what they take.
"""

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from exported import NETWORKS, OF_NETWORKS, networks, operator, parts
from goldnas.errors import MeasurementError
from goldnas.exporting.precision import to_precision
from goldnas.exporting.symmetric_int8 import make_symmetric
from goldnas.operators import OPERATORS
from goldnas.profiling.runtimes import FullError, MissingRuntimeError, complete_options
from goldnas.profiling.tensorrt_import import import_tensorrt
from goldnas.profiling.tensorrt_runtime import TensorRT
from nightly import EXAMPLES, at_night

Show = Callable[[str], None]


@pytest.fixture(scope="module")
def rtx() -> TensorRT:
    try:
        return TensorRT("tensorrt-rtx", complete_options("tensorrt-rtx", {}), None, None)
    except MissingRuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Show:
    def show(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}")

    return show


# -- what goldnas exports ----------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=at_night)])
def test_every_operator_of_every_space_builds(
    rtx: TensorRT, precision: str, show: Show
) -> None:
    tried = parts() if EXAMPLES else list({name: (name, s) for name, s in parts()}.values())
    models = [operator(part).SerializeToString() for part in tried]
    began = time.monotonic()
    for model in models:
        assert len(rtx.build(to_precision(model, precision))) > 1000
    took_s = time.monotonic() - began
    show(f"TensorRT-RTX {rtx.version}: {len(models)} operators, {precision}, {took_s:.1f} s")
    assert {name for name, _ in tried} == set(OPERATORS)


FIRST = ("gold", "fp16")


@pytest.mark.parametrize(
    ("space", "precision"),
    [
        pytest.param(
            space, number, marks=() if number == "fp16" and space.name == "gold" else at_night
        )
        for space in OF_NETWORKS
        for number in ("fp16", "bf16", "fp32")
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_whole_networks_build(rtx: TensorRT, space: Any, precision: str, show: Show) -> None:
    models = networks(space)
    began = time.monotonic()
    for model in models:
        assert len(rtx.build(to_precision(model, precision))) > 1000
    took_s = time.monotonic() - began
    show(f"TensorRT-RTX {rtx.version}: {NETWORKS} networks, {precision}, {took_s:.1f} s")


def test_a_network_in_integers_builds(rtx: TensorRT) -> None:
    assert rtx.build(to_precision(networks(OF_NETWORKS[0])[0], "int8"))


def test_symmetric_integers_compute_nearly_the_same() -> None:
    (space, *_) = OF_NETWORKS
    exact = networks(space)[0]
    images = np.random.default_rng(0).standard_normal((8, *space.input_shape), np.float32)
    model = to_precision(exact, "int8", images=images)
    changed = make_symmetric(model)
    graph = onnx.load_model_from_string(changed).graph
    kinds = {t.data_type for t in graph.initializer if t.name.endswith(("point", "symmetric"))}
    assert TensorProto.UINT8 not in kinds
    expected, asymmetric, found = (
        np.concatenate([run(m, image[None]) for image in images])
        for m in (exact, model, changed)
    )
    # A coarser grid, and not another network: by the deviation of the outputs.
    assert np.sqrt(((asymmetric - expected) ** 2).mean()) < 0.2 * expected.std()
    assert np.sqrt(((found - expected) ** 2).mean()) < 0.4 * expected.std()
    assert make_symmetric(exact) == exact


def run(model: bytes, image: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": image})[0]  # type: ignore[no-any-return]


# -- what goes wrong ---------------------------------------------------------------------------


def model_of(node: onnx.NodeProto, **weights: np.ndarray) -> bytes:
    graph = helper.make_graph(
        [node],
        "model",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()


def test_a_node_that_the_parser_rejects_is_named(rtx: TensorRT) -> None:
    node = helper.make_node("NoSuchOperator", ["input"], ["output"], name="odd one")
    with pytest.raises(MeasurementError, match=r"NoSuchOperator.*odd one|odd one.*NoSuch") as e:
        rtx.build(model_of(node))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("content", [b"no model", b""])
def test_what_is_no_model_is_one_line(rtx: TensorRT, content: bytes) -> None:
    with pytest.raises(MeasurementError) as caught:
        rtx.build(content)
    assert "\n" not in str(caught.value)


def test_an_engine_without_a_gpu_is_one_line(rtx: TensorRT) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    engine = rtx.build(operator(parts()[0]).SerializeToString())
    with pytest.raises(MeasurementError, match=r"TensorRT-RTX cannot .* on this GPU: ") as e:
        rtx.load(engine)
    assert "\n" not in str(e.value)


class FakeTrt:
    """The parts of TensorRT's module that are met before anything is built.

    Args:
        version: Of it.
        says: To its logger, as warning and as error, before it gives nothing.
        builds: Whether it has a builder at all.
    """

    ERROR, INTERNAL_ERROR, WARNING = 1, 0, 2

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING = 1, 0, 2

    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=0)
    BuilderFlag = SimpleNamespace(TF32=0)
    MemoryPoolType = SimpleNamespace(WORKSPACE=0)

    def __init__(
        self, version: str = "10.13.3", *, says: str = "", builds: bool = True
    ) -> None:
        self.__version__ = version
        self._says = says
        self._builds = builds
        self.workspace_bytes = 0
        self.cleared: list[int] = []

    def Builder(self, log: Any) -> Any:  # noqa: N802
        if not self._builds:
            log.log(self.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

        def build(network: object, config: object) -> None:
            log.log(self.WARNING, self._says)
            log.log(self.ERROR, "Could not find any implementation for node conv1.")

        def limit(pool: object, size: int) -> None:
            self.workspace_bytes = size

        config = SimpleNamespace(
            clear_flag=self.cleared.append,
            set_memory_pool_limit=limit,
            create_timing_cache=lambda content: content,
            set_timing_cache=lambda cache, ignore: None,
        )
        return SimpleNamespace(
            create_network=lambda flags: None,
            create_builder_config=lambda: config,
            build_serialized_network=build,
        )

    def OnnxParser(self, network: object, log: object) -> Any:  # noqa: N802
        return SimpleNamespace(parse=lambda model: True)


def tensorrt(monkeypatch: pytest.MonkeyPatch, module: FakeTrt) -> TensorRT:
    with monkeypatch.context() as patch:  # for no longer: PyTorch looks for it, too
        patch.setitem(sys.modules, "tensorrt", module)  # type: ignore[arg-type]
        return TensorRT(
            "tensorrt", complete_options("tensorrt", {"workspace_mib": "16"}), None, None
        )


@pytest.mark.parametrize("version", ["9.3.0", "10.11.0", "12.0.1", "unheard-of"])
def test_a_version_that_is_not_known_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    expected = rf"not support TensorRT {version}, only 10.12 to 11.x.*pip install 'tensorrt>="
    with pytest.raises(MissingRuntimeError, match=expected):
        tensorrt(monkeypatch, FakeTrt(version))


@pytest.mark.parametrize("version", ["10.12.0.36", "10.16.1.11", "11.4.0.106"])
def test_versions_that_are_known_are_taken(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    assert tensorrt(monkeypatch, FakeTrt(version)).version == version


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_what_is_not_installed_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)
    with pytest.raises(MissingRuntimeError, match=r"is not installed here .* pip install"):
        import_tensorrt(name)


def test_a_builder_that_cannot_start_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The binding says that a factory returned a null pointer."""
    runtime = tensorrt(monkeypatch, FakeTrt(builds=False))
    expected = "cannot start its builder .CUDA initialization failure .* needs an NVIDIA GPU"
    with pytest.raises(MeasurementError, match=expected):
        runtime.build(operator(parts()[0]).SerializeToString())


def test_a_builder_out_of_workspace_says_how_to_give_it_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = FakeTrt(says="Skipping tactic 0x0 due to insufficient memory on requested size")
    expected = (
        "cannot run the model within a workspace of 16 MiB: Could not find any implementation "
        "for node conv1.. Allow more: `provider_options={'workspace_mib': '64'}`"
    )
    with pytest.raises(MeasurementError, match=expected):
        tensorrt(monkeypatch, module).build(operator(parts()[0]).SerializeToString())
    assert module.workspace_bytes == 16 * 2**20
    assert module.cleared == [FakeTrt.BuilderFlag.TF32]


def test_a_builder_out_of_the_memory_of_the_gpu_does_not_blame_the_workspace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = FakeTrt(says="Error Code 2: OutOfMemory (Requested size was 4096 bytes.)")
    with pytest.raises(FullError, match=r"^TensorRT cannot build the engine: Could not find"):
        tensorrt(monkeypatch, module).build(operator(parts()[0]).SerializeToString())


def test_a_builder_that_fails_for_another_reason_says_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = tensorrt(monkeypatch, FakeTrt(says="a word"))
    with pytest.raises(
        MeasurementError, match="TensorRT cannot build the engine: Could not find"
    ):
        runtime.build(operator(parts()[0]).SerializeToString())
