"""What every measurement backend promises; a new one is added to BACKENDS."""

from collections.abc import Callable
from functools import partial

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from goldnas.errors import MeasurementError
from goldnas.lut import Loop
from goldnas.profiling.backend import Failure, MeasurementBackend, NoProfiler, Timing, Visit
from goldnas.profiling.gpu_backend import ON_A_GPU, GpuBackend
from goldnas.profiling.onnxruntime_backend import IN_CONTEXT, OnnxruntimeBackend
from goldnas.profiling.processor_backend import ProcessorBackend
from goldnas.profiling.processor_runtimes import PROCESSOR_RUNTIMES, list_installed
from goldnas.profiling.runtimes import BACKENDS as ON_GPUS
from goldnas.profiling.runtimes import list_working

QUICK = msgspec.structs.replace(IN_CONTEXT, rounds=4)
QUICK_ON_A_GPU = msgspec.structs.replace(ON_A_GPU, rounds=4)
ON_THIS_PROCESSOR = msgspec.structs.replace(ON_A_GPU, rounds=4, visit_ms=2.0, warmup_ms=2.0)


def on_a_gpu(name: str) -> MeasurementBackend:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    if name not in list_working():
        pytest.skip(f"{name} is not installed")
    return GpuBackend(name, protocol=QUICK_ON_A_GPU)


def on_a_processor(name: str) -> MeasurementBackend:
    if name not in list_installed():
        pytest.skip(f"{name} is not installed: {PROCESSOR_RUNTIMES[name].install}")
    return ProcessorBackend(name, protocol=QUICK)


BACKENDS: dict[str, Callable[[], MeasurementBackend]] = {
    "onnxruntime": lambda: OnnxruntimeBackend(protocol=QUICK),
    "onnxruntime beside a busy process": lambda: OnnxruntimeBackend(
        protocol=QUICK, loop=Loop(neighbours=1)
    ),
    "torch on the processor": lambda: GpuBackend(
        "torch", device="cpu", protocol=ON_THIS_PROCESSOR
    ),
    **{name: partial(on_a_processor, name) for name in PROCESSOR_RUNTIMES},
    **{name: partial(on_a_gpu, name) for name in ON_GPUS},
}


@pytest.fixture(scope="module", params=BACKENDS.values(), ids=BACKENDS)
def backend(request: pytest.FixtureRequest) -> MeasurementBackend:
    return request.param()  # type: ignore[no-any-return]


def model(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], channels: int) -> bytes:
    shape = [1, channels, 32, 32]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()


def convolution(channels: int) -> bytes:
    weights = {"weight": np.full((channels, channels, 3, 3), 0.01, dtype=np.float32)}
    node = helper.make_node("Conv", ["input", "weight"], ["output"], pads=[1, 1, 1, 1])
    return model([node], weights, channels)


def timed(found: tuple[Visit, ...] | Failure) -> Timing:
    assert not isinstance(found, Failure), found.error
    return Timing(found)


def test_each_model_gets_a_positive_time_and_the_larger_is_not_faster(
    backend: MeasurementBackend,
) -> None:
    models = {"8 channels": convolution(8), "64 channels": convolution(64)}
    found = backend.visit(models, seed=0)
    small, large = timed(found["8 channels"]), timed(found["64 channels"])
    assert 0 < small.min_us <= small.p10_us <= small.p25_us <= small.median_us
    assert small.spread >= 0
    assert len(small.visits) == len(large.visits) == backend.protocol.rounds
    assert small.count >= backend.protocol.min_calls * backend.protocol.rounds
    assert small.latency_us < large.latency_us  # 64 times the work: far beyond noise


def test_a_rejected_model_is_a_failure_that_names_the_node_and_spares_the_others(
    backend: MeasurementBackend,
) -> None:
    rejected = model([helper.make_node("NoSuchOperator", ["input"], ["output"])], {}, 8)
    models = {"bad": rejected, "good": convolution(8), "empty": b"no model"}
    found = backend.visit(models, seed=0)
    assert timed(found["good"]).latency_us > 0
    bad, empty = found["bad"], found["empty"]
    assert isinstance(bad, Failure)
    assert isinstance(empty, Failure)
    assert "NoSuchOperator" in bad.error
    assert "\n" not in bad.error + empty.error


def test_nodes_are_those_of_the_model_and_the_larger_takes_longer(
    backend: MeasurementBackend,
) -> None:
    small, large = np.full((8, 8, 3, 3), 0.01, "f"), np.full((512, 8, 3, 3), 0.01, "f")
    nodes = [
        helper.make_node("Conv", ["input", "small"], ["between"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["between", "large"], ["output"], pads=[1, 1, 1, 1]),
    ]
    whole = model(nodes, {"small": small, "large": large}, 8)
    found = backend.nodes({"whole": whole, "bad": b"no model"})
    assert isinstance(found["bad"], Failure)
    if isinstance(found["whole"], NoProfiler):
        assert "no profiler" in found["whole"].error
        return
    assert not isinstance(found["whole"], Failure)
    assert all(node.latency_us > 0 for node in found["whole"])
    if "tensorrt" in backend.conditions(batch=1).backend:
        return  # its layers have other names than the nodes that they were fused from
    first, second = (node for node in found["whole"] if node.operator == "Conv")
    assert 0 < first.latency_us < second.latency_us  # 64 times the work: far beyond noise
    assert second.output == "1x512x32x32"
    assert first.provider == backend.provider


def test_single_calls_are_timed_in_the_loop_or_refused(backend: MeasurementBackend) -> None:
    models = {"8 channels": convolution(8), "64 channels": convolution(64), "bad": b"no model"}
    if backend.loop.is_hot:
        with pytest.raises(MeasurementError, match="`loop`"):
            backend.time_calls(models, calls=20, seed=0)
        return
    found = backend.time_calls(models, calls=20, seed=0)
    assert isinstance(found["bad"], Failure)
    small, large = found["8 channels"], found["64 channels"]
    assert not isinstance(small, Failure)
    assert not isinstance(large, Failure)
    assert min(len(small.calls_us), len(large.calls_us)) >= 20
    assert min(small.calls_us) > 0
    assert min(small.calls_us) < min(large.calls_us)
    assert 0 < small.visits[0].min_us < large.visits[0].min_us
    assert backend.conditions(batch=1).called == backend.loop


def test_conditions_are_complete_and_survive_a_file(backend: MeasurementBackend) -> None:
    conditions = backend.conditions(batch=4)
    assert conditions.batch == 4
    text = msgspec.json.encode(conditions)
    assert msgspec.json.decode(text, type=type(conditions)) == conditions
    assert conditions.backend.split()[-1][0].isdigit()  # the runtime's version
    assert "" not in msgspec.to_builtins(conditions).values()
