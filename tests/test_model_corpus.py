"""The models that ONNX tests runtimes with: each is measured, or refused for a reason."""

import hashlib
import importlib
import pkgutil
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.case.node as node_cases
import onnxruntime
import pytest
from onnx import TensorProto
from onnx.backend.test import loader
from onnx.backend.test.case.test_case import TestCase
from onnx.numpy_helper import to_array

from goldnas.errors import GoldnasError
from goldnas.exporting.precision import to_precision
from goldnas.lut import MeasuringProtocol
from goldnas.profiling.backend import CPU, Failure, NodeTime, ProcessDiedError, Timing
from goldnas.profiling.journal import Journal
from goldnas.profiling.measuring import Estimate, measure
from goldnas.profiling.onnx_file import Form, OnnxFile, read_onnx
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.profile_model import describe_made_up
from nightly import EXAMPLES
from small_models import multiplied, run

pytestmark = pytest.mark.usefixtures("quick")

REASONS = {
    "the runtime has no such operator, or not for these types": (
        "NOT_IMPLEMENTED|is not a registered function/op|Exception during initialization"
    ),
    "a value that was not given, and has to be": "Error in execution.* Give the values of",
    "a shape that is open, and has to be given": r"give all sizes, as in `shapes=",
}
"""For which a model is refused rightly."""

FOLDED = {"Constant", "If", "Shape"}
"""Operators of models of which the runtime leaves no node."""

SOME_FILES, SOME_MODULES, SOME_CASES = 12, 32, 1
"""Of the package, and of each operator; by the order of a checksum. All of them at night."""

TOGETHER = 100
"""Models that one process measures."""

ONCE = MeasuringProtocol(
    name="once",
    processes=1,
    rounds=1,
    warmup_ms=0.0,
    visit_ms=0.0,
    min_calls=2,
    statistic="none",
)


# -- the models --------------------------------------------------------------------------------


def pick(names: Iterable[str], count: int) -> list[str]:
    """Some of the names, always the same; at night all."""
    names = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return names if EXAMPLES else names[:count]


def list_files() -> dict[str, Path]:
    """By name, the models that are files of the package; the large ones are for the night."""
    data = Path(loader.DATA_DIR)
    files = {path.parent.name: path for path in data.glob("*/*/model.onnx")}
    if EXAMPLES:
        files |= {path.stem: path for path in data.glob("light/*.onnx")}
    return {name: files[name] for name in pick(files, SOME_FILES)}


