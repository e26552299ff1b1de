"""Models of others: what their inputs are, what they are measured on, and what they put out."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from goldnas.errors import ConfigError
from goldnas.profiling import onnxruntime_backend
from goldnas.profiling.backend import CPU, Failure, NodeTime, Timing
from goldnas.profiling.journal import Journal
from goldnas.profiling.measuring import Estimate, measure
from goldnas.profiling.onnx_file import OnnxFile, read_onnx
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.whole_model import merge_profiles
from nightly import at_night
from small_models import BOOL, FLOAT, INT64, multiplied, node, run, save
from workplace import invoke

pytestmark = pytest.mark.usefixtures("quick")


def filled(file: OnnxFile) -> list[str]:
    return [entry.filled for entry in file.inputs]


def branches(path: Path) -> Path:
    """At a sample rate of 16000 a large convolution, else nothing."""
    large = helper.make_graph(
        [node("MatMul", ["x", "weight"], ["large"])],
        "large",
        [],
        [helper.make_tensor_value_info("large", FLOAT, None)],
    )
    nothing = helper.make_graph(
        [node("Identity", ["x"], ["nothing"])],
        "nothing",
        [],
        [helper.make_tensor_value_info("nothing", FLOAT, None)],
    )
    nodes = [
        node("Equal", ["sr", "rate"], ["is 16000"]),
        node("If", ["is 16000"], ["y"], then_branch=large, else_branch=nothing),
    ]
    weights = {"rate": np.array(16000), "weight": np.ones((8, 3), np.float32)}
    return save(path, nodes, {"x": (FLOAT, [1, 8]), "sr": (INT64, [])}, {"y": FLOAT}, weights)


# -- values ------------------------------------------------------------------------------------


def test_a_value_decides_which_branch_is_measured(tmp_path: Path) -> None:
    path = branches(tmp_path / "vad.onnx")
    code, stdout, stderr = invoke("profile", "--model", path, "--json", "--value", "sr=16000")
    assert code == 0, stderr
    reply = json.loads(stdout)
    assert [n["operator"] for n in reply["nodes"] if n["operator"] == "MatMul"] == ["MatMul"]
    assert reply["inputs"] == [
        {"name": "x", "type": "float", "shape": [1, 8], "filled": "random"},
        {"name": "sr", "type": "int64", "shape": [], "filled": "16000 (given)"},
    ]
    assert "depends" not in stderr
    code, stdout, stderr = invoke("profile", "--model", path)
    assert code == 0, stderr
    assert "inputs: x float 1x8 random; sr int64 1" in stdout + stderr
    assert "'sr' is 1 (If 'the If')" in " ".join(stderr.split())
    assert "--value sr=10" in " ".join(stderr.split())


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_values_reach_a_model_that_shares_threads(tmp_path: Path) -> None:
    path = branches(tmp_path / "vad.onnx")
    options = ("--value", "sr=16000", "--threads", "2", "--json")
    code, stdout, stderr = invoke("profile", "--model", path, *options)
    assert code == 0, stderr
    assert [n["operator"] for n in json.loads(stdout)["nodes"]].count("MatMul") == 1


@pytest.mark.parametrize(
    ("kind", "shape", "value", "expected"),
    [
        (FLOAT, [2], "1.5,2", [1.5, 2]),
        (FLOAT, [2, 2], "7", [[7, 7], [7, 7]]),
        (FLOAT, [None, 2], "1,2,3,4", [[1, 2], [3, 4]]),
        (FLOAT, ["n"], [1, 2, 3], [1, 2, 3]),
        (FLOAT, None, np.ones((2, 1)), [[1], [1]]),
        (INT64, [], 16000, 16000),
        (INT64, None, "5", 5),
        (INT64, [1], "1e3", [1000]),
        (TensorProto.UINT8, [2], "0,255", [0, 255]),
        (TensorProto.FLOAT16, [1], "0.5", [0.5]),
        (BOOL, [2], "true,false", [True, False]),
        (TensorProto.STRING, [2], "a,b", ["a", "b"]),
    ],
)
def test_a_value_reaches_the_model(
    tmp_path: Path, kind: int, shape: Any, value: Any, expected: Any
) -> None:
    identity = [node("Identity", ["x"], ["y"])]
    path = save(tmp_path / "m.onnx", identity, {"x": (kind, shape)}, {"y": kind})
    (found,) = run(read_onnx(path, values={"x": value}), tmp_path)
    assert found.tolist() == expected


@pytest.mark.parametrize("name", ["x.npy", "one.npz", "named.npz"])
def test_a_value_may_be_a_file(tmp_path: Path, name: str) -> None:
    path = save(
        tmp_path / "m.onnx",
        [node("Relu", ["x"], ["y"])],
        {"x": (FLOAT, ["n", None])},
        {"y": FLOAT},
    )
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "one.npz", image=array)
    np.savez(tmp_path / "named.npz", x=array, z=array)
    file = read_onnx(path, values={"x": str(tmp_path / name)})
    assert file.batch == 2
    assert run(file, tmp_path)[0].tolist() == array.tolist()


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (INT64, "x=1.5", "takes int64, which cannot hold 1.5"),
        (INT64, "x=abc", "give a number, numbers between commas, or a file"),
        (INT64, "x=1,2,3", "is 2, and cannot be 3. Correct --value"),
        (TensorProto.UINT8, "x=256", "takes uint8, which cannot hold 256"),
        (FLOAT, "x=none.npy", "cannot read none.npy: No such file or directory"),
        (FLOAT, "x=text.npy", "text.npy holds no arrays"),
        (FLOAT, "x=huge.npy", "huge.npy holds no arrays: an array of shape (1000000000000,)"),
        (FLOAT, "x=complex.npy", "takes float, which cannot hold"),
        (FLOAT, "z=1", "--value of 'z': "),
        (FLOAT, "x", "--value: give NAME=VALUE; got 'x'"),
    ],
)
def test_a_value_that_does_not_fit_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int, value: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.npy").write_text("no array")
    np.save("complex.npy", np.array([1j, 2j]))
    np.save("huge.npy", np.zeros(10, np.float32))
    header = (
        Path("huge.npy").read_bytes().replace(b"(10,), }           ", b"(1000000000000,), }")
    )
    Path("huge.npy").write_bytes(header)
    path = save(
        tmp_path / "m.onnx", [node("Identity", ["x"], ["y"])], {"x": (kind, [2])}, {"y": kind}
    )
    code, stdout, stderr = invoke("profile", "--model", path, "--value", value)
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert len(stderr.splitlines()) == 1


def test_floats_are_random_beside_numbers_of_2_bits(tmp_path: Path) -> None:
    """Which need an opset whose random numbers the runtime does not make."""
    kinds = {"x": FLOAT, "n": TensorProto.INT2}
    path = save(
        tmp_path / "m.onnx",
        [node("Relu", ["x"], ["y"]), node("Cast", ["n"], ["z"], to=FLOAT)],
        {name: (kind, [2, 3]) for name, kind in kinds.items()},
        {"y": FLOAT, "z": FLOAT},
        opset=25,
    )
    numbers, whole = run(read_onnx(path), tmp_path)
    assert len(np.unique(numbers)) > 1
    assert (whole == 1).all()


def test_a_value_that_was_made_up_and_does_not_fit_is_named(tmp_path: Path) -> None:
    reshape = [node("Reshape", ["x", "n"], ["y"])]
    inputs = {"x": (FLOAT, [6]), "n": (INT64, [2])}
    path = save(tmp_path / "m.onnx", reshape, inputs, {"y": FLOAT})
    code, _, stderr = invoke("profile", "--model", path)
    assert code == 2
    assert "made-up inputs: 'n' is 1. Give the values of a real call with --value" in stderr
    assert invoke("profile", "--model", path, "--value", "n=2,3")[0] == 0


def test_a_model_of_an_old_opset_is_measured_as_onnx_converts_it(tmp_path: Path) -> None:
    add = [node("Add", ["x", "b"], ["y"], broadcast=1, axis=1)]
    weights = {"b": np.ones(3, np.float32)}
    path = save(
        tmp_path / "m.onnx", add, {"x": (FLOAT, [1, 3])}, {"y": FLOAT}, weights, opset=6
    )
    code, _, stderr = invoke("profile", "--model", path)
    assert code == 0, stderr
    assert "does not take opset 6 of" in stderr
    (found,) = run(read_onnx(path, values={"x": 2}), tmp_path)
    assert found.tolist() == [[3, 3, 3]]


def test_what_is_made_up_is_no_zero_and_the_same_each_time(tmp_path: Path) -> None:
    kinds = {
        "float": FLOAT,
        "half": TensorProto.FLOAT16,
        "whole": TensorProto.INT32,
        "bytes": TensorProto.UINT8,
        "truth": BOOL,
        "text": TensorProto.STRING,
    }
    nodes = [helper.make_node("Identity", [name], [f"{name}'"]) for name in kinds]
    inputs = {name: (kind, [2, 3]) for name, kind in kinds.items()}
    outputs = {f"{name}'": kind for name, kind in kinds.items()}
    path = save(tmp_path / "m.onnx", nodes, inputs, outputs)
    file = read_onnx(path)
    assert filled(file) == ["random", "random", "1", "1", "true", "1"]
    numbers, half, *others = run(file, tmp_path)
    assert len(np.unique(numbers)) == len(np.unique(half)) == 6
    assert [np.unique(other).tolist() for other in others] == [[1], [1], [True], ["1"]]
    assert run(file, tmp_path)[0].tolist() == numbers.tolist()


def test_an_index_that_1_is_out_of_range_for_is_0(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        [node("Gather", ["table", "x"], ["y"])],
        {"x": (INT64, [3])},
        {"y": FLOAT},
        {"table": np.full((1, 2), 5, np.float32)},
    )
    code, stdout, stderr = invoke("profile", "--model", path, "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["inputs"][0]["filled"] == "0"


def loop(x: str) -> onnx.NodeProto:
    body = helper.make_graph(
        [
            node("Identity", ["go on"], ["on"]),
            node("Add", ["state", x], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("count", INT64, []),
            helper.make_tensor_value_info("go on", BOOL, []),
            helper.make_tensor_value_info("state", FLOAT, [4]),
        ],
        [
            helper.make_tensor_value_info("on", BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, [4]),
        ],
    )
    return node("Loop", ["times", "", x], ["y"], body=body)


@at_night
def test_nodes_of_a_loop_take_what_all_of_its_rounds_take(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        [loop("x")],
        {"times": (INT64, []), "x": (FLOAT, [4])},
        {"y": FLOAT},
    )
    assert read_onnx(path).deciding == {"times": "Loop 'the Loop'"}
    took = {}
    for times in (1, 100):
        code, stdout, stderr = invoke(
            "profile", "--model", path, "--json", "--value", f"times={times}"
        )
        assert code == 0, stderr
        reply = json.loads(stdout)
        took[times] = sum(
            n["latency_us"] for n in reply["nodes"] if n["operator"] in ("Add", "Identity")
        )
    assert took[100] > 10 * max(took[1], 0.1)


@pytest.mark.parametrize(
    ("nodes", "deciding"),
    [
        ([node("Reshape", ["x", "n"], ["y"])], {"n": "Reshape 'the Reshape'"}),
        ([node("Shape", ["n"], ["s"]), node("Reshape", ["x", "s"], ["y"])], {}),
        (
            [
                node("Cast", ["n"], ["f"], to=FLOAT),
                node("Mul", ["x", "f"], ["z"]),
                node("NonZero", ["z"], ["y"]),
            ],
            {"n": "NonZero 'the NonZero'", "x": "NonZero 'the NonZero'"},
        ),
        ([node("Gather", ["x", "n"], ["y"])], {}),
    ],
)
def test_inputs_that_decide_are_known(
    tmp_path: Path, nodes: list[onnx.NodeProto], deciding: dict[str, str]
) -> None:
    inputs = {"x": (FLOAT, [4]), "n": (INT64, [1])}
    path = save(tmp_path / "m.onnx", nodes, inputs, {"y": FLOAT})
    assert read_onnx(path).deciding == deciding
    assert read_onnx(path, values={"n": 4, "x": 1}).deciding == {}


def test_texts_do_not_grow_from_call_to_call(tmp_path: Path) -> None:
    text = TensorProto.STRING
    concat, inputs = (
        [node("StringConcat", ["a", "b"], ["y"])],
        {"a": (text, [2]), "b": (text, [2])},
    )
    path = save(tmp_path / "m.onnx", concat, inputs, {"y": text}, opset=20)
    assert run(read_onnx(path, values={"a": "x,y"}), tmp_path)[0].tolist() == ["x1", "y1"]


def test_settings_of_floats_are_1(tmp_path: Path) -> None:
    """Random scales and thresholds would be rejected."""
    path = save(
        tmp_path / "m.onnx",
        [node("Resize", ["x", "", "scales"], ["y"])],
        {"x": (FLOAT, [1, 1, 2, 2]), "scales": (FLOAT, [4])},
        {"y": FLOAT},
    )
    file = read_onnx(path)
    assert filled(file) == ["random", "1"]
    assert run(file, tmp_path)[0].shape == (1, 1, 2, 2)


# -- processes that die ------------------------------------------------------------------------


def deadly(path: Path) -> Path:
    """The smallest whole number by -1 is more than there is, and the processor stops."""
    nodes = [
        node("Sub", ["x", "x"], ["zero"]),
        node("Cast", ["zero"], ["whole"], to=INT64),
        node("Add", ["whole", "least"], ["n"]),
        node("Div", ["n", "minus"], ["y"]),
    ]
    least = np.iinfo(np.int64).min
    weights = {"least": np.array([least]), "minus": np.array([-1])}
    return save(path, nodes, {"x": (FLOAT, [4])}, {"y": INT64}, weights)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="others divide without a word")
def test_a_process_that_dies_of_a_model_is_one_line_and_spares_the_others(
    tmp_path: Path,
) -> None:
    path = deadly(tmp_path / "m.onnx")
    code, stdout, stderr = invoke("profile", "--model", path)
    assert (code, stdout) == (2, "")
    *_, told = stderr.splitlines()
    assert "error: the process that measures ended with status -8" in told
    assert "Traceback" not in stderr
    backend = OnnxruntimeBackend(protocol=onnxruntime_backend.IN_CONTEXT)
    good = multiplied(np.float32).SerializeToString()
    found = measure(
        backend,
        {"deadly": path.read_bytes(), "good": good},
        [Estimate({"deadly": 1.0}), Estimate({"good": 1.0})],
        sentinel=good,
        journal=Journal(None, backend.conditions(batch=1)),
    ).results
    backend.close()
    assert isinstance(found["deadly"], Failure)
    assert isinstance(found["good"], Timing)


def test_nodes_that_some_processes_leave_out_are_listed_with_the_others() -> None:
    some = [NodeTime("a", "Relu", CPU, "1", 5.0), NodeTime("b", "If", CPU, "1", 1.0)]
    others = [NodeTime("a", "Relu", CPU, "1", 4.0), NodeTime("c", "Exp", CPU, "1", 2.0)]
    found = merge_profiles([some, others])
    assert [(n.node, n.latency_us) for n in found] == [("a", 4.0), ("b", 1.0), ("c", 2.0)]


# -- shapes ------------------------------------------------------------------------------------


def shapes(file: OnnxFile) -> list[tuple[int, ...]]:
    return [entry.shape for entry in file.inputs]


def test_an_input_without_rank_is_asked_for_its_shape(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx", [node("Relu", ["x"], ["y"])], {"x": (FLOAT, None)}, {"y": FLOAT}
    )
    code, _, stderr = invoke("profile", "--model", path)
    assert code == 2
    assert "is of any shape: give all sizes, as in --shape x=1x3x224x224" in stderr
    file = read_onnx(path, shapes={"x": (2, 3)})
    assert run(file, tmp_path)[0].shape == (2, 3)
    assert run(read_onnx(path, shapes={"x": ()}), tmp_path)[0].shape == ()


@pytest.mark.parametrize(
    ("declared", "options", "expected"),
    [
        # Both get the batch, however it comes.
        ([[None, 4], [None, 4]], {"batch": 8}, [(8, 4), (8, 4)]),
        ([[None, 4], [None, 4]], {"shapes": {"a": (8, 4)}}, [(8, 4), (8, 4)]),
        ([[-1, 4], [0, 4]], {"shapes": {"b": (8, 4)}}, [(8, 4), (8, 4)]),
        ([["N", 4], [None, 4]], {"shapes": {"a": (8, 4)}}, [(8, 4), (8, 4)]),
        ([[None, 4], [None, 4]], {"values": {"a": np.ones((8, 4))}}, [(8, 4), (8, 4)]),
        ([["n", 4], ["n", 4]], {"batch": 3}, [(3, 4), (3, 4)]),
        ([["batch", 4], [2, "batch", 4]], {"batch": 3}, [(3, 4), (2, 3, 4)]),
        ([[None, 4], [1]], {"batch": 3}, [(3, 4), (1,)]),
        # One name is one size, but no name is none.
        ([["batch", "n"], ["n"]], {"shapes": {"a": (2, 5)}}, [(2, 5), (5,)]),
        ([["?", "?"], ["?"]], {"shapes": {"a": (2, 5)}}, [(2, 5), (2,)]),
        ([["?", "?", 3], [1]], {"shapes": {"a": (2, 5, 3)}}, [(2, 5, 3), (1,)]),
        ([["n", "n"], [1]], {"shapes": {"a": (2, 5)}}, [(2, 5), (1,)]),
        ([["n", 4], ["n", 4]], {"shapes": {"a": (2, 4), "b": (3, 4)}}, [(2, 4), (3, 4)]),
        # Some sizes are computed from others.
        ([["n", "past"], ["n", "past + n"]], {"shapes": {"a": (1, 16)}}, [(1, 16), (1, 17)]),
        ([["batch", 4], ["2*batch", 4]], {"batch": 3}, [(3, 4), (6, 4)]),
        ([["b", "(b + n)//2"], ["b", "n"]], {"shapes": {"b": (2, 4)}}, [(2, 3), (2, 4)]),
        ([["batch-size", 4], ["batch-size", 4]], {"batch": 3}, [(3, 4), (3, 4)]),
        ([["n", "n + 1"], [1]], {"shapes": {"a": (2, 5)}}, [(2, 5), (1,)]),
        # 0 is a size.
        ([[1, "past"], [1, 2]], {"shapes": {"a": (1, 0)}}, [(1, 0), (1, 2)]),
        ([[2, 0, 4], [2]], {}, [(2, 0, 4), (2,)]),
        ([[2, 0, 4], [2]], {"shapes": {"a": (2, 3, 4)}}, [(2, 3, 4), (2,)]),
        ([[0], [2]], {}, [(0,), (2,)]),
    ],
)
def test_shapes_follow_from_what_is_given(
    tmp_path: Path, declared: Any, options: dict[str, Any], expected: list[tuple[int, ...]]
) -> None:
    nodes = [helper.make_node("Identity", [name], [f"{name}'"]) for name in "ab"]
    inputs = {name: (FLOAT, shape) for name, shape in zip("ab", declared, strict=True)}
    path = save(tmp_path / "m.onnx", nodes, inputs, {"a'": FLOAT, "b'": FLOAT})
    file = read_onnx(path, **options)
    assert shapes(file) == expected
    assert [found.shape for found in run(file, tmp_path)] == expected


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ([["?", "?"], ["?"]], "'m.onnx' is ?x?: give all sizes, as in --shape a=1x64"),
        ([["batch", "n"], ["n"]], "--shape a=1x64 --shape b=64"),
        ([["batch", 4], ["boxes", 4]], "is boxesx4: give all sizes, as in --shape b=64x4"),
        ([["batch", "past"], ["past + batch"]], "--shape a=1x64 --shape b=65"),
        ([[4], None], "is of any shape: give all sizes"),
    ],
)
def test_a_shape_that_the_error_proposes_is_taken(
    tmp_path: Path, declared: Any, message: str
) -> None:
    nodes = [helper.make_node("Identity", [name], [f"{name}'"]) for name in "ab"]
    inputs = {name: (FLOAT, shape) for name, shape in zip("ab", declared, strict=True)}
    path = save(tmp_path / "m.onnx", nodes, inputs, {"a'": FLOAT, "b'": FLOAT})
    with pytest.raises(ConfigError) as refused:
        read_onnx(path)
    proposed = str(refused.value).partition("`shapes=")[2].rstrip("`")
    file = read_onnx(path, shapes=eval(proposed))
    assert len(run(file, tmp_path)) == 2
    code, _, stderr = invoke("profile", "--model", path)
    assert code == 2
    assert message.replace("'m.onnx'", str(path)) in stderr


def test_an_empty_cache_is_measured(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        [node("Concat", ["past", "x"], ["y"], axis=1)],
        {"past": (FLOAT, [1, "length", 4]), "x": (FLOAT, [1, 2, 4])},
        {"y": FLOAT},
    )
    code, stdout, stderr = invoke("profile", "--model", path, "--shape", "past=1x0x4", "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["inputs"][0]["filled"] == "empty"


def test_a_branch_that_does_not_fit_and_never_runs_is_no_matter(tmp_path: Path) -> None:
    """A kernel of 9 does not fit 4 samples; at this rate it never meets them."""
    small, large = (
        helper.make_graph(
            [node("Conv", ["x", weight], [weight + "'"])],
            weight,
            [],
            [helper.make_tensor_value_info(weight + "'", FLOAT, None)],
        )
        for weight in ("small", "large")
    )
    nodes = [
        node("Equal", ["sr", "rate"], ["is 16000"]),
        node("If", ["is 16000"], ["y"], then_branch=large, else_branch=small),
    ]
    weights = {
        "rate": np.array(16000),
        "small": np.ones((1, 1, 2), np.float32),
        "large": np.ones((1, 1, 9), np.float32),
    }
    inputs = {"x": (FLOAT, [1, 1, "samples"]), "sr": (INT64, [])}
    path = save(tmp_path / "m.onnx", nodes, inputs, {"y": FLOAT}, weights)
    options = ("--shape", "x=1x1x4", "--value", "sr=8000", "--json")
    code, stdout, stderr = invoke("profile", "--model", path, *options)
    assert code == 0, stderr
    assert "Conv" in {n["operator"] for n in json.loads(stdout)["nodes"]}


# -- types of inputs and outputs ---------------------------------------------------------------


def sequence(name: str, shape: Sequence[int | str] | None, kind: int = FLOAT) -> Any:
    element = helper.make_tensor_type_proto(kind, shape)
    return helper.make_value_info(name, helper.make_sequence_type_proto(element))


@pytest.mark.parametrize(
    "kind", ["UINT16", "INT16", "UINT32", "UINT64", "BFLOAT16", "FLOAT8E4M3FN", "INT4", "UINT4"]
)
def test_inputs_of_every_type_are_measured(tmp_path: Path, kind: str) -> None:
    path = save(
        tmp_path / "m.onnx",
        [node("Cast", ["x"], ["y"], to=FLOAT)],
        {"x": (getattr(TensorProto, kind), [2, 3])},
        {"y": FLOAT},
        opset=21,
    )
    (found,) = run(read_onnx(path), tmp_path)
    assert found.shape == (2, 3)
    assert (found != 0).any()
    (found,) = run(read_onnx(path, values={"x": 2}), tmp_path)
    assert np.unique(found).tolist() == [2]


def test_a_sequence_is_measured(tmp_path: Path) -> None:
    nodes = [node("SequenceLength", ["s"], ["n"]), node("SequenceAt", ["s", "i"], ["y"])]
    outputs = {"n": INT64, "y": FLOAT}
    weights = {"i": np.array(0)}
    path = save(tmp_path / "m.onnx", nodes, [sequence("s", ["n", 2])], outputs, weights)
    length, element = run(read_onnx(path), tmp_path)
    assert (length, element.shape) == (1, (1, 2))
    np.savez(tmp_path / "s.npz", a=np.full((3, 2), 7.0), b=np.zeros((1, 2)))
    length, element = run(read_onnx(path, values={"s": tmp_path / "s.npz"}), tmp_path)
    assert (length, element.tolist()) == (2, [[7, 7]] * 3)


def zip_map(path: Path) -> Path:
    kind = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    maps = helper.make_value_info("y", helper.make_sequence_type_proto(kind))
    zipped = node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    return save(path, [zipped], {"x": (FLOAT, ["n", 2])}, [maps])


def texts(path: Path) -> Path:
    nodes = [node("Identity", ["x"], ["y"])]
    return save(path, nodes, {"x": (TensorProto.STRING, [2])}, {"y": TensorProto.STRING})


def tensors(path: Path) -> Path:
    nodes = [node("SequenceConstruct", ["x", "x"], ["y"])]
    return save(path, nodes, {"x": (FLOAT, [2])}, [sequence("y", None)])


def nothing(path: Path) -> Path:
    """It has an output that may be absent, and is."""
    held = helper.make_tensor_type_proto(FLOAT, [2])
    optional = helper.make_value_info("y", helper.make_optional_type_proto(held))
    nodes = [node("Optional", [], ["y"], type=held), node("Relu", ["x"], ["z"])]
    outputs = [optional, helper.make_tensor_value_info("z", FLOAT, None)]
    return save(path, nodes, {"x": (FLOAT, [2])}, outputs)


def changing(path: Path) -> Path:
    """How large its output is, chance says."""
    nodes = [
        node("RandomNormal", [], ["r"], shape=[100]),
        node("Greater", ["r", "x"], ["more"]),
        node("NonZero", ["more"], ["y"]),
    ]
    return save(path, nodes, {"x": (FLOAT, [1])}, {"y": INT64})


@pytest.mark.parametrize(
    "make",
    [zip_map, changing, *(pytest.param(m, marks=at_night) for m in (texts, tensors, nothing))],
)
def test_outputs_of_every_kind_are_measured(tmp_path: Path, make: Any) -> None:
    code, stdout, stderr = invoke("profile", "--model", make(tmp_path / "m.onnx"), "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["latency_us"] > 0


def test_an_input_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    kind = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    cast = node("CastMap", ["x"], ["y"], domain="ai.onnx.ml")
    path = save(tmp_path / "m.onnx", [cast], [helper.make_value_info("x", kind)], {"y": FLOAT})
    code, _, stderr = invoke("profile", "--model", path)
    assert code == 2
    assert "is a map: only tensors and sequences of them can be measured" in stderr
    assert len(stderr.splitlines()) == 1


# -- files -------------------------------------------------------------------------------------


def large(path: Path) -> Path:
    """A model whose weights are in a file beside it."""
    onnx.save(
        multiplied(np.float32),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    return path


def test_a_model_of_a_cache_of_links_is_measured(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    large(blobs / "model.onnx")
    (blobs / "model.onnx").rename(blobs / "e3b0")
    (blobs / "weights.bin").rename(blobs / "c442")
    (snapshot / "model.onnx").symlink_to(Path("../../blobs/e3b0"))
    (snapshot / "weights.bin").symlink_to(Path("../../blobs/c442"))
    (found,) = run(read_onnx(snapshot / "model.onnx"), tmp_path)
    assert found.shape == (1, 64)


@pytest.mark.parametrize("told", [("offset", "-4"), ("length", "many"), ("location", "a\0")])
def test_weights_at_no_place_are_one_line(tmp_path: Path, told: tuple[str, str]) -> None:
    model = onnx.load(large(tmp_path / "model.onnx"), load_external_data=False)
    entries = model.graph.initializer[0].external_data
    for entry in entries:
        entry.value = dict([told]).get(entry.key, entry.value)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        ConfigError, match=r"is not a number of bytes|cannot be read: embedded null"
    ):
        read_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.unlink(), "weights.bin, which cannot be read: No such file or"),
        (lambda file: file.write_bytes(b"1234"), "weights.bin is cut off: it has no 16384"),
    ],
)
def test_weights_that_are_not_there_are_named(tmp_path: Path, spoil: Any, message: str) -> None:
    path = large(tmp_path / "model.onnx")
    spoil(tmp_path / "weights.bin")
    code, _, stderr = invoke("profile", "--model", path)
    assert code == 2
    assert message in stderr
    assert len(stderr.splitlines()) == 1


def test_weights_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = large(tmp_path / "folder" / "model.onnx")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../secret"
    path.write_bytes(model.SerializeToString())
    (tmp_path / "secret").write_bytes(bytes(16384))
    with pytest.raises(
        ConfigError, match=r"'\.\./secret', but goldnas reads only files in the model's folder"
    ):
        read_onnx(path)
