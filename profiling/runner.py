"""Times ONNX models in the process it is started in; needs numpy and onnxruntime alone.

Self-contained, and Python 3.9 is enough, so that it also runs where goldnas is not installed:
``python runner.py JOB.json``, or the job on standard input. A job is

    {"models": {"name": "path.onnx"}, "provider": "CPUExecutionProvider",
     "provider_options": {}, "threads": 1, "rounds": 5, "warmup_ms": 4, "visit_ms": 20,
     "min_calls": 7, "seed": 0}

and each line of the answer is one visit, in the order measured, or one failure
(broken in two here):

    {"model": "name", "calls": 700, "min_us": 20.1, "p10_us": 20.4, "p25_us": 20.5,
     "median_us": 20.9}
    {"model": "name", "error": "why, in one line"}
"""

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


def load(
    path: str, threads: int, provider: str, provider_options: dict[str, str]
) -> tuple[ort.InferenceSession, ort.IOBinding]:
    """Open a model with its inputs and outputs bound, so that a call copies nothing.

    Raises:
        ValueError: If the provider is not there, or an input is not float32 of a fixed shape.
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
    # From bytes: given a path, the runtime repeats it in its errors.
    session = ort.InferenceSession(
        Path(path).read_bytes(), options, providers=[(provider, provider_options)]
    )
    if session.get_providers()[0] != provider:
        raise ValueError(f"{provider} did not start; {session.get_providers()[0]} would run it")
    generator = np.random.default_rng(0)
    feeds = {}
    for entry in session.get_inputs():
        if entry.type != "tensor(float)" or not all(isinstance(d, int) for d in entry.shape):
            raise ValueError(
                f"input {entry.name!r} is {entry.type} of shape {entry.shape}; "
                "only float32 inputs of a fixed shape can be measured"
            )
        feeds[entry.name] = generator.standard_normal(entry.shape, dtype=np.float32)
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


def run(job: dict[str, Any]) -> None:
    """Do a job, one line of output at a time."""

    def answer(model: str, **fields: object) -> None:
        # Flushed: when the parent is gone this fails, and so ends the work.
        print(json.dumps({"model": model, **fields}), flush=True)

    ort.set_default_logger_severity(4)
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
