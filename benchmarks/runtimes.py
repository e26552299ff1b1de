"""The same networks in every runtime for the processor that is installed here.

    python benchmarks/runtimes.py --out runtimes.json

Draws random networks of a small GOLD space and measures all of them in each runtime. For each
runtime of --tables it makes a latency table first, and compares the table's predictions with
these networks, which the table has not seen. One network is also run in each runtime, and its
outputs are compared with those of PyTorch. Prints milliseconds by network and runtime, the
largest difference of outputs, the error of each table beside the noise floor, the seconds that
each part took, and which runtimes are not installed. Writes every number to --out.

litert is not among the tables unless it is asked for: its converter takes seconds for each row
and far longer for a network.
"""

import argparse
import json
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from goldnas.errors import GoldnasError
from goldnas.exporting.onnx import run_module, run_onnx, to_onnx
from goldnas.lut import LatencyTable
from goldnas.lut.accuracy import compute_accuracy
from goldnas.profiling.networks import measure_networks
from goldnas.profiling.onnxruntime_backend import IN_CONTEXT, OnnxruntimeBackend
from goldnas.profiling.processor_backend import ProcessorBackend
from goldnas.profiling.processor_runtimes import (
    PROCESSOR_RUNTIMES,
    check_installed,
    list_installed,
)
from goldnas.profiling.profile_space import profile_space
from goldnas.profiling.runtimes import MissingRuntimeError
from goldnas.profiling.session import Session
from goldnas.resources import Latency
from goldnas.resources.costs import sum_costs
from goldnas.spaces import GoldSpace
from goldnas.spaces.sampling import draw_architectures

Backend = OnnxruntimeBackend | ProcessorBackend


def main() -> None:
    """Measure in each runtime, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=5)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", type=int, default=10, help="fresh networks to measure")
    parser.add_argument("--calibrate", type=int, default=12, help="networks of each table")
    parser.add_argument("--target", type=float, default=2.0, help="percent, as of profile")
    parser.add_argument("--runtimes", default=",".join(list_installed()))
    parser.add_argument("--tables", default="onnxruntime,openvino,ncnn")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    space = GoldSpace(cells=arguments.cells, channels=arguments.channels)
    drawn = list(draw_architectures(space, arguments.networks, seed=arguments.seed))
    torch.manual_seed(0)
    network = space.build(drawn[0]).eval()
    shape = (1, *space.input_shape)
    model = to_onnx(network, shape)
    images, expected = run_module(network, shape)

    found: dict[str, Any] = {}
    for name in arguments.runtimes.split(","):
        began = time.monotonic()
        try:
            with closing(make_backend(name, arguments.threads, arguments.target)) as backend:
                found[name] = {"difference": compare(backend, model, images, expected)}
                if name in arguments.tables.split(","):
                    table = make_table(space, backend, arguments.calibrate)
                    found[name] |= describe_table(table, time.monotonic() - began)
                    print(f"{name}: a table in {found[name]['table_s']:.0f} s", flush=True)
                else:
                    table = None
                began = time.monotonic()
                session = Session(backend)
                measured = measure_networks(session, space, drawn)
        except GoldnasError as error:
            found[name] = {"error": str(error)}
            print(f"{name}: {error}", flush=True)
            continue
        us = {one.fingerprint: one.latency_us for one in measured.networks}
        found[name] |= {
            "conditions": msgspec.to_builtins(session.conditions),
            "latency_us": us,
            "noise_floor_percent": measured.noise_floor_percent,
            "networks_s": time.monotonic() - began,
        }
        if table is not None:
            latency = Latency(table, space)
            predicted = {
                one.fingerprint: sum_costs(latency, space.plan(one).parts()) for one in drawn
            }
            found[name]["predicted_us"] = predicted
            accuracy = compute_accuracy(
                np.array([predicted[key] for key in us]), np.array(list(us.values()))
            )
            found[name]["accuracy"] = msgspec.to_builtins(accuracy)
        print(f"{name}: {len(us)} networks in {found[name]['networks_s']:.0f} s", flush=True)
    absent = find_absent()
    show(found, [one.fingerprint for one in drawn])
    for name, reason in absent.items():
        print(f"{name} was not measured: {reason}")
    if arguments.out:
        result = {"space": space.call, "runtimes": found, "absent": absent}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def make_backend(name: str, threads: int, target_percent: float) -> Backend:
    """The backend of a runtime."""
    protocol = msgspec.structs.replace(IN_CONTEXT, target_percent=target_percent)
    if name == "onnxruntime":
        return OnnxruntimeBackend(threads, protocol=protocol)
    return ProcessorBackend(name, threads, protocol=protocol)


def compare(
    backend: Backend, model: bytes, images: torch.Tensor, expected: torch.Tensor
) -> float:
    """The largest difference of outputs from those of PyTorch, relative to the largest."""
    if isinstance(backend, ProcessorBackend):
        actual = torch.from_numpy(backend.run(model, images.numpy()))
    else:
        actual = run_onnx(model, images)
    return float((actual - expected).abs().max() / expected.abs().max())


def make_table(space: GoldSpace, backend: Backend, networks: int) -> LatencyTable:
    """A table as a user would make it."""
    with tempfile.TemporaryDirectory() as folder:
        return profile_space(space, Path(folder, "table.json"), backend, networks=networks)


def describe_table(table: LatencyTable, seconds: float) -> dict[str, Any]:
    """What a table cost, and what it says of itself."""
    return {
        "table_s": seconds,
        "rows": len(table.rows),
        "campaigns": msgspec.to_builtins(table.campaigns),
        "held_out": msgspec.to_builtins(table.calibrations[-1].accuracy),
    }


def find_absent() -> dict[str, str]:
    """The runtimes that are not installed, and why they were not measured."""
    absent = {}
    for name in PROCESSOR_RUNTIMES:
        try:
            check_installed(name)
        except MissingRuntimeError as error:
            absent[name] = str(error)
    return absent


def show(found: dict[str, Any], fingerprints: list[str]) -> None:
    """Print the table."""
    measured = {name: one for name, one in found.items() if "latency_us" in one}
    print(f"\n{'ms':14}" + "".join(f"{name:>14}" for name in measured))
    for key in fingerprints:
        row = [one["latency_us"].get(key) for one in measured.values()]
        texts = [f"{'-' if us is None else format(us / 1000, '.4g'):>14}" for us in row]
        print(f"{key[:12]:14}" + "".join(texts))
    for label, read in (
        ("difference", lambda one: f"{one['difference']:.1e}"),
        ("MAPE %", lambda one: f"{one['accuracy']['mape_percent']:.2f}"),
        ("noise floor %", lambda one: f"{one['noise_floor_percent']:.2f}"),
        ("table, s", lambda one: f"{one['table_s']:.0f}"),
        ("networks, s", lambda one: f"{one['networks_s']:.0f}"),
    ):
        texts = []
        for one in measured.values():
            try:
                texts.append(f"{read(one):>14}")
            except KeyError:  # of a runtime without a table
                texts.append(f"{'-':>14}")
        print(f"{label:14}" + "".join(texts))


if __name__ == "__main__":
    main()
