"""Times ONNX models in the process it is started in; needs numpy and onnxruntime alone.

Self-contained, and Python 3.9 is enough, so that it also runs where goldnas is not installed:
``python runner.py JOB.json``, or the job on standard input. A job is

    {"models": {"name": "path.onnx"}, "provider": "CPUExecutionProvider",
     "provider_options": {}, "threads": 1, "rounds": 5, "warmup_ms": 4, "visit_ms": 20,
     "min_calls": 7, "seed": 0, "nodes": false}

and each line of the answer is one visit, in the order measured, or one failure
(broken in two here):

    {"model": "name", "calls": 700, "min_us": 20.1, "p10_us": 20.4, "p25_us": 20.5,
     "median_us": 20.9}
    {"model": "name", "error": "why, in one line"}

With "nodes", a model is not visited but run under the runtime's own profiler, and answered by
one line per node, in the order they run:

    {"model": "name", "node": "conv1", "operator": "Conv", "provider": "CPUExecutionProvider",
     "output": "1x16x32x32", "latency_us": 17.5}
"""

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

NUMBERS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
"""What an input may hold."""


def load(
    path: str,
    threads: int,
    provider: str,
    provider_options: dict[str, str],
    *,
    profile: str = "",
) -> tuple[ort.InferenceSession, ort.IOBinding]:
    """Open a model with its inputs and outputs bound, so that a call copies nothing.

    Args:
        path: Of the model.
        threads: Of one operator.
        provider: That runs it.
        provider_options: Of the provider.
        profile: How the name of the runtime's own profile begins; empty for none.

    Raises:
        ValueError: If the provider is not there, or an input is not numbers of a fixed shape.
        Exception: Whatever the runtime raises for a model it rejects.
    """
    available = ort.get_available_providers()
    if provider not in available:  # onnxruntime would take another with a warning
        raise ValueError(f"{provider} is not in this build, which has {', '.join(available)}")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    # From bytes: given a path, the runtime repeats it in its errors.
    session = ort.InferenceSession(
        Path(path).read_bytes(), options, providers=[(provider, provider_options)]
    )
    if session.get_providers()[0] != provider:
        raise ValueError(f"{provider} did not start; {session.get_providers()[0]} would run it")
    generator = np.random.default_rng(0)
    feeds: dict[str, Any] = {}
    for entry in session.get_inputs():
        kind = NUMBERS.get(entry.type)
        if kind is None or not all(isinstance(size, int) for size in entry.shape):
            raise ValueError(
                f"input {entry.name!r} is {entry.type} of shape {entry.shape}; "
                "only numbers of a fixed shape can be measured"
            )
        # Whole numbers are indices and masks more often than not, and 0 is one of every size.
        real = np.issubdtype(kind, np.floating)
        values = generator.standard_normal(entry.shape) if real else np.zeros(entry.shape)
        feeds[entry.name] = values.astype(kind)
    binding = session.io_binding()
    for name, value in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value))
    # Shapes of outputs may be symbolic even so: one run tells them.
    outputs = zip(session.get_outputs(), session.run(None, feeds))  # noqa: B905 (is 3.10)
    for entry, result in outputs:
        binding.bind_ortvalue_output(entry.name, ort.OrtValue.ortvalue_from_numpy(result))
    return session, binding


def visit(
    session: ort.InferenceSession,
    binding: ort.IOBinding,
    warmup_ms: float,
    visit_ms: float,
    min_calls: int,
) -> dict[str, float]:
    """Warm up, then time single calls; quantiles in microseconds."""
    call, clock_ns = session.run_with_iobinding, time.perf_counter_ns
    end_ns = clock_ns() + warmup_ms * 1e6
    while clock_ns() < end_ns:
        call(binding)
    samples_ns: list[int] = []
    end_ns = clock_ns() + visit_ms * 1e6
    while len(samples_ns) < min_calls or clock_ns() < end_ns:
        start_ns = clock_ns()
        call(binding)
        samples_ns.append(clock_ns() - start_ns)
    low, p10, p25, median = np.quantile(samples_ns, [0, 0.1, 0.25, 0.5]) / 1e3
    return {
        "calls": len(samples_ns),
        "min_us": low,
        "p10_us": p10,
        "p25_us": p25,
        "median_us": median,
    }


def nodes_of(path: str, job: dict[str, Any]) -> list[dict[str, object]]:
    """Run a model under the runtime's profiler: its nodes, as the runtime has them.

    The profiler has whole microseconds, so that a latency is a mean: of the faster half of the
    calls, which the machine's slow phases leave alone.
    """
    settings = (job["threads"], job["provider"], job["provider_options"])
    session, binding = load(path, *settings, profile=str(Path(path).with_suffix("")))
    visit(session, binding, 10 * job["warmup_ms"], 10 * job["visit_ms"], job["min_calls"])
    events = json.loads(Path(session.end_profiling()).read_text())
    nodes: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        told = event.get("args", {})
        name = event.get("name", "")
        if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
            continue
        if told["op_name"] in ("If", "Loop", "Scan"):  # the nodes within are there as well
            continue
        node = nodes.setdefault((name, told.get("node_index", "")), {**told, "us": []})
        node["us"].append(event["dur"])
    found = []
    for (name, _), node in nodes.items():
        calls = np.sort(node["us"])
        output: list[int] = next(iter((node.get("output_type_shape") or [{}])[0].values()), [])
        found.append(
            {
                "node": name[: -len("_kernel_time")],
                "operator": node["op_name"],
                "provider": node["provider"],
                "output": "x".join(map(str, output)),
                "latency_us": float(np.mean(calls[: (len(calls) + 1) // 2])),
            }
        )
    return found


def run(job: dict[str, Any]) -> None:
    """Do a job, one line of output at a time."""

    def answer(model: str, **fields: object) -> None:
        # Flushed: when the parent is gone this fails, and so ends the work.
        print(json.dumps({"model": model, **fields}), flush=True)

    ort.set_default_logger_severity(4)
    if job.get("nodes"):
        for name, path in job["models"].items():
            try:
                for node in nodes_of(path, job):
                    answer(name, **node)
            except Exception as error:  # as below
                answer(name, error=" ".join(str(error).split()))
        return
    loaded = {}
    for name, path in job["models"].items():
        try:
            loaded[name] = load(path, job["threads"], job["provider"], job["provider_options"])
        except Exception as error:  # the runtime has a dozen kinds; each is this model's alone
            answer(name, error=" ".join(str(error).split()))
    order = list(loaded)
    shuffle = random.Random(job["seed"]).shuffle
    for _ in range(job["rounds"]):
        shuffle(order)
        for name in order:
            settings = (job["warmup_ms"], job["visit_ms"], job["min_calls"])
            answer(name, **visit(*loaded[name], *settings))


if __name__ == "__main__":
    with open(sys.argv[1]) if len(sys.argv) > 1 else sys.stdin as file:
        run(json.load(file))
