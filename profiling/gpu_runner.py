"""Measures models on the GPU of the machine it runs on: does one job, and ends.

``python -m goldnas.profiling.gpu_runner JOB.json``, as the server of ``runner.py`` calls it,
whose jobs and answers these are, with these besides:

    {"backend": "tensorrt", "device": "cuda", "options": {...}, "folder": "engines", ...}

- "folder" is where engines and caches are kept, in one of the GPU, version and driver;
- the line of a visit also has "enqueue_us", and that before a round the GPU's state;
- ``{"ready": "name"}`` says that a model is ready, since that may take minutes;
- with "facts", the answer is ``{"facts": {...}}``, or ``{"unusable": "why, in one line"}``;
- with "run", of one model, it is run on each image of the file "images", and the answer is
  ``{"engine": "path or empty", "outputs": "path"}``, the first what was built of the model;
  both are in the folder "outputs".
"""

import json
import platform
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from goldnas.errors import MeasurementError
from goldnas.profiling import stream_timing
from goldnas.profiling.cuda_device import CudaDevice, HostDevice, NoGpuError
from goldnas.profiling.runner import (
    end_with_input,
    in_one_line,
    read_cpu_model,
    send_answer,
)
from goldnas.profiling.runtimes import (
    FullError,
    MissingRuntimeError,
    Model,
    Runtime,
    list_working,
    load_runtime,
)


def main(job: dict[str, Any]) -> None:
    """Do a job."""
    torch.set_num_threads(1)  # of the processor; for the GPU it only launches
    try:
        device = CudaDevice() if job["device"] == "cuda" else HostDevice()
        runtime = load_runtime(job["backend"], job["options"], device, Path(job["folder"]))
    except (NoGpuError, MissingRuntimeError) as error:
        if not job.get("facts"):
            sys.exit(str(error))
        send_answer(unusable=_with_advice(error, job["backend"]))
        return
    if job.get("facts"):
        send_answer(facts=collect_facts(runtime, device))
        return
    with device.use(), torch.inference_mode():
        if job.get("run"):
            run(job, runtime, device)
        else:
            measure(job, runtime, device)


def measure(job: dict[str, Any], runtime: Runtime, device: Any) -> None:
    """Make the models ready, then visit them in rounds, or profile their nodes."""
    loaded: dict[str, Model] = {}
    for name, entry in job["models"].items():
        try:
            model = runtime.prepare(Path(entry["path"]).read_bytes())
            if not job.get("nodes"):
                loaded[name] = model
                send_answer(ready=name)
                continue
            for node in model.nodes():
                send_answer(model=name, **node)
        except (FullError, torch.OutOfMemoryError) as error:
            # Whoever asked tries fewer at once.
            sys.exit(f"the GPU's memory is full: {in_one_line(error)}")
        except Exception as error:  # runtimes have dozens of kinds; each is this model's alone
            if "out of memory" in in_one_line(error).lower():
                sys.exit(f"the GPU's memory is full: {in_one_line(error)}")
            try:
                device.synchronize()
            except RuntimeError:  # one after which no model of this process can run
                sys.exit(f"the GPU cannot go on after {name}: {in_one_line(error)}")
            send_answer(model=name, error=in_one_line(error))
    _keep_kernels(runtime)
    order = list(loaded)
    shuffle = random.Random(job["seed"]).shuffle
    for number in range(job["rounds"] if order else 0):
        shuffle(order)
        stream_timing.warm_up(loaded[order[0]].call, device, stream_timing.COLD_WARMUP_MS)
        lines = [
            {"model": name, **_visited(loaded[name], device, job)} for name in order
        ]  # written after the round, not within
        # After the round, not before: idle, a GPU lowers its clocks at once.
        if state := device.state():
            send_answer(round=number, **state)
        for line in lines:
            send_answer(**line)


def _visited(model: Model, device: Any, job: dict[str, Any]) -> dict[str, float]:
    return stream_timing.visit(
        model.call,
        device,
        warmup_ms=job["warmup_ms"],
        visit_ms=job["visit_ms"],
        min_calls=job["min_calls"],
    )


def _keep_kernels(runtime: Runtime) -> None:
    """Once, and not per model: the cache is written whole."""
    if hasattr(runtime, "keep_kernels"):
        runtime.keep_kernels()


def run(job: dict[str, Any], runtime: Runtime, device: Any) -> None:
    """Run one model on images."""
    (entry,) = job["models"].values()
    content = Path(entry["path"]).read_bytes()
    engine = ""
    try:
        model = runtime.prepare(content)
        if hasattr(runtime, "engine"):
            engine = str(Path(job["outputs"], "net.engine"))
            Path(engine).write_bytes(runtime.engine(content))
        _keep_kernels(runtime)
        (place,) = model.inputs.values()
        found = []
        for image in np.load(job["images"]):
            place.copy_(torch.from_numpy(image[None]))
            model.call()
            device.synchronize()
            (result,) = model.outputs.values()
            found.append(result.float().cpu().numpy())
    except Exception as error:
        send_answer(error=in_one_line(error))
        return
    outputs = Path(job["outputs"], "outputs.npy")
    np.save(outputs, np.concatenate(found))
    send_answer(engine=engine, outputs=str(outputs))


def collect_facts(runtime: Runtime, device: Any) -> dict[str, Any]:
    """What this machine is, and what measures on it."""
    gpu = device.gpu
    cudnn = torch.backends.cudnn.version() if gpu else ""  # type: ignore[no-untyped-call]
    return {
        "cpu_model": read_cpu_model(),
        "architecture": platform.machine() or "unknown",
        "os": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "version": runtime.version,
        "cuda": str(torch.version.cuda),
        "cudnn": str(cudnn),
        "busy_with_others": device.busy_with_others() if gpu else False,
        "gpu": gpu and {name: getattr(gpu, name) for name in gpu.__struct_fields__},
        "clocks": bool(device.state()),
    }


def _with_advice(error: MeasurementError, backend: str) -> str:
    """The problem, and the backends that would work here instead."""
    if isinstance(error, NoGpuError):
        return str(error)
    others = [f"`backend={name!r}`" for name in list_working() if name != backend]
    return f"{error}; or measure with an installed backend: {', '.join(others)}"


if __name__ == "__main__":
    end_with_input()
    warnings.simplefilter("ignore")
    main(json.loads(Path(sys.argv[1]).read_text()))