def list_cases() -> dict[str, TestCase]:
    """By name, the models of single nodes, with inputs and what they put out."""
    ml = importlib.import_module(f"{node_cases.__name__}.ai_onnx_ml")
    modules = [
        f"{package.__name__}.{module.name}"
        for package in (node_cases, ml)
        for module in pkgutil.iter_modules(package.__path__)
        if not module.ispkg
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, as the modules compute what is expected
        for name in pick(modules, SOME_MODULES):
            importlib.import_module(name)
    cases = {case.name: case for case in node_cases._NodeTestCases}
    by_operator: dict[str, list[str]] = {}
    for name, case in cases.items():
        by_operator.setdefault(case.model.graph.node[0].op_type, []).append(name)
    chosen = (pick(names, SOME_CASES) for names in by_operator.values())
    return {name: cases[name] for names in chosen for name in names}


@pytest.fixture(scope="module")
def cases() -> dict[str, TestCase]:
    return list_cases()


@pytest.fixture(scope="module")
def paths(
    cases: dict[str, TestCase], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for name, case in cases.items():
        onnx.save(case.model, folder / f"{name}.onnx")
    return list_files() | {name: folder / f"{name}.onnx" for name in cases}


# -- measured or refused -----------------------------------------------------------------------


def measure_all(
    files: Mapping[str, OnnxFile],
) -> dict[str, tuple[Timing, tuple[NodeTime, ...]] | str]:
    """The timing and the nodes of each model in the first form that the runtime takes.

    As for one model, but for many in one process; or why the runtime takes no form.
    """
    backend = OnnxruntimeBackend(protocol=ONCE)
    sentinel = multiplied(np.float32).SerializeToString()
    forms = {name: file.forms() for name, file in files.items()}
    found: dict[str, Any] = {}
    names = list(files)
    for start in range(0, len(names), TOGETHER):
        due = names[start : start + TOGETHER]
        while models := _next_forms(due, forms):
            timings = measure(
                backend,
                models,
                [Estimate({name: 1.0}) for name in models],
                sentinel=sentinel,
                journal=Journal(None, backend.conditions(batch=1)),
            ).results
            failed = _failed(timings)
            nodes = _nodes(backend, {n: m for n, m in models.items() if n not in failed})
            failed |= _failed(nodes)
            found = failed | found  # the first says why
            found |= {n: (timings[n], nodes[n]) for n in models.keys() - failed.keys()}
            due = [name for name in due if name in failed]
    backend.close()
    return found


def _next_forms(names: Iterable[str], forms: Mapping[str, Iterator[Form]]) -> dict[str, bytes]:
    following = {name: next(forms[name], None) for name in names}
    return {name: form.model for name, form in following.items() if form is not None}


def _failed(found: Mapping[str, Any]) -> dict[str, str]:
    return {n: failure.error for n, failure in found.items() if isinstance(failure, Failure)}


def _nodes(backend: OnnxruntimeBackend, models: Mapping[str, bytes]) -> dict[str, Any]:
    """The nodes of models; by halves, where a process dies of one."""
    try:
        return dict(backend.nodes(models))
    except ProcessDiedError as error:
        if len(models) == 1:
            return dict.fromkeys(models, Failure(str(error)))
        half = len(models) // 2
        parts = [dict(list(models.items())[part]) for part in (slice(half), slice(half, None))]
        return _nodes(backend, parts[0]) | _nodes(backend, parts[1])


def find_reason(refusal: str) -> str:
    return next((why for why, text in REASONS.items() if re.search(text, refusal)), refusal)


def test_every_model_is_measured_or_refused_for_a_reason(paths: dict[str, Path]) -> None:
    files, refused = {}, {}
    for name, path in paths.items():
        try:
            files[name] = read_onnx(path)
        except GoldnasError as error:
            refused[name] = str(error)
    measured = measure_all(files)
    for name, found in measured.items():
        if isinstance(found, str):
            refused[name] = found + describe_made_up(files[name], found)
            continue
        timing, nodes = found
        assert timing.latency_us > 0, name
        operators = {one.op_type for one in files[name].proto.graph.node}
        assert nodes or operators <= FOLDED, name
        model = next(files[name].forms()).model
        assert to_precision(model, files[name].precision) == model, name
    assert measured.keys() | refused.keys() == paths.keys()
    reasons = Counter(map(find_reason, refused.values()))
    print(f"{len(paths)} models, {len(paths) - len(refused)} measured; refused: {reasons}")
    assert reasons.keys() <= REASONS.keys()
    assert not any("\n" in text for text in refused.values())
    assert len(refused) < 0.1 * len(paths)


# -- values ------------------------------------------------------------------------------------


def to_value(given: Any) -> Any:
    """An input of onnx's tests as onnxruntime takes it."""
    if given is None or isinstance(given, list):
        return given
    return to_array(given) if isinstance(given, TensorProto) else np.asarray(given)


def test_every_model_puts_out_the_same_for_the_values_it_is_given(
    cases: dict[str, TestCase], paths: dict[str, Path], tmp_path: Path
) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    compared, different = 0, []
    for name, case in cases.items():
        try:
            plain = onnxruntime.InferenceSession(
                case.model.SerializeToString(), options, providers=[CPU]
            )
            values = dict(
                zip((i.name for i in plain.get_inputs()), case.data_sets[0][0], strict=False)
            )
            expected = plain.run(None, values)
        except Exception:  # it does not take the model, or Python has no such numbers
            continue
        if any(isinstance(one, list) or one is None for one in expected) or "bernoulli" in name:
            continue
        found = run(read_onnx(paths[name], values=values), tmp_path)
        for one, other in zip(found, expected, strict=True):
            if not (one == other).all() and not np.array_equal(one, other, equal_nan=True):
                different.append(name)
        compared += 1
    print(f"{len(cases)} models, {compared} of them compared")
    assert not different
    assert compared > 0.7 * len(cases)
