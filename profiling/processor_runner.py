"""Measures models with other runtimes than onnxruntime: does one job, and ends.

``python -m goldnas.profiling.processor_runner JOB.json``, as the server of ``runner.py`` calls
it, whose jobs and answers these are, with these besides:

    {"backend": "openvino", "folder": "converted", "threads": 1, "cores": [], ...}

- "folder" is where converted and compiled models are kept;
- ``{"ready": "name"}`` says that a model is ready, since a conversion may take long;
- with "facts", the answer is ``{"facts": {...}}``, or ``{"unusable": "why, in one line"}``;
- with "run", of one model, it is run on the images of the file "images", and the answer is
  ``{"outputs": "path"}`` or ``{"error": "why, in one line"}``.

Neither torch nor onnx is loaded where calls are timed: loading takes seconds in each process.
"""

import hashlib
import json
import os
import platform
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from goldnas.errors import MeasurementError
from goldnas.profiling.processor_runtimes import Array, Model, Runtime, load_runtime
from goldnas.profiling.runner import (
    INPUTS,
    LONGEST_WAIT_S,
    end_with_input,
    in_one_line,
    read_cpu_model,
    run_maker,
    send_answer,
    settle,
    summarize,
)
from goldnas.profiling.runtimes import MissingRuntimeError

_PROFILED_CALLS = 50


def main(job: dict[str, Any]) -> None:
    """Do a job."""
    if job["cores"] and not job.get("facts"):  # of which the number of cores is one
        try:
            os.sched_setaffinity(0, job["cores"])
        except (OSError, AttributeError):
            sys.exit(f"cannot run on cores {job['cores']} of {os.cpu_count()}")
    try:
        runtime = load_runtime(
            job["backend"],
            threads=job["threads"],
            folder=Path(job["folder"]),
            nodes=bool(job.get("nodes")),
        )
    except MissingRuntimeError as error:
        if not job.get("facts"):
            sys.exit(str(error))
        send_answer(unusable=str(error))
        return
    if job.get("facts"):
        send_answer(facts=collect_facts(runtime))
    elif job.get("run"):
        run(job, runtime)
    else:
        measure(job, runtime)


def measure(job: dict[str, Any], runtime: Runtime) -> None:
    """Make the models ready, then visit them in rounds, or profile their nodes."""
    loaded: dict[str, Model] = {}
    for name, entry in job["models"].items():
        try:
            content = Path(entry["path"]).read_bytes()
            inputs = read_inputs(content, Path(job["folder"]))
            model = runtime.prepare(content)
            model.feed(inputs)
            model.call()
            model.outputs()
            if job.get("nodes"):
                for node in model.nodes(_PROFILED_CALLS):
                    send_answer(model=name, **node)
            elif job["rounds"]:
                loaded[name] = model
            send_answer(ready=name)
        except Exception as error:  # runtimes have dozens of kinds; each is this model's alone
            send_answer(model=name, error=in_one_line(error))
    order = list(loaded)
    shuffle = random.Random(job["seed"]).shuffle
    patience_s: float = LONGEST_WAIT_S
    for number in range(job["rounds"] if order else 0):
        state = settle(job["hot_c"], patience_s)
        if state.get("waited_s", 0) >= patience_s:
            patience_s = 0  # it does not get cooler
        shuffle(order)
        visits = {name: visit(loaded[name], job) for name in order}
        # After the round, not within: who reads them would take a core from the threads.
        if state:
            send_answer(round=number, **state)
        for name, found in visits.items():
            send_answer(model=name, **found)


def visit(model: Model, job: dict[str, Any]) -> dict[str, float]:
    """Warm up, then time single calls; quantiles in microseconds, as ``runner.visit``."""
    call, clock_ns = model.call, time.perf_counter_ns
    end_ns = clock_ns() + job["warmup_ms"] * 1e6
    while clock_ns() < end_ns:
        call()
    samples_ns: list[int] = []
    end_ns = clock_ns() + job["visit_ms"] * 1e6
    while len(samples_ns) < job["min_calls"] or clock_ns() < end_ns:
        start_ns = clock_ns()
        call()
        samples_ns.append(clock_ns() - start_ns)
    return summarize(samples_ns)


def read_inputs(model: bytes, folder: Path) -> list[Array]:
    """What a model runs on, in the order of its inputs; from a folder, if it is there.

    Raises:
        MeasurementError: As for :func:`make_inputs`.
    """
    place = folder / f"{hashlib.sha256(model).hexdigest()}.npz"
    if not place.is_file():
        np.savez(place, *make_inputs(model))
    with np.load(place) as kept:
        return [kept[f"arr_{index}"] for index in range(len(kept.files))]


def make_inputs(model: bytes) -> list[Array]:
    """The inputs that a model's metadata holds; without, random numbers, or 0 where whole.

    Raises:
        MeasurementError: If its metadata does not say, and an input is not numbers of a fixed
            shape.
    """
    import onnx
    from onnx import helper

    proto = onnx.load_model_from_string(model)
    told = {entry.key: entry.value for entry in proto.metadata_props}.get(INPUTS)
    given = run_maker(told) if told is not None else {}
    generator = np.random.default_rng(0)
    weights = {tensor.name for tensor in proto.graph.initializer}
    made: list[Array] = []
    for entry in proto.graph.input:
        if entry.name in weights:
            continue
        if entry.name in given:
            made.append(given[entry.name].numpy())
            continue
        tensor = entry.type.tensor_type
        shape = [dim.dim_value for dim in tensor.shape.dim]
        is_open = not all(dim.HasField("dim_value") for dim in tensor.shape.dim)
        if is_open or not tensor.HasField("shape"):
            raise MeasurementError(
                f"input {entry.name!r} has shape {shape}; only numbers of a fixed shape can be "
                "measured"
            )
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        real = np.issubdtype(dtype, np.floating)
        values = generator.standard_normal(shape) if real else np.zeros(shape)
        made.append(np.asarray(values).astype(dtype))
    return made


def run(job: dict[str, Any], runtime: Runtime) -> None:
    """Run one model on images, in one call."""
    (entry,) = job["models"].values()
    try:
        model = runtime.prepare(Path(entry["path"]).read_bytes())
        model.feed([np.load(job["images"])])
        model.call()
        (result,) = model.outputs()
    except Exception as error:
        send_answer(error=in_one_line(error))
        return
    outputs = Path(job["outputs"], "outputs.npy")
    np.save(outputs, result.astype(np.float32))
    send_answer(outputs=str(outputs))


def collect_facts(runtime: Runtime) -> dict[str, Any]:
    """What this machine is, and what measures on it."""
    return {
        "cpu_model": read_cpu_model(),
        "architecture": platform.machine() or "unknown",
        "os": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "version": runtime.version,
        "options": dict(runtime.options),
        "cores": os.cpu_count(),
    }


if __name__ == "__main__":
    end_with_input()
    main(json.loads(Path(sys.argv[1]).read_text()))
    os._exit(0)  # some runtimes crash when they are taken down
